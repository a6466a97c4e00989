//! Rooms as their members see them: join, replay, reset, skip, presence, history.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::auth::Identity;
use tidings::protocol::event_id::Cursor;
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{Access, Hub, HubBuilder, Limits, MembershipFuture, Memberships, RoomId, RoomRules, SessionId};

fn open() -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event())
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn cursor(id: &Value) -> ConnectOptions {
    ConnectOptions {
        last_event_id: Some(Cursor::parse(id.as_str().unwrap()).unwrap()),
        ..ConnectOptions::default()
    }
}

async fn publish(hub: &TestHub, name: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        hub.hub().room(&room(name)).broadcast("n", &number).await.unwrap();
    }
}

/// The next events' data, which must follow each other.
async fn numbers(client: &mut TestClient, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(client.next_event().await["data"].as_u64().unwrap());
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_published_event_reaches_every_member_in_order_under_one_id() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    let joined = ann.join("a").await;
    assert_eq!((&joined["recovery"], &joined["members"]), (&json!("fresh"), &json!(1)));
    assert_eq!(joined["last_event_id"], joined["top"]);
    assert!(joined["top"].as_str().unwrap().ends_with(".0"), "an empty room has a position");
    assert_eq!(bob.join("a").await["members"], 2);
    let ack = ann.ask(json!({"event": "say", "room": "a", "data": {"b":1.50,"a":[ ]}, "id": "x-1"})).await;
    assert_eq!(ack["data"]["duplicate"], false);
    for client in [&mut ann, &mut bob] {
        let event = client.next_event().await;
        assert_eq!(
            (&event["id"], &event["re"], &event["from"]),
            (&ack["data"]["event_id"], &json!("x-1"), &json!("ann"))
        );
    }
    let again = ann.ask(json!({"event": "say", "room": "a", "data": {"b":1.50,"a":[ ]}, "id": "x-1"})).await;
    assert_eq!(
        (&again["data"]["event_id"], &again["data"]["duplicate"]),
        (&ack["data"]["event_id"], &json!(true))
    );
    let conflict = ann.ask(json!({"event": "say", "room": "a", "data": 2, "id": "x-1"})).await;
    assert_eq!(conflict["data"]["code"], "idempotency_conflict");
}

