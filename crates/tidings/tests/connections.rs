//! One connection's life: heartbeat, limits, close, drain.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::time::Duration;

use log_capture::TestHub;
use serde_json::json;
use tidings::protocol::close::CloseCode;
use tidings::protocol::frame::Opcode;
use tidings::testing::{ConnectOptions, TestFrame, identity};
use tidings::{Access, Hub, HubBuilder, Limits, RoomId, RoomRules};
use tokio::time::Instant;

fn open() -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event())
}

/// For tests that see in `presence.leave` when a connection was closed.
fn without_grace() -> HubBuilder {
    let mut limits = Limits::default();
    limits.presence_grace = Duration::ZERO;
    open().limits(limits)
}

#[tokio::test(start_paused = true)]
async fn a_ping_every_thirty_seconds_and_a_silent_peer_is_closed_after_ninety() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.ignore_pings();
    let start = Instant::now();
    for seconds in [30, 60] {
        assert_eq!(ann.next().await, TestFrame::Ping);
        assert_eq!(start.elapsed(), Duration::from_secs(seconds));
    }
    assert_eq!(ann.closed().await, Some(CloseCode::HEARTBEAT_TIMEOUT));
    assert_eq!(start.elapsed(), Duration::from_secs(90));
    assert_eq!(hub.hub().metrics().closed[&CloseCode::HEARTBEAT_TIMEOUT], 1);
}

#[tokio::test(start_paused = true)]
async fn any_frame_counts_as_life() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.ignore_pings();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(80)).await;
        ann.request("presence.heartbeat", json!(null)).await;
    }
    // Half a frame does not complete a message, but somebody is there: the time to complete it is what ends.
    ann.send_bytes(&[0x81, 0xfe, 0x01]).await;
    let start = Instant::now();
    assert_eq!(ann.closed().await, Some(CloseCode::POLICY));
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn sixty_four_kilobytes_and_not_one_more() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let message = |bytes: usize| {
        let empty = json!({"event": "say", "room": "a", "data": "", "id": "x"}).to_string().len();
        json!({"event": "say", "room": "a", "data": "x".repeat(bytes - empty), "id": "x"}).to_string()
    };
    ann.send_text(&message(64 * 1024)).await;
    assert_eq!(ann.next_named("ack").await["data"]["duplicate"], false);
    ann.send_text(&message(64 * 1024 + 1)).await;
    assert_eq!(ann.closed().await, Some(CloseCode::TOO_LARGE));
}

