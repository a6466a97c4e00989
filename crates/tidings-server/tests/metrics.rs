//! `/metrics` on a listener of its own, and that no secret is on it or in the log, whatever clients do with theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::process::Stdio;

use serde_json::json;
use server::{Client, Dev, Serve, get, within};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

const SECRET: &str = "canary-bird-of-the-secret-0123456789abcdef";

async fn serve() -> Serve {
    let home = tempfile::tempdir().unwrap();
    let config = r#"
        listen = "127.0.0.1:0"
        allowed_origins = ["https://app.example"]
        [auth]
        secret_file = "secret"
        [[rooms]]
        pattern = "*"
        join = "anyone"
        publish = "anyone"
        [admin]
        listen = "127.0.0.1:0"
    "#;
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    std::fs::write(home.path().join("secret"), SECRET).unwrap();
    Serve::start(home).await
}

/// Sends a handshake as it is and gives the status.
async fn handshake(serve: &Serve, target: &str, headers: &str) -> u16 {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
        serve.address
    );
    let mut stream = TcpStream::connect(&serve.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    within(BufReader::new(stream).read_line(&mut line)).await.unwrap();
    line.split(' ').nth(1).unwrap_or_else(|| panic!("no HTTP: {line:?}")).parse().unwrap()
}

fn token(secret: &str, expires_in: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let exp = now.saturating_add_signed(expires_in);
    let claims = json!({"sub": "ann", "aud": "tidings", "exp": exp, "note": "canary-bird-of-the-claims"});
    tidings::auth::mint_hs256(secret.as_bytes(), &claims).unwrap()
}

#[tokio::test]
async fn an_operator_sees_metrics_and_health_on_a_listener_of_his_own() {
    let serve = serve().await;
    let mut ann = Client::connect(&serve.address, &token(SECRET, 60)).await;
    ann.send(r#"{"event":"room.join","room":"a","id":"1"}"#).await;
    ann.until("ack").await;
    assert_eq!(handshake(&serve, "/ws", "").await, 401);
    let metrics = get(&serve.admin, "/metrics", "anything").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        "# TYPE tidings_connections gauge",
        "tidings_connections 1",
        "# TYPE tidings_messages_received_total counter",
        "tidings_messages_received_total 1",
        "tidings_handshake_refusals_total{code=\"token_missing\"} 1",
        "tidings_limit_hits_total{limit=\"messages_per_second\"} 0",
        "tidings_limit_hits_total{limit=\"pending_handshakes_max\"} 0",
    ] {
        assert!(metrics.body.lines().any(|told| told == line), "no {line} in:\n{}", metrics.body);
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(&serve.admin, path, "anything").await.status, 200, "{path}");
    }
    assert_eq!(get(&serve.admin, "/ws", "anything").await.status, 404);
    assert_eq!(
        get(&serve.address, "/metrics", &serve.address).await.status,
        404,
        "not where the public comes"
    );
    ann.close().await;
    serve.end().await;
}

