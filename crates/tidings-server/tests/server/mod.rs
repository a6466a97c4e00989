//! A `tidings` of a test's own: started on a free port with a home of its own, and killed when the test is over.

#![allow(dead_code, reason = "each test file is a crate that uses its part")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Whatever a test waits for comes before this, or never.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// The binary, with nothing of this machine's environment that it would read.
pub(crate) fn tidings(home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.env("TIDINGS_HOME", home.path()).env_remove("TIDINGS_LOG").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) async fn within<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, waited).await.expect("it came to nothing")
}

/// A running `tidings dev`.
pub(crate) struct Dev {
    pub(crate) child: Child,
    pub(crate) home: TempDir,
    /// `127.0.0.1:port`
    pub(crate) address: String,
    /// Everything that it has greeted with.
    pub(crate) greeting: String,
    pub(crate) token: String,
    /// From its start to the end of its greeting, when it listens.
    pub(crate) started_in: Duration,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more options than the free port.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let mut command = tidings(&home);
        command
            .args(["dev", "--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = String::new();
        while !greeting.contains("room.join") {
            greeting += &within(stdout.next_line()).await.unwrap().expect("the greeting has an end");
            greeting.push('\n');
        }
        let started_in = begun.elapsed();
        let word_after = |label: &str| {
            let rest = greeting.split_once(label).unwrap_or_else(|| panic!("no {label} in {greeting}")).1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let address = word_after("  page    http://").trim_end_matches('/').to_owned();
        let token = word_after("  token ");
        Self { child, home, address, greeting, token, started_in, _stdout: stdout }
    }

    /// What `tidings token` prints in this server's home.
    pub(crate) async fn token_of(&self, arguments: &[&str]) -> String {
        let output = within(tidings(&self.home).arg("token").args(arguments).output()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(&self.address, path, &self.address).await
    }

    pub(crate) async fn connect(&self, token: &str) -> Client {
        Client::connect(&self.address, token).await
    }
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs").cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) async fn get(address: &str, path: &str, host: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A WebSocket client that somebody else wrote.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects and takes the welcome.
    pub(crate) async fn connect(address: &str, token: &str) -> Self {
        let url = format!("ws://{address}/ws?token={token}");
        let mut client = Self(within(tokio_tungstenite::connect_async(url)).await.unwrap().0);
        client.until("session.welcome").await;
        client
    }

    pub(crate) async fn send(&mut self, message: &str) {
        self.0.send(Message::text(message)).await.unwrap();
    }

    /// The next message of this event; others are passed over.
    pub(crate) async fn until(&mut self, event: &str) -> Value {
        loop {
            match self.next().await {
                Ok(message) if message["event"] == event => return message,
                Ok(_) => {}
                Err(close) => panic!("closed before {event}: {close:?}"),
            }
        }
    }

    /// Closes, and waits until the server has taken note.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        self.closed().await;
    }

    /// The server's close.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            if let Err(close) = self.next().await {
                return close;
            }
        }
    }

    /// The next message, or the server's close.
    pub(crate) async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(close))) => return Err(close),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("{error}"),
                None => return Err(None),
            }
        }
    }
}
