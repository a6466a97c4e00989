//! Several nodes that share rooms through a real Redis: order, replay, acks, and what happens when it is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod redis_servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis_servers::{Forwarder, RedisServer};
use serde_json::{Value, json};
use tidings::testing::{ConnectOptions, TestClient, TestHub};
use tidings::{Access, Hub, Redis, RoomRules};

fn rule() -> RoomRules {
    RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event()
}

/// One more node of those that share `url`.
fn node(url: &str) -> TestHub {
    static NODES: AtomicU64 = AtomicU64::new(1);
    let seed = NODES.fetch_add(1, Ordering::Relaxed);
    TestHub::start_seeded(Hub::builder().rule(rule()).broker(Redis::new(url).unwrap()), seed).unwrap()
}

async fn say(client: &mut TestClient, room: &str, text: &str, id: &str) -> Value {
    client.ask(json!({"event": "say", "room": room, "data": text, "id": id})).await
}

/// Joins when the node has found its Redis.
async fn join(client: &mut TestClient, room: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = client.request("room.join", json!({})).await;
        let _ = answer;
        let answer = client
            .ask(json!({"event": "room.join", "room": room, "id": format!("j{:?}", Instant::now())}))
            .await;
        if answer["event"] == "ack" {
            return answer;
        }
        assert!(Instant::now() < until, "{answer}");
    }
}

#[tokio::test]
async fn what_is_published_on_one_node_reaches_the_members_of_all() {
    let server = RedisServer::start().await;
    let (one, two) = (node(&server.url()), node(&server.url()));
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    join(&mut ann, "lobby").await;
    join(&mut bob, "lobby").await;
    let ack = say(&mut ann, "lobby", "hello", "1").await;
    assert_eq!(ack["data"]["duplicate"], json!(false), "{ack}");
    let event = bob.next_named("say").await;
    assert_eq!((&event["data"], &event["from"]), (&json!("hello"), &json!("ann")));
    assert_eq!(event["id"], ack["data"]["event_id"]);
}
