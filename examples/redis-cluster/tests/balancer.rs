//! The whole example as it is started: connections in turn, one room for all, and a node that is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]
#![allow(clippy::disallowed_methods, reason = "a node is looked at again")]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waited).await.expect("it came to nothing")
}

/// The example, on a free port.
struct Example {
    address: String,
    _child: Child,
    /// It greets with more than its address, and ends if nobody can hear that.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Example {
    async fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cluster-example"));
        command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within(lines.next_line()).await.unwrap().expect("it greets");
        let address = line.split_once("http://").unwrap().1.trim_end_matches('/').to_owned();
        Self { address, _child: child, _stdout: lines }
    }

    async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    async fn connect(&self, user: &str, query: &str) -> Option<Client> {
        let token: Value = serde_json::from_str(&self.ask("GET", &format!("/token/{user}")).await).unwrap();
        let url = format!("ws://{}/ws?token={}{query}", self.address, token["token"].as_str().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(url).await.ok()?;
        Some(Client(socket))
    }

    async fn nodes(&self) -> Vec<Value> {
        serde_json::from_str(&self.ask("GET", "/nodes").await).unwrap()
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message that fits; none if the connection ends.
    async fn next(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            match within(self.0.next()).await? {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if fits(&message) {
                        return Some(message);
                    }
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    async fn node(&mut self) -> String {
        self.send(json!({"event": "served_by", "data": {}, "id": "node"})).await;
        let ack = self.next(|message| message["id"] == "node").await.unwrap();
        ack["data"]["node"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn connections_go_in_turn_and_a_killed_nodes_clients_miss_nothing() {
    let example = Example::start().await;
    let mut clients = Vec::new();
    for user in ["ada", "bob", "cleo"] {
        let mut client = example.connect(user, "").await.unwrap();
        let node = client.node().await;
        clients.push((user, node, client));
    }
    let nodes: BTreeSet<_> = clients.iter().map(|(_, node, _)| node.as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["one", "two", "three"]));

    clients[0].2.send(json!({"event": "say", "data": {"text": "hello"}, "id": "1"})).await;
    let through = clients[0].1.clone();
    let mut last = String::new();
    for (_, _, client) in &mut clients {
        let said = client.next(|message| message["event"] == "said").await.unwrap();
        assert_eq!(said["data"], json!({"text": "hello", "through": through}));
        last = said["id"].as_str().unwrap().to_owned();
    }

    // Its client is cut off, and comes back elsewhere where it was.
    example.ask("POST", &format!("/nodes/{through}/kill")).await;
    assert!(clients[0].2.next(|_| false).await.is_none(), "the connection ends with the node");
    clients[1].2.send(json!({"event": "say", "data": {"text": "missed"}, "id": "2"})).await;
    let began = Instant::now();
    let mut back = loop {
        if let Some(client) = example.connect("ada", &format!("&last_event_id={last}")).await {
            break client;
        }
        assert!(began.elapsed() < PATIENCE);
    };
    let said = back.next(|message| message["event"] == "said").await.unwrap();
    assert_eq!(said["data"]["text"], "missed");
    assert_ne!(back.node().await, through);

    // And the node comes back.
    while example.nodes().await.iter().any(|node| node["address"].is_null()) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn nobody_kills_what_is_no_node() {
    let example = Example::start().await;
    example.ask("POST", "/nodes/four/kill").await;
    assert!(example.nodes().await.iter().all(|node| node["address"].is_string()));
    assert!(example.ask("GET", "/").await.contains("Three nodes"));
}