#[tokio::test(start_paused = true)]
async fn data_passes_as_the_bytes_that_it_was() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let raw = r#"{"b": 1.50, "a":[ ], "b":1e400,"é":"\u00e9\ud83d"}"#;
    ann.send_text(&format!(r#"{{"event":"say","room":"a","data":{raw}}}"#)).await;
    let text = ann.next_text().await;
    assert!(text.contains(r#""event":"say""#) && text.contains(raw), "{text}");
}

#[tokio::test(start_paused = true)]
async fn joining_at_a_position_replays_what_followed_and_then_goes_live() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    let start = ann.join("a").await["top"].clone();
    publish(&hub, "a", 0..300).await;
    let mut bob = hub.connect("bob").await;
    let ack = bob
        .ask(json!({"event": "room.join", "room": "a", "data": {"last_event_id": start}, "id": "j"}))
        .await;
    assert_eq!((&ack["data"]["recovery"], &ack["data"]["last_event_id"]), (&json!("complete"), &start));
    publish(&hub, "a", 300..320).await;
    assert_eq!(numbers(&mut bob, 320).await, (0..320).collect::<Vec<_>>());
    assert_eq!(numbers(&mut ann, 320).await, (0..320).collect::<Vec<_>>());
    // A room that is attached already is attached anew.
    let middle = format!("{}.310", start.as_str().unwrap().strip_suffix(".0").unwrap());
    bob.ask(json!({"event": "room.join", "room": "a", "data": {"last_event_id": middle}, "id": "k"})).await;
    assert_eq!(numbers(&mut bob, 10).await, (310..320).collect::<Vec<_>>());
    let newest = bob.ask(json!({"event": "room.join", "room": "a", "data": {"history": 3}, "id": "l"})).await;
    assert_eq!((&newest["data"]["recovery"], &newest["data"]["members"]), (&json!("fresh"), &json!(2)));
    assert_eq!(numbers(&mut bob, 3).await, [317, 318, 319]);
}

#[tokio::test(start_paused = true)]
async fn each_loss_is_told_with_its_reason_before_any_later_event() {
    let rule =
        RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event().history_events(10);
    let hub = TestHub::start(Hub::builder().rule(rule)).unwrap();
    let mut ann = hub.connect("ann").await;
    let start = ann.join("a").await["top"].as_str().unwrap().to_owned();
    publish(&hub, "a", 1..31).await;
    let log = start.strip_suffix(".0").unwrap();
    for (position, reason, lost) in [
        (format!("{log}.5"), "expired", json!({"from": 6, "to": 20})),
        (format!("{log}.31"), "too_far", Value::Null),
        ("a@zzzzzzzz.5".to_owned(), "unknown_epoch", Value::Null),
    ] {
        let mut bob = hub.connect("bob").await;
        let ack = bob
            .ask(json!({"event": "room.join", "room": "a", "data": {"last_event_id": position}, "id": "j"}))
            .await;
        assert_eq!(
            (&ack["data"]["recovery"], &ack["data"]["last_event_id"]),
            (&json!("gap"), &json!(position))
        );
        let reset = bob.next_message().await;
        assert_eq!((&reset["event"], &reset["data"]["reason"]), (&json!("room.reset"), &json!(reason)));
        assert_eq!((&reset["data"]["lost"], &reset["id"]), (&lost, &json!(format!("{log}.20"))));
        assert_eq!(numbers(&mut bob, 10).await, (21..31).collect::<Vec<_>>());
    }
    assert_eq!(hub.hub().metrics().resets, 3);
}

#[tokio::test(start_paused = true)]
async fn a_reset_brings_the_rooms_state_shared_by_all_who_need_it() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let rule = RoomRules::new("*").join(Access::Anyone).history_events(5).snapshot(move |room: RoomId| {
        let calls = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if room.as_str() == "broken" { Err("no database".into()) } else { Ok(json!({"call": calls})) }
        }
    });
    let hub = TestHub::start(Hub::builder().rule(rule)).unwrap();
    let position = |room: &str| json!({"event": "room.join", "room": room, "data": {"last_event_id": format!("{room}@zzzzzzzz.1")}, "id": "j"});
    publish(&hub, "a", 1..11).await;
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    ann.send(position("a")).await;
    bob.send(position("a")).await;
    for client in [&mut ann, &mut bob] {
        let reset = client.next_named("room.reset").await;
        assert_eq!((&reset["data"]["state"], &reset["data"]["lost"]), (&json!({"call": 0}), &Value::Null));
        assert!(reset["id"].as_str().unwrap().ends_with(".10"), "nothing up to the state follows: {reset}");
    }
    publish(&hub, "a", 11..13).await;
    assert_eq!(numbers(&mut ann, 2).await, [11, 12]);
    tokio::time::advance(Duration::from_secs(2)).await;
    ann.send(position("a")).await;
    assert_eq!(ann.next_named("room.reset").await["data"]["state"]["call"], 1);
    publish(&hub, "broken", 1..11).await;
    ann.send(position("broken")).await;
    let reset = ann.next_named("room.reset").await;
    assert_eq!(reset["data"].get("state").unwrap_or(&Value::Null), &Value::Null);
    assert_eq!(numbers(&mut ann, 5).await, [6, 7, 8, 9, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_replay_of_a_large_log_loses_nothing_while_the_room_goes_on() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    let start = ann.join("big").await["top"].clone();
    drop(ann);
    let text = "x".repeat(20_000);
    for number in 0..200 {
        hub.hub().room(&room("big")).broadcast("n", &json!([number, text])).await.unwrap();
    }
    // More than its queue may hold, and more than the pipe does.
    let mut bob = hub.connect("bob").await;
    bob.ask(json!({"event": "room.join", "room": "big", "data": {"last_event_id": start}, "id": "j"})).await;
    for number in 0..200 {
        assert_eq!(bob.next_event().await["data"][0], number);
        hub.hub().room(&room("big")).broadcast("n", &json!([200 + number, ""])).await.unwrap();
    }
    for number in 200..400 {
        assert_eq!(bob.next_event().await["data"][0], number);
    }
    assert_eq!(hub.hub().metrics().resets, 0);
}

#[tokio::test(start_paused = true)]
async fn resume_wait_lets_no_event_overtake_the_resume() {
    let hub = TestHub::start(open()).unwrap();
    let member = || identity("ann").with_rooms(vec![room("a"), room("b")]);
    let ann = hub.connect_as(member(), ConnectOptions::default()).await.unwrap();
    assert_eq!(ann.welcome()["rooms"], json!(["a", "b"]));
    let position = ann.welcome()["last_event_id"].as_str().unwrap().split(',').next().unwrap().to_owned();
    drop(ann);
    publish(&hub, "a", 0..5).await;
    let waiting = ConnectOptions { resume_wait: true, ..ConnectOptions::default() };
    let mut ann = hub.connect_as(member(), waiting.clone()).await.unwrap();
    publish(&hub, "a", 5..8).await;
    publish(&hub, "b", 8..9).await;
    let ack =
        ann.ask(json!({"event": "session.resume", "data": {"last_event_id": position}, "id": "r"})).await;
    assert_eq!(ack["data"]["rooms"]["a"]["recovery"], "complete");
    let mut seen = numbers(&mut ann, 9).await;
    seen.sort_unstable();
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
    // Without a resume the wait ends by itself, at the position that the welcome told.
    let mut late = hub.connect_as(member(), waiting).await.unwrap();
    publish(&hub, "b", 9..10).await;
    let before = tokio::time::Instant::now();
    assert_eq!(numbers(&mut late, 1).await, [9]);
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_client_with_one_id_resumes_that_room_and_is_told_about_the_others() {
    let hub = TestHub::start(open()).unwrap();
    let member = || identity("ann").with_rooms(vec![room("a"), room("b")]);
    let ann = hub.connect_as(member(), ConnectOptions::default()).await.unwrap();
    let id = json!(ann.welcome()["last_event_id"].as_str().unwrap().split(',').next().unwrap());
    drop(ann);
    publish(&hub, "a", 1..4).await;
    publish(&hub, "b", 4..6).await;
    let mut ann = hub.connect_as(member(), cursor(&id)).await.unwrap();
    let reset = ann.next_named("room.reset").await;
    assert_eq!((&reset["room"], &reset["data"]["reason"]), (&json!("b"), &json!("no_position")));
    let mut seen = numbers(&mut ann, 5).await;
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn the_handshakes_cursor_waits_for_the_first_join() {
    let hub = TestHub::start(
        Hub::builder()
            .rule(RoomRules::new("closed"))
            .rule(RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event()),
    )
    .unwrap();
    let mut ann = hub.connect("ann").await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(ann.join(name).await["top"].as_str().unwrap().to_owned());
    }
    ids.push(format!("closed@{}", ids[0].split_once('@').unwrap().1));
    drop(ann);
    for name in ["a", "b", "c"] {
        publish(&hub, name, 1..4).await;
    }
    let kept = ConnectOptions { checkpoints: true, ..cursor(&json!(ids.join(","))) };
    let mut ann = hub.connect_as(identity("ann"), kept).await.unwrap();
    // Until then they are a part of what the client is to keep.
    assert_eq!(ann.next_named("session.checkpoint").await["data"]["last_event_id"], json!(ids.join(",")));
    assert_eq!(ann.join("a").await["recovery"], "complete");
    assert_eq!(numbers(&mut ann, 3).await, [1, 2, 3]);
    // Once: who leaves and joins again begins anew.
    ann.request_in("a", "room.leave", json!(null)).await;
    assert_eq!(ann.join("a").await["recovery"], "fresh");
    // What a join says counts more.
    let ack = ann.request_in("b", "room.join", json!({"history": 1})).await;
    assert_eq!(ack["data"]["recovery"], "fresh");
    assert_eq!(numbers(&mut ann, 1).await, [3]);
    assert_eq!(ann.request_in("closed", "room.join", json!({})).await["data"]["code"], "forbidden");
    // The application's is no join that the client has asked for, and begins anew too.
    let session = SessionId::parse(ann.welcome()["session"].as_str().unwrap()).unwrap();
    assert!(hub.hub().room(&room("c")).join(session).await);
    assert_eq!(ann.next_named("room.joined").await["data"]["recovery"], "fresh");
    assert_eq!(ann.join("c").await["recovery"], "fresh");
}

#[tokio::test(start_paused = true)]
async fn checkpoints_hand_over_a_cursor_that_resumes() {
    let hub = TestHub::start(open()).unwrap();
    let checkpoints = ConnectOptions { checkpoints: true, ..ConnectOptions::default() };
    let mut ann = hub.connect_as(identity("ann"), checkpoints).await.unwrap();
    ann.join("a").await;
    publish(&hub, "a", 1..4).await;
    numbers(&mut ann, 3).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    let last = loop {
        let checkpoint = ann.next_named("session.checkpoint").await["data"]["last_event_id"].clone();
        if checkpoint.as_str().unwrap().ends_with(".3") {
            break checkpoint;
        }
    };
    drop(ann);
    publish(&hub, "a", 4..6).await;
    let mut ann = hub.connect_as(identity("ann").with_rooms(vec![room("a")]), cursor(&last)).await.unwrap();
    assert_eq!(numbers(&mut ann, 2).await, [4, 5]);
}

#[tokio::test(start_paused = true)]
async fn an_excluded_session_gets_a_skip_live_in_a_replay_and_after_a_takeover() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    let start = ann.join("a").await["top"].clone();
    let id = hub
        .hub()
        .room(&room("a"))
        .broadcast_excluding("ann", ann.session(), "n", &1)
        .await
        .unwrap()
        .to_string();
    assert_eq!(ann.next_named("room.skip").await["id"], id);
    let history = ann.request_in("a", "room.history", json!({})).await;
    assert_eq!(history["data"]["events"], json!([]));
    let takeover = ConnectOptions { session: Some(ann.session().to_string()), ..ConnectOptions::default() };
    let mut again = hub.connect_as(identity("ann"), takeover).await.unwrap();
    assert_eq!(ann.closed().await.map(|code| code.0), Some(4009));
    let replay = json!({"event": "room.join", "room": "a", "data": {"last_event_id": start}, "id": "j"});
    again.ask(replay.clone()).await;
    let skip = again.next_message().await;
    assert_eq!((&skip["event"], &skip["id"]), (&json!("room.skip"), &json!(id)));
    let mut tab = hub.connect("ann").await;
    tab.ask(replay).await;
    assert_eq!(tab.next_event().await["id"], id, "another tab of the user is not excluded");
}

#[tokio::test(start_paused = true)]
async fn members_are_told_who_comes_changes_and_goes() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    ann.join("a").await;
    bob.join("a").await;
    let joined = ann.next_named("presence.join").await;
    assert_eq!(
        (&joined["room"], &joined["data"]["user"], &joined["data"]["rev"]),
        (&json!("a"), &json!("bob"), &json!(2))
    );
    bob.request_in("a", "presence.update", json!({"info": {"away": true}})).await;
    let update = ann.next_named("presence.update").await;
    assert_eq!((&update["data"]["info"], &update["data"]["rev"]), (&json!({"away": true}), &json!(3)));
    let page = ann.request_in("a", "room.members", json!({"limit": 1})).await;
    assert_eq!((&page["data"]["members"][0]["user"], &page["data"]["next"]), (&json!("ann"), &json!("ann")));
    let page = ann.request_in("a", "room.members", json!({"after": "ann"})).await;
    assert_eq!(page["data"]["members"], json!([{"user": "bob", "info": {"away": true}}]));
    assert_eq!(page["data"]["rev"], 3);
    let mut tab = hub.connect("bob").await;
    tab.join("a").await;
    drop(tab);
    drop(bob);
    let left = ann.next_named("presence.leave").await;
    assert_eq!(
        (&left["data"]["user"], &left["data"]["rev"]),
        (&json!("bob"), &json!(4)),
        "two tabs are one member"
    );
    assert_eq!(hub.hub().room(&room("a")).members().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn presence_can_be_off() {
    let hub = TestHub::start(Hub::builder().rule(RoomRules::new("*").join(Access::Anyone).presence(false)))
        .unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    ann.join("a").await;
    bob.join("a").await;
    publish(&hub, "a", 1..2).await;
    assert_eq!(ann.next_message().await["event"], "n");
    assert_eq!(
        ann.request_in("a", "room.members", json!({})).await["data"]["members"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn rules_say_who_joins_and_who_publishes() {
    let builder = Hub::builder()
        .rule(RoomRules::new("board").join(Access::Anyone))
        .rule(RoomRules::new("team:*").publish(Access::Members).any_event())
        .rule(RoomRules::new("none").join(Access::Nobody));
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub
        .connect_as(identity("ann").with_rooms(vec![room("team:1")]), ConnectOptions::default())
        .await
        .unwrap();
    assert_eq!(ann.request("room.list", json!(null)).await["data"]["rooms"], json!(["team:1"]));
    ann.join("board").await;
    let code = async |client: &mut TestClient, name: &str, event: &str| {
        let answer = client.request_in(name, event, json!(null)).await;
        answer["data"]["code"].as_str().unwrap_or("ack").to_owned()
    };
    assert_eq!(code(&mut ann, "board", "say").await, "forbidden");
    assert_eq!(code(&mut ann, "team:1", "say").await, "ack");
    assert_eq!(code(&mut ann, "team:2", "room.join").await, "forbidden");
    assert_eq!(code(&mut ann, "team:2", "say").await, "not_joined");
    assert_eq!(code(&mut ann, "none", "room.join").await, "forbidden");
    assert_eq!(code(&mut ann, "other", "room.join").await, "unknown_room");
    assert_eq!(code(&mut ann, "other", "say").await, "unknown_room");
    assert_eq!(ann.request("say", json!(null)).await["data"]["code"], "unknown_event");
}

struct Database(Arc<AtomicU32>);

impl Memberships for Database {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        let down = self.0.load(Ordering::SeqCst) == 1;
        let found =
            if identity.user().as_str() == "ann" { vec![room("team:1"), room("team:2")] } else { Vec::new() };
        Box::pin(async move { if down { Err("the database is down".into()) } else { Ok(found) } })
    }
}

#[tokio::test(start_paused = true)]
async fn the_database_joins_users_and_is_asked_again() {
    let down = Arc::new(AtomicU32::new(0));
    let builder = Hub::builder().rule(RoomRules::new("team:*")).memberships(Database(Arc::clone(&down)));
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    assert_eq!(ann.welcome()["rooms"], json!(["team:1", "team:2"]));
    publish(&hub, "team:2", 1..2).await;
    assert_eq!(numbers(&mut ann, 1).await, [1]);
    let mut bob = hub.connect("bob").await;
    assert_eq!(bob.request_in("team:1", "room.join", json!({})).await["data"]["code"], "forbidden");
    ann.request_in("team:1", "room.leave", json!(null)).await;
    ann.join("team:1").await;
    let asked = json!({"event": "session.resume", "data": {"last_event_id": "team:1@k3f9a1qz.1,team:3@k3f9a1qz.1,other@k3f9a1qz.1"}, "id": "r"});
    let rooms = ann.ask(asked.clone()).await["data"]["rooms"].clone();
    assert_eq!(
        (&rooms["team:1"]["recovery"], &rooms["team:3"]["error"], &rooms["other"]["error"]),
        (&json!("gap"), &json!("forbidden"), &json!("unknown_room"))
    );
    down.store(1, Ordering::SeqCst);
    assert_eq!(ann.request_in("team:1", "room.join", json!({})).await["data"]["code"], "unavailable");
    let refusal = hub.connect_as(identity("cid"), ConnectOptions::default()).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (503, "broker_unavailable"));
}

#[tokio::test(start_paused = true)]
async fn history_pages_backwards() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    publish(&hub, "a", 1..31).await;
    let mut seen = Vec::new();
    let mut asked = json!({"limit": 12});
    loop {
        let page = ann.request_in("a", "room.history", asked).await["data"].clone();
        let numbers: Vec<u64> =
            page["events"].as_array().unwrap().iter().map(|event| event["data"].as_u64().unwrap()).collect();
        seen.splice(0..0, numbers);
        match page.get("next") {
            Some(next) => asked = json!({"limit": 12, "before": next}),
            None => break,
        }
    }
    assert_eq!(seen, (1..31).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_inbox_is_full_reads_on_from_the_log() {
    let mut limits = Limits::default();
    limits.inbox_entries_max = 4;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let handle = hub.hub().room(&room("a"));
    // All begun before the shard's task runs: the inbox takes four.
    let all = (0..50).map(|number| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.broadcast("n", &number).await.unwrap() })
    });
    for task in all.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut seen = numbers(&mut ann, 50).await;
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(hub.hub().metrics().shards_behind > 0);
    assert_eq!(hub.hub().metrics().resets, 0);
}

#[tokio::test(start_paused = true)]
async fn the_room_limit_and_the_join_rate() {
    let mut limits = Limits::default();
    limits.rooms_per_connection_max = 3;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut ann = hub.connect("ann").await;
    for name in ["a", "b", "c"] {
        ann.join(name).await;
    }
    assert_eq!(ann.request_in("d", "room.join", json!({})).await["data"]["code"], "room_limit");
    ann.join("a").await;
    for _ in 0..5 {
        ann.join("a").await;
    }
    let limited = ann.request_in("a", "room.join", json!({})).await;
    assert_eq!(limited["data"]["code"], "rate_limited");
    assert!(limited["data"]["retry_after_ms"].as_u64().unwrap() <= 100);
}