/// Without Prometheus's own tool the test is over, and says so; `./test` installs it, and says that by `TIDINGS_SDKS`.
#[tokio::test]
async fn prometheus_finds_no_fault_with_the_metrics() {
    let serve = serve().await;
    let mut ann = Client::connect(&serve.address, &token(SECRET, 60)).await;
    ann.send(r#"{"event":"room.join","room":"a","id":"1"}"#).await;
    ann.until("ack").await;
    assert_eq!(handshake(&serve, "/ws", "").await, 401);
    ann.close().await;
    let metrics = get(&serve.admin, "/metrics", "anything").await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match promtool.spawn() {
        Ok(mut promtool) => {
            promtool.stdin.take().unwrap().write_all(metrics.body.as_bytes()).await.unwrap();
            let output = within(promtool.wait_with_output()).await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => {
            assert!(std::env::var_os("TIDINGS_SDKS").is_none(), "promtool can't be run: {error}");
            eprintln!("SKIPPED: promtool (Debian's package prometheus) can't be run: {error}");
        }
    }
    serve.end().await;
}

#[tokio::test]
async fn a_developer_sees_metrics_on_the_one_port_and_a_rebound_name_does_not() {
    let dev = Dev::start().await;
    assert!(dev.get("/metrics").await.body.contains("\ntidings_connections 0\n"));
    assert_eq!(get(&dev.address, "/metrics", "evil.example").await.status, 403);
}

#[tokio::test]
async fn neither_secret_nor_token_is_in_the_log_or_in_the_metrics() {
    let serve = serve().await;
    let good = token(SECRET, 60);
    let (expired, forged) = (token(SECRET, -3600), token("canary-bird-of-another-secret-0123456789", 60));
    let broken = format!("{}x", good.replace('.', "-"));
    let protocol = |token: &str| format!("Sec-WebSocket-Protocol: tidings.v1, tidings.token.{token}\r\n");
    let header = |token: &str| format!("Authorization: Bearer {token}\r\n");

    // The three places of a token, with each of the tokens.
    for (token, status) in [(&good, 101), (&expired, 401), (&forged, 401), (&broken, 401)] {
        assert_eq!(handshake(&serve, &format!("/ws?token={token}"), "").await, status);
        assert_eq!(handshake(&serve, "/ws", &header(token)).await, status);
        assert_eq!(handshake(&serve, "/ws", &protocol(token)).await, status);
    }
    // Refusals of another kind, and a token where none belongs.
    for (target, headers, status) in [
        (format!("/ws?token={good}&last_event_id=no%20cursor"), String::new(), 400),
        (format!("/ws?token={good}"), "Origin: https://evil.example\r\n".to_owned(), 403),
        (format!("/ws?token={good}"), "Sec-WebSocket-Protocol: other\r\n".to_owned(), 409),
        (format!("/ws?Token={good}&x={good}"), String::new(), 401),
        (format!("/ws/{good}"), String::new(), 404),
        ("/ws".to_owned(), format!("Cookie: token={good}\r\nX-Token: {good}\r\nUser-Agent: ok\r\n"), 401),
        (format!("/ws?token={good}"), format!("Bad Header {good}\r\n"), 400),
    ] {
        assert_eq!(handshake(&serve, &target, &headers).await, status, "{target:.20} {headers:.20}");
    }
    assert_eq!(get(&serve.address, &format!("/ws?token={good}"), &serve.address).await.status, 426);

    // A connection that refreshes, and makes mistakes with its token.
    let mut ann = Client::connect(&serve.address, &good).await;
    for (message, answer) in [
        (json!({"event": "session.refresh", "data": {"token": good}, "id": "1"}), "ack"),
        (json!({"event": "session.refresh", "data": {"token": forged}, "id": "2"}), "error"),
        (json!({"event": "session.refresh", "data": {"token": expired}, "id": "3"}), "error"),
        (json!({"event": "session.refresh", "data": good, "id": "4"}), "error"),
        (json!({"event": "room.join", "room": "a", "data": {"token": good}, "id": "5"}), "error"),
        (json!({"event": "nobody.serves", "data": {"token": good}, "id": "6"}), "error"),
        (json!({"event": "room.join", "room": good, "id": "7"}), "error"),
    ] {
        ann.send(&message.to_string()).await;
        ann.until(answer).await;
    }
    ann.send(&format!("{{\"event\":{good}")).await;
    ann.until("error").await;
    ann.close().await;

    let mut metrics = String::new();
    for path in ["/metrics", "/health/ready"] {
        metrics += &get(&serve.admin, path, "anything").await.body;
    }
    assert!(metrics.contains("tidings_handshake_refusals_total{code=\"token_signature\"} 3"), "{metrics}");
    let log = serve.end().await;
    for told in ["token_signature", "token_expired", "origin_not_allowed", "user\":\"ann\""] {
        assert!(log.contains(told), "the log is there, with {told}: {log}");
    }
    let mut canaries = vec!["canary".to_owned()];
    for token in [&good, &expired, &forged] {
        // Claims and signature: the header is the same for all tokens of the world.
        canaries.extend(token.split('.').skip(1).map(|part| part[..20].to_owned()));
    }
    for canary in canaries {
        assert!(!log.contains(&canary), "{canary} is in the log: {log}");
        assert!(!metrics.contains(&canary), "{canary} is in the metrics: {metrics}");
    }
}
