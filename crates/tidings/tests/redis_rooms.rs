//! Several nodes that share rooms through a real Redis: order, replay, acks, exclusion, bytes, keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::collections::BTreeSet;

use log_capture::TestHub;
use redis_nodes::{Names, PATIENCE, Publisher, Reader, node, node_with, rule, until};
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::{Value, json};
use tidings::protocol::event_id::{Cursor, EventId};
use tidings::testing::{ConnectOptions, TestFrame, identity};
use tidings::{Hub, Limits, Redis, RoomId};

#[tokio::test]
async fn what_is_published_on_one_node_reaches_the_members_of_all() {
    let server = RedisServer::start().await;
    let (one, two) = (node(&server.url()).await, node(&server.url()).await);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    ann.join("lobby").await;
    bob.join("lobby").await;
    let message = json!({"event": "say", "room": "lobby", "data": "hello", "id": "1"});
    let ack = ann.ask(message.clone()).await;
    assert_eq!(ack["data"]["duplicate"], json!(false), "{ack}");
    let event = bob.next_named("say").await;
    assert_eq!((&event["data"], &event["from"], &event["re"]), (&json!("hello"), &json!("ann"), &json!("1")));
    assert_eq!(event["id"], ack["data"]["event_id"]);
    // The same request at another node is the same event, and the same id for another is told apart.
    let mut ann_elsewhere = two.connect("ann").await;
    ann_elsewhere.join("lobby").await;
    let again = ann_elsewhere.ask(message).await;
    assert_eq!((&again["data"]["duplicate"], &again["data"]["event_id"]), (&json!(true), &event["id"]));
    let other = json!({"event": "say", "room": "lobby", "data": "bye", "id": "1"});
    assert_eq!(ann_elsewhere.ask(other).await["data"]["code"], "idempotency_conflict");
}

#[tokio::test]
async fn two_applications_in_two_databases_of_one_server_have_nothing_to_do_with_each_other() {
    let server = RedisServer::start().await;
    let url = format!("redis://{}", server.address());
    let (one, two) = (node(&format!("{url}/0")).await, node(&format!("{url}/1")).await);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    ann.join("lobby").await;
    bob.join("lobby").await;
    let lobby = RoomId::parse("lobby").unwrap();
    one.hub().room(&lobby).broadcast_ephemeral("typing", &1).unwrap();
    one.hub().room(&lobby).broadcast("say", &1).await.unwrap();
    assert_eq!(one.hub().sessions_of("bob").await.found.len(), 0);
    assert_eq!(one.hub().join_user("bob", &lobby).await.found, 0);
    assert_eq!(ann.next_named("say").await["data"], 1);
    // Whatever had come from there would come before what is said here.
    two.hub().room(&lobby).broadcast("say", &2).await.unwrap();
    loop {
        let message = bob.next_message().await;
        let event = message["event"].as_str().unwrap();
        assert!(event == "say" || event.starts_with("presence."), "{message}");
        if event == "say" {
            assert_eq!(message["data"], 2);
            break;
        }
    }
}

#[tokio::test]
async fn rooms_that_nobody_could_join_leave_nothing_behind_also_while_redis_is_away() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let mut limits = Limits::default();
    limits.joins_per_second = 1000;
    (limits.messages_per_second, limits.messages_burst) = (1000, 1000);
    let redis = Redis::new(&url_of(forwarder.address())).unwrap();
    let hub = TestHub::start(Hub::builder().rule(rule()).limits(limits).broker(redis)).unwrap();
    until("the node is ready", || hub.hub().is_ready()).await;
    let mut ann = hub.connect("ann").await;
    forwarder.point_nowhere();
    forwarder.cut();
    until("the node is not ready", || !hub.hub().is_ready()).await;
    for number in 0..50 {
        ann.send(json!({"event": "room.join", "room": format!("r{number}"), "id": number.to_string()})).await;
    }
    for _ in 0..50 {
        assert_eq!(ann.next_named("error").await["data"]["code"], "unavailable");
    }
    until("the rooms are gone", || hub.hub().metrics().rooms == 0).await;
}

