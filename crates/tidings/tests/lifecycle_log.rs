//! What stands in the log of a connection's life, and what no client can put there.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use log_capture::Log;
use serde_json::{Value, json};
use tidings::auth::Jwt;
use tidings::protocol::close::CloseCode;
use tidings::testing::{ConnectOptions, TestHub, identity};
use tidings::{Access, Context, Hub, RoomRules};
use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// What this thread logs, which a hub of the tests does not leave.
fn captured() -> (Log, DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false).without_time();
    (log.clone(), tracing::subscriber::set_default(subscriber.with_writer(log).finish()))
}

/// Demands one line that has all of these.
fn assert_line(log: &Log, parts: &[&str]) {
    let text = log.text();
    let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
    assert_eq!(text.lines().filter(fits).count(), 1, "{parts:?} in:\n{text}");
}

fn hub() -> TestHub {
    let rules = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
    let builder = Hub::builder()
        .rule(rules)
        .authenticate(Jwt::hs256(b"canary-bird of the tests, 32 bytes and more").unwrap())
        .on("fail", |_: Context, _: Value| async { Ok(Err::<(), _>(io::Error::other("a\nforged line"))?) });
    TestHub::start(builder).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_life_from_connect_to_close() {
    let (log, _guard) = captured();
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    let session = &ann.session().to_string();
    ann.join("chat:1").await;
    ann.request("nobody.handles.this", json!(1)).await;
    ann.ask(json!({"event": "room.leave", "room": "chat:1"})).await;
    ann.join("chat:2").await;
    ann.send_close(CloseCode::NORMAL).await;
    ann.closed().await;
    assert_line(&log, &["INFO", "connect", session, "user=ann"]);
    assert_line(&log, &["INFO", "join", session, "user=ann", "room=chat:1"]);
    assert_line(&log, &["error", session, "code=unknown_event"]);
    assert_line(&log, &["INFO", "leave", session, "user=ann", "room=chat:1"]);
    assert_line(&log, &["INFO", "close", session, "user=ann", "code=1000", "cause="]);
    assert_line(&log, &["INFO", "leave", session, "user=ann", "room=chat:2"]);
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_code_and_its_cause() {
    let (log, _guard) = captured();
    let hub = hub();
    drop(hub.connect("gone").await);
    let mut silent = hub.connect("silent").await;
    silent.ignore_pings();
    silent.closed().await;
    let mut kicked = hub.connect("kicked").await;
    hub.hub().disconnect_user("kicked").await.unwrap();
    kicked.closed().await;
    let mut broken = hub.connect("broken").await;
    broken.send_bytes(b"\x83\x80....").await;
    broken.closed().await;
    for (user, code) in [("gone", "1006"), ("silent", "4110"), ("kicked", "4006"), ("broken", "1002")] {
        assert_line(&log, &["INFO", "close", &format!("user={user}"), &format!("code={code}"), "cause=\""]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_clients_send_can_not_forge_a_line_nor_fill_the_disk() {
    let (log, _guard) = captured();
    let hub = hub();
    // A user id has no control characters, and may have what turns text round.
    let hostile = "ann\u{202e}nna\u{2028}x";
    let mut ann = hub.connect_as(identity(hostile), ConnectOptions::default()).await.unwrap();
    let key = format!("x\\u000aforged\\u202e{}", "y".repeat(60_000));
    ann.send_text(&format!(r#"{{"event":"say","{key}":1}}"#)).await;
    ann.next_named("error").await;
    // What is no object is quoted by nobody.
    ann.send(json!({"event": "session.refresh", "data": "secret.to.keep", "id": "r-1"})).await;
    ann.next_named("error").await;
    ann.request("fail", json!(1)).await;
    ann.send_close(CloseCode::NORMAL).await;
    ann.closed().await;
    let agent = "curl\t".to_owned() + &"z".repeat(10_000);
    let request =
        Request::get("/ws?token=secret.to.keep&x=%0aforged").header("host", "a").header("user-agent", agent);
    let refusal = hub.hub().upgrade(request.body(Body::empty()).unwrap()).await;
    assert_eq!(refusal.status(), 401);

    let text = log.text();
    assert_line(
        &log,
        &[
            "INFO",
            "refuse",
            "code=\"token_malformed\"",
            "status=401",
            "target=/ws?token=…&…",
            "agent=curl\\u{9}zz",
        ],
    );
    assert_line(&log, &["WARN", "a handler failed", "cause=a\\u{a}forged line"]);
    assert!(text.contains("user=ann\\u{202e}nna\\u{2028}x"), "{text}");
    let starts = text
        .lines()
        .all(|line| ["INFO", "WARN", "DEBUG"].iter().any(|level| line.trim_start().starts_with(level)));
    assert!(starts, "{text}");
    assert!(!text.contains("secret") && !text.contains('\u{202e}') && !text.contains('\u{2028}'), "{text}");
    assert!(text.lines().all(|line| line.len() < 1500), "{text}");
}

/// Time does not pass for a log: nothing of an idle connection is logged.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_silent() {
    let (log, _guard) = captured();
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    let before = log.text();
    let idle = tokio::time::timeout(Duration::from_secs(600), ann.next_event()).await;
    assert!(idle.is_err());
    assert_eq!(log.text(), before);
}
