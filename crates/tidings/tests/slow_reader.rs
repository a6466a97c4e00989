//! A member stops reading while the hub publishes 64 MiB to its room: it alone is closed, soon, and the server's memory
//! does not grow with what it did not take.
//!
//! Server and readers are two processes, so that memory is the server's alone: the test starts its own binary again
//! as the server, and tells it by its standard input when to publish. `TIDINGS_MEMBERS` is how many members there are;
//! the test run has 50, `./test --long slow-reader` 1,000.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use serde_json::json;
use tidings::auth::{Jwt, mint_hs256};
use tidings::protocol::close::CloseCode;
use tidings::protocol::frame::{Opcode, put_masked_frame};
use tidings::{Access, Hub, RoomId, RoomRules};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tracing::Level;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

const SECRET: &[u8] = b"canary-bird of the tests, 32 bytes and more";
/// Set in the process that is the server.
const IS_SERVER: &str = "TIDINGS_SLOW_READER_IS_SERVER";
const TEST: &str = "one_that_stops_reading_is_closed_and_costs_the_others_nothing";
const ROOM: &str = "feed";
/// 1,024 events of 64 KiB.
const EVENTS: u64 = 1024;
const EVENT_BYTES: usize = 64 * 1024;
/// How far the publisher is ahead of the slowest of those who read: well below what waits for one connection at most.
const AHEAD_MAX: u64 = 8;
/// From the first full write; this test counts from the first publish, which is earlier.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);
const GROWTH_BYTES_MAX: u64 = 32 << 20;
/// Nothing that the readers wait for takes longer.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The other process. Each line of its input publishes so many events; at the end of its input it tells its metric.
async fn serve() {
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false);
    subscriber.with_writer(std::io::stdout.and(log_capture::kept())).init();
    let rule = RoomRules::new(ROOM).join(Access::Anyone).presence(false);
    let hub = Hub::builder().authenticate(Jwt::hs256(SECRET).unwrap()).rule(rule).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nlistening on {}", listener.local_addr().unwrap());
    let app = Router::new().route("/ws", hub.route());
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    let room = hub.room(&RoomId::parse(ROOM).unwrap());
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let filling = "x".repeat(EVENT_BYTES);
    let mut number = 0u64;
    while let Some(count) = input.next_line().await.unwrap() {
        for _ in 0..count.parse::<u64>().unwrap() {
            number += 1;
            room.broadcast("news", &format!("{number:08}{}", &filling[8..])).await.unwrap();
        }
    }
    println!("metric 4109={}", hub.metrics().closed.get(&CloseCode::SLOW_CONSUMER).unwrap_or(&0));
}