#[tokio::test]
async fn many_publishers_on_three_nodes_are_one_order_for_everybody() {
    let server = RedisServer::start().await;
    let nodes = [node(&server.url()).await, node(&server.url()).await, node(&server.url()).await];
    let mut readers = Vec::new();
    for (index, hub) in nodes.iter().enumerate() {
        readers.push(Reader::join(hub, &format!("reader{index}"), "r").await);
    }
    let mut publishing = Vec::new();
    for (index, hub) in nodes.iter().enumerate() {
        let (hub, user) = (hub.clone(), format!("publisher{index}"));
        publishing.push(tokio::spawn(async move {
            let mut client = hub.connect(&user).await;
            client.join("r").await;
            for number in 0..30 {
                let data = json!([user, number]);
                let ack = client.request_in("r", "number", data).await;
                assert_eq!(ack["event"], "ack", "{ack}");
            }
            client
        }));
    }
    let mut names = Names::default();
    for reader in &mut readers {
        while reader.events.len() < 90 {
            reader.read(&mut names).await;
        }
    }
    assert!(readers.iter().all(|reader| reader.events == readers[0].events && reader.resets.is_empty()));
    for (index, publisher) in publishing.into_iter().enumerate() {
        let _client = publisher.await.unwrap();
        let own = |event: &&Value| event[0] == format!("publisher{index}");
        let numbers: Vec<_> =
            readers[0].events.iter().filter(own).map(|event| event[1].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "one connection's events keep their order");
    }
}

