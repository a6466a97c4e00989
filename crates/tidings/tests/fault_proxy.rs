//! A connection is cut at every byte of a session, in both directions. After each cut the client's log is
//! contiguous, and each of its ids gave one event.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use serde_json::json;
use serde_json::value::RawValue;
use tidings::auth::{Jwt, mint_hs256};
use tidings::protocol::client::{Action, Client, ClientQueueLimits, ConnectUrl, Decision, Outcome};
use tidings::protocol::codec::{self, Encoding};
use tidings::protocol::frame::{Inbound, MessageReader, Opcode, ReaderLimits, Role, put_masked_frame};
use tidings::protocol::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom, ServerMessage};
use tidings::{Access, Hub, RoomId, RoomRules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

const SECRET: &[u8] = b"canary-bird of the tests, 32 bytes and more";
/// Sessions under way at once.
const SESSIONS_AT_ONCE: usize = 24;
/// A session that takes longer hangs.
const SESSION_MAX: Duration = Duration::from_secs(60);
/// Three of the client, two of the application, two that only a replay brings, two of the client again.
const EVENTS: usize = 9;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    ToServer,
    ToClient,
}

/// Passes bytes on, counts them, and cuts both sides at one of them.
struct Proxy {
    upstream: SocketAddr,
    cut: Option<(Direction, usize)>,
    to_server: AtomicUsize,
    to_client: AtomicUsize,
    /// Whether a connection passes through.
    open: watch::Sender<bool>,
}

