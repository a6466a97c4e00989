//! A `tidings` of a test's own: started on a free port with a home of its own, and killed when the test is over.
//!
//! It logs all it can. What it logs, and its metrics, are kept for the gate (`tests/canary/`), which looks in them for
//! tokens and secrets: `./test` says where by `TIDINGS_TEST_LOGS`; without it nothing is kept. stdout is not kept: a
//! token that is asked for stands there.

#![allow(dead_code, reason = "each test file is a crate that uses its part")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, Lines,
};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Whatever a test waits for comes before this, or never.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// What a secret of `tidings dev` may be, hexadecimal digits: `canary-bird of tidings dev, 32 b`.
const DEV_SECRET: &str = "63616e6172792d62697264206f6620746964696e6773206465762c2033322062";

/// This test's file of a kind of log in the gate's folder.
pub(crate) fn kept(kind: &str) -> Option<File> {
    let folder = std::env::var_os("TIDINGS_TEST_LOGS")?;
    let program = std::env::current_exe().unwrap();
    let name = format!("{kind}-{}-{}.log", program.file_name().unwrap().display(), std::process::id());
    Some(File::options().create(true).append(true).open(Path::new(&folder).join(name)).unwrap())
}

/// Keeps a text of this kind.
pub(crate) fn keep(kind: &str, text: impl AsRef<[u8]>) {
    if let Some(mut file) = kept(kind) {
        file.write_all(text.as_ref()).unwrap();
    }
}

/// Where the log goes of a program that nobody listens to.
pub(crate) fn kept_stderr() -> Stdio {
    kept("server").map_or_else(Stdio::null, Stdio::from)
}

/// Runs a command to its end; its log is kept.
pub(crate) async fn run(command: &mut Command) -> Output {
    let output = within(command.output()).await.unwrap();
    keep("server", &output.stderr);
    output
}

/// The binary, with nothing of this machine's environment that it would read.
pub(crate) fn tidings(home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.env("TIDINGS_HOME", home.path()).env("TIDINGS_LOG", "trace").env_remove("RUST_LOG");
    command.env_remove("TIDINGS_KEY").env_remove("TIDINGS_TOKEN").env_remove("TIDINGS_SECRET");
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
        std::fs::write(home.path().join("dev-secret"), DEV_SECRET).unwrap();
        Self::start_in(home, options).await
    }

    /// In a home where it may find that it has no secret yet.
    pub(crate) async fn start_in(home: TempDir, options: &[&str]) -> Self {
        let begun = Instant::now();
        let mut command = tidings(&home);
        command
            .args(["dev", "--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(kept_stderr());
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
        let output = run(tidings(&self.home).arg("token").args(arguments)).await;
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

impl Drop for Dev {
    /// Keeps its metrics, if it still answers.
    fn drop(&mut self) {
        if kept("metrics").is_none() {
            return;
        }
        let Ok(mut stream) = std::net::TcpStream::connect(&self.address) else { return };
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        let mut answer = Vec::new();
        let asked = stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)
        });
        if asked.is_ok() {
            keep("metrics", answer);
        }
    }
}

/// A running `tidings serve`, by the `tidings.toml` in its home.
pub(crate) struct Serve {
    pub(crate) child: Child,
    /// `127.0.0.1:port`
    pub(crate) address: String,
    /// The same of its `[admin]`.
    pub(crate) admin: String,
    log: watch::Receiver<String>,
    reading: JoinHandle<()>,
    _home: TempDir,
}

impl Serve {
    /// Starts it, and waits until it listens on both its ports.
    pub(crate) async fn start(home: TempDir) -> Self {
        let mut command = tidings(&home);
        command.arg("serve").arg("--config").arg(home.path().join("tidings.toml"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let mut address_of = async |message: &str| loop {
            let line = within(lines.next_line()).await.unwrap().expect("it listens");
            seen += &format!("{line}\n");
            let line: Value = serde_json::from_str(&line).expect("the log is JSON lines");
            if line["message"] == message {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        let (address, admin) = (address_of("listening").await, address_of("listening for operators").await);
        let (read, log) = watch::channel(seen);
        // All of it is read as it comes: a full pipe would stop the server.
        let reading = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                read.send_modify(|seen| *seen += &format!("{line}\n"));
            }
        });
        Self { child, address, admin, log, reading, _home: home }
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, what: &str) {
        let mut log = self.log.clone();
        within(log.wait_for(|seen| seen.contains(what))).await.expect("it runs");
    }

    /// Ends it; all that it has logged.
    pub(crate) async fn end(mut self) -> String {
        get(&self.admin, "/metrics", "anything").await;
        signal(&self.child, rustix::process::Signal::TERM);
        assert_eq!(within(self.child.wait()).await.unwrap().code(), Some(0));
        within(self.reading).await.unwrap();
        let log = self.log.borrow().clone();
        keep("server", &log);
        log
    }
}

/// A running `tidings serve` whose log is kept as it comes, however long it runs.
pub(crate) struct Node {
    pub(crate) child: Child,
    /// `127.0.0.1:port`
    pub(crate) address: String,
    /// The same of its `[admin]`.
    pub(crate) admin: String,
    _home: TempDir,
}

impl Node {
    /// Starts it with this configuration, which leaves both its ports to the system.
    pub(crate) async fn start(config: &str, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("tidings.toml"), config).unwrap();
        let mut command = tidings(&home);
        command.arg("serve").args(arguments).arg("--config").arg(home.path().join("tidings.toml"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut file = kept("server");
        let mut keep = move |line: &str| {
            if let Some(file) = &mut file {
                writeln!(file, "{line}").unwrap();
            }
        };
        let mut addresses = HashMap::new();
        while addresses.len() < 2 {
            let line = within(log.next_line()).await.unwrap().expect("it runs");
            keep(&line);
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if let (Some(message), Some(address)) = (line["message"].as_str(), line["address"].as_str()) {
                addresses.insert(message.to_owned(), address.to_owned());
            }
        }
        // The pipe is read on, or the server would wait for whoever reads it.
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                keep(&line);
            }
        });
        let [address, admin] = ["listening", "listening for operators"].map(|what| addresses[what].clone());
        Self { child, address, admin, _home: home }
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
    let answer = request(address, "GET", path, &[("Host", host)], "").await;
    if path == "/metrics" {
        keep("metrics", format!("{}\r\n\r\n{}", answer.head, answer.body));
    }
    answer
}

/// With these lines as the head, each with its end; a host is among them.
pub(crate) async fn get_with(address: &str, path: &str, headers: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    ask(stream, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
}

/// One request on a connection of its own; its `Host` is the address, unless the headers have another.
pub(crate) async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let host = if headers.iter().any(|(name, _)| *name == "Host") { "" } else { address };
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers.iter().copied().chain((!host.is_empty()).then_some(("Host", host))) {
        head += &format!("{name}: {value}\r\n");
    }
    ask(TcpStream::connect(address).await.unwrap(), &format!("{head}\r\n{body}")).await
}

/// What comes until the end of the connection.
pub(crate) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    // Whoever refuses may not read all of it.
    let _ = stream.write_all(request.as_bytes()).await;
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
        Self::connect_with_welcome(address, token).await.0
    }

    /// The same, with what the welcome says.
    pub(crate) async fn connect_with_welcome(address: &str, token: &str) -> (Self, Value) {
        let url = format!("ws://{address}/ws?token={token}");
        let mut client = Self(within(Box::pin(tokio_tungstenite::connect_async(url))).await.unwrap().0);
        let welcome = client.until("session.welcome").await;
        (client, welcome)
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
