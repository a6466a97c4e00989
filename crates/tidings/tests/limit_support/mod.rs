//! What the tests of the limits share: a hub, a handshake without a port, the count of a limit, time that passes.
#![allow(dead_code, unreachable_pub, reason = "each of the files that share this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use serde_json::{Value, json};
use tidings::testing::TestClient;
use tidings::{Access, Hub, HubBuilder, Limits, RoomId, RoomRules};

use crate::log_capture::TestHub;

pub fn open() -> HubBuilder {
    Hub::builder().rule(
        RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event().ephemeral("typing"),
    )
}

/// What a test changes of the limits.
pub type Change = fn(&mut Limits);

/// A hub with some limits other than the default.
pub fn hub_with(change: impl FnOnce(&mut Limits)) -> TestHub {
    let mut limits = Limits::default();
    change(&mut limits);
    TestHub::start(open().limits(limits)).unwrap()
}

pub fn hub() -> TestHub {
    hub_with(|_| ())
}

/// How often a limit was hit.
#[track_caller]
pub fn hits(hub: &TestHub, limit: &str) -> u64 {
    hub.hub().metrics().limit_hits[limit]
}

/// Lets time pass, and everything happen that is due meanwhile.
pub async fn pass(time: Duration) {
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}

pub fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

/// Publishes so many kilobytes as the application.
pub async fn broadcast(hub: &TestHub, name: &str, kilobytes: usize) {
    hub.hub().room(&room(name)).broadcast("n", &"x".repeat(kilobytes * 1000)).await.unwrap();
}

/// The answer's status, code and `Retry-After`.
pub async fn handshake(hub: &TestHub, address: Option<&str>, token: &str) -> (u16, String, Option<u64>) {
    let request = Request::get(format!("/ws?token={token}")).header("host", "api.example");
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(address) = address {
        let address: SocketAddr = format!("{address}:40000").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
    }
    let answer = hub.hub().upgrade(request).await;
    let retry_after =
        answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    (status, problem["code"].as_str().unwrap().to_owned(), retry_after)
}

/// Asks for something that costs nothing but a message.
pub async fn ask(client: &mut TestClient) -> Value {
    client.request("room.list", json!(null)).await
}

/// The code and the wait of an answer that is an error.
pub fn refused(answer: &Value) -> (&str, Option<u64>) {
    assert_eq!(answer["event"], "error", "{answer}");
    (answer["data"]["code"].as_str().unwrap(), answer["data"]["retry_after_ms"].as_u64())
}