impl Proxy {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            self.open.send_replace(true);
            let Ok(server) = TcpStream::connect(self.upstream).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let up = self.pass(Direction::ToServer, client_read, server_write);
            let down = self.pass(Direction::ToClient, server_read, client_write);
            // Whichever ends first ends both.
            tokio::select! { () = up => {}, () = down => {} }
            self.open.send_replace(false);
        }
    }

    async fn pass(
        &self,
        direction: Direction,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) {
        let count = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let before = count.fetch_add(read, Ordering::Relaxed);
            let cut = self.cut.filter(|(cut, _)| *cut == direction).map(|(_, at)| at);
            if let Some(at) = cut.filter(|at| (before..before + read).contains(at)) {
                let _ = to.write_all(&buffer[..at - before]).await;
                return;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    reader: MessageReader,
    unread: Vec<u8>,
}

impl Connection {
    /// The handshake, by hand. None if it came to nothing.
    async fn open(address: SocketAddr, token: &str, url: &ConnectUrl) -> Option<Self> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let session = url.session.as_ref().map(|session| format!("&session={session}")).unwrap_or_default();
        let resume = if url.resume_wait { "&resume=wait" } else { "" };
        let request = format!(
            "GET /ws?token={token}{session}{resume} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.ok()?);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        Some(Self { stream, reader: MessageReader::new(Role::Client), unread: Vec::new() })
    }

    async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> bool {
        let mut frame = Vec::new();
        put_masked_frame(&mut frame, opcode, payload, [7, 7, 7, 7]);
        self.stream.write_all(&frame).await.is_ok()
    }

    /// The next message's text; none at the end.
    async fn next(&mut self) -> Option<String> {
        let limits = ReaderLimits { text_bytes_max: 1 << 20, binary_bytes_max: 1 << 20, fragments_max: 1 };
        loop {
            let mut used = 0;
            let text = match self.reader.read(&mut self.unread, &mut used, &limits).unwrap() {
                Some(Inbound::Text(text)) => Some(text.to_owned()),
                Some(Inbound::Close(_)) => return None,
                _ => None,
            };
            self.unread.drain(..used);
            if text.is_some() {
                return text;
            }
            let mut buffer = [0; 8192];
            match self.stream.read(&mut buffer).await {
                Ok(read @ 1..) => self.unread.extend_from_slice(&buffer[..read]),
                _ => return None,
            }
        }
    }
}

/// One client that talks through a proxy.
struct Session {
    hub: Hub,
    room: RoomId,
    token: String,
    proxy: SocketAddr,
    machine: Client,
    /// How far the client's clock is ahead: a backoff passes by moving it.
    ahead: Duration,
    connection: Option<Connection>,
    log: Vec<u64>,
    settled: usize,
}

impl Session {
    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    fn request(&mut self, count: usize) {
        for _ in 0..count {
            let (event, data) = (EventName::parse("said").unwrap(), RawValue::NULL);
            let room = Some(self.room.clone());
            let message =
                |id| ClientMessage::Event(ClientEvent { event, room, data: Data::Json(data), id: Some(id) });
            self.machine.request(message, self.now()).unwrap();
        }
    }

    async fn broadcast(&self, count: usize) {
        for _ in 0..count {
            self.hub.room(&self.room).broadcast("news", &()).await.unwrap();
        }
    }

    /// Goes on until so many requests are settled and so many events are here.
    async fn until(&mut self, settled: usize, events: usize) {
        while self.settled < settled || self.log.len() < events {
            let now = self.now();
            self.machine.tick(now);
            while let Some(action) = self.machine.poll_action(now) {
                self.act(action).await;
            }
            if self.settled >= settled && self.log.len() >= events {
                return;
            }
            match &mut self.connection {
                Some(connection) => match connection.next().await {
                    Some(text) => self.hear(&text),
                    None => self.lose(),
                },
                None => {
                    let deadline = self.machine.next_deadline().unwrap();
                    self.ahead += deadline.saturating_duration_since(self.now());
                }
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Connect(url) => {
                self.connection = Connection::open(self.proxy, &self.token, &url).await;
                if self.connection.is_none() {
                    self.machine.closed(None, self.now());
                }
            }
            Action::Send(encoding, bytes) => {
                assert_eq!(encoding, Encoding::Text);
                if let Some(connection) = &mut self.connection
                    && !connection.send(Opcode::Text, &bytes).await
                {
                    self.lose();
                }
            }
            Action::Settled(_, outcome) => {
                assert!(matches!(outcome, Outcome::Acked(_) | Outcome::Published(_)), "{outcome:?}");
                self.settled += 1;
            }
            Action::Disconnect(_) => self.connection = None,
            Action::RoomLost(room, code) => panic!("{room} was lost: {code}"),
            Action::JoinedByServer(_)
            | Action::Joined(_)
            | Action::CaughtUp(..)
            | Action::StateChanged(_) => {}
        }
    }

    fn hear(&mut self, text: &str) {
        let message = codec::decode_server_text(text).unwrap();
        match self.machine.receive(&message, self.now()) {
            Decision::Accept => {
                if let ServerMessage::Event(event) = &message {
                    self.log.push(event.id.unwrap().offset);
                }
            }
            Decision::Reset => panic!("a reset where nothing was lost: {text}"),
            Decision::Move | Decision::Drop | Decision::Hole | Decision::Ignore => {}
        }
    }

    fn lose(&mut self) {
        self.connection = None;
        self.machine.closed(None, self.now());
    }
}

/// Holds the session through a proxy that cuts at `cut`; how many bytes went each way.
async fn session(
    hub: Hub,
    upstream: SocketAddr,
    number: usize,
    cut: Option<(Direction, usize)>,
) -> (usize, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Arc::new(Proxy {
        upstream,
        cut,
        to_server: 0.into(),
        to_client: 0.into(),
        open: watch::Sender::new(false),
    });
    let mut open = proxy.open.subscribe();
    let passing = tokio::spawn(Arc::clone(&proxy).run(listener));
    // Fixed widths, so that every session has the same bytes in the same places.
    let user = format!("user-{number:06}");
    let mut session = Session {
        hub: hub.clone(),
        room: RoomId::parse(&format!("room-{number:06}")).unwrap(),
        token: mint_hs256(SECRET, &json!({"sub": user, "exp": 4_000_000_000u64, "aud": "tidings"})).unwrap(),
        proxy: address,
        machine: Client::new(number as u64, ClientQueueLimits::default(), Instant::now()),
        ahead: Duration::ZERO,
        connection: None,
        log: Vec::new(),
        settled: 0,
    };
    let room = session.room.clone();
    let join = |id| ClientMessage::Join { room, id, from: JoinFrom::Newest { history: 0 } };
    session.machine.request(join, session.now()).unwrap();
    session.until(1, 0).await;
    session.request(3);
    session.until(4, 3).await;
    session.broadcast(2).await;
    session.until(4, 5).await;
    session.lose();
    // What is published now must not be counted on its way to the connection that is gone.
    open.wait_for(|open| !open).await.unwrap();
    session.broadcast(2).await;
    session.until(4, 7).await;
    session.request(2);
    session.until(6, EVENTS).await;
    passing.abort();
    assert_eq!(session.log, (1..=EVENTS as u64).collect::<Vec<_>>(), "cut at {cut:?}");
    let next = hub.room(&session.room).broadcast("end", &()).await.unwrap();
    assert_eq!(next.position.offset, EVENTS as u64 + 1, "each id gave one event; cut at {cut:?}");
    let bytes = (proxy.to_server.load(Ordering::Relaxed), proxy.to_client.load(Ordering::Relaxed));
    if let Some((direction, at)) = cut {
        let passed = if direction == Direction::ToServer { bytes.0 } else { bytes.1 };
        assert!(passed > at, "nothing was cut at {cut:?}");
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_every_byte_loses_and_doubles_nothing() {
    let rule = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
    log_capture::keep();
    let hub = Hub::builder().authenticate(Jwt::hs256(SECRET).unwrap()).rule(rule).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let app = Router::new().route("/ws", hub.route());
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));

    let (to_server, to_client) = session(hub.clone(), upstream, 0, None).await;
    let cuts = (0..to_server)
        .map(|at| (Direction::ToServer, at))
        .chain((0..to_client).map(|at| (Direction::ToClient, at)));
    let cuts: Vec<_> = cuts.collect();
    println!("{} cuts: {to_server} bytes to the server, {to_client} to the client", cuts.len());
    assert!(to_server > 1000 && to_client > 2000);
    let slots = Arc::new(Semaphore::new(SESSIONS_AT_ONCE));
    let mut sessions = JoinSet::new();
    for (number, cut) in cuts.into_iter().enumerate() {
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let hub = hub.clone();
        sessions.spawn(async move {
            let done = tokio::time::timeout(SESSION_MAX, session(hub, upstream, number + 1, Some(cut))).await;
            assert!(done.is_ok(), "the session hangs, cut at {cut:?}");
            drop(slot);
        });
        while let Some(ended) = sessions.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = sessions.join_next().await {
        ended.unwrap();
    }
}
