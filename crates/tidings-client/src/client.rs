//! The client: one connection at a time, its rooms, its requests.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_protocol::client::{Client as Machine, ClientQueueLimits, State};
use tidings_protocol::event_id::{InvalidId, RoomId};
use tidings_protocol::message::{ClientEvent, ClientLimits, ClientMessage, Data, JoinFrom};
use tokio::sync::watch;

use crate::connection::Dialer;
use crate::event::Event;
use crate::fault::ConnectionFault;
use crate::listeners::{Queue, Taken};
use crate::request::{Request, RequestError};
use crate::room::{Join, Room, RoomEvents, event_message};
use crate::shared::{ServerRoom, Shared};
use crate::shell;
#[cfg(feature = "tls")]
use crate::tls::InvalidCertificate;
use crate::tls::Tls;
use crate::token::{TokenAsk, TokenProvider};

/// A client of one server. Cloning gives another handle of the same; when the last one is gone, and the last of its rooms,
/// streams and presences, the client is closed.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What keeps a client going.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("state", &*self.shared.state.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A URL that no connection can be made to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidUrl(String);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for InvalidUrl {}

/// What a client is made of.
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    token: Option<TokenProvider>,
    tls: Option<Tls>,
}

impl ClientBuilder {
    /// The authority that certifies the server, or several, as PEM; in the place of those that the system trusts.
    ///
    /// # Errors
    /// [`InvalidCertificate`], when there is none in it.
    #[cfg(feature = "tls")]
    pub fn ca_certificate(mut self, pem: &[u8]) -> Result<Self, InvalidCertificate> {
        self.tls = Some(Tls::by_authority(pem)?);
        Ok(self)
    }

    /// One token for every connect.
    pub fn token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.token_from(move |_| std::future::ready(Ok::<_, std::convert::Infallible>(Some(token.clone()))))
    }

    /// Where a token comes from: asked at every connect. `None`: nobody is logged in, and the state is
    /// [`State::Refused`] until [`Client::reconnect`]. An error counts as a connection that could not be made.
    pub fn token_from<F, E>(mut self, provider: impl Fn(TokenAsk) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.token = Some(TokenProvider::new(provider));
        self
    }

    /// A client that connects at once, by a task of this tokio runtime.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(self) -> Result<Client, InvalidUrl> {
        let url = parse(&self.url)?;
        let dialer = Dialer::new(url, self.token, self.tls.unwrap_or_else(Tls::by_the_system));
        let now = tokio::time::Instant::now().into_std();
        let machine = Machine::new(seed(), ClientQueueLimits::default(), now);
        let shared = Arc::new(Shared::new(machine));
        tokio::spawn(shell::run(Arc::clone(&shared), dialer));
        Ok(Client { handle: Arc::new(Handle { shared }) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

/// `ws://` or `wss://`; `http` stands for the first, `https` for the second.
fn parse(url: &str) -> Result<Uri, InvalidUrl> {
    let url = url.replacen("http", "ws", usize::from(url.starts_with("http")));
    let uri: Uri = url.parse().map_err(|error| InvalidUrl(format!("{url:?} is no URL: {error}")))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") if cfg!(feature = "tls") => {}
        Some("wss") => return Err(InvalidUrl("wss:// needs the feature tls of tidings-client".to_owned())),
        _ => {
            return Err(InvalidUrl(format!(
                "{url:?} is no URL of a WebSocket: ws://host:port/ws, or wss://"
            )));
        }
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(InvalidUrl(format!("{url:?} names no host: ws://host:port/ws")));
    }
    Ok(uri)
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // The hasher's own key, which the standard library has found somewhere.
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), "seed"),
    }
}

