//! Nodes that share a real Redis, which may be a cluster, with users who come, are sent away and come back.
#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

pub mod promises;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tidings::auth::{Identity, Jwt, mint_hs256};
use tidings::protocol::close::CloseCode;
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{HandshakeRefusal, Hub, HubBuilder, Redis, RoomRules, SessionId};

use crate::log_capture::TestHub;
use crate::redis_servers::Store;

const SECRET: &[u8] = b"canary-bird of the users of many nodes";
/// Where the calendar of the tests' nodes begins.
pub const START: u64 = 1_795_468_800;
/// What is done everywhere is done within so long.
pub const EVERYWHERE_MAX: Duration = Duration::from_secs(5);
/// What a test can wait for.
pub const SHORT_LEASE: Duration = Duration::from_secs(2);

/// Three nodes that share a Redis, and one that can be cut off from it and has short leases.
pub struct World {
    pub store: Store,
    pub nodes: [TestHub; 3],
    pub away: TestHub,
}

impl World {
    /// All of them, as soon as they are ready.
    pub async fn of(store: Store) -> Self {
        let away = redis(&store.url_of_user("away").await).lease(SHORT_LEASE);
        let nodes = [(); 3].map(|()| node(with_tokens(open()), redis(&store.url())));
        let world = Self { nodes, away: node(with_tokens(open()), away), store };
        world.is_ready().await;
        world
    }

    /// One more that is like the others, and has just started.
    pub fn later(&self) -> TestHub {
        node(with_tokens(open()), redis(&self.store.url()))
    }

    pub fn all(&self) -> impl Iterator<Item = &TestHub> {
        self.nodes.iter().chain([&self.away])
    }

    /// Waits until all nodes are.
    pub async fn is_ready(&self) {
        until("all nodes are ready", 8 * EVERYWHERE_MAX, async || {
            self.all().all(|node| node.hub().is_ready()).then_some(())
        })
        .await;
    }
}

pub fn redis(url: &str) -> Redis {
    Redis::new(url).unwrap()
}

/// How many places of a user there are.
pub async fn places(store: &Store, user: &str) -> usize {
    store.run(&["ZCARD", &format!("tidings:1:{{@{user}}}:connections")]).await
}

pub fn open() -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*"))
}

pub fn with_tokens(builder: HubBuilder) -> HubBuilder {
    builder.authenticate(Jwt::hs256(SECRET).unwrap())
}

/// One more node of those that share a Redis.
pub fn node(builder: HubBuilder, redis: Redis) -> TestHub {
    static NODES: AtomicU64 = AtomicU64::new(1);
    TestHub::start_seeded(builder.broker(redis), NODES.fetch_add(1, Ordering::Relaxed)).unwrap()
}

pub fn token(user: &str, jti: &str) -> String {
    let claims =
        json!({"sub": user, "aud": "tidings", "jti": jti, "iat": START - 60, "exp": START + 1_000_000});
    mint_hs256(SECRET, &claims).unwrap()
}

pub async fn connect(hub: &TestHub, identity: Identity) -> Result<TestClient, HandshakeRefusal> {
    hub.connect_as(identity, ConnectOptions::default()).await
}

/// By a token of his, with as many connections as a test may want.
pub async fn connect_with(hub: &TestHub, token: &str) -> Result<TestClient, HandshakeRefusal> {
    let verified = Jwt::hs256(SECRET).unwrap().verify(token, START).unwrap();
    connect(hub, verified.with_max_connections(10)).await
}

pub async fn take_over(
    hub: &TestHub,
    user: Identity,
    session: SessionId,
) -> Result<TestClient, HandshakeRefusal> {
    let options = ConnectOptions { session: Some(session.to_string()), ..ConnectOptions::default() };
    hub.connect_as(user, options).await
}

/// Somebody who may be connected once.
pub fn once(user: &str) -> Identity {
    identity(user).with_max_connections(1)
}

/// Asks again and again, until it is so.
pub async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < within, "{what} is not so after {within:?}");
        ticks.tick().await;
    }
}

pub async fn closed_with(client: &mut TestClient, code: CloseCode) {
    let closed = tokio::time::timeout(EVERYWHERE_MAX, client.closed()).await;
    assert_eq!(closed.expect("it is still open"), Some(code));
}

pub async fn lives(client: &mut TestClient) {
    assert_eq!(client.request("room.list", json!(null)).await["event"], "ack");
}

/// What a plain GET is told, which makes the same checks as a handshake and takes nothing.
pub async fn told(hub: &TestHub, token: &str) -> (u16, String) {
    let request = Request::get(format!("/ws?token={token}")).header("host", "api.example");
    let answer = hub.hub().upgrade(request.body(Body::empty()).unwrap()).await;
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}