struct Server {
    child: Child,
    input: Option<ChildStdin>,
    /// What it says of the member that stopped, and its metric.
    output: mpsc::Receiver<String>,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = output.next_line().await.unwrap().expect("the server starts");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.parse().unwrap();
            }
        };
        // Everything is read as it comes: a full pipe would stop the server in its log.
        let (tell, said) = mpsc::channel(64);
        drop(tokio::spawn(pass_on(output, tell)));
        Self { input: child.stdin.take(), output: said, child, address }
    }

    /// A number of kilobytes of `/proc`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    async fn publish(&mut self, count: u64) {
        self.input.as_mut().unwrap().write_all(format!("{count}\n").as_bytes()).await.unwrap();
    }

    /// Reads its log up to a line that has all of these.
    async fn until(&mut self, wanted: &[&str]) -> String {
        loop {
            let line = self.output.recv().await.unwrap_or_else(|| panic!("it never said {wanted:?}"));
            if wanted.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

async fn pass_on(mut output: Lines<BufReader<ChildStdout>>, tell: mpsc::Sender<String>) {
    while let Some(line) = output.next_line().await.unwrap() {
        if line.contains("user=stopped") || line.starts_with("metric ") {
            tell.send(line).await.unwrap();
        }
    }
}

/// A member that has joined.
async fn member(address: SocketAddr, user: &str) -> BufReader<TcpStream> {
    let token = mint_hs256(
        SECRET,
        &json!({"sub": user, "exp": 4_000_000_000u64, "aud": "tidings", "note": "canary-bird of the claims"}),
    )
    .unwrap();
    let mut stream = BufReader::with_capacity(64 * 1024, TcpStream::connect(address).await.unwrap());
    let request = format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut bytes = request.into_bytes();
    put_masked_frame(
        &mut bytes,
        Opcode::Text,
        br#"{"event":"room.join","room":"feed","id":"j"}"#,
        [1, 2, 3, 4],
    );
    stream.write_all(&bytes).await.unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        assert!(!line.starts_with("HTTP/1.1 4"), "{line}");
    }
    while !message_start(&mut stream).await.contains(r#""event":"ack""#) {}
    stream
}

/// The first bytes of the next message; the rest is read and forgotten. Frames of a server have no mask.
async fn message_start(stream: &mut BufReader<TcpStream>) -> String {
    let [first, length] = [stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()];
    assert_eq!(first, 0x81, "a whole text message");
    let length = match length {
        126 => u64::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap(),
        length => u64::from(length),
    };
    let mut start = vec![0; usize::try_from(length.min(200)).unwrap()];
    stream.read_exact(&mut start).await.unwrap();
    let mut rest = stream.take(length - start.len() as u64);
    tokio::io::copy_buf(&mut rest, &mut tokio::io::sink()).await.unwrap();
    String::from_utf8(start).unwrap()
}

/// The progress of all who read.
struct Progress {
    read: Vec<AtomicU64>,
    moved: Notify,
}

impl Progress {
    fn slowest(&self) -> u64 {
        self.read.iter().map(|read| read.load(Ordering::Relaxed)).min().unwrap_or(0)
    }
}

/// Reads every event, and demands that each is the one after the last.
async fn read_all(mut stream: BufReader<TcpStream>, progress: Arc<Progress>, index: usize) {
    for expected in 1..=EVENTS {
        let start = message_start(&mut stream).await;
        assert!(start.contains(&format!("\"{expected:08}")), "member {index}, {expected}: {start}");
        progress.read[index].store(expected, Ordering::Relaxed);
        progress.moved.notify_one();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stops_reading_is_closed_and_costs_the_others_nothing() {
    if std::env::var_os(IS_SERVER).is_some() {
        return serve().await;
    }
    let members: usize = std::env::var("TIDINGS_MEMBERS").map_or(50, |count| count.parse().unwrap());
    let mut server = Server::start().await;
    let mut readers = Vec::new();
    for index in 1..members {
        readers.push(member(server.address, &format!("reader-{index}")).await);
    }
    let stopped = member(server.address, "stopped").await;
    let base = server.memory("VmRSS");

    let progress = Arc::new(Progress {
        read: readers.iter().map(|_| AtomicU64::new(0)).collect(),
        moved: Notify::new(),
    });
    let mut reading = JoinSet::new();
    for (index, stream) in readers.into_iter().enumerate() {
        reading.spawn(read_all(stream, Arc::clone(&progress), index));
    }
    let begun = Instant::now();
    let (mut published, mut log, mut closed_after) = (0, String::new(), None);
    while !reading.is_empty() {
        let count = (progress.slowest() + AHEAD_MAX).min(EVENTS) - published;
        if count > 0 {
            server.publish(count).await;
            published += count;
        }
        tokio::select! {
            moved = tokio::time::timeout(WAIT_MAX, progress.moved.notified()) => {
                moved.unwrap_or_else(|_| panic!("stuck at {}", progress.slowest()));
            }
            Some(ended) = reading.join_next() => ended.unwrap(),
            line = server.until(&["close", "user=stopped"]), if closed_after.is_none() => {
                log = line;
                closed_after = Some(begun.elapsed());
            }
        }
    }
    let took = begun.elapsed();
    let growth = server.memory("VmHWM").saturating_sub(base);
    drop(server.input.take());
    let metric = server.until(&["metric 4109="]).await;
    let closed_after = closed_after.expect("closed while the hub published");
    println!(
        "{members} members, {} MiB each in {took:.1?}: closed {closed_after:.1?} after the first publish; \
         {:.1} MiB at most above {:.1} MiB",
        (EVENTS * EVENT_BYTES as u64) >> 20,
        growth as f64 / 1048576.0,
        base as f64 / 1048576.0
    );
    assert!(log.contains("4109"), "{log}");
    assert_eq!(metric, "metric 4109=1");
    assert!(closed_after <= CLOSED_WITHIN, "{closed_after:?}");
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes above {base}");
    drop(stopped);
}
