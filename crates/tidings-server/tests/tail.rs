//! `tidings tail` as it is used: lines for eyes and for programs, over a network that breaks, until somebody ends it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "../../tidings/tests/redis_servers/forwarder.rs"]
mod forwarder;
mod server;

use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use forwarder::Forwarder;
use rustix::process::Signal;
use serde_json::{Value, json};
use server::{Client, Dev, Serve, kept, run, signal, tidings, within};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;

/// A running `tidings tail`.
struct Tail {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    /// What it says on stderr, without its log.
    told: mpsc::Receiver<String>,
}

impl Tail {
    /// Starts it, and waits until it follows its rooms.
    async fn start(home: &TempDir, arguments: &[&str]) -> Self {
        let mut tail = Self::begin(home, arguments);
        tail.until_told("connected to").await;
        tail
    }

    fn begin(home: &TempDir, arguments: &[&str]) -> Self {
        let mut command = tidings(home);
        command.arg("tail").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, told) = mpsc::channel(1000);
        let mut file = kept("server");
        // All of it is read as it comes: a full pipe would stop the program.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                if let Some(file) = &mut file {
                    writeln!(file, "{line}").unwrap();
                }
                // Its log is JSON; what it says is not.
                if !line.starts_with('{') {
                    let _ = sender.send(line).await;
                }
            }
        });
        Self { child, stdout, told }
    }

    /// Waits until it says so on stderr.
    async fn until_told(&mut self, what: &str) {
        loop {
            let line = within(self.told.recv()).await.unwrap_or_else(|| panic!("it ended without {what:?}"));
            if line.contains(what) {
                return;
            }
        }
    }

    async fn line(&mut self) -> String {
        within(self.stdout.next_line()).await.unwrap().expect("a line")
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    /// Its exit code, once it has nothing more to print.
    async fn ended(mut self) -> Option<i32> {
        assert_eq!(within(self.stdout.next_line()).await.unwrap(), None);
        within(self.child.wait()).await.unwrap().code()
    }
}

fn socket(address: &str) -> String {
    format!("ws://{address}/ws")
}

async fn say(client: &mut Client, room: &str, event: &str, data: Value) {
    static SAID: AtomicU32 = AtomicU32::new(0);
    let id = format!("say-{}", SAID.fetch_add(1, Ordering::Relaxed));
    client.send(&json!({"event": event, "room": room, "data": data, "id": id}).to_string()).await;
    client.until("ack").await;
}

async fn member(dev: &Dev, user: &str, room: &str) -> Client {
    let token = dev.token_of(&["--user", user]).await;
    let mut client = dev.connect(&token).await;
    client.send(&json!({"event": "room.join", "room": room, "id": "join"}).to_string()).await;
    client.until("ack").await;
    client
}

#[tokio::test]
async fn lines_are_of_the_events_that_are_wanted_and_it_ends_when_there_are_enough() {
    let dev = Dev::start().await;
    let mut ann = member(&dev, "ann", "chat:a").await;
    let mut bob = member(&dev, "bob", "chat:b").await;
    let url = socket(&dev.address);
    let wanted = ["chat:a", "chat:b", "--url", &url, "--event", "message.*", "--from", "ann", "--once", "2"];
    let mut tail = Tail::start(&dev.home, &wanted).await;
    say(&mut bob, "chat:b", "message.send", json!("not of ann")).await;
    say(&mut ann, "chat:a", "typing", json!("not wanted")).await;
    say(&mut ann, "chat:a", "message.send", json!({"content": "hi"})).await;
    say(&mut ann, "chat:a", "message.edit", json!(7)).await;
    let line = tail.line().await;
    assert!(
        line.ends_with(" chat:a message.send ann {\"content\":\"hi\"}") && line.starts_with("20"),
        "{line}"
    );
    assert!(tail.line().await.ends_with(" chat:a message.edit ann 7"));
    assert_eq!(tail.ended().await, Some(0));
}

