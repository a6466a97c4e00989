//! Who is in a room as the others are told: a lost connection is no departure until its grace has ended.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::time::Duration;

use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::protocol::close::CloseCode;
use tidings::protocol::frame::Opcode;
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{Access, Hub, HubBuilder, Limits, RoomId, RoomRules};
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(10);

fn open() -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*").join(Access::Anyone))
}

fn room() -> RoomId {
    RoomId::parse("a").unwrap()
}

async fn joined(hub: &TestHub, user: &str) -> TestClient {
    let mut client = hub.connect(user).await;
    client.join("a").await;
    client
}

/// Ann, who sees, and bob, whose coming she has been told.
async fn ann_and_bob(hub: &TestHub) -> (TestClient, TestClient) {
    let mut ann = joined(hub, "ann").await;
    let bob = joined(hub, "bob").await;
    assert_eq!(ann.next_named("presence.join").await["data"]["rev"], 2);
    (ann, bob)
}

/// Cuts a connection without a close frame, until the hub has seen it.
async fn lose(hub: &TestHub, client: TestClient) {
    let before = hub.hub().metrics().connections;
    drop(client);
    while hub.hub().metrics().connections == before {
        tokio::task::yield_now().await;
    }
}

/// Whoever is told nothing else gets this next.
async fn assert_told_nothing(hub: &TestHub, client: &mut TestClient) {
    hub.hub().room(&room()).broadcast("mark", &json!(null)).await.unwrap();
    assert_eq!(client.next_message().await["event"], "mark");
}

async fn members(client: &mut TestClient) -> Value {
    client.request_in("a", "room.members", json!({})).await["data"].clone()
}

#[tokio::test(start_paused = true)]
async fn who_reconnects_within_the_grace_has_never_left() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = ann_and_bob(&hub).await;
    bob.request_in("a", "presence.update", json!({"info": {"away": true}})).await;
    ann.next_named("presence.update").await;
    let before = members(&mut ann).await;
    for _ in 0..3 {
        lose(&hub, bob).await;
        assert_eq!(members(&mut ann).await, before, "he is shown as if nothing had happened");
        assert_eq!(hub.hub().room(&room()).members().await.unwrap().len(), 2);
        tokio::time::advance(GRACE - Duration::from_millis(1)).await;
        bob = hub.connect("bob").await;
        assert_eq!(bob.join("a").await["members"], 2);
    }
    tokio::time::advance(2 * GRACE).await;
    assert_eq!(members(&mut ann).await, before);
    assert_told_nothing(&hub, &mut ann).await;
}

