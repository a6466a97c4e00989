//! The application without a port: its handlers against a hub of the test kit, its routes as a tower service. A second
//! hub on the same database is a server that was started again.

#[path = "../../../crates/tidings/tests/log_capture/mod.rs"]
mod log_capture;

use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings::testing::{TestClient, TestFrame};
use tower::ServiceExt as _;

use self::log_capture::TestHub;
use crate::app::App;
use crate::database::Database;

/// The canary in all secrets of tests is in it: the gate looks for it in what is logged.
const SECRET: &[u8] = b"canary-bird of the chat, 32 bytes and more";

struct Server {
    app: App,
    hub: TestHub,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let file = folder.join("chat.db");
        Database::open(&file).await.unwrap().setting("token_secret", || SECRET.to_vec()).await.unwrap();
        let app = App::open(&file).await.unwrap();
        let hub = TestHub::start(app.hub()).unwrap();
        Self { app, hub }
    }

    async fn sign_up(&self, users: &[&str]) {
        for user in users {
            assert!(self.app.database.sign_up(user, "no hash").await.unwrap());
        }
    }

    async fn stored(&self) -> Vec<(String, Option<String>)> {
        let messages = self.app.database.messages("ch_1").await.unwrap();
        messages.into_iter().map(|message| (message.from, message.content)).collect()
    }

    async fn call(
        &self,
        method: &str,
        uri: &str,
        cookie: Option<&str>,
        body: Value,
    ) -> (StatusCode, Option<String>, String) {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json");
        let request = cookie.iter().fold(request, |request, cookie| request.header(header::COOKIE, *cookie));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let router = self.app.router(&self.app.authenticated_hub().unwrap());
        let answer = router.oneshot(request).await.unwrap();
        let cookie =
            answer.headers().get(header::SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned());
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, cookie, String::from_utf8_lossy(&body).into_owned())
    }
}

/// Sends a message under an id of the test's choice, and gives the answer: an ack or an error.
async fn send(client: &mut TestClient, event: &str, id: &str, data: Value) -> Value {
    client.ask(json!({"event": event, "data": data, "id": id})).await
}

fn hello() -> Value {
    json!({"channelId": "ch_1", "content": "Hello"})
}

#[tokio::test]
async fn a_message_is_stored_once_and_reaches_the_channel_also_after_the_server_starts_again() {
    let folder = TempDir::new().unwrap();
    let first = Server::start(folder.path()).await;
    first.sign_up(&["ann", "bob"]).await;
    // Both are in their channels by the database's word.
    let (mut ann, mut bob) = (first.hub.connect("ann").await, first.hub.connect("bob").await);
    let ack = send(&mut ann, "message.send", "client-uuid", hello()).await;
    assert_eq!(ack["event"], "ack", "{ack}");
    let event = bob.next_named("message.send").await;
    assert_eq!(
        (&event["room"], &event["from"], &event["re"]),
        (&json!("ch_1"), &json!("ann"), &json!("client-uuid"))
    );
    assert_eq!(event["data"], json!({"content": "Hello"}));
    drop(first);

    let second = Server::start(folder.path()).await;
    let (mut ann, mut bob) = (second.hub.connect("ann").await, second.hub.connect("bob").await);
    let again = send(&mut ann, "message.send", "client-uuid", hello()).await;
    assert_eq!(again["data"], ack["data"], "the same message, stored when it was");
    // It is told again: the first server may have ended before it did.
    assert_eq!(bob.next_named("message.send").await["re"], "client-uuid");
    assert_eq!(second.stored().await, [("ann".to_owned(), Some("Hello".to_owned()))]);
    let other = send(&mut bob, "message.send", "client-uuid", hello()).await;
    assert_eq!(other["event"], "ack", "another user's ids are others");
    drop(second);

    let third = Server::start(folder.path()).await;
    let mut ann = third.hub.connect("ann").await;
    let data = json!({"channelId": "ch_1", "content": "Something else"});
    let conflict = send(&mut ann, "message.send", "client-uuid", data).await;
    assert_eq!(conflict["data"]["code"], "idempotency_conflict");
}

#[tokio::test]
async fn one_edits_ones_own_messages_only() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    server.sign_up(&["ann", "bob"]).await;
    let (mut ann, mut bob) = (server.hub.connect("ann").await, server.hub.connect("bob").await);
    send(&mut ann, "message.send", "m1", hello()).await;
    let edit = json!({"channelId": "ch_1", "messageId": "m1", "content": "Hello again"});
    let refused = send(&mut bob, "message.edit", "e1", edit.clone()).await;
    assert_eq!(refused["data"]["code"], "forbidden");
    let ack = send(&mut ann, "message.edit", "e2", edit).await;
    assert!(ack["data"]["at"].is_i64(), "{ack}");
    let told = bob.next_named("message.edit").await;
    assert_eq!(told["data"], json!({"messageId": "m1", "content": "Hello again"}));
    assert_eq!(server.stored().await, [("ann".to_owned(), Some("Hello again".to_owned()))]);
    // A retry of the message does not undo the edit.
    drop(server);
    let server = Server::start(folder.path()).await;
    let mut ann = server.hub.connect("ann").await;
    assert_eq!(send(&mut ann, "message.send", "m1", hello()).await["event"], "ack");
    assert_eq!(server.stored().await, [("ann".to_owned(), Some("Hello again".to_owned()))]);
}

