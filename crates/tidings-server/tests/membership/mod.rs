//! A `tidings serve` that takes its users' rooms from a database, and what users see of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]
#![allow(dead_code, reason = "each test file is a crate that uses its part")]
#![allow(clippy::disallowed_methods, reason = "what is waited for is looked at again")]

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;

use crate::server::{Client, Serve, WAIT_MAX, get, run, tidings, within};

pub(crate) const SECRET: &str = "canary-bird of the memberships, and 32 bytes";

/// A home whose configuration has this `[memberships]`.
pub(crate) fn configured(memberships: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        audience = "app"
        [[rooms]]
        pattern = "chat:*"
        join = "members"
        publish = "members"
        any_event = true
        [admin]
        listen = "127.0.0.1:0"
        [memberships]
        {memberships}
        "#
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    home
}

pub(crate) async fn serve(memberships: &str) -> Serve {
    Serve::start(configured(memberships)).await
}

/// What `tidings serve` says when it can't start.
pub(crate) async fn not_served(memberships: &str) -> (Output, String) {
    let home = configured(memberships);
    let output = run(tidings(&home).arg("serve").arg("--config").arg(home.path().join("tidings.toml"))).await;
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stderr)
}

pub(crate) fn token(user: &str) -> String {
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = json!({"sub": user, "aud": "app", "exp": exp});
    tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

/// A user's connection, and the rooms that it was joined to.
pub(crate) async fn connect(serve: &Serve, user: &str) -> (Client, Vec<String>) {
    let (client, welcome) = Client::connect_with_welcome(&serve.address, &token(user)).await;
    let rooms = welcome["data"]["rooms"].as_array().unwrap();
    (client, rooms.iter().map(|room| room.as_str().unwrap().to_owned()).collect())
}

/// How a handshake is refused: its status, and the problem.
pub(crate) async fn refused(serve: &Serve, user: &str) -> (u16, Value) {
    let url = format!("ws://{}/ws?token={}", serve.address, token(user));
    match within(Box::pin(tokio_tungstenite::connect_async(url))).await {
        Err(Error::Http(answer)) => {
            let problem = serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).unwrap();
            (answer.status().as_u16(), problem)
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// How a join is answered: `ack`, or the error's code.
pub(crate) async fn join(client: &mut Client, room: &str) -> String {
    client.send(&json!({"event": "room.join", "room": room, "id": "join"}).to_string()).await;
    loop {
        let message = client.next().await.unwrap();
        match message["event"].as_str().unwrap() {
            "ack" => return "ack".to_owned(),
            "error" => return message["data"]["code"].as_str().unwrap().to_owned(),
            _ => {}
        }
    }
}

pub(crate) async fn leave(client: &mut Client, room: &str) {
    client.send(&json!({"event": "room.leave", "room": room, "id": "leave"}).to_string()).await;
    client.until("ack").await;
}

/// A number on the server's `/metrics`.
pub(crate) async fn number(serve: &Serve, name: &str) -> u64 {
    let page = get(&serve.admin, "/metrics", "anything").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// Waits until `/health/ready` answers so.
pub(crate) async fn until_ready(serve: &Serve, status: u16) {
    let began = Instant::now();
    while get(&serve.admin, "/health/ready", "anything").await.status != status {
        assert!(began.elapsed() < WAIT_MAX, "never {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
