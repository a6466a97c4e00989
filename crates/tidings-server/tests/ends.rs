//! How servers and connections end: signals, and clients that don't get on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use server::{Dev, signal, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a connection has until its first request is answered, and what a busy machine may add.
const PROGRESS_MAX: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(1);

#[tokio::test]
async fn at_sigterm_clients_are_told_to_move_and_the_server_ends_well() {
    let mut dev = Dev::start().await;
    let mut clients = [dev.connect(&dev.token).await, dev.connect(&dev.token).await];
    signal(&dev.child, Signal::TERM);
    for client in &mut clients {
        let message = client.until("session.reconnect").await;
        assert_eq!(message["data"]["within_ms"], 1000);
        assert_eq!(u16::from(client.closed().await.unwrap().code), 4200);
    }
    assert_eq!(within(dev.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn while_it_drains_it_is_alive_and_not_ready() {
    let mut dev = Dev::start().await;
    let mut client = dev.connect(&dev.token).await;
    signal(&dev.child, Signal::INT);
    client.until("session.reconnect").await;
    // The client doesn't answer its close frame before it reads it, so the server is still there.
    assert_eq!(dev.get("/health/ready").await.status, 503);
    assert_eq!(dev.get("/health/live").await.status, 200);
    let refusal = dev.get(&format!("/ws?token={}", dev.token)).await;
    assert!(refusal.status == 503 && refusal.body.contains("draining"), "{refusal:?}");
    client.closed().await;
    assert_eq!(within(dev.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut dev = Dev::start().await;
    let mut client = dev.connect(&dev.token).await;
    signal(&dev.child, Signal::TERM);
    client.until("session.reconnect").await;
    signal(&dev.child, Signal::TERM);
    assert_eq!(within(dev.child.wait()).await.unwrap().code(), Some(1));
}

/// Writes `pieces` one at a time, each as soon as `pace` has gone by without an answer; how long until the server
/// closed, and what it said.
async fn endured(address: &str, pieces: impl Iterator<Item = String>, pace: Duration) -> (Duration, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let mut said = Vec::new();
    let lasted = {
        let mut reading = std::pin::pin!(within(reader.read_to_end(&mut said)));
        let mut has_ended = false;
        for piece in pieces {
            let is_taken = writer.write_all(piece.as_bytes()).await.is_ok();
            has_ended = tokio::time::timeout(pace, &mut reading).await.is_ok();
            if has_ended || !is_taken {
                break;
            }
        }
        if !has_ended {
            // A reset is an end as well.
            let _ = reading.await;
        }
        begun.elapsed()
    };
    (lasted, String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn whoever_does_not_get_on_is_closed_after_five_seconds() {
    let dev = Dev::start().await;
    let request = "GET /ws HTTP/1.1\r\nHost: localhost\r\n";
    let a_header_at_a_time =
        (0..).map(|number| if number == 0 { request.to_owned() } else { format!("X-{number}: a\r\n") });
    let a_byte_at_a_time = request.chars().cycle().map(String::from);
    let pace = Duration::from_millis(200);
    let (silent, headers, bytes) = tokio::join!(
        endured(&dev.address, std::iter::empty(), pace),
        endured(&dev.address, a_header_at_a_time, pace),
        endured(&dev.address, a_byte_at_a_time.take(60), pace),
    );
    for (lasted, said) in [silent, headers, bytes] {
        assert!(!said.starts_with("HTTP/1.1 2") && !said.starts_with("HTTP/1.1 1"), "{said}");
        assert!(lasted < PROGRESS_MAX + SLACK, "{lasted:?}");
        assert!(lasted >= PROGRESS_MAX - SLACK, "{lasted:?}: an honest slow client has its five seconds");
    }
}

#[tokio::test]
async fn a_kept_connection_that_asks_nothing_more_is_closed_too() {
    let dev = Dev::start().await;
    let request = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let (lasted, said) = endured(&dev.address, std::iter::once(request), Duration::from_millis(1)).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(lasted < PROGRESS_MAX + SLACK, "{lasted:?}");
}

#[tokio::test]
async fn endless_headers_are_cut_off_at_once() {
    let dev = Dev::start().await;
    let head = "GET /ws HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    let large =
        (0..).map(
            |number| if number == 0 { head.clone() } else { format!("X-{number}: {}\r\n", "a".repeat(1000)) },
        );
    let many = std::iter::once(head.clone() + &"X: a\r\n".repeat(100) + "\r\n");
    for (lasted, said) in [
        endured(&dev.address, large.take(1000), Duration::from_millis(1)).await,
        endured(&dev.address, many, Duration::from_millis(1)).await,
    ] {
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
        assert!(lasted < PROGRESS_MAX - SLACK, "{lasted:?}");
    }
    assert_eq!(dev.get("/health/live").await.status, 200);
}