#[tokio::test]
async fn what_makes_no_message_is_refused_and_stores_nothing() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    server.sign_up(&["ann"]).await;
    let mut ann = server.hub.connect("ann").await;
    let mut stranger = server.hub.connect("stranger").await;
    let refused = send(&mut stranger, "message.send", "m0", hello()).await;
    assert_eq!(refused["data"]["code"], "forbidden");
    for (index, (data, code)) in [
        (json!({"channelId": "ch_9", "content": "Hello"}), "forbidden"),
        (json!({"channelId": "ch_1", "content": ""}), "invalid"),
        (json!({"channelId": "ch_1", "content": "x".repeat(4001)}), "invalid"),
        (json!({"channelId": "ch_1"}), "schema"),
        (json!({"channelId": "ch_1", "content": "Hello", "html": true}), "schema"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = send(&mut ann, "message.send", &format!("m{index}"), data).await;
        assert_eq!(answer["data"]["code"], code, "{index}: {answer}");
    }
    ann.send(json!({"event": "message.send", "data": hello()})).await;
    assert_eq!(ann.next_named("error").await["data"]["code"], "invalid", "without an id");
    assert!(server.stored().await.is_empty());
}

#[tokio::test]
async fn an_image_crosses_byte_for_byte_and_can_be_had_by_members() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    server.sign_up(&["ann", "bob"]).await;
    let (mut ann, mut bob) = (server.hub.connect("ann").await, server.hub.connect("bob").await);
    let image: Vec<u8> =
        [0x89, b'P', b'N', b'G'].into_iter().chain((0..100_000u32).map(|byte| (byte % 251) as u8)).collect();
    ann.send_binary(json!({"event": "image.send", "room": "ch_1", "id": "i1"}), &image).await;
    let (header, payload) = loop {
        if let TestFrame::Binary(header, payload) = bob.next().await {
            break (header, payload);
        }
    };
    assert_eq!((&header["from"], &header["re"], payload == image), (&json!("ann"), &json!("i1"), true));
    let messages = serde_json::to_value(server.app.database.messages("ch_1").await.unwrap()).unwrap();
    assert_eq!(messages[0]["image"], "/images/1");

    let (_, cookie, _) = server.call("POST", "/login", None, json!({"name": "cid", "password": "p"})).await;
    let cookie = cookie.unwrap().split(';').next().unwrap().to_owned();
    let (status, _, _) = server.call("GET", "/images/1", Some(&cookie), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.call("GET", "/images/1", None, Value::Null).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(server.call("GET", "/images/2", Some(&cookie), Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn typing_reaches_the_others_and_a_heartbeat_the_database() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    server.sign_up(&["ann", "bob"]).await;
    let (mut ann, mut bob) = (server.hub.connect("ann").await, server.hub.connect("bob").await);
    ann.send(json!({"event": "typing.start", "data": {"channelId": "ch_1"}})).await;
    let typing = bob.next_named("typing.start").await;
    assert_eq!((&typing["from"], &typing["id"]), (&json!("ann"), &Value::Null));
    let beat = send(&mut ann, "presence.heartbeat", "h1", Value::Null).await;
    assert_eq!(beat["event"], "ack", "{beat}");
}

#[tokio::test]
async fn a_reset_brings_the_channel_from_the_database() {
    let folder = TempDir::new().unwrap();
    let first = Server::start(folder.path()).await;
    first.sign_up(&["ann"]).await;
    let mut ann = first.hub.connect("ann").await;
    send(&mut ann, "message.send", "m1", hello()).await;
    let cursor = ann.next_named("message.send").await["id"].as_str().unwrap().to_owned();
    drop(first);
    let second = Server::start(folder.path()).await;
    let mut ann = second.hub.connect("ann").await;
    ann.send(json!({"event": "room.join", "room": "ch_1", "data": {"last_event_id": cursor}, "id": "j1"}))
        .await;
    let reset = ann.next_named("room.reset").await;
    let message = &reset["data"]["state"]["messages"][0];
    assert_eq!(
        (&message["from"], &message["id"], &message["content"]),
        (&json!("ann"), &json!("m1"), &json!("Hello"))
    );
}

#[tokio::test]
async fn a_login_makes_a_cookie_and_the_cookie_a_token_that_outlives_the_server() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let login = |password: &str| json!({"name": "ann", "password": password});
    let (status, cookie, _) = server.call("POST", "/login", None, login("canary-bird")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let cookie = cookie.unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(
        server.call("POST", "/login", None, login("another canary-bird")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        server.call("POST", "/login", None, json!({"name": "a b", "password": "p"})).await.0,
        StatusCode::BAD_REQUEST
    );
    for path in ["/me", "/token", "/channels/ch_1/messages"] {
        assert_eq!(server.call("GET", path, None, Value::Null).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    let (_, _, me) = server.call("GET", "/me", Some(cookie), Value::Null).await;
    let channels = json!([{"id": "ch_1", "name": "General"}, {"id": "ch_2", "name": "Random"}]);
    assert_eq!(serde_json::from_str::<Value>(&me).unwrap(), json!({"user": "ann", "channels": channels}));
    assert_eq!(
        server.call("GET", "/channels/ch_9/messages", Some(cookie), Value::Null).await.0,
        StatusCode::FORBIDDEN
    );

    // The socket takes the token: 426 says that all is well but the upgrade. So does the next server's.
    let (_, _, token) = server.call("GET", "/token", Some(cookie), Value::Null).await;
    let token = serde_json::from_str::<Value>(&token).unwrap()["token"].as_str().unwrap().to_owned();
    let again = Server::start(folder.path()).await;
    for server in [&server, &again] {
        let (status, _, body) = server.call("GET", &format!("/ws?token={token}"), None, Value::Null).await;
        assert_eq!(status, StatusCode::UPGRADE_REQUIRED, "{body}");
    }
    assert_eq!(again.call("POST", "/logout", Some(cookie), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(again.call("GET", "/me", Some(cookie), Value::Null).await.0, StatusCode::UNAUTHORIZED);
}