#[tokio::test]
async fn a_client_resumes_at_a_node_that_has_never_had_the_room() {
    let server = RedisServer::start().await;
    let one = node(&server.url()).await;
    let mut publisher = Publisher::join(&one, "ann", "r").await;
    let reader = Reader::join(&one, "bob", "r").await;
    for _ in 0..30 {
        publisher.publish().await;
    }
    // It has read nothing, and what it missed is read from Redis by the other node.
    let two = node(&server.url()).await;
    let mut reader = reader.resume(&two, "bob").await;
    let last = publisher.publish().await;
    let mut names = Names::default();
    reader.read_to(&last, &mut names).await;
    assert_eq!(reader.events, (1..=31).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!(reader.resets, Vec::<Value>::new());
}

#[tokio::test]
async fn a_room_that_the_token_names_starts_where_the_cursor_says() {
    let server = RedisServer::start().await;
    let (one, two) = (node(&server.url()).await, node(&server.url()).await);
    let mut publisher = Publisher::join(&one, "ann", "r").await;
    for _ in 0..5 {
        publisher.publish().await;
    }
    let third = publisher.acked.iter().find(|(_, data)| **data == json!(3)).unwrap().0;
    let third = EventId::parse(third).unwrap();
    let bob = identity("bob").with_rooms(vec![third.room.clone()]);
    let options = ConnectOptions {
        last_event_id: Some(Cursor::parse(&third.to_string()).unwrap()),
        ..ConnectOptions::default()
    };
    let mut client = two.connect_as(bob, options).await.unwrap();
    assert_eq!(client.welcome()["rooms"], json!(["r"]));
    assert_eq!(client.next_named("number").await["data"], 4);
    assert_eq!(client.next_named("number").await["data"], 5);
}

#[tokio::test]
async fn an_excluded_session_gets_a_skip_on_every_node_and_what_is_not_json_arrives_byte_for_byte() {
    let server = RedisServer::start().await;
    let (one, two) = (node(&server.url()).await, node(&server.url()).await);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    ann.join("r").await;
    bob.join("r").await;
    let room = one.hub().room(&RoomId::parse("r").unwrap());
    room.broadcast_excluding("bob", bob.session(), "secret", &json!(1)).await.unwrap();
    assert_eq!(ann.next_named("secret").await["data"], 1);
    let skip = bob.next_named("room.skip").await;
    assert_eq!(skip["data"]["reason"], "excluded");
    let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    room.broadcast_binary("image", payload.clone().into()).await.unwrap();
    let got = loop {
        match bob.next().await {
            TestFrame::Binary(header, got) => {
                assert_eq!(header["event"], "image");
                break got;
            }
            TestFrame::Closed(code) => panic!("{code:?}"),
            _ => {}
        }
    };
    assert!(got == payload);
    // And from the log, to who comes later.
    let three = node(&server.url()).await;
    let mut cid = three.connect("cid").await;
    cid.ask(json!({"event": "room.join", "room": "r", "data": {"history": 1}})).await;
    loop {
        if let TestFrame::Binary(_, got) = cid.next().await {
            assert!(got == payload);
            return;
        }
    }
}

#[tokio::test]
async fn ephemeral_events_reach_the_members_of_other_nodes_and_not_their_sender() {
    let server = RedisServer::start().await;
    let rule = || rule().ephemeral("typing");
    let (one, two) = (node_with(&server.url(), rule()).await, node_with(&server.url(), rule()).await);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    ann.join("r").await;
    bob.join("r").await;
    ann.request_in("r", "typing", json!(true)).await;
    let typing = bob.next_named("typing").await;
    assert_eq!((&typing["data"], &typing["from"], typing.get("id")), (&json!(true), &json!("ann"), None));
    ann.request_in("r", "said", json!(1)).await;
    assert_ne!(ann.next_event().await["event"], "typing");
}

#[tokio::test]
async fn a_node_subscribes_to_exactly_the_rooms_that_have_members_there() {
    let server = RedisServer::start().await;
    let one = node(&server.url()).await;
    let (mut ann, mut bob) = (one.connect("ann").await, one.connect("bob").await);
    for room in ["a", "b", "c"] {
        ann.join(room).await;
    }
    bob.join("b").await;
    let channels = || async {
        let all: Vec<String> = server.run(&["PUBSUB", "CHANNELS", "tidings:1:{[^%]*"]).await;
        all.into_iter().collect::<BTreeSet<_>>()
    };
    let of = |rooms: &[&str]| -> BTreeSet<_> {
        rooms.iter().map(|room| format!("tidings:1:{{{room}}}")).collect()
    };
    assert_eq!(channels().await, of(&["a", "b", "c"]));
    ann.request_in("a", "room.leave", json!({})).await;
    drop(ann);
    let began = std::time::Instant::now();
    while channels().await != of(&["b"]) {
        assert!(began.elapsed() < PATIENCE, "{:?}", channels().await);
    }
    // Who publishes to a room without members subscribes to nothing.
    one.hub().room(&RoomId::parse("empty").unwrap()).broadcast("e", &json!(1)).await.unwrap();
    assert_eq!(channels().await, of(&["b"]));
    drop(bob);
    while !channels().await.is_empty() {
        assert!(began.elapsed() < PATIENCE);
    }
    until("rooms are let go of", || one.hub().metrics().rooms == 0).await;
    // Nothing stays for ever.
    let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
    assert!(!keys.is_empty());
    for key in keys {
        let ttl: i64 = server.run(&["TTL", &key]).await;
        assert!(ttl > 0, "{key} stays for ever");
    }
}

#[tokio::test]
async fn a_storm_of_reconnects_reads_each_room_at_most_twice_a_node() {
    let server = RedisServer::start().await;
    let one = node(&server.url()).await;
    let mut publisher = Publisher::join(&one, "ann", "r").await;
    for _ in 0..10 {
        publisher.publish().await;
    }
    let two = node(&server.url()).await;
    let before = two.hub().metrics().broker_reads;
    let cursor = publisher.acked.iter().find(|(_, data)| **data == json!(4)).unwrap().0.clone();
    let storm = (0..200).map(|number| {
        let (hub, cursor) = (two.clone(), cursor.clone());
        tokio::spawn(async move {
            let mut client = hub.connect(&format!("user{number}")).await;
            let ack = client.request("session.resume", json!({ "last_event_id": cursor })).await;
            assert_eq!(ack["data"]["rooms"]["r"]["recovery"], "complete", "{ack}");
            for number in 5..=10 {
                assert_eq!(client.next_named("number").await["data"], number);
            }
        })
    });
    for client in storm.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let reads = two.hub().metrics().broker_reads - before;
    assert!((1..=2).contains(&reads), "{reads}");
}