#[tokio::test]
async fn a_room_that_the_server_joins_by_itself_begins_at_its_newest_and_that_is_said() {
    let dev = Dev::start().await;
    let url = format!("ws://{}/ws", dev.address);
    let mut tail = Tail::begin(&dev.home, &["user:dev", "--url", &url, "--last", "3"]);
    tail.until_told("user:dev: the server has joined this user at its newest event").await;
    tail.until_told("connected to").await;
    let mut publish = tidings(&dev.home);
    publish.args(["publish", "user:dev", "n", "1", "--url", &format!("http://{}", dev.address)]);
    assert!(run(&mut publish).await.status.success());
    assert!(tail.line().await.contains(" n "), "what comes is shown");
}

#[tokio::test]
async fn json_lines_are_what_clients_get_from_the_last_ones_on_and_a_cut_loses_none() {
    let dev = Dev::start().await;
    let mut ann = member(&dev, "ann", "chat:a").await;
    for n in 1..=3 {
        say(&mut ann, "chat:a", "number", json!(n)).await;
    }
    let forwarder = Forwarder::start(dev.address.parse().unwrap()).await;
    let url = socket(&forwarder.address().to_string());
    let mut tail = Tail::start(&dev.home, &["chat:a", "--url", &url, "--json", "--last", "2"]).await;
    for n in [2, 3] {
        let event = tail.json().await;
        assert_eq!(
            (&event["event"], &event["data"], &event["from"]),
            (&"number".into(), &n.into(), &"ann".into())
        );
        assert!(event["id"].as_str().unwrap().ends_with(&format!(".{n}")) && event["at"].is_u64(), "{event}");
        assert_eq!(event["room"], "chat:a");
    }
    for cut in 0..3 {
        forwarder.cut();
        for n in 0..5 {
            say(&mut ann, "chat:a", "number", json!(100 * cut + n)).await;
        }
        tail.until_told("connected again").await;
        for n in 0..5 {
            assert_eq!(tail.json().await["data"], 100 * cut + n);
        }
    }
    signal(&tail.child, Signal::INT);
    assert_eq!(tail.ended().await, Some(0));
}

#[tokio::test]
async fn who_ends_it_has_left_the_room_at_once() {
    let dev = Dev::start().await;
    let mut ann = member(&dev, "ann", "chat:a").await;
    let url = socket(&dev.address);
    for ending in [Signal::INT, Signal::TERM] {
        let tail = Tail::start(&dev.home, &["chat:a", "--url", &url]).await;
        assert_eq!(ann.until("presence.join").await["data"]["user"], "dev");
        signal(&tail.child, ending);
        assert_eq!(tail.ended().await, Some(0));
        let began = std::time::Instant::now();
        ann.until("presence.leave").await;
        assert!(began.elapsed().as_secs() < 5, "not when the grace is over");
    }
}

