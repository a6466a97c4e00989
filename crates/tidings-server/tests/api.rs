//! The HTTP API of a running server, as a backend uses it, alone and on two nodes with a Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
mod server;

use std::time::Duration;

use redis_servers::RedisServer;
use serde_json::{Value, json};
use server::{Client, Dev, Node, request, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SECRET: &str = "canary-bird of the backend, more than 32 bytes";
const PUMP_KEY: &str = "canary-bird key of the pump, more than 32 bytes";
const ADMIN_KEY: &str = "canary-bird key of the admin, more than 32 bytes";
const READER_KEY: &str = "canary-bird key of the reader, more than 32 bytes";

fn config(more: &str) -> String {
    format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        [api]
        [[api.keys]]
        name = "the backend of production, its pump"
        key = "{PUMP_KEY}"
        scopes = ["publish"]
        [[api.keys]]
        name = "the backend of production, its admins"
        key = "{ADMIN_KEY}"
        scopes = ["publish", "read", "admin"]
        [[api.keys]]
        name = "reader"
        key = "{READER_KEY}"
        scopes = ["read"]
        [user_rooms]
        enabled = true
        [[rooms]]
        pattern = "chat:*"
        join = "anyone"
        publish = "anyone"
        any_event = true
        [admin]
        listen = "127.0.0.1:0"
        {more}
        "#
    )
}

fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({"sub": user, "aud": "tidings", "iat": now, "exp": now + 600, "jti": format!("jti-{user}")});
    tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

/// A backend of one server.
struct Backend {
    address: String,
    key: &'static str,
}

