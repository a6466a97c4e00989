//! A hub for tests: no port, no thread, and time that the test moves.
//!
//! Use it under `#[tokio::test(start_paused = true)]`: time then jumps to the next deadline whenever everything
//! waits, so that a test of a 90-second silence takes no time. Needs the feature `testing`.
//!
//! What goes wrong in a test is a panic with what was expected, as an assertion would be.
#![allow(clippy::panic, clippy::expect_used, reason = "a test kit: a panic is how a test fails")]

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::Cursor;
use tidings_protocol::frame::{
    Inbound, MessageReader, Opcode, ReaderLimits, Role, put_masked_close, put_masked_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::auth::{AuthError, AuthFuture, Authenticate, Identity, TokenFault, UserId};
use crate::env::{Env, ShardFuture, SystemEnv};
use crate::handshake::HandshakeRefusal;
use crate::hub::{BuildError, Hub, HubBuilder};
use crate::io::Io;
use crate::session_id::SessionId;
use crate::upgrade::Admitted;

/// What a client's pipe holds in each direction before the writer has to wait.
const PIPE_BYTES: usize = 64 * 1024;
/// How long (in the test's time) a client waits for something before the test fails.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Where the test's calendar begins, in milliseconds since 1970.
const UNIX_START_MS: u64 = 1_795_468_800_000;

/// A hub without a port.
#[derive(Clone, Debug)]
pub struct TestHub(Hub);

impl TestHub {
    /// Starts a hub on the test's own runtime. A builder that names no authentication takes any user.
    ///
    /// # Errors
    /// As [`HubBuilder::build`].
    pub fn start(builder: HubBuilder) -> Result<Self, BuildError> {
        Self::start_seeded(builder, 0)
    }

    /// The same with other random numbers: several hubs that share rooms must not draw alike.
    ///
    /// # Errors
    /// As [`HubBuilder::build`].
    pub fn start_seeded(builder: HubBuilder, seed: u64) -> Result<Self, BuildError> {
        builder.authenticate_by_default(AnyUser).env(TestEnv::new(seed)).shards(1).build().map(Self)
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.0
    }

    /// Connects a user and reads the welcome.
    pub async fn connect(&self, user: &str) -> TestClient {
        self.connect_as(identity(user), ConnectOptions::default()).await.expect("the handshake was refused")
    }

    /// Connects somebody, with what a URL may say, and reads the welcome.
    ///
    /// # Errors
    /// What a handshake may be refused with after its token.
    pub async fn connect_as(
        &self,
        identity: Identity,
        options: ConnectOptions,
    ) -> Result<TestClient, HandshakeRefusal> {
        let mut client = TestClient {
            stream: self.connect_raw(identity, options).await?,
            reader: MessageReader::new(Role::Client),
            unread: Vec::new(),
            kept: VecDeque::new(),
            welcome: Value::Null,
            answers_pings: true,
            next_id: 0,
        };
        client.welcome = client.next_named("session.welcome").await;
        Ok(client)
    }

    /// The same for a client of your own: what comes back carries the frames of both sides.
    ///
    /// # Errors
    /// What a handshake may be refused with after its token.
    pub async fn connect_raw(
        &self,
        identity: Identity,
        options: ConnectOptions,
    ) -> Result<DuplexStream, HandshakeRefusal> {
        let node = self.0.node();
        let takes_over = options.session.as_deref().and_then(SessionId::parse);
        let admitted = Admitted::new(node, identity, takes_over, options.last_event_id.as_ref()).await?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let io = Io::Boxed(Box::pin(theirs));
        admitted.open(
            node,
            io,
            Bytes::new(),
            options.last_event_id,
            options.resume_wait,
            options.checkpoints,
        );
        Ok(ours)
    }
}

/// An identity with nothing but a user.
pub fn identity(user: &str) -> Identity {
    Identity::new(UserId::parse(user).expect("a user id"))
}

/// What the URL of a handshake may say besides the token.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// `?last_event_id=`
    pub last_event_id: Option<Cursor>,
    /// `?resume=wait`
    pub resume_wait: bool,
    /// `?session=`
    pub session: Option<String>,
    /// `?checkpoints=1`
    pub checkpoints: bool,
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct TestClient {
    stream: DuplexStream,
    reader: MessageReader,
    unread: Vec<u8>,
    kept: VecDeque<Value>,
    welcome: Value,
    answers_pings: bool,
    next_id: u64,
}

/// What came from the server.
#[derive(Clone, PartialEq, Debug)]
pub enum TestFrame {
    /// A message in a text frame.
    Message(Value),
    /// A message in a binary frame: header and payload.
    Binary(Value, Bytes),
    /// A ping.
    Ping,
    /// A pong, with its payload.
    Pong(Bytes),
    /// The close frame, or none if the stream just ended.
    Closed(Option<CloseCode>),
}

impl TestClient {
    /// The data of `session.welcome`.
    pub fn welcome(&self) -> &Value {
        &self.welcome["data"]
    }

    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.welcome()["session"].as_str().and_then(SessionId::parse).expect("a welcome names the session")
    }

    /// Stops answering pings.
    pub fn ignore_pings(&mut self) {
        self.answers_pings = false;
    }

    /// Sends one text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes()).await;
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a message as a binary frame.
    pub async fn send_binary(&mut self, header: Value, payload: &[u8]) {
        let header = header.to_string();
        let len = u16::try_from(header.len()).expect("a short header");
        self.send_frame(Opcode::Binary, &[&len.to_be_bytes(), header.as_bytes(), payload].concat()).await;
    }

    /// Sends any frame.
    pub async fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        put_masked_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.send_bytes(&frame).await;
    }

    /// Sends bytes as they are. A server that has gone does not read them.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends a close frame.
    pub async fn send_close(&mut self, code: CloseCode) {
        let mut frame = Vec::new();
        put_masked_close(&mut frame, code, "", [1, 2, 3, 4]);
        self.send_bytes(&frame).await;
    }

    /// Sends an event without a room and gives its ack, or its error, as it came. Other messages are kept.
    pub async fn request(&mut self, event: &str, data: Value) -> Value {
        self.ask(json!({"event": event, "data": data})).await
    }

    /// The same for an event of a room.
    pub async fn request_in(&mut self, room: &str, event: &str, data: Value) -> Value {
        self.ask(json!({"event": event, "room": room, "data": data})).await
    }

    /// Joins a room and gives the ack's data.
    pub async fn join(&mut self, room: &str) -> Value {
        let answer = self.request_in(room, "room.join", json!({})).await;
        assert_eq!(answer["event"], "ack", "the join was refused: {answer}");
        answer["data"].clone()
    }

    /// Sends a message under an id of its own, unless it has one, and gives its ack or error.
    pub async fn ask(&mut self, mut message: Value) -> Value {
        if message.get("id").is_none() {
            self.next_id += 1;
            message["id"] = json!(format!("{}-{}", self.session(), self.next_id));
        }
        let id = message["id"].clone();
        self.send(message).await;
        self.next_where(|message| {
            message["id"] == id && (message["event"] == "ack" || message["event"] == "error")
        })
        .await
    }

    /// The next event of an application, whatever else comes before it.
    pub async fn next_event(&mut self) -> Value {
        self.next_where(|message| {
            let name = message["event"].as_str().unwrap_or_default();
            tidings_protocol::message::EventName::parse(name).is_ok_and(|name| !name.is_reserved())
        })
        .await
    }

    /// The next message of this name, whatever else comes before it.
    pub async fn next_named(&mut self, event: &str) -> Value {
        self.next_where(|message| message["event"] == event).await
    }

    /// The next message that fits; the others are kept for later calls.
    pub async fn next_where(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.kept.iter().position(&fits) {
            return self.kept.remove(index).expect("an index of a kept message");
        }
        loop {
            match self.next().await {
                TestFrame::Message(message) if fits(&message) => return message,
                TestFrame::Message(message) => self.kept.push_back(message),
                TestFrame::Closed(code) => {
                    panic!("closed with {code:?} while waiting; kept: {:?}", self.kept)
                }
                TestFrame::Binary(..) | TestFrame::Ping | TestFrame::Pong(_) => {}
            }
        }
    }

    /// The next message in the order of the wire; pings are answered and left out.
    pub async fn next_message(&mut self) -> Value {
        if let Some(message) = self.kept.pop_front() {
            return message;
        }
        loop {
            match self.next().await {
                TestFrame::Message(message) => return message,
                TestFrame::Ping | TestFrame::Pong(_) => {}
                other => panic!("a message was expected and not {other:?}"),
            }
        }
    }

    /// Reads to the end and gives the close code, or none if the stream just ended.
    pub async fn closed(&mut self) -> Option<CloseCode> {
        loop {
            if let TestFrame::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// Whatever comes next from the wire.
    pub async fn next(&mut self) -> TestFrame {
        let frame = self.read_frame(whole).await.unwrap_or(TestFrame::Closed(None));
        if frame == TestFrame::Ping && self.answers_pings {
            self.send_frame(Opcode::Pong, b"").await;
        }
        frame
    }

    /// The next text frame as the bytes that it is; whatever else comes before it is dropped.
    pub async fn next_text(&mut self) -> String {
        loop {
            let text = |inbound: Inbound<'_>| {
                if let Inbound::Text(text) = inbound { Some(text.to_owned()) } else { None }
            };
            match self.read_frame(text).await {
                Some(Some(text)) => return text,
                Some(None) => {}
                None => panic!("closed while waiting for a text"),
            }
        }
    }

    /// Reads one frame; none at the stream's end.
    async fn read_frame<T>(&mut self, whole: impl Fn(Inbound<'_>) -> T) -> Option<T> {
        let limits = ReaderLimits {
            text_bytes_max: usize::MAX,
            binary_bytes_max: usize::MAX,
            fragments_max: u32::MAX,
        };
        let mut buffer = [0; 4096];
        loop {
            let mut used = 0;
            let frame = match self.reader.read(&mut self.unread, &mut used, &limits) {
                Ok(frame) => frame.map(&whole),
                Err(fault) => panic!("the server's frames are broken: {fault}"),
            };
            self.unread.drain(..used);
            if frame.is_some() {
                return frame;
            }
            match tokio::time::timeout(WAIT_MAX, self.stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(read)) => self.unread.extend_from_slice(&buffer[..read]),
                Err(_) => panic!("nothing came for {WAIT_MAX:?}; kept: {:?}", self.kept),
            }
        }
    }
}

