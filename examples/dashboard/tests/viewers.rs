//! Five hundred viewers of the real server, of whom twenty-five read one message a second.
//!
//! `VIEWERS_SECONDS=60` is the whole of it, with a sample of everything once a second; without, a hundred viewers, five of
//! them slow, for ten seconds with ten samples of everything a second.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings::protocol::event_id::EventId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

const RSS_GROWTH_MAX: u64 = 16 * 1024 * 1024;
/// What a slow viewer's side of its socket takes: so little that the server soon has to decide.
const SLOW_RECEIVE_BUFFER: u32 = 4096;

/// Where the server's log goes: into the gate's folder (`tests/canary/`), which looks in it for tokens and secrets.
fn kept_stderr() -> Stdio {
    let Some(folder) = std::env::var_os("TIDINGS_TEST_LOGS") else { return Stdio::null() };
    let name = format!("server-dashboard-example-{}.log", std::process::id());
    File::options().create(true).append(true).open(Path::new(&folder).join(name)).unwrap().into()
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    async fn start(interval_ms: u64) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dashboard-example"))
            .args(["--listen", "127.0.0.1:0", "--interval-ms", &interval_ms.to_string()])
            .envs([("RUST_LOG", "trace"), ("NO_COLOR", "1")])
            .stdout(Stdio::piped())
            .stderr(kept_stderr())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut greeting).await.unwrap();
        let (_, address) = greeting.trim_end().trim_end_matches('/').split_once("http://").unwrap();
        Self { address: address.parse().unwrap(), process }
    }

    async fn token(&self) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["token"].as_str().unwrap().to_owned()
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// A viewer, which checks every position.
struct Viewer {
    socket: WebSocketStream<TcpStream>,
    began_at: u64,
    offset: u64,
    events: u64,
    skipped: u64,
    /// The offset of the newest sample of each series.
    newest: BTreeMap<String, u64>,
}

impl Viewer {
    async fn connect(server: &Server, receive_buffer: Option<u32>) -> Self {
        let token = server.token().await;
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(server.address).await.unwrap();
        let url = format!("ws://{}/ws?token={token}", server.address);
        // So little at once that what it has not looked at is still the network's.
        let config = WebSocketConfig::default().read_buffer_size(512);
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await.unwrap();
        let mut viewer =
            Self { socket, began_at: 0, offset: 0, events: 0, skipped: 0, newest: BTreeMap::new() };
        let join = json!({"event": "room.join", "room": "board", "id": "join-1"});
        viewer.socket.send(Message::text(join.to_string())).await.unwrap();
        let ack = loop {
            let message = viewer.message().await;
            if message["event"] == "ack" {
                break message;
            }
        };
        viewer.offset = offset(&ack["data"]["last_event_id"]);
        viewer.began_at = viewer.offset;
        // What the picture leaves out is skipped by everyone who joins.
        let top = offset(&ack["data"]["top"]);
        while viewer.offset < top {
            viewer.step().await;
        }
        (viewer.began_at, viewer.events, viewer.skipped) = (viewer.offset, 0, 0);
        viewer
    }

    async fn message(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Takes the next message of the board; whether it was a sample.
    async fn step(&mut self) -> bool {
        let message = self.message().await;
        if message["room"] != "board" || message["id"].is_null() {
            return false;
        }
        let id = offset(&message["id"]);
        if message["event"] == "room.skip" {
            assert_eq!(message["data"]["from"], self.offset + 1, "{message}");
            assert_eq!(message["data"]["reason"], "conflated");
            self.skipped += id - self.offset;
        } else {
            assert_eq!(
                (&message["event"], id),
                (&json!("sample"), self.offset + 1),
                "no hole before {message}"
            );
            self.newest.insert(message["data"]["series"].as_str().unwrap().to_owned(), id);
            self.events += 1;
        }
        self.offset = id;
        message["event"] == "sample"
    }
}

fn offset(id: &Value) -> u64 {
    EventId::parse(id.as_str().unwrap()).unwrap().position.offset
}

/// Reads as it comes, until it is over and the offset is reached that is then named.
async fn quick(mut viewer: Viewer, end: watch::Receiver<Option<u64>>) -> Viewer {
    while end.borrow().is_none_or(|end| viewer.offset < end) {
        viewer.step().await;
    }
    viewer
}

/// Reads one message a second until it is over, and then all, for two rounds of samples more.
async fn slow(mut viewer: Viewer, mut end: watch::Receiver<Option<u64>>) -> Viewer {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    while end.borrow().is_none() {
        tokio::select! {
            _ = seconds.tick() => {
                viewer.step().await;
            }
            _ = end.changed() => {}
        }
    }
    let mut viewer = quick(viewer, end).await;
    let until = viewer.offset + 2 * viewer.newest.len() as u64;
    while viewer.offset < until {
        viewer.step().await;
    }
    viewer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_the_newest_and_everyone_else_gets_everything() {
    let whole: Option<u64> = std::env::var("VIEWERS_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let (seconds, interval_ms, viewers) = whole.map_or((10, 100, 100), |seconds| (seconds, 1000, 500));
    let slow_viewers = viewers / 20;
    let server = Server::start(interval_ms).await;
    let (end_sender, end) = watch::channel(None);
    let (mut quick_ones, mut slow_ones) = (Vec::new(), Vec::new());
    for number in 0..viewers {
        if number < slow_viewers {
            let viewer = Viewer::connect(&server, Some(SLOW_RECEIVE_BUFFER)).await;
            slow_ones.push(tokio::spawn(slow(viewer, end.clone())));
        } else {
            let viewer = Viewer::connect(&server, None).await;
            quick_ones.push(tokio::spawn(quick(viewer, end.clone())));
        }
    }
    let mut watcher = Viewer::connect(&server, None).await;
    let before = server.resident_bytes();
    let over = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while tokio::time::Instant::now() < over {
        watcher.step().await;
    }
    let after = server.resident_bytes();
    let end_at = watcher.offset;
    end_sender.send(Some(end_at)).unwrap();
    let (mut least, mut most) = (u64::MAX, 0);
    for viewer in quick_ones {
        let viewer = viewer.await.unwrap();
        assert_eq!(viewer.skipped, 0, "a viewer who reads gets everything");
        assert_eq!(viewer.events, viewer.offset - viewer.began_at);
        assert!(viewer.offset >= end_at);
    }
    for viewer in slow_ones {
        let viewer = viewer.await.unwrap();
        assert!(viewer.skipped > 0, "a viewer who reads slowly is told what it did not get");
        assert_eq!(viewer.events + viewer.skipped, viewer.offset - viewer.began_at);
        (least, most) = (least.min(viewer.skipped), most.max(viewer.skipped));
        // It has read what waited, and so it is live again: it has the newest of each series.
        let rounds = 2 * watcher.newest.len() as u64;
        assert!(viewer.newest.values().all(|newest| newest + rounds >= viewer.offset), "{:?}", viewer.newest);
        assert!(viewer.newest.keys().eq(watcher.newest.keys()));
    }
    println!(
        "{} s: {end_at} samples, {} viewers got all, {slow_viewers} were told {least} to {most} as conflated; \
         resident {:.1} MB before, {:.1} MB after",
        seconds,
        viewers - slow_viewers,
        before as f64 / 1e6,
        after as f64 / 1e6,
    );
    assert!(after <= before + RSS_GROWTH_MAX, "{before} bytes grew to {after}");
}
