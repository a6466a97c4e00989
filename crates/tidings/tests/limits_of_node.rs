//! The limits of addresses, users, rooms and nodes, a test each: what is answered when it is hit, and that it is counted;
//! and that nothing is left of anybody who has gone.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod limit_support;
mod log_capture;

use std::time::Duration;

use limit_support::{Change, ask, broadcast, handshake, hits, hub, hub_with, open, pass, refused, room};
use log_capture::TestHub;
use serde_json::json;
use tidings::protocol::close::CloseCode;
use tidings::protocol::limits::ConnectionLimitPolicy;
use tidings::{AckError, BroadcastError, Context, Limits, PublishError};

#[tokio::test(start_paused = true)]
async fn the_501st_handshake_at_once_of_an_address_is_429() {
    let hub = hub();
    for _ in 0..500 {
        assert_eq!(handshake(&hub, Some("203.0.113.7"), "ann").await.0, 426, "a plain GET of a good URL");
    }
    let refusal = handshake(&hub, Some("203.0.113.7"), "ann").await;
    assert_eq!(refusal, (429, "rate_limited".into(), Some(1)));
    assert_eq!(hits(&hub, "handshakes_per_second_per_ip"), 1);
    assert_eq!(handshake(&hub, Some("127.0.0.1"), "ann").await.0, 426, "a proxy speaks for everyone");
    pass(Duration::from_secs(11)).await;
    assert_eq!(hub.hub().metrics().limiter_entries, 0, "the address has been quiet");
}

#[tokio::test(start_paused = true)]
async fn more_handshakes_a_second_than_the_node_takes_are_503() {
    assert_eq!(Limits::default().handshakes_per_second, 10_000);
    let hub = hub_with(|limits| limits.handshakes_per_second = 3);
    for _ in 0..3 {
        assert_eq!(handshake(&hub, Some("127.0.0.1"), "ann").await.0, 426);
    }
    assert_eq!(handshake(&hub, None, "ann").await, (503, "overloaded".into(), Some(1)));
    assert_eq!((hits(&hub, "handshakes_per_second"), hub.hub().metrics().refused["overloaded"]), (1, 1));
    pass(Duration::from_secs(1)).await;
    assert_eq!(handshake(&hub, None, "ann").await.0, 426);
}

#[tokio::test(start_paused = true)]
async fn the_6th_connection_of_a_user_is_429() {
    let hub = hub();
    let mut five = Vec::new();
    for _ in 0..5 {
        five.push(hub.connect("ann").await);
    }
    assert_eq!(handshake(&hub, None, "ann").await, (429, "connection_limit".into(), Some(5)));
    assert_eq!(hits(&hub, "connections_per_user_max"), 1);
    assert_eq!(handshake(&hub, None, "bob").await.0, 426);
}