fn whole(inbound: Inbound<'_>) -> TestFrame {
    match inbound {
        Inbound::Text(text) => TestFrame::Message(serde_json::from_str(text).expect("the server sends JSON")),
        Inbound::Binary(frame) => {
            let (len, rest) = frame.split_first_chunk().expect("a binary frame begins with a length");
            let (header, payload) = rest.split_at(usize::from(u16::from_be_bytes(*len)));
            let header = serde_json::from_slice(header).expect("a binary frame has a JSON header");
            TestFrame::Binary(header, Bytes::copy_from_slice(payload))
        }
        Inbound::Ping(_) => TestFrame::Ping,
        Inbound::Pong(payload) => TestFrame::Pong(Bytes::copy_from_slice(payload)),
        Inbound::Close(close) => TestFrame::Closed(close.map(|close| close.code)),
    }
}

/// Takes the token itself for the user.
struct AnyUser;

impl Authenticate for AnyUser {
    fn authenticate<'a>(&'a self, token: &'a str, _now_unix_s: u64) -> AuthFuture<'a> {
        let user =
            UserId::parse(token).map_err(|error| AuthError::new(TokenFault::Malformed, error.to_string()));
        Box::pin(std::future::ready(user.map(Identity::new)))
    }
}

/// Tokio's clock, which a test may pause, a calendar that goes with it, and the same random numbers in every run.
struct TestEnv {
    start: Instant,
    random: AtomicU64,
}

impl TestEnv {
    fn new(seed: u64) -> Self {
        // Far apart, so that no two sequences meet.
        let random = AtomicU64::new(seed.wrapping_mul(0xd134_2543_de82_ef95));
        Self { start: tokio::time::Instant::now().into_std(), random }
    }
}

impl Env for TestEnv {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_ms(&self) -> u64 {
        UNIX_START_MS + self.now().saturating_duration_since(self.start).as_millis() as u64
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            // SplitMix64 (Steele, Lea, Flood 2014): any counter becomes well mixed.
            let mut mixed = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }

    fn run_shard(&self, index: usize, shard: ShardFuture) -> io::Result<()> {
        SystemEnv::inline().run_shard(index, shard)
    }
}
