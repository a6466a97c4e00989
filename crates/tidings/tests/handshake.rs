//! The answers of the handshake's route, in the application's own router and without a port.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response};
use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::Hub;
use tidings::auth::{Jwt, mint_hs256};

const SECRET: &[u8] = b"canary-bird of the tests, 32 bytes and more";

fn hub() -> TestHub {
    let builder = Hub::builder().authenticate(Jwt::hs256(SECRET).unwrap());
    TestHub::start(builder.allow_origin("https://app.example")).unwrap()
}

fn good_token() -> String {
    mint_hs256(SECRET, &json!({"sub": "ann", "exp": 4_000_000_000u64, "aud": "tidings", "note": "canary-bird of the claims"})).unwrap()
}

async fn answer(hub: &TestHub, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(target).header("host", "api.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    hub.hub().upgrade(request.body(Body::empty()).unwrap()).await
}

async fn code(answer: Response<Body>) -> (u16, Value) {
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
    (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].take())
}

#[tokio::test(start_paused = true)]
async fn a_page_that_may_connect_can_read_why_it_was_refused() {
    let hub = hub();
    let allowed = [("origin", "https://app.example")];
    for (target, expected) in [("/ws", (401, "token_missing")), ("/ws?token=x", (401, "token_malformed"))] {
        let refusal = answer(&hub, Method::GET, target, &allowed).await;
        assert_eq!(refusal.headers()["access-control-allow-origin"], "https://app.example");
        assert_eq!(refusal.headers()["vary"], "origin");
        assert_eq!(code(refusal).await, (expected.0, expected.1.into()));
    }
    // With a good token the plain GET says what the upgrade would: here, that it is none.
    let target = format!("/ws?token={}", good_token());
    assert_eq!(
        code(answer(&hub, Method::GET, &target, &allowed).await).await,
        (426, "upgrade_required".into())
    );

    let preflight = answer(&hub, Method::OPTIONS, "/ws", &allowed).await;
    assert!(preflight.status().is_success(), "{preflight:?}");
    assert_eq!(preflight.headers()["access-control-allow-origin"], "https://app.example");
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));

    for stranger in ["https://evil.example", "null"] {
        let refusal = answer(&hub, Method::GET, &target, &[("origin", stranger)]).await;
        assert!(!refusal.headers().contains_key("access-control-allow-origin"));
        assert_eq!(code(refusal).await, (403, "origin_not_allowed".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_has_a_hundred_handshakes_a_second_and_five_hundred_at_once() {
    let hub = hub();
    let ask = async |address: &str| {
        let mut request = Request::get("/ws").header("host", "api.example").body(Body::empty()).unwrap();
        request
            .extensions_mut()
            .insert(ConnectInfo(format!("{address}:40000").parse::<SocketAddr>().unwrap()));
        hub.hub().upgrade(request).await
    };
    for _ in 0..500 {
        assert_eq!(ask("203.0.113.7").await.status(), 401);
    }
    let refusal = ask("203.0.113.7").await;
    assert_eq!(refusal.headers()["retry-after"], "1");
    assert_eq!(code(refusal).await, (429, "rate_limited".into()));
    assert_eq!(ask("203.0.113.8").await.status(), 401, "another address is another account");
    tokio::time::advance(Duration::from_secs(1)).await;
    for _ in 0..100 {
        assert_eq!(ask("203.0.113.7").await.status(), 401);
    }
    assert_eq!(ask("203.0.113.7").await.status(), 429);
    assert_eq!(hub.hub().metrics().refused["rate_limited"], 2);
}

#[tokio::test(start_paused = true)]
async fn another_method_begins_no_websocket() {
    let refusal = answer(&hub(), Method::POST, &format!("/ws?token={}", good_token()), &[]).await;
    assert_eq!(code(refusal).await, (400, "bad_upgrade".into()));
}