impl Client {
    /// Begins to make a client of the server at a URL: `ws://127.0.0.1:7777/ws`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder { url: url.into(), token: None, tls: None }
    }

    /// What the connection is doing.
    pub fn state(&self) -> State {
        self.handle.shared.state.borrow().clone()
    }

    /// The state, and its changes.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.handle.shared.state.subscribe()
    }

    /// Why there is no connection, as far as is known: how the last one ended, or why it could not be made. None while there
    /// is one; [`close`](Self::close) is no fault.
    pub fn fault(&self) -> Option<ConnectionFault> {
        self.handle.shared.fault()
    }

    /// Whether the server has said that what rooms are stored in is out of its reach: then events come late, and requests
    /// wait. And its changes.
    pub fn watch_degraded(&self) -> watch::Receiver<bool> {
        self.handle.shared.degraded.subscribe()
    }

    /// Who the server says we are; none before the first connection.
    pub fn user(&self) -> Option<Box<str>> {
        self.handle.shared.user()
    }

    /// The server's limits; zeros before the first connection.
    pub fn limits(&self) -> ClientLimits {
        self.handle.shared.limits()
    }

    /// The rooms that the connection is in now: those that were joined, and those that the server joins by itself.
    pub fn joined_rooms(&self) -> Vec<RoomId> {
        self.handle.shared.joined_rooms()
    }

    /// The room of this name, joined or not. Those that the server joins by itself need no join.
    ///
    /// # Errors
    /// [`InvalidId::Room`].
    pub fn room(&self, name: &str) -> Result<Room, InvalidId> {
        Ok(Room::new(Arc::clone(&self.handle), RoomId::parse(name)?))
    }

    /// Joins a room: await it.
    pub fn join(&self, name: &str) -> Join {
        let room = self.room(name).map_err(|error| RequestError::Invalid(error.to_string()));
        Join { room, from: JoinFrom::Newest { history: 0 } }
    }

    /// The rooms that the server joins by itself from now on: on connect, and when the application joins the user to one.
    pub fn server_rooms(&self) -> ServerRooms {
        ServerRooms { handle: Arc::clone(&self.handle), queue: self.handle.shared.listen_server_rooms() }
    }

    /// What comes for this user or connection alone, from now on.
    pub fn events(&self) -> DirectEvents {
        DirectEvents { _handle: Arc::clone(&self.handle), queue: self.handle.shared.listen_direct() }
    }

    /// Sends an event without a room: await it for its ack. It counts once, whatever the network does.
    pub fn request(&self, event: &str, data: &impl Serialize) -> Request {
        self.handle.request(None, event, data)
    }

    /// Sends an event that nobody waits for; whether there was a connection to send it over, and a place where it is a slow
    /// one: 256 may wait.
    ///
    /// # Errors
    /// [`RequestError::Invalid`], or `too_large`.
    pub fn send(&self, event: &str, data: &impl Serialize) -> Result<bool, RequestError> {
        self.handle.send(None, event, data)
    }

    /// Connects now: after a refusal, with a token that is asked for anew, or instead of waiting for the backoff's end.
    pub fn reconnect(&self) {
        self.handle.shared.reconnect();
    }

    /// Ends it for good: what has no answer fails with [`RequestError::OutcomeUnknown`].
    pub fn close(&self) {
        self.handle.shared.close();
    }
}

impl Handle {
    pub(crate) fn request(&self, room: Option<&RoomId>, event: &str, data: &impl Serialize) -> Request {
        match json(data) {
            Ok(data) => self.request_data(room, event, Data::Json(&data)),
            Err(error) => Request::failed(error),
        }
    }

    pub(crate) fn request_data(&self, room: Option<&RoomId>, event: &str, data: Data<'_>) -> Request {
        match event_message(room, event, data) {
            Ok(event) => {
                self.shared.request(|id| ClientMessage::Event(ClientEvent { id: Some(id), ..event }))
            }
            Err(error) => Request::failed(error),
        }
    }

    pub(crate) fn send(
        &self,
        room: Option<&RoomId>,
        event: &str,
        data: &impl Serialize,
    ) -> Result<bool, RequestError> {
        let data = json(data)?;
        let event = event_message(room, event, Data::Json(&data))?;
        self.shared.send(&ClientMessage::Event(event))
    }
}

fn json(data: &impl Serialize) -> Result<Box<RawValue>, RequestError> {
    serde_json::value::to_raw_value(data).map_err(|error| RequestError::Invalid(error.to_string()))
}

/// What comes for this user or connection alone. It is not stored: a lost connection loses it, and so does who takes it
/// slower than it comes.
#[derive(Debug)]
pub struct DirectEvents {
    _handle: Arc<Handle>,
    queue: Arc<Queue<Event>>,
}

impl DirectEvents {
    /// Waits for the next; none when the client is closed.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.queue.take().await {
                Taken::Event(event) => return Some(event),
                Taken::Overflowed => {}
                Taken::Ended => return None,
            }
        }
    }
}

/// The rooms that the server joins by itself. A room that is joined again after a lost connection is not told again.
#[derive(Debug)]
pub struct ServerRooms {
    handle: Arc<Handle>,
    queue: Arc<Queue<ServerRoom>>,
}

impl ServerRooms {
    /// Waits for the next, with its events from the first on; none when the client is closed.
    pub async fn next(&mut self) -> Option<(Room, RoomEvents)> {
        loop {
            match self.queue.take().await {
                Taken::Event((name, queue)) => {
                    let room = Room::new(Arc::clone(&self.handle), name);
                    return Some((room.clone(), RoomEvents { room, queue }));
                }
                // More than a connection may be in; `Client::joined_rooms` has them all.
                Taken::Overflowed => {}
                Taken::Ended => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_websockets() {
        for (url, expected) in [
            ("ws://127.0.0.1:7777/ws", "ws://127.0.0.1:7777/ws"),
            ("http://a/ws?room=1", "ws://a/ws?room=1"),
            ("https://a/ws", "wss://a/ws"),
        ] {
            assert_eq!(parse(url).map(|uri| uri.to_string()), Ok(expected.to_owned()));
        }
        for url in ["", "/ws", "ftp://a/ws", "ws://", "ws:///ws", "127.0.0.1:7777"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
