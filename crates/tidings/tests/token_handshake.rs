//! Tokens over the wire: each fault is a 401 with its code, and no token is ever in the log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the functions that the tests share are tests too"
)]

mod log_capture;
mod token_support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use log_capture::Log;
use tidings::Hub;
use tidings::auth::Jwt;
use tidings::protocol::frame::{Opcode, put_masked_frame};
use token_support::{SECRET, encode, header, ours};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn serve() -> SocketAddr {
    log_capture::keep();
    let hub = Hub::builder().authenticate(Jwt::hs256(SECRET).unwrap()).shards(1).build().unwrap();
    let app = Router::new().route("/ws", hub.route());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    address
}

/// Where a token stands in a handshake.
#[derive(Clone, Copy, Debug)]
enum Place {
    Header,
    Subprotocol,
    Query,
    EscapedQuery,
}

const PLACES: [Place; 4] = [Place::Header, Place::Subprotocol, Place::Query, Place::EscapedQuery];

/// Sends a handshake and, behind it, what the client says if it is accepted, and ends when all of `answers` are
/// there. Everything that came back.
async fn exchange(
    address: SocketAddr,
    token: Option<(&str, Place)>,
    says: &[u8],
    answers: &[&str],
) -> String {
    let (mut target, mut more) = ("/ws?x=1".to_owned(), String::new());
    match token {
        None => {}
        Some((token, Place::Header)) => more = format!("Authorization: Bearer {token}\r\n"),
        Some((token, Place::Subprotocol)) => {
            more = format!("Sec-WebSocket-Protocol: tidings.v1, tidings.token.{token}\r\n");
        }
        Some((token, Place::Query)) => target += &format!("&token={token}"),
        Some((token, Place::EscapedQuery)) => target += &format!("&%74oken={token}&y=2"),
    }
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(says).await.unwrap();
    let mut came = Vec::new();
    let all = async {
        let is_missing = |came: &[u8]| {
            let text = String::from_utf8_lossy(came);
            answers.iter().any(|answer| !text.contains(answer))
        };
        while is_missing(&came) && stream.read_buf(&mut came).await.unwrap() > 0 {}
        // A refused client would be kept for its next request.
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut came).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("the server ends the connection");
    String::from_utf8_lossy(&came).into_owned()
}

/// Claims that end at `exp`, with a canary for a user.
fn claims(user: &str, aud: &str, in_s: i64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    format!(r#"{{"sub":"{user}","exp":{},"aud":"{aud}"}}"#, now.saturating_add_signed(in_s))
}

/// A token for each fault that one can have, and its code.
fn faulty(user: &str) -> [(String, &'static str); 4] {
    let sign = |claims: String| ours().sign(&header("HS256"), claims);
    let good = sign(claims(user, "tidings", 3600));
    let (signed, _) = good.rsplit_once('.').unwrap();
    [
        (signed.to_owned(), "token_malformed"),
        (sign(claims(user, "tidings", -3600)), "token_expired"),
        (format!("{signed}.{}", encode([7; 32])), "token_signature"),
        (sign(claims(user, "other", 3600)), "token_claims"),
    ]
}

#[tokio::test]
async fn each_fault_is_a_401_with_its_code() {
    let address = serve().await;
    let faulty = faulty("ann");
    let missing = [(None, "token_missing"), (Some(("", Place::Header)), "token_missing")];
    let others = faulty.iter().flat_map(|(token, code)| PLACES.map(|place| (Some((&**token, place)), *code)));
    for (token, code) in missing.into_iter().chain(others) {
        let answer = exchange(address, token, b"", &[]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 401 "), "{token:?}: {answer}");
        assert!(head.contains("\r\nwww-authenticate: bearer"), "{token:?}: {answer}");
        assert!(head.contains("\r\ncontent-type: application/problem+json"), "{token:?}: {answer}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &401.into()), "{token:?}");
        assert!(problem["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{problem}");
        if let Some((token, _)) = token.filter(|(token, _)| !token.is_empty()) {
            assert!(!answer.contains(token), "an answer repeats no token: {answer}");
        }
    }
}

#[tokio::test]
async fn no_token_is_in_the_log() {
    let log = Log::default();
    // Shards have threads of their own, and so the subscriber is the process's.
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    subscriber.with_writer(log.clone()).init();
    let address = serve().await;

    let mut tokens = Vec::new();
    for place in PLACES {
        for (token, code) in faulty("canary") {
            let answer = exchange(address, Some((&token, place)), b"", &[]).await;
            assert!(answer.contains(code), "{place:?}: {answer}");
            tokens.push(token);
        }
        // An accepted one refreshes with a good token and with a bad one.
        let good = ours().sign(&header("HS256"), claims("canary", "tidings", 3600));
        let bad = format!("{good}x");
        let mut says = Vec::new();
        for (id, token) in [("good", &good), ("bad", &bad)] {
            let refresh = serde_json::json!({"event": "session.refresh", "data": {"token": token}, "id": id});
            put_masked_frame(&mut says, Opcode::Text, refresh.to_string().as_bytes(), [1, 2, 3, 4]);
        }
        // Broken on purpose: what can't be read may not be quoted in the log either.
        let broken = format!(r#"{{"event":"session.refresh","data":{{"token":"{good}""#);
        put_masked_frame(&mut says, Opcode::Text, broken.as_bytes(), [1, 2, 3, 4]);
        let answers = [r#""id":"good""#, r#""id":"bad""#];
        let answer = exchange(address, Some((&good, place)), &says, &answers).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{place:?}: {answer}");
        assert!(answer.contains("session.welcome"), "{place:?}: {answer}");
        for part in answers {
            assert!(answer.contains(part), "{place:?}: {answer}");
        }
        tokens.extend([good, bad]);
    }

    let log = log.text();
    for logged in ["refuse", "token_signature", "connect", "user=canary"] {
        assert!(log.contains(logged), "the log was not captured: no {logged} in {log}");
    }
    for token in tokens {
        // Neither whole nor a part that would do: the signature, or the claims with what they say of a user.
        for part in token.split('.').skip(1).filter(|part| part.len() >= 16) {
            assert!(!log.contains(part), "{part} is in the log:\n{log}");
        }
    }
}
