//! The real client core in a shell: a line for a socket, a judge for an application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant as StdInstant;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tidings::testing::{ConnectOptions, identity};
use tidings_protocol::client::{Action, Client, ClientQueueLimits, HandshakeRefusal, Outcome, State};
use tidings_protocol::codec::{Encoding, decode_server_text};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::{EventId, RoomId};
use tidings_protocol::frame::{
    Inbound, MessageReader, Opcode, ReaderLimits, Role, put_masked_close, put_masked_frame,
};
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::judge::{Judge, place};
use crate::line::{End, Line};
use crate::nodes::Nodes;
use crate::random::Random;
use crate::trace::{Trace, note};
use crate::truth::{Place, Truth};

/// The longest wait where nothing is due.
const IDLE: std::time::Duration = std::time::Duration::from_secs(3600);

/// What a client is told to do.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Join {
        room: String,
        history: u32,
    },
    Leave(String),
    /// To everybody in the room.
    Publish(String),
    /// To everybody but itself.
    Tell(String),
    /// Leaves its node for another.
    Move,
}

/// What a client has come to, for all to see.
#[derive(Default)]
pub(crate) struct Seen {
    /// Where it stands in each room that it follows.
    pub(crate) positions: BTreeMap<String, Option<Place>>,
    pub(crate) connected_at: Option<Instant>,
    /// Requests without an answer.
    pub(crate) waiting: usize,
    /// Room, position and data of what was acked.
    pub(crate) acked: Vec<(String, Place, String)>,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) connections: u64,
    pub(crate) events: u64,
    pub(crate) resets: u64,
    pub(crate) epochs: u64,
    pub(crate) skips: u64,
}

enum Request {
    /// Room and data.
    Publish(String, String),
    Join(String),
    Leave,
}

pub(crate) struct Shell {
    number: usize,
    client: Client,
    end: Option<End>,
    reader: MessageReader,
    unread: Vec<u8>,
    line: Line,
    nodes: Nodes,
    node: usize,
    orders: mpsc::Receiver<Order>,
    judge: Judge,
    seen: Arc<Mutex<Seen>>,
    truth: Arc<Mutex<Truth>>,
    /// What has no answer.
    requests: BTreeMap<String, Request>,
    published: u64,
    random: Random,
    trace: Trace,
    /// Something was broken: what follows from it is nothing new.
    is_broken: bool,
}

impl Shell {
    #[expect(clippy::too_many_arguments, reason = "a client is all of these")]
    pub(crate) fn new(
        number: usize,
        mut random: Random,
        line: Line,
        nodes: Nodes,
        orders: mpsc::Receiver<Order>,
        seen: Arc<Mutex<Seen>>,
        truth: Arc<Mutex<Truth>>,
        trace: Trace,
    ) -> Self {
        Self {
            number,
            client: Client::new(random.next(), ClientQueueLimits::default(), now()),
            end: None,
            reader: MessageReader::new(Role::Client),
            unread: Vec::new(),
            line,
            nodes,
            node: number,
            orders,
            judge: Judge::new(number, Arc::clone(&truth)),
            seen,
            truth,
            requests: BTreeMap::new(),
            published: 0,
            random,
            trace,
            is_broken: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.act().await;
            self.show();
            let deadline = self.client.next_deadline().map_or(Instant::now() + IDLE, Instant::from_std);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                piece = next(&mut self.end) => self.take(piece),
                () = sleep_until(deadline) => self.client.tick(now()),
            }
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        note!(self.trace, format_args!("client {}", self.number), "{what}");
    }

    fn show(&self) {
        let mut seen = self.seen.lock();
        let positions = self.client.positions().iter();
        seen.positions =
            positions.map(|(room, position)| (room.as_str().to_owned(), position.map(place))).collect();
        seen.waiting = self.requests.len();
        (seen.events, seen.resets) = (self.judge.events, self.judge.resets_seen);
        (seen.epochs, seen.skips) = (self.judge.epochs_seen, self.judge.skips_seen);
        if *self.client.state() != State::Connected {
            seen.connected_at = None;
        }
    }

    fn broken(&mut self, what: &str) {
        if std::mem::replace(&mut self.is_broken, true) {
            return;
        }
        self.note(format_args!("BROKEN {what}"));
        self.truth.lock().broken.push(format!("client {}: {what}", self.number));
    }