impl Backend {
    fn of(node: &Node, key: &'static str) -> Self {
        Self { address: node.address.clone(), key }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, Value) {
        let authorization = format!("Bearer {}", self.key);
        let mut all = vec![("Authorization", authorization.as_str())];
        all.extend(headers);
        if body.is_some() {
            all.push(("Content-Type", "application/json"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = request(&self.address, method, path, &all, &body).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, &[], Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &[], None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn refused(&self, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, problem) = self.ask(method, path, &[], body).await;
        assert!(problem["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
        (status, problem["code"].as_str().unwrap().to_owned())
    }
}

async fn joined(node: &Node, user: &str, room: &str) -> Client {
    let mut client = Client::connect(&node.address, &token(user)).await;
    client.send(&format!(r#"{{"event":"room.join","room":"{room}","id":"j"}}"#)).await;
    client.until("ack").await;
    client
}

#[tokio::test]
async fn what_a_backend_publishes_reaches_rooms_and_users_once_for_each_key() {
    let node = Node::start(&config(""), &[]).await;
    let backend = Backend::of(&node, PUMP_KEY);
    let mut ann = joined(&node, "ann", "chat:a").await;

    // Byte for byte, and once for its key.
    let body = json!({"event": "news", "data": {"n": 1.50, "deep": [[{}]]}});
    let once = [("Idempotency-Key", "k-1")];
    let (_, first) = backend.ask("POST", "/v1/rooms/chat:a/events", &once, Some(body.clone())).await;
    let (_, again) = backend.ask("POST", "/v1/rooms/chat:a/events", &once, Some(body)).await;
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["event_id"], again["event_id"]);
    let event = ann.until("news").await;
    assert_eq!(event["id"], first["event_id"]);
    assert_eq!(event["data"]["deep"], json!([[{}]]));
    let other = Some(json!({"event": "news", "data": 2}));
    let (status, problem) = backend.ask("POST", "/v1/rooms/chat:a/events", &once, other.clone()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_conflict")));
    // Another caller's key of the same name is another.
    let admin = Backend::of(&node, ADMIN_KEY);
    let (status, theirs) = admin.ask("POST", "/v1/rooms/chat:a/events", &once, other).await;
    assert_eq!((status, &theirs["duplicate"]), (200, &json!(false)));
    assert_eq!(ann.until("news").await["data"], 2, "the first was there once");

    // A batch, with what is wrong in it told apart.
    let batch = json!({"events": [
        {"room": "chat:a", "event": "n", "data": 1},
        {"room": "nowhere", "event": "n", "data": 2},
        {"user": "ann", "event": "n", "data": 3, "idempotency_key": "k-9"},
        {"room": "chat:a", "event": "room.reset", "data": 4},
        {"room": "chat:a", "event": "n", "data": 5},
        {"event": "n"},
        {"room": "chat:a", "event": "soon", "ephemeral": true},
    ]});
    let results = backend.post("/v1/batch", batch).await["results"].clone();
    let codes: Vec<_> = (0..7).map(|at| results[at]["error"]["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "unknown_room", "ok", "invalid", "ok", "invalid", "ok"]);
    assert_eq!(results[6]["event_id"], Value::Null);
    let mut got: Vec<i64> = Vec::new();
    for _ in 0..3 {
        got.push(ann.until("n").await["data"].as_i64().unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, [1, 3, 5]);

    // Bytes, and everyone but one session.
    backend
        .post("/v1/rooms/chat:a/events", json!({"event": "bytes", "data": "AAH/", "encoding": "base64"}))
        .await;
    let page = Backend::of(&node, READER_KEY).get("/v1/rooms/chat:a/events?limit=1").await;
    assert_eq!(
        (&page["events"][0]["data"], &page["events"][0]["encoding"]),
        (&json!("AAH/"), &json!("base64"))
    );
    assert!(page["next"].is_string());
}

#[tokio::test]
async fn a_notification_reaches_two_devices_and_one_that_was_away() {
    let server = Dev::start().await;
    let key = String::from_utf8(server::run(server::tidings(&server.home).arg("key")).await.stdout).unwrap();
    let token = server.token_of(&["--user", "ann"]).await;
    let (mut phone, mut laptop) = (server.connect(&token).await, server.connect(&token).await);
    let mut tablet = server.connect(&token).await;
    let notify = async |text: &str| {
        let body = json!({"event": "notification", "data": {"text": text}}).to_string();
        let authorization = format!("Bearer {}", key.trim());
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = request(&server.address, "POST", "/v1/users/ann/events", &headers, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    notify("one").await;
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.until("notification").await["data"]["text"], "one");
    }
    let last = tablet.until("notification").await["id"].as_str().unwrap().to_owned();
    tablet.close().await;
    notify("two").await;
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.until("notification").await["data"]["text"], "two");
    }
    let mut tablet = Client::connect(&server.address, &format!("{token}&last_event_id={last}")).await;
    assert_eq!(tablet.until("notification").await["data"]["text"], "two", "it has caught up");
}

#[tokio::test]
async fn rooms_users_and_what_is_done_about_them() {
    let node = Node::start(&config(""), &[]).await;
    let admin = Backend::of(&node, ADMIN_KEY);
    let mut ann = joined(&node, "ann", "chat:a").await;
    let mut bob = joined(&node, "bob", "chat:b").await;
    assert_eq!(
        admin.get("/v1/rooms?prefix=chat:").await,
        json!({"rooms": [{"room": "chat:a", "members": 1}, {"room": "chat:b", "members": 1}], "nodes_missing": 0})
    );
    let page = admin.get("/v1/rooms?prefix=chat:&limit=1").await;
    assert_eq!(page["next"], "chat:a");
    assert_eq!(admin.get("/v1/rooms?prefix=chat:&after=chat:a").await["rooms"][0]["room"], "chat:b");
    assert_eq!(
        admin.get("/v1/rooms/chat:a/members").await,
        json!({"members": [{"user": "ann", "info": null}]})
    );
    let status = admin.get("/v1/rooms/chat:a").await;
    assert_eq!((&status["members"], &status["room"]), (&json!(1), &json!("chat:a")));
    assert_eq!(admin.get("/v1/users/ann/rooms").await["rooms"], json!(["chat:a", "user:ann"]));
    assert_eq!(admin.get("/v1/users/ann/presence").await["connections"], 1);
    assert_eq!(admin.get("/v1/users/nobody/presence").await["online"], false);
    assert_eq!(
        admin.get("/v1/users/ann/sessions").await["sessions"][0]["rooms"],
        json!(["chat:a", "user:ann"])
    );
    assert_eq!(admin.get("/v1/nodes").await["nodes"][0]["is_this"], true);

    // Joined and taken out on their behalf.
    let joined = admin.ask("PUT", "/v1/users/bob/rooms/chat:a", &[], None).await;
    assert_eq!(joined, (200, json!({"connections": 1, "nodes_missing": 0})));
    admin.post("/v1/rooms/chat:a/events", json!({"event": "hi", "data": 1})).await;
    let told = bob.until("room.joined").await;
    let event = bob.until("hi").await;
    assert_eq!((&told["room"], &told["data"]["members"]), (&json!("chat:a"), &json!(2)));
    assert_eq!(told["data"]["last_event_id"], told["data"]["top"]);
    let offset = |id: &Value| id.as_str().unwrap().rsplit_once('.').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(offset(&event["id"]), offset(&told["data"]["top"]) + 1);
    let left = admin.ask("DELETE", "/v1/users/bob/rooms/chat:a", &[], None).await;
    assert_eq!(left, (200, json!({"connections": 1, "nodes_missing": 0})));
    let told = json!({"event": "room.left", "room": "chat:a", "data": {"reason": "removed"}});
    assert_eq!(bob.until("room.left").await, told);
    assert_eq!(
        admin.refused("PUT", "/v1/users/bob/rooms/nowhere", None).await,
        (404, "unknown_room".to_owned())
    );

    // Taken back: whoever reads it later finds a skip.
    let id = event["id"].as_str().unwrap();
    let path = format!("/v1/rooms/chat:a/events/{id}");
    assert_eq!(admin.ask("DELETE", &path, &[], None).await, (200, json!({"redacted": true})));
    assert_eq!(admin.get("/v1/rooms/chat:a/events").await, json!({"events": []}));
    let before = format!("{}.0", id.rsplit_once('.').unwrap().0);
    bob.send(&format!(
        r#"{{"event":"room.join","room":"chat:a","data":{{"last_event_id":"{before}"}},"id":"j2"}}"#
    ))
    .await;
    assert_eq!(bob.until("room.skip").await["id"], id);
    let unknown = format!("/v1/rooms/chat:a/events/{}.77", id.rsplit_once('.').unwrap().0);
    assert_eq!(admin.refused("DELETE", &unknown, None).await, (404, "unknown_event".to_owned()));

    // Sent away, and then for good.
    assert_eq!(admin.post("/v1/users/bob/disconnect", json!({})).await["connections"], 1);
    assert_eq!(u16::from(bob.closed().await.unwrap().code), 4006);
    assert_eq!(admin.post("/v1/tokens/jti-ann/revoke", json!({})).await, json!({"revoked": true}));
    assert_eq!(u16::from(ann.closed().await.unwrap().code), 4001);
    assert_eq!(
        server::get(&node.address, &format!("/ws?token={}", token("ann")), &node.address).await.status,
        401
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_fix() {
    let node = Node::start(&config(""), &[]).await;
    let (pump, reader) = (Backend::of(&node, PUMP_KEY), Backend::of(&node, READER_KEY));
    let stranger = Backend::of(&node, "canary-bird of a stranger");
    let event = Some(json!({"event": "e", "data": 1}));
    for (backend, method, path, body, expected) in [
        (&stranger, "GET", "/v1/rooms", None, (401, "key_unknown")),
        (&pump, "GET", "/v1/rooms", None, (403, "scope_missing")),
        (&reader, "POST", "/v1/rooms/chat:a/events", event.clone(), (403, "scope_missing")),
        (&reader, "POST", "/v1/users/ann/disconnect", None, (403, "scope_missing")),
        (&pump, "POST", "/v1/rooms/nowhere/events", event.clone(), (404, "unknown_room")),
        (&pump, "POST", "/v1/rooms/a%20b/events", event.clone(), (400, "invalid")),
        (&pump, "POST", "/v1/rooms/chat:a/events", None, (415, "not_json")),
        (&pump, "POST", "/v1/rooms/chat:a/events", Some(json!({"event": "e", "dta": 1})), (400, "invalid")),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "session.welcome"})),
            (400, "invalid"),
        ),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "e", "encoding": "base64", "data": "?"})),
            (400, "invalid"),
        ),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "e", "encoding": "base64", "data": {"x": 1}})),
            (400, "invalid"),
        ),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "e", "encoding": "base64"})),
            (400, "invalid"),
        ),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "e", "exclude_session": "x"})),
            (400, "invalid"),
        ),
        (
            &pump,
            "POST",
            "/v1/rooms/chat:a/events",
            Some(json!({"event": "e", "data": "x".repeat(1 << 20)})),
            (413, "too_large"),
        ),
        (&pump, "POST", "/v1/batch", Some(json!({"events": []})), (400, "invalid")),
        (&pump, "POST", "/v1/users/%C3%84/events", event.clone(), (400, "invalid")),
        (&reader, "GET", "/v1/rooms?limit=0", None, (400, "invalid")),
        (&reader, "GET", "/v1/rooms?colour=red", None, (400, "invalid")),
        (&reader, "GET", "/v1/rooms/chat:a/events?before=chat:b@k3f9a1qz.1", None, (400, "invalid")),
        (&reader, "GET", "/v1/rooms/nowhere/members", None, (404, "unknown_room")),
        (&reader, "GET", "/v1/nothing", None, (404, "not_found")),
        (&reader, "GET", "/v1/", None, (404, "not_found")),
        (&reader, "POST", "/v1", None, (404, "not_found")),
        (&reader, "DELETE", "/v1/rooms", None, (405, "method_not_allowed")),
    ] {
        let (status, code) = backend.refused(method, path, body).await;
        assert_eq!((status, code.as_str()), expected, "{method} {path}");
    }
    let none = request(&node.address, "GET", "/v1/rooms", &[("X-Request-Id", "mine-7")], "").await;
    assert_eq!(none.status, 401);
    assert!(none.head.contains("x-request-id: mine-7"), "{}", none.head);
    assert!(none.body.contains("\"key_missing\"") && none.body.contains("mine-7"));
    let document = server::get(&node.address, "/openapi.json", &node.address).await;
    assert_eq!(document.status, 200);
}

