//! A backend that is asked: who may connect, who may join, what an event leads to; and that no answer is a no.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod backend;
mod server;

use backend::{Backend, Reply, config, token};
use serde_json::{Value, json};
use server::{Client, Node, get, within};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Error;

const ROOMS: &str = r#"
    [[rooms]]
    pattern = "chat:*"
    [[rooms]]
    pattern = "open:*"
    join = "anyone"
    [[rooms]]
    pattern = "asked:*"
    join = "webhook"
    [[events]]
    name = "say"
    webhook = true
"#;

async fn start(url: &str, webhooks: &str) -> (Node, tempfile::TempDir) {
    let outbox = tempfile::tempdir().unwrap();
    let events = r#"events = ["connect", "join", "event"]"#;
    let config = config(url, outbox.path(), &format!("{events}\ntimeout_seconds = 1\n{webhooks}"), ROOMS);
    (Node::start(&config, &[]).await, outbox)
}

/// A handshake's refusal: status and problem.
async fn refusal(address: &str, user: &str) -> (u16, Value) {
    let url = format!("ws://{address}/ws?token={}", token(user));
    match within(Box::pin(tokio_tungstenite::connect_async(url))).await {
        Err(Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            (answer.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{user} was let in"),
    }
}

async fn answer(client: &mut Client, message: &str) -> Value {
    client.send(message).await;
    loop {
        let said = client.next().await.unwrap();
        if said["event"] == "ack" || said["event"] == "error" {
            break said["data"].clone();
        }
    }
}

fn allow(event: &Value) -> Reply {
    match event["type"].as_str().unwrap() {
        "dev.tidings.event" => Reply::Json(json!({})),
        _ => Reply::Json(json!({"allow": true})),
    }
}

#[tokio::test]
async fn the_backend_says_who_connects_and_joins_him_to_his_rooms() {
    let backend = Backend::start(|event| match event["data"]["user"].as_str().unwrap() {
        "ann" => Reply::Json(json!({"allow": true, "rooms": ["chat:lobby", "open:hall", "nowhere"]})),
        _ => Reply::Json(json!({"allow": false, "reason": "banned until Monday"})),
    })
    .await;
    let (node, _outbox) = start(&backend.url, "").await;
    let url = format!("ws://{}/ws?token={}", node.address, token("ann"));
    drop(within(Box::pin(tokio_tungstenite::connect_async(url))).await.unwrap());
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    let rooms = answer(&mut ann, r#"{"event":"room.list","id":"l"}"#).await;
    assert_eq!(rooms["rooms"], json!(["chat:lobby", "open:hall"]), "what no rule covers is none");
    // The rule of `chat:*` lets members: that is whom the backend has named.
    for (room, joined) in [("chat:lobby", true), ("chat:other", false)] {
        let said =
            answer(&mut ann, &format!(r#"{{"event":"room.join","room":"{room}","id":"{room}"}}"#)).await;
        assert_eq!(said["top"].is_string(), joined, "{room}: {said}");
    }
    let (status, problem) = refusal(&node.address, "bob").await;
    assert_eq!(
        (status, &problem["code"], &problem["detail"]),
        (403, &json!("forbidden"), &json!("banned until Monday"))
    );
    // What a browser's client asks, to learn why.
    let plain = get(&node.address, &format!("/ws?token={}", token("bob")), &node.address).await;
    assert!(plain.status == 403 && plain.body.contains("banned until Monday"), "{plain:?}");
    let asked = backend.seen_of("connect").remove(0);
    assert_eq!((&asked["subject"], &asked["data"]["user"]), (&json!("ann"), &json!("ann")));
    assert_eq!(asked["data"]["claims"]["note"], "canary-bird-of-the-claims");
    assert_eq!(asked["data"].as_object().unwrap().len(), 2, "nothing of the token but its claims");
}

#[tokio::test]
async fn no_good_answer_lets_nobody_in() {
    let backend = Backend::start(|event| match event["data"]["user"].as_str().unwrap() {
        "slow" => Reply::Never,
        "broken" => Reply::Status(500),
        "created" => Reply::Status(201),
        "redirected" => Reply::Redirect,
        "html" => Reply::Text("<p>Welcome"),
        "array" => Reply::Json(json!([true])),
        "typo" => Reply::Json(json!({"alow": true})),
        "more" => Reply::Json(json!({"allow": true, "rooms": ["chat:lobby"], "admin": true})),
        "word" => Reply::Json(json!({"allow": "yes"})),
        "rooms" => Reply::Json(json!({"allow": true, "rooms": ["no room"]})),
        user => panic!("{user}"),
    })
    .await;
    let (node, _outbox) = start(&backend.url, "").await;
    let users = ["slow", "broken", "created", "redirected", "html", "array", "typo", "more", "word", "rooms"];
    for user in users {
        let (status, problem) = refusal(&node.address, user).await;
        assert_eq!((status, &problem["code"]), (503, &json!("webhook_unavailable")), "{user}: {problem}");
    }
    assert_eq!(backend.seen().len(), users.len(), "each was asked about once, and no redirect was followed");
    let metrics = get(&node.admin, "/metrics", "anything").await.body;
    for line in [
        "tidings_webhook_asked_total{type=\"connect\"} 10",
        "tidings_webhook_asked_failures_total{type=\"connect\"} 10",
        "tidings_webhook_asked_total{type=\"join\"} 0",
    ] {
        assert!(metrics.lines().any(|told| told == line), "no {line} in:\n{metrics}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let (node, _outbox) = start(&url, "").await;
    assert_eq!(refusal(&node.address, "ann").await.0, 503, "nobody listens");
}

#[tokio::test]
async fn the_backend_says_who_joins_and_its_answer_counts_for_a_moment() {
    let backend = Backend::start(|event| match event["data"]["room"].as_str() {
        Some("asked:open") | None => Reply::Json(json!({"allow": true})),
        Some("asked:closed") => Reply::Json(json!({"allow": false})),
        Some(_) => Reply::Json(json!({"allow": true, "rooms": []})),
    })
    .await;
    let (node, _outbox) = start(&backend.url, "").await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    let mut join = async |room: &str| {
        answer(&mut ann, &format!(r#"{{"event":"room.join","room":"{room}","id":"j"}}"#)).await
    };
    for _ in 0..3 {
        assert!(join("asked:open").await["top"].is_string());
        assert_eq!(join("asked:closed").await["code"], "forbidden");
    }
    assert_eq!(backend.seen_of("join").len(), 2, "each room was asked about once");
    let asked = backend.seen_of("join").remove(0);
    assert_eq!(asked["data"]["room"], "asked:open");
    assert_eq!(asked["data"]["claims"]["sub"], "ann");
    assert_eq!(join("asked:odd").await["code"], "unavailable", "an answer of another shape");
    backend.answers(allow);
    assert!(join("asked:odd").await["top"].is_string(), "what was no answer is not kept");
}

#[tokio::test]
async fn without_a_cache_each_join_is_asked_about() {
    let backend = Backend::start(allow).await;
    let (node, _outbox) = start(&backend.url, "cache_seconds = 0").await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    for _ in 0..3 {
        answer(&mut ann, r#"{"event":"room.join","room":"asked:a","id":"j"}"#).await;
    }
    assert_eq!(backend.seen_of("join").len(), 3);
}

#[tokio::test]
async fn an_event_is_acked_and_broadcast_as_the_backend_says() {
    let backend = Backend::start(allow).await;
    let (node, _outbox) = start(&backend.url, "").await;
    let (mut ann, mut bob) = (
        Client::connect(&node.address, &token("ann")).await,
        Client::connect(&node.address, &token("bob")).await,
    );
    for client in [&mut ann, &mut bob] {
        for room in ["open:a", "open:b"] {
            answer(client, &format!(r#"{{"event":"room.join","room":"{room}","id":"{room}"}}"#)).await;
        }
    }
    backend.answers(|_| {
        Reply::Json(json!({"ack": {"stored": 7}, "broadcast": [
            {"event": "said", "data": {"text": "hi"}},
            {"event": "noted", "room": "open:b", "to_others": true},
        ]}))
    });
    let say = r#"{"event":"say","room":"open:a","data":{"text": "hi", "n":1.50},"id":"s1"}"#;
    let ack = answer(&mut ann, say).await;
    assert_eq!(ack, json!({"stored": 7}));
    let said = bob.until("said").await;
    assert_eq!((&said["room"], &said["from"], &said["re"]), (&json!("open:a"), &json!("ann"), &json!("s1")));
    assert_eq!(bob.until("noted").await["room"], "open:b");
    // The same again: the stored ack, and nobody is asked or told anything.
    assert_eq!(answer(&mut ann, say).await, json!({"stored": 7}));
    assert_eq!(backend.seen_of("event").len(), 1);
    let asked = backend.seen_of("event").remove(0);
    for (field, value) in [("user", "ann"), ("room", "open:a"), ("event", "say"), ("id", "s1")] {
        assert_eq!(asked["data"][field], value);
    }
    assert!(asked["data"]["session"].is_string());
    assert!(backend.bodies().last().unwrap().contains(r#""data":{"text": "hi", "n":1.50}"#), "byte for byte");
    backend
        .answers(|_| Reply::Json(json!({"error": {"code": "forbidden", "message": "mind your language"}})));
    let refused = answer(&mut ann, r#"{"event":"say","room":"open:a","id":"s2"}"#).await;
    assert_eq!(refused, json!({"code": "forbidden", "message": "mind your language"}));
}

#[tokio::test]
async fn an_event_without_an_answer_publishes_nothing_and_once_when_it_comes_again() {
    let backend = Backend::start(allow).await;
    let (node, _outbox) = start(&backend.url, "").await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    let top = answer(&mut ann, r#"{"event":"room.join","room":"open:a","id":"j"}"#).await;
    assert!(top["top"].as_str().unwrap().ends_with(".0"));
    let said = json!({"event": "said", "data": 1});
    let good = json!({"broadcast": [said]});
    for bad in [
        Reply::Never,
        Reply::Status(500),
        Reply::Text("sure"),
        Reply::Redirect,
        Reply::Json(json!({"broadcast": [said, {"event": "room.reset"}]})),
    ] {
        backend.answers(move |_| bad.clone());
        let refused = answer(&mut ann, r#"{"event":"say","room":"open:a","id":"s1"}"#).await;
        assert_eq!(refused["code"], "unavailable", "{refused}");
    }
    // An answer whose second event can't be published; the first is, and not again when the client tries again.
    let half = json!({"broadcast": [said, {"event": "said", "room": "nowhere"}]});
    backend.answers(move |_| Reply::Json(half.clone()));
    let say = r#"{"event":"say","room":"open:a","id":"s1"}"#;
    assert_eq!(answer(&mut ann, say).await["code"], "unknown_room");
    backend.answers(move |_| Reply::Json(good.clone()));
    assert_eq!(answer(&mut ann, say).await, Value::Null);
    let again = answer(&mut ann, r#"{"event":"room.join","room":"open:a","id":"j2"}"#).await;
    assert!(again["top"].as_str().unwrap().ends_with(".1"), "one event in all: {again}");
}