#[tokio::test(start_paused = true)]
async fn or_the_6th_closes_the_oldest_with_4009() {
    let hub = hub_with(|limits| limits.connections_per_user_policy = ConnectionLimitPolicy::CloseOldest);
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(hub.connect("ann").await);
    }
    assert_eq!(handshake(&hub, None, "ann").await.0, 426, "and so would the next");
    assert_eq!(all.remove(0).closed().await, Some(CloseCode::TAKEN_OVER));
    for client in &mut all {
        assert_eq!(ask(client).await["event"], "ack");
    }
    assert_eq!(hits(&hub, "connections_per_user_max"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_connection_more_than_the_node_takes_is_503() {
    let hub = hub_with(|limits| limits.connections_per_node_max = 2);
    let _two = [hub.connect("ann").await, hub.connect("bob").await];
    assert_eq!(handshake(&hub, None, "cid").await, (503, "overloaded".into(), Some(5)));
    assert_eq!(hits(&hub, "connections_per_node_max"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_51st_message_at_once_of_a_user_is_rate_limited_on_whichever_connection() {
    let hub = hub();
    let (mut one, mut two, mut bob) =
        (hub.connect("ann").await, hub.connect("ann").await, hub.connect("bob").await);
    for _ in 0..25 {
        assert_eq!(ask(&mut one).await["event"], "ack");
        assert_eq!(ask(&mut two).await["event"], "ack");
    }
    let answer = ask(&mut two).await;
    assert_eq!(refused(&answer), ("rate_limited", Some(20)));
    assert_eq!(answer["data"]["message"], "50 messages of a user a second at most");
    // What can't be read costs as much.
    one.send_text("junk").await;
    assert_eq!(refused(&one.next_named("error").await).0, "rate_limited");
    assert_eq!((hits(&hub, "messages_per_second_per_user"), hits(&hub, "messages_per_second")), (2, 0));
    assert_eq!(ask(&mut bob).await["event"], "ack", "another user has his own");
    // Coming back does not fill it, and waiting does.
    drop((one, two));
    let mut again = hub.connect("ann").await;
    assert_eq!(refused(&ask(&mut again).await).0, "rate_limited");
    pass(Duration::from_millis(20)).await;
    assert_eq!(ask(&mut again).await["event"], "ack");
}

#[tokio::test(start_paused = true)]
async fn ten_seconds_of_a_users_flood_close_with_4108() {
    let hub = hub();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(hub.connect("ann").await);
    }
    // Each keeps its own rate with 16 a second, and together they pass the user's.
    for _ in 0..16 * 15 {
        pass(Duration::from_micros(62_500)).await;
        for client in &mut clients {
            client.send(json!({"event": "room.list"})).await;
        }
    }
    pass(Duration::from_millis(1)).await;
    assert!(hub.hub().metrics().closed[&CloseCode::RATE_LIMITED] >= 1);
    assert!(hits(&hub, "rate_limited_duration_max") >= 1);
    assert_eq!(hits(&hub, "messages_per_second"), 0);
}

#[tokio::test(start_paused = true)]
async fn more_publishes_a_second_than_a_room_takes_are_rate_limited_and_use_no_id_up() {
    assert_eq!(Limits::default().publishes_per_second_per_room, 1000);
    let hub = hub_with(|limits| limits.publishes_per_second_per_room = 6);
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let typing = json!({"event": "typing", "room": "a", "id": "t"});
    for _ in 0..3 {
        assert_eq!(ann.ask(typing.clone()).await["event"], "ack");
    }
    assert_eq!(refused(&ann.ask(typing).await).0, "rate_limited", "half is kept for what is stored");
    for _ in 0..2 {
        assert_eq!(ann.request_in("a", "say", json!(1)).await["event"], "ack");
    }
    broadcast(&hub, "a", 0).await;
    let say = json!({"event": "say", "room": "a", "data": "later", "id": "x-1"});
    assert_eq!(refused(&ann.ask(say.clone()).await), ("rate_limited", Some(167)));
    let too_fast = hub.hub().room(&room("a")).broadcast("say", &2).await.unwrap_err();
    assert!(matches!(too_fast, BroadcastError::Publish(PublishError::TooFast { .. })), "{too_fast}");
    assert_eq!(hits(&hub, "publishes_per_second_per_room"), 3);
    assert_eq!(hub.hub().metrics().publications, 3);
    broadcast(&hub, "another", 0).await;
    pass(Duration::from_millis(167)).await;
    assert_eq!(ann.ask(say).await["data"]["duplicate"], false);
}

#[tokio::test(start_paused = true)]
async fn of_what_waits_on_the_whole_node_the_largest_queue_goes_first() {
    let hub = hub_with(|limits| limits.outbound_node_bytes_max = 1024 * 1024);
    let (mut large, mut small) = (hub.connect("large").await, hub.connect("small").await);
    large.join("a").await;
    small.join("b").await;
    for _ in 0..7 {
        broadcast(&hub, "a", 100).await;
    }
    for _ in 0..4 {
        broadcast(&hub, "b", 100).await;
    }
    pass(Duration::from_millis(1)).await;
    let before = hub.hub().metrics();
    assert!((900_000..=1_048_576).contains(&before.outbound_bytes), "{}", before.outbound_bytes);
    assert_eq!(hits(&hub, "outbound_node_bytes_max"), 0);
    broadcast(&hub, "b", 100).await;
    pass(Duration::from_millis(1)).await;
    assert_eq!(hits(&hub, "outbound_node_bytes_max"), 1);
    assert_eq!(hub.hub().metrics().closed[&CloseCode::SLOW_CONSUMER], 1);
    for _ in 0..5 {
        small.next_event().await;
    }
    pass(Duration::from_secs(1)).await;
    assert_eq!(hub.hub().metrics().outbound_bytes, 0);
    assert_eq!(ask(&mut small).await["event"], "ack");
    assert_eq!(large.closed().await, None, "its pipe was full: the close frame did not fit");
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_is_full_lets_its_shard_read_the_log() {
    let cases: [(&str, Change); 2] = [
        ("inbox_entries_max", |limits| limits.inbox_entries_max = 4),
        ("inbox_bytes_max", |limits| limits.inbox_bytes_max = 1000),
    ];
    for (limit, change) in cases {
        let hub = hub_with(change);
        let mut ann = hub.connect("ann").await;
        ann.join("a").await;
        let handle = hub.hub().room(&room("a"));
        let all: Vec<_> = (0..20)
            .map(|number| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.broadcast("n", &number).await.unwrap() })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        for _ in 0..20 {
            ann.next_event().await;
        }
        assert!(hits(&hub, limit) > 0, "{limit}");
        assert_eq!(hub.hub().metrics().shards_behind, hits(&hub, limit));
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_is_trimmed_by_number_bytes_and_age() {
    let hub = hub_with(|limits| limits.history_events_max = 90);
    for _ in 0..92 {
        broadcast(&hub, "small", 1).await;
    }
    assert_eq!(hits(&hub, "history_events_max"), 2);
    for _ in 0..84 {
        broadcast(&hub, "large", 100).await;
    }
    assert!(hits(&hub, "history_bytes_max") > 0, "8 MiB");
    pass(Duration::from_secs(6)).await;
    let bytes = hub.hub().metrics().history_bytes;
    assert!((8_000_000..8_600_000).contains(&bytes), "{bytes}");
    pass(Duration::from_secs(3600)).await;
    assert_eq!((hits(&hub, "history_age_max"), hub.hub().metrics().history_bytes), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn of_all_histories_the_quietest_rooms_go_first() {
    let hub = hub_with(|limits| limits.history_node_bytes_max = 150_000);
    broadcast(&hub, "quiet", 90).await;
    pass(Duration::from_millis(1)).await;
    broadcast(&hub, "loud", 90).await;
    pass(Duration::from_secs(6)).await;
    let metrics = hub.hub().metrics();
    assert_eq!(hits(&hub, "history_node_bytes_max"), 1);
    assert!((90_000..91_000).contains(&metrics.history_bytes), "{}", metrics.history_bytes);
    let mut ann = hub.connect("ann").await;
    for (name, left) in [("quiet", 0), ("loud", 1)] {
        ann.join(name).await;
        let history = ann.request_in(name, "room.history", json!({})).await;
        assert_eq!(history["data"]["events"].as_array().unwrap().len(), left, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_id_too_many_is_rate_limited() {
    let cases: [(&str, Change); 2] = [
        ("idempotency_ids_per_user_max", |limits| limits.idempotency_ids_per_user_max = 3),
        ("idempotency_node_bytes_max", |limits| limits.idempotency_node_bytes_max = 120),
    ];
    for (limit, change) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let builder = open().limits(limits);
        let handled =
            builder.on("handled", |_: Context, number: u32| async move { Ok::<_, AckError>(number) });
        let hub = TestHub::start(handled).unwrap();
        let mut ann = hub.connect("ann").await;
        ann.join("a").await;
        for event in ["say", "handled"] {
            let before = hits(&hub, limit);
            let mut served = 0;
            let refusal = loop {
                let answer = ann.request_in("a", event, json!(1)).await;
                if answer["event"] == "error" {
                    break answer;
                }
                served += 1;
            };
            assert!((1..=3).contains(&served), "{limit}: {served}");
            assert_eq!(refused(&refusal), ("rate_limited", Some(60_000)), "{limit}");
            assert_eq!(hits(&hub, limit), before + 1, "{limit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_everyone_who_has_gone_nothing_is_left() {
    let hub = hub();
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = hub.connect(&format!("user-{number}")).await;
        for name in ["lobby", &format!("own-{number}")] {
            client.join(name).await;
            assert_eq!(client.request_in(name, "say", json!(number)).await["event"], "ack");
        }
        clients.push(client);
    }
    handshake(&hub, Some("203.0.113.7"), "ann").await;
    pass(Duration::from_secs(6)).await;
    let now = hub.hub().metrics();
    assert_eq!((now.connections, now.rooms, now.presence_entries, now.limiter_entries), (20, 21, 40, 20));
    assert!(now.history_bytes > 0);
    // A connection that rests lets go of its user's rate.
    for client in &mut clients {
        client.next_where(|message| message["event"] == "say").await;
    }
    drop(clients);
    pass(Duration::from_secs(6)).await;
    let gone = hub.hub().metrics();
    assert_eq!((gone.connections, gone.limiter_entries, gone.rooms), (0, 0, 21), "the histories are kept");
    pass(Duration::from_secs(10)).await;
    assert_eq!(hub.hub().metrics().presence_entries, 0, "the grace is over");
    pass(2 * Limits::default().history_age_max).await;
    let later = hub.hub().metrics();
    assert_eq!((later.rooms, later.history_bytes, later.outbound_bytes), (0, 0, 0));
}
