//! Events that are stored nowhere: who gets them, how they look, and that they are the first to be dropped.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use bytes::Bytes;
use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::testing::{TestClient, TestFrame};
use tidings::{
    Access, BroadcastError, BuildError, Context, Hub, HubBuilder, Limits, PublishError, RoomId, RoomRules,
};

fn open() -> HubBuilder {
    let rule = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
    Hub::builder().rule(rule.ephemeral("typing.*").ephemeral("cursor"))
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

async fn joined(hub: &TestHub, user: &str) -> TestClient {
    let mut client = hub.connect(user).await;
    client.join("a").await;
    client
}

/// Publishes something, so that whoever is to get nothing has something to wait for.
async fn mark(hub: &TestHub) -> String {
    hub.hub().room(&room("a")).broadcast("mark", &json!(null)).await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_members_ephemeral_event_reaches_every_other_connection_and_is_stored_nowhere() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut tab, mut bob) =
        (joined(&hub, "ann").await, joined(&hub, "ann").await, joined(&hub, "bob").await);
    let ack = ann.ask(json!({"event": "typing.start", "room": "a", "data": {"a":[ ]}, "id": "x-1"})).await;
    assert_eq!(ack["data"], json!({}));
    ann.send(json!({"event": "cursor", "room": "a", "data": 7})).await;
    let expected = [
        json!({"event": "typing.start", "room": "a", "data": {"a":[]}, "from": "ann"}),
        json!({"event": "cursor", "room": "a", "data": 7, "from": "ann"}),
    ];
    for client in [&mut tab, &mut bob] {
        for event in &expected {
            assert_eq!(client.next_event().await, *event, "no id, no re, no at");
        }
    }
    // The id of an ephemeral event is no idempotency key.
    ann.ask(json!({"event": "typing.start", "room": "a", "data": "again", "id": "x-1"})).await;
    assert_eq!(bob.next_event().await["data"], "again");
    assert!(mark(&hub).await.ends_with(".1"), "no offset was used up");
    assert_eq!(ann.next_event().await["event"], "mark", "the sender gets nothing of his own");
    let history = ann.request_in("a", "room.history", json!({})).await;
    assert_eq!(history["data"]["events"].as_array().unwrap().len(), 1);
    assert_eq!(hub.hub().metrics().ephemeral_dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_event_may_be_binary() {
    let hub = TestHub::start(open()).unwrap();
    let (mut ann, mut bob) = (joined(&hub, "ann").await, joined(&hub, "bob").await);
    ann.send_binary(json!({"event": "cursor", "room": "a"}), b"\0\xff").await;
    let header = json!({"event": "cursor", "room": "a", "from": "ann"});
    assert_eq!(bob.next().await, TestFrame::Binary(header, Bytes::from_static(b"\0\xff")));
}

#[tokio::test(start_paused = true)]
async fn the_publish_rule_holds_for_ephemeral_events_and_a_handler_comes_first() {
    let board = RoomRules::new("board").join(Access::Anyone).ephemeral("*");
    let builder = open().on("typing.served", |_: Context, (): ()| async { Ok("served") });
    let hub = TestHub::start(Hub::builder().rule(board)).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("board").await;
    assert_eq!(ann.request_in("board", "typing", json!(null)).await["data"]["code"], "forbidden");
    let hub = TestHub::start(builder).unwrap();
    let mut ann = joined(&hub, "ann").await;
    assert_eq!(ann.request_in("a", "typing.served", json!(null)).await["data"], "served");
    assert_eq!(ann.request_in("b", "typing.start", json!(null)).await["data"]["code"], "not_joined");
    let refused = TestHub::start(Hub::builder().rule(RoomRules::new("*").ephemeral("room.*")));
    assert!(matches!(refused.unwrap_err(), BuildError::Ephemeral(pattern) if pattern == "room.*"));
}

#[tokio::test(start_paused = true)]
async fn the_application_sends_ephemeral_events_to_the_others_or_to_everyone() {
    let builder = open().on("point", |ctx: Context, at: Value| async move {
        ctx.broadcast_ephemeral(&room("a"), "pointed", &at)?;
        Ok(())
    });
    let hub = TestHub::start(builder).unwrap();
    let (mut ann, mut tab, mut bob) =
        (joined(&hub, "ann").await, joined(&hub, "ann").await, joined(&hub, "bob").await);
    ann.request("point", json!([1, 2])).await;
    for client in [&mut tab, &mut bob] {
        let event = json!({"event": "pointed", "room": "a", "data": [1, 2], "from": "ann"});
        assert_eq!(client.next_event().await, event);
    }
    let handle = hub.hub().room(&room("a"));
    handle.broadcast_ephemeral("tick", &1).unwrap();
    for client in [&mut ann, &mut tab, &mut bob] {
        assert_eq!(client.next_event().await, json!({"event": "tick", "room": "a", "data": 1}));
    }
    assert!(matches!(handle.broadcast_ephemeral("room.tick", &1), Err(BroadcastError::Event(_))));
    let large = handle.broadcast_ephemeral("tick", &"x".repeat(Limits::default().outbound_bytes_max / 2));
    assert!(matches!(large, Err(BroadcastError::Publish(PublishError::TooLarge))));
    let rooms = hub.hub().metrics().rooms;
    hub.hub().room(&room("nobody")).broadcast_ephemeral("tick", &1).unwrap();
    assert_eq!(hub.hub().metrics().rooms, rooms, "a room without members is not opened for it");
    let hub = TestHub::start(Hub::builder()).unwrap();
    let unknown = hub.hub().room(&room("a")).broadcast_ephemeral("tick", &1);
    assert!(matches!(unknown, Err(BroadcastError::Publish(PublishError::UnknownRoom))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_queue_is_half_full_gets_presence_and_no_ephemeral_event() {
    let hub = TestHub::start(open()).unwrap();
    let (mut slow, mut ann) = (joined(&hub, "slow").await, joined(&hub, "ann").await);
    let handle = hub.hub().room(&room("a"));
    // More than the pipe and half of the queue take, and less than the pipe and the queue.
    for _ in 0..8 {
        handle.broadcast("n", &"x".repeat(100_000)).await.unwrap();
        ann.next_event().await;
    }
    handle.broadcast_ephemeral("cursor", &1).unwrap();
    assert_eq!(ann.next_event().await["event"], "cursor");
    let _cid = joined(&hub, "cid").await;
    ann.next_where(|message| message["data"]["user"] == "cid").await;
    assert_eq!(hub.hub().metrics().ephemeral_dropped, 1);
    for _ in 0..8 {
        assert_eq!(slow.next_event().await["event"], "n");
    }
    slow.next_where(|message| message["data"]["user"] == "cid").await;
    handle.broadcast_ephemeral("cursor", &2).unwrap();
    assert_eq!(slow.next_event().await["data"], 2, "who reads on gets them again");
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_drops_ephemeral_events_and_nothing_else() {
    let mut limits = Limits::default();
    limits.inbox_entries_max = 4;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut ann = joined(&hub, "ann").await;
    let handle = hub.hub().room(&room("a"));
    // Nothing is awaited in between, so the shard has no turn.
    for number in 0..10 {
        handle.broadcast_ephemeral("cursor", &number).unwrap();
    }
    assert_eq!(hub.hub().metrics().ephemeral_dropped, 6);
    mark(&hub).await;
    for number in 0..4 {
        assert_eq!(ann.next_event().await["data"], number);
    }
    assert_eq!(ann.next_event().await["event"], "mark");
}
