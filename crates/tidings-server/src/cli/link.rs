//! A connection of which a command sees everything: messages, pings and the close. What comes while an answer is awaited is
//! kept for later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, StatusCode};
use hyper_rustls::ConfigBuilderExt as _;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use serde_json::Value;
use tidings_client::ClientLimits;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::target::{Target, bearer};

/// Whatever is awaited comes by then.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A server that is told goodbye has so long to say it too.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// Messages that came before they were asked for.
const KEPT_MAX: usize = 4096;

/// What a server greets with.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Welcome {
    pub(super) user: String,
    pub(super) heartbeat_ms: u64,
    pub(super) limits: ClientLimits,
}

/// An open connection, behind its welcome.
pub(super) struct Link {
    socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    kept: VecDeque<Value>,
    pub(super) welcome: Welcome,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLink {
    /// The handshake was answered by something else than 101.
    Refused(StatusCode),
    /// It was never answered.
    Unreachable(String),
    /// It was granted, and no `session.welcome` came.
    Unwelcome(String),
}

impl std::fmt::Display for NoLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the handshake was answered by {status}"),
            Self::Unreachable(why) => write!(f, "no connection: {why}"),
            Self::Unwelcome(why) => write!(f, "the upgrade was granted, and no session.welcome came: {why}"),
        }
    }
}

/// What comes over a connection.
#[derive(Debug)]
pub(super) enum Heard {
    Message(Value),
    Ping,
    /// With the close frame's code, if there was a frame.
    Closed(Option<u16>),
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// The ack's data.
    Ack(Value),
    Refused {
        code: String,
        message: String,
    },
}

impl Link {
    /// Connects, and takes the welcome.
    pub(super) async fn open(target: &Target, token: &str) -> Result<Self, NoLink> {
        let unreachable = |error: &dyn std::fmt::Display| NoLink::Unreachable(error.to_string());
        let mut request = target.socket().into_client_request().map_err(|error| unreachable(&error))?;
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("tidings.v1"));
        headers.insert(AUTHORIZATION, bearer(token).map_err(NoLink::Unreachable)?);
        let connector = match target.is_secure() {
            true => secure().map_err(NoLink::Unreachable)?,
            // A system may have no certificates.
            false => Connector::Plain,
        };
        let connecting =
            tokio_tungstenite::connect_async_tls_with_config(request, None, true, Some(connector));
        let socket = match tokio::time::timeout(ANSWER_MAX, Box::pin(connecting)).await {
            Ok(Ok((socket, _))) => Box::new(socket),
            Ok(Err(Error::Http(answer))) => return Err(NoLink::Refused(answer.status())),
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => return Err(unreachable(&format_args!("no answer to the handshake in {ANSWER_MAX:?}"))),
        };
        let nobody = Welcome { user: String::new(), heartbeat_ms: 0, limits: ClientLimits::default() };
        let mut link = Self { socket, kept: VecDeque::new(), welcome: nobody };
        let welcome = link.event(|message| message["event"] == "session.welcome").await;
        let mut welcome = welcome.map_err(NoLink::Unwelcome)?;
        link.welcome = serde_json::from_value(welcome["data"].take())
            .map_err(|error| NoLink::Unwelcome(format!("it is not as PROTOCOL.md says: {error}")))?;
        Ok(link)
    }

    pub(super) async fn send(&mut self, text: String) -> Result<(), String> {
        let sent = tokio::time::timeout(ANSWER_MAX, self.socket.send(Message::text(text))).await;
        match sent {
            Ok(sent) => sent.map_err(|error| format!("nothing can be sent: {error}")),
            Err(_) => Err(format!("the server has read nothing for {ANSWER_MAX:?}")),
        }
    }

    /// Sends many, and waits for none.
    pub(super) async fn send_all(&mut self, texts: impl IntoIterator<Item = String>) -> Result<(), String> {
        let sending = async {
            for text in texts {
                self.socket.feed(Message::text(text)).await?;
            }
            self.socket.flush().await
        };
        match tokio::time::timeout(ANSWER_MAX, sending).await {
            Ok(sent) => sent.map_err(|error| format!("nothing can be sent: {error}")),
            Err(_) => Err(format!("the server has read nothing for {ANSWER_MAX:?}")),
        }
    }

    /// What comes next, within `patience`; none if nothing does.
    pub(super) async fn heard(&mut self, patience: Duration) -> Option<Heard> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        // What is no JSON is no message of the protocol, and nothing waits for it.
                        return Heard::Message(serde_json::from_str(&text).unwrap_or_default());
                    }
                    Some(Ok(Message::Ping(_))) => return Heard::Ping,
                    Some(Ok(Message::Close(close))) => {
                        return Heard::Closed(close.map(|close| close.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Heard::Closed(None),
                }
            }
        };
        tokio::time::timeout(patience, next).await.ok()
    }

    /// The next message that is wanted; others are kept, if they come before it.
    pub(super) async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        if let Some(index) = self.kept.iter().position(&wanted) {
            return self.kept.remove(index).ok_or_else(|| "a message is gone".to_owned());
        }
        let end = tokio::time::Instant::now() + ANSWER_MAX;
        loop {
            match self.heard(end.saturating_duration_since(tokio::time::Instant::now())).await {
                Some(Heard::Message(message)) if wanted(&message) => return Ok(message),
                Some(Heard::Message(message)) => {
                    if self.kept.len() >= KEPT_MAX {
                        return Err(format!("{KEPT_MAX} other messages came first"));
                    }
                    self.kept.push_back(message);
                }
                Some(Heard::Ping) => {}
                Some(Heard::Closed(Some(code))) => return Err(format!("the server closed with {code}")),
                Some(Heard::Closed(None)) => return Err("the connection broke".to_owned()),
                None => return Err(format!("it did not come in {ANSWER_MAX:?}")),
            }
        }
    }

    /// Sends a message with an id, and waits for what becomes of it.
    pub(super) async fn ask(&mut self, message: &Value) -> Result<Reply, String> {
        self.send(message.to_string()).await?;
        let id = &message["id"];
        self.reply(id)
            .await
            .map_err(|why| format!("no answer to {}: {why}", message["event"].as_str().unwrap_or_default()))
    }

    /// The ack or error of this id.
    pub(super) async fn reply(&mut self, id: &Value) -> Result<Reply, String> {
        let is_reply = |message: &Value| {
            (message["event"] == "ack" || message["event"] == "error") && message["id"] == *id
        };
        let mut message = self.event(is_reply).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(match message["event"] == "ack" {
            true => Reply::Ack(message["data"].take()),
            false => Reply::Refused {
                code: text(&message["data"]["code"]),
                message: text(&message["data"]["message"]),
            },
        })
    }

    /// Leaves as a client that is done, and waits until the server has taken note.
    pub(super) async fn close(mut self) {
        let ending = async {
            if (*self.socket).close(None).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // A server that does not say goodbye is no matter here.
        let _ = tokio::time::timeout(GOODBYE_MAX, ending).await;
    }

    /// The socket ends without a word, as when a network fails.
    pub(super) fn cut(self) {
        drop(self);
    }
}

/// What servers are believed by: the authorities that the system trusts.
fn secure() -> Result<Connector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_native_roots()
        .map_err(|error| format!("no certificates of this system to trust: {error}"))?
        .with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}
