//! A backend of a test's own: it keeps what webhooks it gets, each with its signature checked, and answers as the test says.

#![allow(dead_code, reason = "each test file is a crate that uses its part")]

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::server::within;

/// What signs the tokens, and so the webhooks.
pub(crate) const SECRET: &str = "canary-bird-of-the-webhooks-0123456789abcdef";

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Json(Value),
    Status(u16),
    Text(&'static str),
    Redirect,
    Never,
}

type Answer = Box<dyn FnMut(&Value) -> Reply + Send>;

/// A running backend.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    seen: watch::Sender<Vec<Value>>,
    bodies: Mutex<Vec<String>>,
}

impl Backend {
    /// Starts one that answers like this.
    pub(crate) async fn start(answer: impl FnMut(&Value) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tidings", listener.local_addr().unwrap());
        let answer: Answer = Box::new(answer);
        let shared =
            Shared { answer: Mutex::new(answer), seen: watch::Sender::default(), bodies: Mutex::default() };
        let shared = Arc::new(shared);
        let app = Router::new().fallback(take).with_state(Arc::clone(&shared));
        drop(tokio::spawn(async move { axum::serve(listener, app).await }));
        Self { url, shared }
    }

    /// From now on it answers like this.
    pub(crate) fn answers(&self, answer: impl FnMut(&Value) -> Reply + Send + 'static) {
        *self.shared.answer.lock() = Box::new(answer);
    }

    /// All that it got, in its order.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.shared.seen.borrow().clone()
    }

    /// The same, byte for byte.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.shared.bodies.lock().clone()
    }

    /// What it got of one type, without the prefix.
    pub(crate) fn seen_of(&self, kind: &str) -> Vec<Value> {
        of(&self.seen(), kind)
    }

    /// Waits until what it got is enough.
    pub(crate) async fn until(&self, is_enough: impl FnMut(&Vec<Value>) -> bool) -> Vec<Value> {
        let mut seen = self.shared.seen.subscribe();
        within(seen.wait_for(is_enough)).await.unwrap().clone()
    }
}

/// Those of a type.
pub(crate) fn of(events: &[Value], kind: &str) -> Vec<Value> {
    let kind = format!("dev.tidings.{kind}");
    events.iter().filter(|event| event["type"] == *kind).cloned().collect()
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    check_signature(&headers, &body);
    assert_eq!(headers[header::CONTENT_TYPE], "application/cloudevents+json");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(headers["webhook-id"], event["id"].as_str().unwrap());
    shared.bodies.lock().push(String::from_utf8(body.to_vec()).unwrap());
    let reply = (shared.answer.lock())(&event);
    shared.seen.send_modify(|seen| seen.push(event));
    match reply {
        Reply::Json(json) => axum::Json(json).into_response(),
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Text(text) => text.into_response(),
        Reply::Redirect => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Reply::Never => std::future::pending().await,
    }
}

/// As docs/webhooks.md says it.
fn check_signature(headers: &HeaderMap, body: &[u8]) {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), b"tidings webhook v1");
    let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    let signed = [format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes(), body].concat();
    let signature = STANDARD.encode(hmac::sign(&key, &signed));
    assert_eq!(text("webhook-signature"), format!("v1,{signature}"));
}

/// A configuration with everybody's rooms, and these webhooks.
pub(crate) fn config(url: &str, outbox: &std::path::Path, webhooks: &str, more: &str) -> String {
    format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        [admin]
        listen = "127.0.0.1:0"
        [webhooks]
        url = "{url}"
        outbox = "{}"
        {webhooks}
        {more}
        "#,
        outbox.display()
    )
}

/// A token that the server takes.
pub(crate) fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": user, "aud": "tidings", "exp": now + 60, "note": "canary-bird-of-the-claims"});
    tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}
