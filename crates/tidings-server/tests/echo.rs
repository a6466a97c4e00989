//! `tidings echo`, which the Autobahn test suite talks to: no token, no rooms, every frame back.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::process::Stdio;

use futures_util::{SinkExt as _, StreamExt as _};
use server::{kept_stderr, tidings, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

/// Sends a binary message of so many bytes, and gives what comes back: a binary message, or the end. The hub's own
/// words, which are text, are passed over.
async fn echoed(options: &[&str], bytes: usize) -> Option<Result<Message, Error>> {
    let home = tempfile::tempdir().unwrap();
    let mut command = tidings(&home);
    command
        .args(["echo", "--listen", "127.0.0.1:0"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(kept_stderr());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within(stdout.next_line()).await.unwrap().unwrap();
    let url = first.strip_prefix("listening on ").unwrap();
    let (mut socket, _) =
        within(Box::pin(tokio_tungstenite::connect_async(format!("{url}runCase?case=1")))).await.unwrap();
    within(socket.send(Message::binary(vec![7; bytes]))).await.unwrap();
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Text(_))) => {}
            answer => return answer,
        }
    }
}

#[tokio::test]
async fn a_megabyte_comes_back() {
    let bytes = 1 << 20;
    let answer = echoed(&[], bytes).await.unwrap().unwrap();
    assert!(answer == Message::Binary(Bytes::from(vec![7; bytes])), "{} bytes", answer.len());
}

#[tokio::test]
async fn production_limits_hold() {
    let answer = echoed(&["--production-limits"], 64 * 1024).await.unwrap().unwrap();
    assert!(answer.is_binary() && answer.len() == 64 * 1024, "{} bytes", answer.len());
    match echoed(&["--production-limits"], 64 * 1024 + 1).await {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(u16::from(close.code), 1009),
        other => panic!("{other:?}"),
    }
}
