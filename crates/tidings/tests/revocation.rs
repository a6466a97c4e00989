//! Tokens that are taken back: live connections end at once, and neither a handshake nor a refresh takes them any more.
#![allow(clippy::unwrap_used, reason = "the functions that the tests share are tests too")]

mod log_capture;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::auth::{Identity, Jwt, mint_hs256};
use tidings::protocol::close::CloseCode;
use tidings::testing::{ConnectOptions, TestClient};
use tidings::{
    ControlError, Hub, HubBuilder, Limits, MembershipFuture, Memberships, RoomId, RoomRules,
    TooManyRevocations,
};
use tokio::sync::Notify;
use tokio::time::Instant;

const SECRET: &[u8] = b"canary-bird of the tests, 32 bytes and more";
/// Where the test's calendar begins.
const START: u64 = 1_795_468_800;

fn jwt() -> Jwt {
    Jwt::hs256(SECRET).unwrap()
}

fn open() -> HubBuilder {
    Hub::builder().authenticate(jwt()).rule(RoomRules::new("*"))
}

/// A token of a user's that outlives every test.
fn token(user: &str, more: &Value) -> String {
    let mut claims = json!({"sub": user, "aud": "tidings", "exp": START + 1_000_000, "iat": START - 60, "note": "canary-bird of the claims"});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mint_hs256(SECRET, &claims).unwrap()
}

fn id(jti: &str) -> Value {
    json!({"jti": jti})
}

async fn connect(hub: &TestHub, token: &str) -> TestClient {
    let identity = jwt().verify(token, START).unwrap();
    hub.connect_as(identity, ConnectOptions::default()).await.unwrap()
}

/// What a plain GET with this token is told, which makes the same checks as a handshake.
async fn told(hub: &TestHub, token: &str) -> (u16, String, String) {
    let request = Request::get(format!("/ws?token={token}")).header("host", "api.example");
    let answer = hub.hub().upgrade(request.body(Body::empty()).unwrap()).await;
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let text = |key: &str| problem[key].as_str().unwrap().to_owned();
    (status, text("code"), text("detail"))
}

async fn assert_refused(hub: &TestHub, token: &str) {
    let (status, code, detail) = told(hub, token).await;
    assert_eq!((status, code.as_str(), detail.as_str()), (401, "token_claims", "the token was revoked"));
    let identity = jwt().verify(token, START).unwrap();
    let refusal = hub.connect_as(identity, ConnectOptions::default()).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (401, "token_claims"));
}

async fn assert_good(hub: &TestHub, token: &str) {
    assert_eq!(told(hub, token).await.0, 426);
}