    fn obey(&mut self, order: Order) {
        self.note(format_args!("{order:?}"));
        let room_of = |room: &str| RoomId::parse(room).unwrap();
        match order {
            Order::Join { room, history } => {
                let id = room_of(&room);
                let message = |request| ClientMessage::Join {
                    room: id,
                    id: request,
                    from: JoinFrom::Newest { history },
                };
                if let Ok(request) = self.client.request(message, now()) {
                    self.requests.insert(request.as_str().to_owned(), Request::Join(room));
                }
            }
            Order::Leave(room) => {
                let id = room_of(&room);
                let leave = |request| ClientMessage::Leave { room: id, id: Some(request) };
                if let Ok(request) = self.client.request(leave, now()) {
                    self.requests.insert(request.as_str().to_owned(), Request::Leave);
                }
                self.judge.begins_anew(&room);
            }
            Order::Publish(room) => self.publish(room, "number", 'p'),
            Order::Tell(room) => self.publish(room, "tell", 't'),
            Order::Move => {
                self.node = self.random.below(8);
                self.end = None;
                self.client.closed(None, now());
            }
        }
    }

    fn publish(&mut self, room: String, event: &str, kind: char) {
        self.published += 1;
        let data = format!("{kind}{}-{}", self.number, self.published);
        let json = RawValue::from_string(format!("\"{data}\"")).unwrap();
        let id = RoomId::parse(&room).unwrap();
        let message = |request| {
            ClientMessage::Event(ClientEvent {
                event: EventName::parse(event).unwrap(),
                room: Some(id),
                data: Data::Json(&json),
                id: Some(request),
            })
        };
        if let Ok(request) = self.client.request(message, now()) {
            self.requests.insert(request.as_str().to_owned(), Request::Publish(room, data));
        }
    }

    /// Does all that the client wants done.
    async fn act(&mut self) {
        while let Some(action) = self.client.poll_action(now()) {
            match action {
                Action::Connect(url) => self.connect(url.session, url.resume_wait).await,
                Action::Send(Encoding::Text, bytes) => self.send(Opcode::Text, &bytes),
                Action::Send(..) => self.broken("a binary message"),
                Action::Disconnect(code) => {
                    let mut frame = Vec::new();
                    put_masked_close(&mut frame, code, "", [1, 2, 3, 4]);
                    self.write(frame);
                    self.end = None;
                }
                Action::Settled(id, outcome) => self.settled(id.as_str(), outcome),
                Action::RoomLost(room, code) => self.broken(&format!("{room} is lost: {code}")),
                Action::JoinedByServer(_) | Action::Joined(_) | Action::CaughtUp(..) => {}
                Action::StateChanged(state) => {
                    self.note(format_args!("{state:?}"));
                    let mut seen = self.seen.lock();
                    seen.connected_at = (state == State::Connected).then(Instant::now);
                    seen.connections += u64::from(state == State::Connected);
                }
            }
        }
    }

