//! One connection: how it is made, and what goes over it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Uri};
use serde::Deserialize;
use tidings_protocol::client::{ConnectUrl, HandshakeRefusal};
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec::Encoding;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use crate::tls::{Socket, Tls};
use crate::token::{TokenAsk, TokenProvider};

const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("tidings.v1");
/// What a server may send at most, far above any limit that one can have.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So many messages wait for the socket. What more there is to send stays where it is bounded.
const OUTGOING_MAX: usize = 64;
/// A connection that is given up says so for as long.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Makes connections.
pub(crate) struct Dialer {
    url: Uri,
    token: Option<TokenProvider>,
    tls: Tls,
}

/// An open connection, and what is to go over it.
pub(crate) struct Connection {
    socket: Socket,
    outgoing: VecDeque<Message>,
}

/// What a connection brings.
pub(crate) enum Incoming {
    Text(tokio_tungstenite::tungstenite::Utf8Bytes),
    Binary(Bytes),
    /// A sign of life.
    Heard,
    /// Nothing, but there is a place again for what is to be sent.
    Place,
    /// It has ended, and why; without a code if there was no close frame.
    Ended(Option<CloseCode>, String),
}

impl Dialer {
    pub(crate) fn new(url: Uri, token: Option<TokenProvider>, tls: Tls) -> Self {
        Self { url, token, tls }
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let port = self.url.port_u16().unwrap_or(if self.url.scheme_str() == Some("wss") { 443 } else { 80 });
        // An address of IPv6 stands in brackets.
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Makes a connection.
    pub(crate) async fn dial(&self, wanted: &ConnectUrl) -> Result<Box<Connection>, HandshakeRefusal> {
        let token = match &self.token {
            None => None,
            Some(provider) => match provider.ask(TokenAsk { fresh: wanted.fresh_token }).await {
                Ok(Some(token)) => Some(token),
                Ok(None) => return Err(nobody()),
                Err(error) => {
                    debug!(%error, "no token could be had");
                    return Err(unreachable(format!("no token could be had: {error}")));
                }
            },
        };
        let mut request = match with_query(&self.url, wanted).into_client_request() {
            Ok(request) => request,
            Err(error) => return Err(no_request(&error.to_string())),
        };
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        if let Some(token) = token {
            match HeaderValue::try_from(format!("Bearer {token}")) {
                Ok(mut bearer) => {
                    bearer.set_sensitive(true);
                    headers.insert(AUTHORIZATION, bearer);
                }
                Err(_) => return Err(no_request("the token holds what no header may")),
            }
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let connecting = async { self.tls.upgrade(request, self.reach().await?, config).await };
        match connecting.await {
            Ok(socket) => Ok(Box::new(Connection { socket, outgoing: VecDeque::new() })),
            Err(Error::Http(answer)) => Err(refusal(&answer)),
            Err(error) => {
                debug!(%error, "the server can't be reached");
                Err(unreachable(format!("the server can't be reached: {error}")))
            }
        }
    }
}

/// Nothing that the server said.
fn unreachable(why: String) -> HandshakeRefusal {
    HandshakeRefusal { message: Some(why), ..HandshakeRefusal::default() }
}

fn nobody() -> HandshakeRefusal {
    HandshakeRefusal {
        status: Some(401),
        code: Some("token_missing".to_owned()),
        message: Some("nobody is logged in".to_owned()),
        retry_after: None,
    }
}

fn no_request(why: &str) -> HandshakeRefusal {
    HandshakeRefusal { status: Some(400), message: Some(why.to_owned()), ..HandshakeRefusal::default() }
}

fn with_query(url: &Uri, wanted: &ConnectUrl) -> String {
    let mut url = url.to_string();
    let mut add = |pair: &str| {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(pair);
    };
    if let Some(session) = &wanted.session {
        // Digits and a dot.
        add(&format!("session={session}"));
    }
    if wanted.resume_wait {
        add("resume=wait");
    }
    url
}

/// The part of a problem (RFC 9457) that is of use here.
#[derive(Deserialize, Default)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
    fix: Option<String>,
}

fn refusal(answer: &http::Response<Option<Vec<u8>>>) -> HandshakeRefusal {
    let body = answer.body().as_deref().unwrap_or_default();
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let words: Vec<_> = [problem.detail, problem.fix].into_iter().flatten().collect();
    HandshakeRefusal {
        status: Some(answer.status().as_u16()),
        code: problem.code,
        message: (!words.is_empty()).then(|| words.join("; ")),
        retry_after: seconds.map(Duration::from_secs),
    }
}

impl Connection {
    pub(crate) fn send(&mut self, encoding: Encoding, frame: Bytes) {
        let message = match encoding {
            // It was written as text.
            Encoding::Text => frame.try_into().ok().map(Message::Text),
            Encoding::Binary => Some(Message::Binary(frame)),
        };
        self.outgoing.extend(message);
    }

    /// How many more messages it takes to send for now.
    pub(crate) fn places(&self) -> usize {
        OUTGOING_MAX.saturating_sub(self.outgoing.len())
    }

    /// Writes what is to be written and waits for what comes: neither waits for the other.
    pub(crate) async fn next(&mut self) -> Incoming {
        let was_full = self.places() == 0;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(ended(&error));
            }
            if was_full && self.places() > 0 {
                return Poll::Ready(Incoming::Place);
            }
            let message = std::task::ready!(Pin::new(&mut self.socket).poll_next(cx));
            Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => Incoming::Text(text),
                Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.as_ref().map(|frame| frame.reason.to_string()).unwrap_or_default();
                    Incoming::Ended(frame.map(|frame| CloseCode(frame.code.into())), reason)
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Heard,
                Some(Err(error)) => ended(&error),
                None => Incoming::Ended(None, String::new()),
            })
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.outgoing.is_empty() {
            std::task::ready!(socket.as_mut().poll_ready(cx))?;
            if let Some(message) = self.outgoing.pop_front() {
                socket.as_mut().start_send(message)?;
            }
        }
        socket.poll_flush(cx)
    }

    /// Says that it ends, and why; a server that does not take it is left alone.
    pub(crate) async fn farewell(mut self: Box<Self>, code: CloseCode) {
        let frame = CloseFrame { code: code.0.into(), reason: "".into() };
        let said = async {
            self.socket.close(Some(frame)).await?;
            while let Incoming::Text(_) | Incoming::Binary(_) | Incoming::Heard | Incoming::Place =
                self.next().await
            {}
            Ok::<_, Error>(())
        };
        // It is over either way.
        let _ = tokio::time::timeout(FAREWELL_MAX, said).await;
    }
}

fn ended(error: &Error) -> Incoming {
    debug!(%error, "the connection is lost");
    Incoming::Ended(None, error.to_string())
}
