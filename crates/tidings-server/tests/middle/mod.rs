//! Something between a client and a real server that spoils one thing: a head on its way there, an answer's head on its way
//! back, or messages in either direction.

#![allow(dead_code, reason = "each test file is a crate that uses its part")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

type Heads = Arc<dyn Fn(String) -> String + Send + Sync>;
type Messages = Arc<dyn Fn(Message) -> Vec<Message> + Send + Sync>;

/// What it does to what passes.
#[derive(Clone)]
pub(crate) struct Middle {
    request: Heads,
    answer: Heads,
    up: Messages,
    down: Messages,
}

impl Middle {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self {
            request: Arc::new(|head| head),
            answer: Arc::new(|head| head),
            up: Arc::new(|message| vec![message]),
            down: Arc::new(|message| vec![message]),
        }
    }

    pub(crate) fn request(self, change: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self { request: Arc::new(change), ..self }
    }

    pub(crate) fn answer(self, change: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(change), ..self }
    }

    /// Messages of the client.
    pub(crate) fn up(self, change: impl Fn(Message) -> Vec<Message> + Send + Sync + 'static) -> Self {
        Self { up: Arc::new(change), ..self }
    }

    /// Messages of the server.
    pub(crate) fn down(self, change: impl Fn(Message) -> Vec<Message> + Send + Sync + 'static) -> Self {
        Self { down: Arc::new(change), ..self }
    }

    /// The server's texts, as JSON.
    pub(crate) fn down_json(self, change: impl Fn(Value) -> Vec<Value> + Send + Sync + 'static) -> Self {
        self.down(json(change))
    }

    pub(crate) fn up_json(self, change: impl Fn(Value) -> Vec<Value> + Send + Sync + 'static) -> Self {
        self.up(json(change))
    }

    /// Stands before the server at `address` until the test is over; where.
    pub(crate) async fn before(self, address: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, address) = (listener.local_addr().unwrap().to_string(), address.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (middle, address) = (self.clone(), address.clone());
                tokio::spawn(async move { middle.pass(client, &address).await });
            }
        });
        own
    }

    async fn pass(self, mut client: TcpStream, address: &str) -> Option<()> {
        let (head, rest) = head(&mut client).await?;
        let mut server = TcpStream::connect(address).await.ok()?;
        server.write_all((self.request)(head).as_bytes()).await.ok()?;
        server.write_all(&rest).await.ok()?;
        let (head, rest) = self::head(&mut server).await?;
        let is_upgraded = head.starts_with("HTTP/1.1 101");
        client.write_all((self.answer)(head).as_bytes()).await.ok()?;
        if !is_upgraded {
            client.write_all(&rest).await.ok()?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.ok()?;
            return Some(());
        }
        let mut client = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
        let mut server = WebSocketStream::from_partially_read(server, rest, Role::Client, None).await;
        loop {
            tokio::select! {
                message = client.next() => {
                    for message in (self.up)(message?.ok()?) {
                        server.send(message).await.ok()?;
                    }
                }
                message = server.next() => {
                    for message in (self.down)(message?.ok()?) {
                        client.send(message).await.ok()?;
                    }
                }
            }
        }
    }
}

fn json(change: impl Fn(Value) -> Vec<Value>) -> impl Fn(Message) -> Vec<Message> {
    move |message| match &message {
        Message::Text(text) => {
            let changed = change(serde_json::from_str(text).unwrap());
            changed.into_iter().map(|value| Message::text(value.to_string())).collect()
        }
        _ => vec![message],
    }
}

/// A head with the empty line, and what came behind it.
async fn head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end);
    Some((String::from_utf8(bytes).ok()?, rest))
}

/// A head without its lines of these names.
pub(crate) fn without(head: &str, names: &[&str]) -> String {
    let is_kept = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !names.iter().any(|name| line.starts_with(&format!("{name}:")))
    };
    head.split("\r\n").filter(is_kept).collect::<Vec<_>>().join("\r\n")
}

/// A head with one line more.
pub(crate) fn with(head: &str, line: &str) -> String {
    format!("{}\r\n{line}\r\n\r\n", head.trim_end())
}

/// A head whose token has other claims, signed by `secret`; untouched where there is no token, or `change` wants none.
pub(crate) fn signed_anew(head: &str, secret: &str, change: impl Fn(&mut Value) -> bool) -> String {
    let line = |line: &&str| line.to_ascii_lowercase().starts_with("authorization:");
    let Some(token) = head.split("\r\n").find(line).and_then(|line| line.split(' ').nth(2)) else {
        return head.to_owned();
    };
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims = serde_json::from_slice(&payload).unwrap();
    if !change(&mut claims) {
        return head.to_owned();
    }
    let token = tidings::auth::mint_hs256(secret.as_bytes(), &claims).unwrap();
    with(&without(head, &["authorization"]), &format!("authorization: Bearer {token}"))
}