    async fn connect(&mut self, session: Option<String>, resume_wait: bool) {
        self.end = None;
        (self.reader, self.unread) = (MessageReader::new(Role::Client), Vec::new());
        let options = ConnectOptions { resume_wait, session, ..ConnectOptions::default() };
        let Some((node, hub)) = self.nodes.pick(self.node) else {
            return self.client.refused(&HandshakeRefusal::default(), now());
        };
        self.note(format_args!("connects to node {node}"));
        let user = identity(&format!("user{}", self.number));
        let connected = hub.connect_raw(user, options).await;
        drop(hub);
        match connected {
            // It may have died meanwhile.
            Ok(stream) if self.nodes.lives(node) => self.end = Some(self.line.open(node, stream)),
            Ok(_) => {
                self.node += 1;
                self.client.refused(&HandshakeRefusal::default(), now());
            }
            Err(refusal) => {
                self.note(format_args!("is refused: {}", refusal.code()));
                self.node += 1;
                let status = Some(refusal.status().as_u16());
                self.client.refused(&HandshakeRefusal { status, ..HandshakeRefusal::default() }, now());
            }
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        put_masked_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.write(frame);
    }

    fn write(&mut self, frame: Vec<u8>) {
        let is_full = self.end.as_ref().is_some_and(|end| end.to_node.try_send(frame.into()).is_err());
        if is_full {
            self.end = None;
        }
    }

    fn settled(&mut self, id: &str, outcome: Outcome) {
        let Some(Request::Publish(room, data)) = self.requests.remove(id) else {
            return self.note(format_args!("{id}: {outcome:?}"));
        };
        self.note(format_args!("{data}: {outcome:?}"));
        let event_id = match outcome {
            Outcome::Acked(result) => event_id(&result),
            Outcome::Published(event_id) => Some(event_id),
            Outcome::Refused(refusal) => {
                if refusal.code == ErrorCode::IdempotencyConflict {
                    self.broken(&format!("I6: a retry of {data} is refused: {refusal:?}"));
                }
                self.seen.lock().refused += 1;
                return;
            }
            Outcome::OutcomeUnknown => {
                self.seen.lock().unknown += 1;
                return;
            }
        };
        let Some(event_id) = event_id else { return self.broken(&format!("an ack of {data} without an id")) };
        let place = place(event_id.position);
        let known = self.truth.lock().event(&room, &place).map(str::to_owned);
        if known.as_ref() != Some(&data) {
            self.broken(&format!("I5: {data} is acked as {event_id}, which is {known:?}"));
        }
        self.seen.lock().acked.push((room, place, data));
    }

    fn take(&mut self, piece: Option<Bytes>) {
        let Some(piece) = piece else { return self.closed(None) };
        self.unread.extend_from_slice(&piece);
        let limits = ReaderLimits {
            text_bytes_max: usize::MAX,
            binary_bytes_max: usize::MAX,
            fragments_max: u32::MAX,
        };
        loop {
            let mut used = 0;
            let frame = self.reader.read(&mut self.unread, &mut used, &limits).map(|frame| frame.map(whole));
            self.unread.drain(..used);
            match frame {
                Ok(None) => return,
                Ok(Some(Frame::Text(text))) => self.message(&text),
                Ok(Some(Frame::Ping)) => {
                    self.client.heard(now());
                    self.send(Opcode::Pong, b"");
                }
                Ok(Some(Frame::Pong)) => self.client.heard(now()),
                Ok(Some(Frame::Close(code))) => return self.closed(code),
                Err(fault) => {
                    self.broken(&format!("a broken frame: {fault}"));
                    return self.closed(None);
                }
            }
        }
    }

    fn closed(&mut self, code: Option<tidings_protocol::close::CloseCode>) {
        self.note(format_args!("is cut off: {code:?}"));
        self.end = None;
        self.node += usize::from(self.random.permille(500));
        self.client.closed(code, now());
    }

    fn message(&mut self, text: &str) {
        self.note(format_args!("< {text}"));
        let Ok(message) = decode_server_text(text) else {
            return self.broken(&format!("a message that is none: {text}"));
        };
        let decision = self.client.receive(&message, now());
        if let ServerMessage::Ack { id, .. } = &message
            && let Some(Request::Join(room)) = self.requests.get(id.as_str())
        {
            // The application's own join begins where its answer says.
            self.judge.begins_anew(&room.clone());
        }
        if let Err(broken) = self.judge.see(&message, decision, self.client.positions()) {
            self.broken(&broken);
        }
    }
}

enum Frame {
    Text(String),
    Ping,
    Pong,
    Close(Option<tidings_protocol::close::CloseCode>),
}

fn whole(inbound: Inbound<'_>) -> Frame {
    match inbound {
        Inbound::Text(text) => Frame::Text(text.to_owned()),
        Inbound::Binary(_) | Inbound::Pong(_) => Frame::Pong,
        Inbound::Ping(_) => Frame::Ping,
        Inbound::Close(close) => Frame::Close(close.map(|close| close.code)),
    }
}

fn event_id(result: &RawValue) -> Option<EventId> {
    let result: serde_json::Value = serde_json::from_str(result.get()).ok()?;
    EventId::parse(result["event_id"].as_str()?).ok()
}

fn now() -> StdInstant {
    Instant::now().into_std()
}

/// What comes next; none at the end, and nothing without a connection.
async fn next(end: &mut Option<End>) -> Option<Bytes> {
    match end {
        Some(end) => end.from_node.recv().await,
        None => std::future::pending().await,
    }
}