async fn assert_lives(client: &mut TestClient) {
    assert_eq!(client.request("room.list", json!(null)).await["event"], "ack");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_user_is_sent_away_at_once_and_his_tokens_of_before_are_refused() {
    let hub = TestHub::start(open()).unwrap();
    let (old, bobs) = (token("ann", &json!({})), token("bob", &json!({})));
    let (mut first, mut second) = (connect(&hub, &old).await, connect(&hub, &old).await);
    let mut bob = connect(&hub, &bobs).await;
    let begun = Instant::now();
    assert_eq!(hub.hub().revoke_user("ann").await, Ok(2));
    for client in [&mut first, &mut second] {
        assert_eq!(client.closed().await, Some(CloseCode::TOKEN_INVALID));
    }
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(hub.hub().metrics().closed[&CloseCode::TOKEN_INVALID], 2);

    assert_refused(&hub, &old).await;
    assert_refused(&hub, &token("ann", &json!({"iat": START}))).await;
    let undated = mint_hs256(SECRET, &json!({"sub": "ann", "aud": "tidings", "exp": START + 60})).unwrap();
    assert_refused(&hub, &undated).await;
    let new = token("ann", &json!({"iat": START + 1}));
    assert_good(&hub, &new).await;
    let mut again = connect(&hub, &new).await;
    let refreshed = again.request("session.refresh", json!({"token": old})).await;
    assert_eq!(refreshed["data"]["code"], "forbidden");
    assert!(refreshed["data"]["message"].as_str().unwrap().contains("revoked"), "{refreshed}");
    assert_lives(&mut again).await;
    assert_lives(&mut bob).await;
    assert_good(&hub, &bobs).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_ends_its_own_connections_wherever_they_are() {
    let hub = TestHub::start(open()).unwrap();
    let mut others = Vec::new();
    let mut revoked = vec![connect(&hub, &token("ann", &id("stolen"))).await];
    // More than a shard looks at in one turn.
    for number in 0..1100 {
        others.push(connect(&hub, &token(&format!("user-{number}"), &id(&format!("t-{number}")))).await);
    }
    revoked.push(connect(&hub, &token("ann", &id("stolen"))).await);
    let mut own = connect(&hub, &token("ann", &id("own"))).await;
    let begun = Instant::now();
    hub.hub().revoke_token("stolen").await.unwrap();
    hub.hub().revoke_token("t-1099").await.unwrap();
    revoked.push(others.pop().unwrap());
    for client in &mut revoked {
        assert_eq!(client.closed().await, Some(CloseCode::TOKEN_INVALID));
    }
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(hub.hub().metrics().closed[&CloseCode::TOKEN_INVALID], 3);
    assert_refused(&hub, &token("ann", &id("stolen"))).await;
    assert_good(&hub, &token("ann", &id("own"))).await;
    assert_lives(&mut own).await;
    for other in &mut others {
        assert_lives(other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_the_token_that_it_was_refreshed_with() {
    let hub = TestHub::start(open()).unwrap();
    let mut ann = connect(&hub, &token("ann", &id("first"))).await;
    let second = token("ann", &id("second"));
    assert_eq!(ann.request("session.refresh", json!({"token": second})).await["event"], "ack");
    hub.hub().revoke_token("first").await.unwrap();
    assert_lives(&mut ann).await;
    let refused = ann.request("session.refresh", json!({"token": token("ann", &id("first"))})).await;
    assert_eq!(refused["data"]["code"], "forbidden");
    hub.hub().revoke_token("second").await.unwrap();
    assert_eq!(ann.closed().await, Some(CloseCode::TOKEN_INVALID));
}

/// Memberships that answer when the test says so.
struct Slow(Arc<Notify>);

impl Memberships for Slow {
    fn rooms<'a>(&'a self, _identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            self.0.notified().await;
            Ok(Vec::new())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_under_way_is_no_way_around() {
    let go_on = Arc::new(Notify::new());
    let hub = TestHub::start(open().memberships(Slow(Arc::clone(&go_on)))).unwrap();
    let identity = jwt().verify(&token("ann", &id("a")), START).unwrap();
    let connecting = hub.connect_as(identity, ConnectOptions::default());
    let revoking = async {
        assert_eq!(hub.hub().revoke_user("ann").await, Ok(0));
        go_on.notify_one();
    };
    let (connected, ()) = tokio::join!(connecting, revoking);
    assert_eq!(connected.unwrap_err().code(), "token_claims");
}

#[tokio::test(start_paused = true)]
async fn nor_is_a_socket_that_no_shard_has_yet() {
    let hub = TestHub::start(open()).unwrap();
    let identity = jwt().verify(&token("ann", &id("a")), START).unwrap();
    // It waits for its welcome in vain, and the kit says so by a panic.
    let connecting = hub.connect_as(identity, ConnectOptions::default());
    let connecting = AssertUnwindSafe(connecting).catch_unwind();
    let (connected, revoked) = tokio::join!(connecting, hub.hub().revoke_user("ann"));
    assert_eq!(revoked, Ok(0), "the shard has not taken it in");
    assert!(connected.is_err());
    assert_eq!(hub.hub().metrics().closed[&CloseCode::TOKEN_INVALID], 1);
}

#[tokio::test(start_paused = true)]
async fn the_list_is_bounded_and_forgets_after_a_day() {
    let mut limits = Limits::default();
    limits.revocations_max = 2;
    let hub = TestHub::start(open().limits(limits)).unwrap();
    let mut cid = connect(&hub, &token("cid", &id("c"))).await;
    let too_many = Err(ControlError::TooMany(TooManyRevocations));
    hub.hub().revoke_user("ann").await.unwrap();
    hub.hub().revoke_token("b").await.unwrap();
    assert_eq!(hub.hub().revoke_user("cid").await, too_many);
    assert_eq!(hub.hub().revoke_token("c").await.map(|()| 0), too_many);
    assert_lives(&mut cid).await;
    // What is on the list is not one more.
    hub.hub().revoke_user("ann").await.unwrap();
    drop(cid);
    let (anns, bobs) = (token("ann", &json!({})), token("bob", &id("b")));
    tokio::time::advance(Duration::from_secs(24 * 3600 - 10)).await;
    assert_eq!((told(&hub, &anns).await.0, told(&hub, &bobs).await.0), (401, 401));
    tokio::time::advance(Duration::from_secs(20)).await;
    // Past its time it is forgotten with the next maintenance.
    tokio::time::timeout(Duration::from_secs(10), async {
        while told(&hub, &anns).await.0 == 401 || told(&hub, &bobs).await.0 == 401 {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(hub.hub().revoke_user("cid").await, Ok(0));
}