#[tokio::test]
async fn a_large_body_may_take_its_time_and_one_that_is_too_large_is_told_which_key_says_so() {
    let small = config("[limits]\nhandshake_duration_max_seconds = 1");
    let node = Node::start(&small.replace("[api]", "[api]\nbody_bytes_max = 4000"), &[]).await;
    let pump = Backend::of(&node, PUMP_KEY);
    let (large, path) = (json!({"event": "e", "data": "x".repeat(5000)}), "/v1/rooms/chat:a/events");
    let (status, problem) = pump.ask("POST", path, &[], Some(large)).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")));
    assert_eq!(problem["fix"], "split it, or raise api.body_bytes_max");

    let body = json!({"event": "e", "data": "x".repeat(3000)}).to_string();
    let mut stream = TcpStream::connect(&node.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {PUMP_KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Twice as long as who shows no key may take, and never without progress for as long.
    let mut pieces = tokio::time::interval(Duration::from_millis(250));
    for piece in body.as_bytes().chunks(body.len() / 8 + 1) {
        pieces.tick().await;
        stream.write_all(piece).await.unwrap();
    }
    let mut answer = vec![0; 1024];
    let read = within(stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_key_has_a_rate() {
    let slow = config("").replace("[api]", "[api]\nrequests_per_second = 1\nrequests_burst = 2");
    let node = Node::start(&slow, &[]).await;
    let reader = Backend::of(&node, READER_KEY);
    reader.get("/v1/rooms").await;
    reader.get("/v1/rooms").await;
    let (status, problem) = reader.ask("GET", "/v1/rooms", &[], None).await;
    assert_eq!((status, &problem["code"]), (429, &json!("rate_limited")));
    Backend::of(&node, ADMIN_KEY).get("/v1/rooms").await;
}

#[tokio::test]
async fn on_two_nodes_everything_is_of_both() {
    let redis = RedisServer::start().await;
    let shared = format!("[broker]\nurl = \"redis://{}\"", redis.address());
    let (one, two) = (Node::start(&config(&shared), &[]).await, Node::start(&config(&shared), &[]).await);
    let (mut ann, mut also_ann) = (joined(&one, "ann", "chat:a").await, joined(&two, "ann", "chat:a").await);
    let mut bob = joined(&two, "bob", "chat:b").await;
    let (here, there) = (Backend::of(&one, ADMIN_KEY), Backend::of(&two, ADMIN_KEY));
    // Both have said that they are there.
    within(async { while here.get("/v1/nodes").await["nodes"].as_array().unwrap().len() < 2 {} }).await;

    let once = [("Idempotency-Key", "k-1")];
    let body = json!({"event": "news", "data": 1});
    let (_, first) = here.ask("POST", "/v1/rooms/chat:a/events", &once, Some(body.clone())).await;
    let (_, again) = there.ask("POST", "/v1/rooms/chat:a/events", &once, Some(body)).await;
    assert_eq!((&again["event_id"], &again["duplicate"]), (&first["event_id"], &json!(true)));
    assert_eq!(ann.until("news").await["id"], first["event_id"]);
    assert_eq!(also_ann.until("news").await["id"], first["event_id"]);

    assert_eq!(here.get("/v1/users/ann/presence").await["connections"], 2);
    let rooms = here.get("/v1/rooms?prefix=chat:").await;
    assert_eq!(rooms["rooms"], json!([{"room": "chat:a", "members": 1}, {"room": "chat:b", "members": 1}]));
    assert_eq!(here.ask("PUT", "/v1/users/bob/rooms/chat:a", &[], None).await.1["connections"], 1);
    here.post("/v1/rooms/chat:a/events", json!({"event": "hi", "data": 2})).await;
    bob.until("hi").await;

    let path = format!("/v1/rooms/chat:a/events/{}", first["event_id"].as_str().unwrap());
    assert_eq!(here.ask("DELETE", &path, &[], None).await.1, json!({"redacted": true}));
    // The other node had read it, and is told.
    let left =
        async { while there.get("/v1/rooms/chat:a/events").await["events"].as_array().unwrap().len() > 1 {} };
    within(left).await;
    let (status, _) = there.ask("DELETE", &path, &[], None).await;
    assert_eq!(status, 200, "as often as one likes");

    assert_eq!(there.post("/v1/users/ann/disconnect", json!({})).await["connections"], 2);
    assert_eq!(u16::from(ann.closed().await.unwrap().code), 4006);
    assert_eq!(u16::from(also_ann.closed().await.unwrap().code), 4006);
}