#[tokio::test(start_paused = true)]
async fn when_the_grace_ends_the_departure_is_told_once() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = ann_and_bob(&hub).await;
    bob.request_in("a", "presence.update", json!({"info": 7})).await;
    ann.next_named("presence.update").await;
    lose(&hub, bob).await;
    let lost = Instant::now();
    assert_told_nothing(&hub, &mut ann).await;
    let left = ann.next_message().await;
    assert_eq!(
        left,
        json!({"event": "presence.leave", "room": "a", "data": {"user": "bob", "info": 7, "rev": 4}})
    );
    assert_eq!(lost.elapsed(), GRACE);
    assert_eq!(members(&mut ann).await["members"].as_array().unwrap().len(), 1);
    tokio::time::advance(2 * GRACE).await;
    assert_told_nothing(&hub, &mut ann).await;
    let _bob = joined(&hub, "bob").await;
    let came = ann.next_message().await;
    assert_eq!((&came["data"]["info"], &came["data"]["rev"]), (&Value::Null, &json!(5)));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_on_purpose_or_is_sent_away_is_gone_at_once() {
    let hub = TestHub::start(open()).unwrap();
    for way in ["room.leave", "the application", "1000", "no code", "kicked"] {
        let start = Instant::now();
        let (mut ann, mut bob) = (joined(&hub, "ann").await, joined(&hub, "bob").await);
        match way {
            "room.leave" => drop(bob.request_in("a", "room.leave", json!(null)).await),
            "the application" => assert!(hub.hub().room(&room()).leave(bob.session()).await),
            "1000" => bob.send_close(CloseCode::NORMAL).await,
            "no code" => bob.send_frame(Opcode::Close, b"").await,
            _ => assert_eq!(hub.hub().disconnect_user("bob").await, Ok(1)),
        }
        assert_eq!(ann.next_named("presence.leave").await["data"]["user"], "bob", "{way}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{way}");
        ann.request_in("a", "room.leave", json!(null)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_to_come_back_has_the_grace() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = ann_and_bob(&hub).await;
    for code in [CloseCode::GOING_AWAY, CloseCode::DRAINING, CloseCode(3000)] {
        bob.send_close(code).await;
        assert_eq!(bob.closed().await, Some(code));
        tokio::time::advance(GRACE / 2).await;
        bob = joined(&hub, "bob").await;
    }
    // The session that is taken over is closed with a final code, and its user is here all the same.
    let takeover = ConnectOptions { session: Some(bob.session().to_string()), ..ConnectOptions::default() };
    let mut again = hub.connect_as(identity("bob"), takeover).await.unwrap();
    assert_eq!(bob.closed().await, Some(CloseCode::TAKEN_OVER));
    assert_eq!(again.join("a").await["members"], 2);
    assert_told_nothing(&hub, &mut ann).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_does_not_allow_the_room_ends_the_membership_at_once() {
    let hub = TestHub::start(Hub::builder().rule(RoomRules::new("a"))).unwrap();
    let member = |user| identity(user).with_rooms(vec![room()]);
    let mut ann = hub.connect_as(member("ann"), ConnectOptions::default()).await.unwrap();
    let mut bob = hub.connect_as(member("bob"), ConnectOptions::default()).await.unwrap();
    let start = Instant::now();
    // The test's authentication gives an identity without rooms.
    bob.request("session.refresh", json!({"token": "bob"})).await;
    ann.next_named("presence.leave").await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_user_with_two_tabs_is_here_until_the_last_one_goes() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, bob) = ann_and_bob(&hub).await;
    let mut tab = joined(&hub, "bob").await;
    lose(&hub, bob).await;
    tokio::time::advance(2 * GRACE).await;
    assert_told_nothing(&hub, &mut ann).await;
    let (other, start) = (joined(&hub, "bob").await, Instant::now());
    tab.request_in("a", "room.leave", json!(null)).await;
    assert_told_nothing(&hub, &mut ann).await;
    lose(&hub, other).await;
    ann.next_named("presence.leave").await;
    assert_eq!(start.elapsed(), GRACE, "how the last one goes counts");
}

#[tokio::test(start_paused = true)]
async fn graces_end_each_at_its_own_time_and_many_at_once() {
    let mut limits = Limits::default();
    limits.presence_batch_from = usize::MAX;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut ann = joined(&hub, "ann").await;
    let mut users = Vec::new();
    for number in 0..300 {
        users.push(joined(&hub, &format!("user{number:03}")).await);
        ann.next_named("presence.join").await;
    }
    let (late, back, start) = (users.pop().unwrap(), users.pop().unwrap(), Instant::now());
    for user in users {
        lose(&hub, user).await;
    }
    lose(&hub, back).await;
    tokio::time::advance(GRACE / 2).await;
    let _back = joined(&hub, "user298").await;
    lose(&hub, late).await;
    for number in 0..298 {
        let left = ann.next_named("presence.leave").await;
        let expected = (json!(format!("user{number:03}")), json!(302 + number));
        assert_eq!((&left["data"]["user"], &left["data"]["rev"]), (&expected.0, &expected.1));
    }
    assert_eq!(start.elapsed(), GRACE);
    assert_eq!(ann.next_named("presence.leave").await["data"]["user"], "user299");
    assert_eq!(start.elapsed(), GRACE + GRACE / 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_a_lost_connection_is_told_at_once() {
    let mut limits = Limits::default();
    limits.presence_grace = Duration::ZERO;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let (mut ann, bob) = ann_and_bob(&hub).await;
    let start = Instant::now();
    drop(bob);
    assert_eq!(ann.next_named("presence.leave").await["data"]["rev"], 3);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
