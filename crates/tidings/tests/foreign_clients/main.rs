//! Clients that no one here wrote hold the whole conversation of PROTOCOL.md with a server on a real port.
//!
//! tests/foreign/README.md is the contract of this server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

#[path = "../log_capture/mod.rs"]
mod log_capture;
mod tungstenite;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings::auth::{Jwt, mint_hs256};
use tidings::{Access, AckError, Context, Hub, Limits, RoomId, RoomRules};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const SECRET: &[u8] = b"canary-bird of the tests, 32 bytes and more";
/// The exit code of a client that can't be made ready on this machine.
const SKIPPED: i32 = 77;

#[derive(Serialize, Deserialize)]
struct Said {
    #[serde(rename = "channelId")]
    channel: RoomId,
    content: String,
}

#[derive(Deserialize)]
struct Typed {
    n: i64,
}

fn hub() -> Hub {
    log_capture::keep();
    let mut limits = Limits::default();
    limits.joins_per_second = 10_000;
    limits.messages_per_second_per_user = 10_000;
    Hub::builder()
        .authenticate(Jwt::hs256(SECRET).unwrap())
        .limits(limits)
        .rule(RoomRules::new("open:*").join(Access::Anyone).publish(Access::Anyone).any_event())
        .rule(RoomRules::new("read:*").join(Access::Anyone))
        .rule(RoomRules::new("closed:*").join(Access::Nobody))
        .on("message.send", |ctx: Context, said: Said| async move {
            ctx.broadcast(&said.channel, "message.send", &said).await?;
            Ok(json!({"stored": true}))
        })
        .on("others", |ctx: Context, data: Value| async move {
            let room = ctx.room().cloned().ok_or_else(|| AckError::invalid("a room is needed"))?;
            ctx.broadcast_to_others(&room, "others", &data).await?;
            Ok(json!({}))
        })
        .on("typed", |_: Context, typed: Typed| async move { Ok(typed.n) })
        .on("panic", |_: Context, _: Value| async move {
            if true {
                panic!("as asked");
            }
            Ok(())
        })
        .on("slow", |_: Context, _: Value| async move {
            // A while is what it is for, and nothing tells when it is over but time.
            let _ = tokio::time::timeout(Duration::from_millis(300), Notify::new().notified()).await;
            Ok(json!({}))
        })
        .build()
        .unwrap()
}

fn tokens() -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signed = |secret: &[u8], mut claims: Value| {
        claims["note"] = json!("canary-bird of the claims");
        mint_hs256(secret, &claims).unwrap()
    };
    let good = |user: &str| signed(SECRET, json!({"sub": user, "exp": now + 3600, "aud": "tidings"}));
    json!({
        "alice": good("alice"),
        "bob": good("bob"),
        "limited": good("limited"),
        "auto": signed(SECRET, json!({"sub": "auto", "exp": now + 3600, "aud": "tidings", "rooms": ["open:auto"]})),
        // Genuine for its leeway only, so that its end comes soon.
        "short_lived": signed(SECRET, json!({"sub": "short", "exp": now, "aud": "tidings"})),
        "expired": signed(SECRET, json!({"sub": "alice", "exp": now - 3600, "aud": "tidings"})),
        "wrong_secret": signed(b"another canary-bird of the tests, as long", json!({"sub": "alice", "exp": now + 3600, "aud": "tidings"})),
        "wrong_claims": signed(SECRET, json!({"sub": "alice", "exp": now + 3600, "aud": "somebody else"})),
        "malformed": "not a token",
    })
}

async fn serve(hub: &Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/ws", hub.route()).into_make_service_with_connect_info::<SocketAddr>();
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    address
}

async fn conversation(language: &str) {
    let hub = hub();
    let address = serve(&hub).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = tokio::process::Command::new(root.join("tests/foreign/run"))
        .arg(language)
        .env("TIDINGS_TEST_URL", format!("ws://{address}/ws"))
        .env("TIDINGS_TEST_TOKENS", tokens().to_string())
        .kill_on_drop(true)
        .status()
        .await
        .unwrap();
    if status.code() == Some(SKIPPED) {
        println!("SKIPPED: the {language} client can't be made ready here");
        return;
    }
    assert!(status.success(), "target/foreign/{language}.log says what failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_websockets() {
    conversation("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_ws() {
    conversation("node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gos_gorilla() {
    conversation("go").await;
}