#[tokio::test(start_paused = true)]
async fn a_sixth_connection_is_refused_and_a_resuming_one_gets_its_own_slot() {
    let hub = TestHub::start(open()).unwrap();
    let mut five = Vec::new();
    for _ in 0..5 {
        five.push(hub.connect("ann").await);
    }
    let refusal = hub.connect_as(identity("ann"), ConnectOptions::default()).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (429, "connection_limit"));
    let session = Some(five[2].session().to_string());
    let takeover = ConnectOptions { session, ..ConnectOptions::default() };
    let again = hub.connect_as(identity("ann"), takeover.clone()).await.unwrap();
    assert_ne!(again.session(), five[2].session());
    assert_eq!(five[2].closed().await, Some(CloseCode::TAKEN_OVER));
    assert!(hub.connect_as(identity("ann"), takeover).await.is_err(), "a session that is gone is no ticket");
    let more = identity("bob").with_max_connections(1);
    let _bob = hub.connect_as(more.clone(), ConnectOptions::default()).await.unwrap();
    assert!(hub.connect_as(more, ConnectOptions::default()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn too_many_messages_are_refused_and_then_end_the_connection() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    for number in 0..41 {
        ann.send(json!({"event": "room.list", "id": format!("{number}")})).await;
    }
    let error = ann.next_named("error").await;
    assert_eq!(
        (&error["id"], &error["data"]["code"], &error["data"]["retry_after_ms"]),
        (&json!("40"), &json!("rate_limited"), &json!(50))
    );
    let start = Instant::now();
    let closed = loop {
        // Twice the rate, for as long as it lasts.
        tokio::time::advance(Duration::from_millis(25)).await;
        ann.send(json!({"event": "room.list", "id": "y"})).await;
        match ann.next().await {
            TestFrame::Closed(code) => break code,
            _ => assert!(start.elapsed() < Duration::from_secs(20)),
        }
    };
    assert_eq!(closed, Some(CloseCode::RATE_LIMITED));
    assert!(start.elapsed() > Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn a_ping_flood_ends_the_connection() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    for _ in 0..21 {
        ann.send_frame(Opcode::Ping, b"again").await;
    }
    let mut pongs = 0;
    let closed = loop {
        match ann.next().await {
            TestFrame::Pong(payload) => {
                assert_eq!(&payload[..], b"again");
                pongs += 1;
            }
            TestFrame::Closed(code) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((pongs, closed), (20, Some(CloseCode::POLICY)));
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_frame_rules_is_answered_first_and_closed_then() {
    for (bytes, code) in [
        (&[0x81, 0x01, b'a'][..], CloseCode::PROTOCOL),
        (&[0xc1, 0x80, 0, 0, 0, 0], CloseCode::PROTOCOL),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::INVALID_UTF8),
        (&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], CloseCode::PROTOCOL),
    ] {
        let hub = TestHub::start(open()).unwrap();
        let mut ann = hub.connect("ann").await;
        ann.send(json!({"event": "room.list", "id": "1"})).await;
        ann.send_bytes(bytes).await;
        assert_eq!(ann.next_named("ack").await["id"], "1");
        assert_eq!(ann.closed().await, Some(code), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_answered_with_its_own_code() {
    let hub = TestHub::start(open()).unwrap();
    for code in [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode(4321)] {
        let mut ann = hub.connect("ann").await;
        ann.send_close(code).await;
        assert_eq!(ann.closed().await, Some(code));
        assert_eq!(ann.closed().await, None, "then the stream ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_stops_reading_is_closed_and_the_others_have_everything() {
    let hub = TestHub::start(without_grace()).unwrap();
    let (mut slow, mut ann) = (hub.connect("slow").await, hub.connect("ann").await);
    slow.join("a").await;
    ann.join("a").await;
    let handle = hub.hub().room(&RoomId::parse("a").unwrap());
    let text = "x".repeat(32 * 1024);
    let start = Instant::now();
    for number in 0..100 {
        handle.broadcast("n", &json!([number, text])).await.unwrap();
        assert_eq!(ann.next_event().await["data"][0], number);
    }
    assert_eq!(ann.next_named("presence.leave").await["data"]["user"], "slow");
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(hub.hub().metrics().closed[&CloseCode::SLOW_CONSUMER], 1);
    // Its socket is gone a second after the decision, whether it reads or not.
    tokio::time::advance(Duration::from_secs(2)).await;
    ann.request("room.list", json!(null)).await;
    assert_eq!(hub.hub().metrics().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_socket_that_takes_nothing_is_closed_after_ten_seconds() {
    let hub = TestHub::start(without_grace()).unwrap();
    let (mut slow, mut ann) = (hub.connect("slow").await, hub.connect("ann").await);
    slow.join("a").await;
    ann.join("a").await;
    let handle = hub.hub().room(&RoomId::parse("a").unwrap());
    // More than the pipe takes and less than the queue holds.
    handle.broadcast("n", &"x".repeat(100_000)).await.unwrap();
    ann.next_event().await;
    let start = Instant::now();
    assert_eq!(ann.next_named("presence.leave").await["data"]["user"], "slow");
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(hub.hub().metrics().closed[&CloseCode::SLOW_CONSUMER], 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let mut limits = Limits::default();
    (limits.messages_per_second, limits.messages_burst) = (100_000, 100_000);
    limits.messages_per_second_per_user = 100_000;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    hub.hub().room(&RoomId::parse("a").unwrap()).broadcast("n", &"x".repeat(30_000)).await.unwrap();
    ann.next_event().await;
    let asked = async {
        for number in 0..2000 {
            ann.send(json!({"event": "room.history", "room": "a", "id": format!("{number}")})).await;
        }
    };
    // The pipe fills up and the client has to wait: nobody buffers 60 MB for it.
    assert!(tokio::time::timeout(Duration::from_secs(5), asked).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_closes_and_a_refreshed_one_does_not() {
    let hub = TestHub::start(open()).unwrap();
    let ends_in = |seconds: u64| identity("ann").with_expiry(1_795_468_800 + seconds);
    let mut ann = hub.connect_as(ends_in(60), ConnectOptions::default()).await.unwrap();
    let start = Instant::now();
    assert_eq!(ann.closed().await, Some(CloseCode::TOKEN_EXPIRED));
    assert_eq!(start.elapsed(), Duration::from_secs(90), "exp and 30 s of leeway");
    let mut ann = hub.connect_as(ends_in(120), ConnectOptions::default()).await.unwrap();
    // The kit's own authentication takes the token for the user, and knows no end.
    assert_eq!(ann.request("session.refresh", json!({"token": "bob"})).await["data"]["code"], "forbidden");
    assert_eq!(ann.request("session.refresh", json!({"token": "ann"})).await["event"], "ack");
    tokio::time::advance(Duration::from_secs(80)).await;
    ann.request("room.list", json!(null)).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_everyone_and_closes_them_within_the_window() {
    let hub = TestHub::start(open()).unwrap();
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(hub.connect(&format!("user-{number}")).await);
    }
    let window = Duration::from_secs(30);
    let draining = tokio::spawn({
        let hub = hub.hub().clone();
        async move { hub.drain(window).await }
    });
    let start = Instant::now();
    let mut ends = Vec::new();
    for client in &mut clients {
        let told = client.next_named("session.reconnect").await;
        assert_eq!(told["data"], json!({"after_ms": 0, "within_ms": 30_000, "reason": "draining"}));
    }
    assert!(!hub.hub().is_ready());
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(CloseCode::DRAINING));
        ends.push(start.elapsed());
    }
    drop(clients);
    assert_eq!(draining.await.unwrap(), 0);
    assert!(ends.iter().all(|end| *end <= window), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_dropped_closes_everyone() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    drop(hub);
    assert_eq!(ann.closed().await, Some(CloseCode::GOING_AWAY));
}