#[tokio::test]
async fn it_can_be_ended_while_nobody_reads_what_it_prints() {
    let dev = Dev::start().await;
    let mut ann = member(&dev, "ann", "chat:a").await;
    let tail = Tail::start(&dev.home, &["chat:a", "--url", &socket(&dev.address)]).await;
    // More than a pipe holds.
    for _ in 0..10 {
        say(&mut ann, "chat:a", "much", json!("x".repeat(30_000))).await;
    }
    let Tail { mut child, stdout: _unread, told: _told } = tail;
    signal(&child, Signal::INT);
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_server_that_lost_the_log_is_told_in_its_place() {
    let (dev, again) = (Dev::start().await, Dev::start().await);
    let mut ann = member(&dev, "ann", "chat:a").await;
    say(&mut ann, "chat:a", "number", json!(1)).await;
    let forwarder = Forwarder::start(dev.address.parse().unwrap()).await;
    let url = socket(&forwarder.address().to_string());
    let mut tail = Tail::start(&dev.home, &["chat:a", "--url", &url, "--json", "--last", "1"]).await;
    assert_eq!(tail.json().await["data"], 1);
    let mut ann = member(&again, "ann", "chat:a").await;
    say(&mut ann, "chat:a", "number", json!(2)).await;
    forwarder.point_to(again.address.parse().unwrap());
    forwarder.cut();
    let reset = tail.json().await;
    assert_eq!((&reset["event"], &reset["data"]["reason"]), (&"room.reset".into(), &"unknown_epoch".into()));
    assert_eq!(tail.json().await["data"], 2);
    signal(&tail.child, Signal::INT);
    assert_eq!(tail.ended().await, Some(0));
}

#[tokio::test]
async fn it_ends_well_when_nobody_reads_it_any_more() {
    let dev = Dev::start().await;
    let mut ann = member(&dev, "ann", "chat:a").await;
    let mut tail = Tail::start(&dev.home, &["chat:a", "--url", &socket(&dev.address)]).await;
    say(&mut ann, "chat:a", "number", json!(1)).await;
    tail.line().await;
    let Tail { mut child, stdout, told: _told } = tail;
    drop(stdout);
    say(&mut ann, "chat:a", "number", json!(2)).await;
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_a_room_it_follows_those_of_the_user_and_a_token_may_be_in_a_file() {
    let dev = Dev::start().await;
    let token = dev.token_of(&["--user", "bob", "--rooms", "chat:a,chat:b"]).await;
    let file = dev.home.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let url = socket(&dev.address);
    let mut tail =
        Tail::start(&dev.home, &["--url", &url, "--token-file", file.to_str().unwrap(), "--once", "2"]).await;
    for room in ["chat:a", "chat:b"] {
        let mut ann = member(&dev, "ann", room).await;
        say(&mut ann, room, "number", json!(1)).await;
        assert!(tail.line().await.ends_with(&format!(" {room} number ann 1")));
    }
    assert_eq!(tail.ended().await, Some(0));
}

#[tokio::test]
async fn a_refusal_ends_it_with_its_code_and_a_fix() {
    let dev = Dev::start().await;
    let url = socket(&dev.address);
    let home = tempfile::tempdir().unwrap();
    let secret = "canary-bird of the tail's server, 32 bytes";
    let config = format!(
        "listen = '127.0.0.1:0'\n[auth]\nsecret = \"{secret}\"\n[[rooms]]\npattern = 'chat:*'\n[admin]\nlisten = '127.0.0.1:0'"
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    let serve = Serve::start(home).await;
    let strict = socket(&serve.address);
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = json!({"sub": "ann", "aud": "tidings", "exp": exp});
    let token = tidings::auth::mint_hs256(secret.as_bytes(), &claims).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = socket(&closed.to_string());
    let cases: [(&[&str], i32, &str, &str); 8] = [
        (&["chat:a", "--url", &url, "--token", "no.good.token"], 77, "401 token", "--token-file"),
        (&["chat:a", "--url", &strict, "--token", &token], 77, "chat:a: forbidden", "who may join"),
        (&["news", "--url", &strict, "--token", &token], 77, "news: unknown_room", "rule"),
        (&["--url", &strict, "--token", &token], 2, "joined to no room", "tidings tail ROOM"),
        (&["chat:a", "--url", &nobody, "--wait", "1s"], 69, "no connection in 1s", "--url"),
        (&["chat:a", "--url", "wss://tidings.example/ws"], 2, "no token", "TIDINGS_TOKEN"),
        (&["chat:a", "--url", "ftp://127.0.0.1/ws"], 2, "no URL of a WebSocket", "--url"),
        (&["--last", "3"], 2, "ROOM", "Usage"),
    ];
    for (arguments, code, said, fix) in cases {
        let output = run(tidings(&dev.home).arg("tail").args(arguments)).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said) && stderr.contains(fix), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    serve.end().await;
}
