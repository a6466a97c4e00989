//! What the client, its rooms and its task share: the machine, and who waits for what.
//!
//! Everything is under one lock that is held for moments. Lock order: this, then a queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_protocol::client::{
    Action, Client as Machine, ConnectUrl, Decision, HandshakeRefusal, NotAccepted, State,
};
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec::Encoding;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{
    ClientLimits, ClientMessage, JoinFrom, MessageId, ServerEvent, ServerMessage,
};
use tokio::sync::{Notify, oneshot, watch};

use crate::event::{Event, Reset};
use crate::fault::ConnectionFault;
use crate::listeners::{Listeners, Queue};
use crate::presence::{Asked, Members, Watched};
use crate::request::{Answer, Request, RequestError, answer};
use crate::room::RoomEvent;

/// What there is of one room.
#[derive(Default)]
struct RoomState {
    listeners: Listeners<RoomEvent>,
    presence: Watched,
    is_joined: bool,
}

/// A room that the server has joined by itself, and what comes from it.
pub(crate) type ServerRoom = (RoomId, Arc<Queue<RoomEvent>>);

/// Who waits for an answer.
enum Waiter {
    Application(oneshot::Sender<Result<Answer, RequestError>>),
    /// The room's own list of members.
    Members(RoomId, Asked),
}

/// What the task has to do.
pub(crate) enum Io {
    Connect(ConnectUrl),
    Send(Encoding, Bytes),
    Disconnect(CloseCode),
}

pub(crate) struct Core {
    machine: Machine,
    waiters: HashMap<MessageId, Waiter>,
    rooms: HashMap<RoomId, RoomState>,
    direct: Listeners<Event>,
    /// Those who want to know which rooms the server joins by itself, each with a queue of the room's events of its own.
    server_rooms: Listeners<ServerRoom>,
    /// When some room's list of members is asked for again.
    asks_at: Option<Instant>,
    user: Option<Box<str>>,
    limits: ClientLimits,
    /// Why there is no connection.
    fault: Option<ConnectionFault>,
    /// Nothing comes any more, and what is opened has ended.
    has_ended: bool,
}

pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Tells the task that there may be something to do.
    pub(crate) wake: Notify,
    pub(crate) state: watch::Sender<State>,
    pub(crate) degraded: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(machine: Machine) -> Self {
        let core = Core {
            machine,
            waiters: HashMap::new(),
            rooms: HashMap::new(),
            direct: Listeners::default(),
            server_rooms: Listeners::default(),
            asks_at: None,
            user: None,
            limits: ClientLimits::default(),
            fault: None,
            has_ended: false,
        };
        Self {
            core: Mutex::new(core),
            wake: Notify::new(),
            state: watch::Sender::new(State::Connecting),
            degraded: watch::Sender::new(false),
        }
    }

    /// Does something with the machine, and has the task see what follows from it.
    fn with<T>(&self, call: impl FnOnce(&mut Core) -> T) -> T {
        let result = call(&mut self.core.lock());
        self.wake.notify_one();
        result
    }

    pub(crate) fn user(&self) -> Option<Box<str>> {
        self.core.lock().user.clone()
    }

    pub(crate) fn limits(&self) -> ClientLimits {
        self.core.lock().limits.clone()
    }

    pub(crate) fn fault(&self) -> Option<ConnectionFault> {
        self.core.lock().fault.clone()
    }

    pub(crate) fn joined_rooms(&self) -> Vec<RoomId> {
        let core = self.core.lock();
        core.rooms.iter().filter(|(_, state)| state.is_joined).map(|(room, _)| room.clone()).collect()
    }

    pub(crate) fn is_joined(&self, room: &RoomId) -> bool {
        self.core.lock().rooms.get(room).is_some_and(|state| state.is_joined)
    }

    pub(crate) fn listen(&self, room: &RoomId) -> Arc<Queue<RoomEvent>> {
        self.open(|core| core.room(room).listeners.add())
    }

    pub(crate) fn listen_direct(&self) -> Arc<Queue<Event>> {
        self.open(|core| core.direct.add())
    }

    pub(crate) fn listen_server_rooms(&self) -> Arc<Queue<ServerRoom>> {
        self.open(|core| core.server_rooms.add())
    }

    fn open<T>(&self, add: impl FnOnce(&mut Core) -> Arc<Queue<T>>) -> Arc<Queue<T>> {
        let mut core = self.core.lock();
        if core.has_ended { Arc::new(Queue::ended()) } else { add(&mut core) }
    }

    /// Who is in a room, for one who watches from now on.
    pub(crate) fn watch_members(&self, room: &RoomId) -> watch::Receiver<Arc<Members>> {
        self.with(|core| {
            if core.has_ended {
                let (_, nobody_tells) = watch::channel(Arc::default());
                return nobody_tells;
            }
            core.with_presence(room, Watched::watch)
        })
    }

    /// Sees who watches a room's members still.
    pub(crate) fn unwatch_members(&self, room: &RoomId) {
        self.with(|core| core.with_presence(room, |_| {}));
    }

    pub(crate) fn request<'m>(&self, message: impl FnOnce(MessageId) -> ClientMessage<'m>) -> Request {
        let (sender, receiver) = oneshot::channel();
        self.with(|core| match core.machine.request(message, now()) {
            Ok(id) => {
                let request = Request::new(id.as_str(), receiver);
                core.waiters.insert(id, Waiter::Application(sender));
                request
            }
            Err(why) => Request::failed(why.into()),
        })
    }

    /// Joins a room: one that was joined before goes on where it is, unless `from` says where.
    pub(crate) fn join(&self, room: &RoomId, from: JoinFrom) -> Request {
        let position = self.core.lock().machine.positions().get(room);
        let from = match (from, position) {
            (JoinFrom::Newest { .. }, Some(position)) => JoinFrom::Position(position),
            (from, _) => from,
        };
        self.request(|id| ClientMessage::Join { room: room.clone(), id, from })
    }

    /// Whether it was sent: there may be no connection, or one that takes nothing.
    pub(crate) fn send(&self, message: &ClientMessage<'_>) -> Result<bool, RequestError> {
        match self.with(|core| core.machine.send(message)) {
            Err(why @ NotAccepted::TooLarge) => Err(why.into()),
            sent => Ok(sent.is_ok()),
        }
    }

    /// Asks for what had no place before.
    pub(crate) fn rejoin(&self, room: &RoomId) {
        self.with(|core| core.machine.rejoin(room, now()));
    }

    pub(crate) fn left(&self, room: &RoomId) {
        let mut core = self.core.lock();
        if let Some(state) = core.rooms.get_mut(room) {
            state.is_joined = false;
            state.presence.detached();
        }
        core.forget_unused(room);
    }

    pub(crate) fn reconnect(&self) {
        self.with(|core| core.machine.reconnect(now()));
    }

    pub(crate) fn close(&self) {
        self.with(|core| core.machine.close());
    }

    pub(crate) fn tick(&self) {
        let mut core = self.core.lock();
        core.machine.tick(now());
        core.ask_again();
    }

    pub(crate) fn refused(&self, refusal: &HandshakeRefusal) {
        let mut core = self.core.lock();
        core.fault = Some(refusal.into());
        core.machine.refused(refusal, now());
    }

    pub(crate) fn heard(&self) {
        self.core.lock().machine.heard(now());
    }

    pub(crate) fn closed(&self, code: Option<CloseCode>, reason: &str) {
        let mut core = self.core.lock();
        // One that is closed already was closed by us.
        if *core.machine.state() != State::Closed {
            core.fault = Some(ConnectionFault::closed(code, reason));
        }
        core.machine.closed(code, now());
        core.disconnected();
    }

    /// Takes a message from the server.
    pub(crate) fn receive(&self, message: &ServerMessage<'_>) {
        match message {
            ServerMessage::Welcome(_) => drop(self.degraded.send_replace(false)),
            ServerMessage::Degraded { degraded } => drop(self.degraded.send_replace(*degraded)),
            _ => {}
        }
        self.core.lock().receive(message);
    }

    /// What there is to do, and when the next thing is due; none where there is nothing any more. The connection has
    /// places for so many messages.
    pub(crate) fn poll(&self, io: &mut Vec<Io>, mut places: usize) -> Option<Instant> {
        let mut core = self.core.lock();
        loop {
            let action = if places > 0 {
                core.machine.poll_action(now())
            } else {
                core.machine.poll_action_but_send()
            };
            let Some(action) = action else { break };
            match action {
                Action::Connect(url) => io.push(Io::Connect(url)),
                Action::Send(encoding, frame) => {
                    places -= 1;
                    io.push(Io::Send(encoding, frame));
                }
                Action::Disconnect(code) => {
                    core.disconnected();
                    if code == CloseCode::HEARTBEAT_TIMEOUT {
                        core.fault =
                            Some(ConnectionFault::closed(None, "the server was silent for too long"));
                    }
                    io.push(Io::Disconnect(code));
                }
                Action::Settled(id, outcome) => match core.waiters.remove(&id) {
                    // Whoever has stopped waiting does not want to know.
                    Some(Waiter::Application(waiter)) => drop(waiter.send(answer(outcome))),
                    Some(Waiter::Members(room, asked)) => core.listed(&room, asked, answer(outcome).ok()),
                    None => {}
                },
                Action::JoinedByServer(room) => {
                    let Core { rooms, server_rooms, .. } = &mut *core;
                    let listeners = &mut rooms.entry(room.clone()).or_default().listeners;
                    server_rooms.tell_each(|| (room.clone(), listeners.add()));
                }
                Action::Joined(room) => {
                    core.room(&room).is_joined = true;
                    // What was known may be old.
                    core.room(&room).presence.detached();
                    core.ask_members(&room);
                }
                Action::CaughtUp(room, caught_up) => {
                    core.room(&room).listeners.tell(&RoomEvent::CaughtUp(caught_up));
                }
                Action::RoomLost(room, why) => {
                    let state = core.room(&room);
                    state.is_joined = false;
                    state.presence.detached();
                    state.listeners.tell(&RoomEvent::Lost(why));
                    core.forget_unused(&room);
                }
                Action::StateChanged(state) => {
                    if state == State::Closed {
                        core.end();
                    }
                    self.state.send_replace(state);
                }
            }
        }
        core.machine.next_deadline().into_iter().chain(core.asks_at).min()
    }
}

impl Core {
    fn room(&mut self, room: &RoomId) -> &mut RoomState {
        self.rooms.entry(room.clone()).or_default()
    }

    /// Changes what is known of a room's members, and asks for the list if that is wanted now.
    fn with_presence<T>(&mut self, room: &RoomId, call: impl FnOnce(&mut Watched) -> T) -> T {
        let state = self.room(room);
        let result = call(&mut state.presence);
        if state.is_joined {
            self.ask_members(room);
        }
        self.forget_unused(room);
        result
    }

    /// Lets go of a room that is not joined and nobody listens to.
    fn forget_unused(&mut self, room: &RoomId) {
        let is_followed = self.machine.positions().contains(room);
        if let Some(state) = self.rooms.get_mut(room)
            && !is_followed
            && !state.listeners.are_some()
            && !state.presence.is_watched()
        {
            self.rooms.remove(room);
        }
    }

    fn receive(&mut self, message: &ServerMessage<'_>) {
        if let Some(state) = room_moved_by(message).and_then(|room| self.rooms.get_mut(room))
            && state.listeners.are_full()
        {
            return self.machine.heard(now());
        }
        let decision = self.machine.receive(message, now());
        match (message, decision) {
            (ServerMessage::Welcome(welcome), _) => {
                self.fault = None;
                self.user = Some((*welcome.user).into());
                self.limits = welcome.limits.clone();
            }
            (ServerMessage::Event(event), Decision::Accept) => match &event.room {
                Some(room) => self.room(room).listeners.tell(&RoomEvent::Event(event.into())),
                None => self.direct.tell(&event.into()),
            },
            (ServerMessage::Reset { id, reason, lost, state }, Decision::Reset) => {
                let reset = Reset::new(id, *reason, *lost, *state);
                self.room(&id.room).listeners.tell(&RoomEvent::Reset(reset));
            }
            (
                ServerMessage::Presence { room, .. }
                | ServerMessage::PresenceChanges { room, .. }
                | ServerMessage::PresenceCount { room, .. },
                Decision::Accept,
            ) => {
                self.room(room).presence.receive(message);
                self.ask_members(room);
            }
            _ => {}
        }
    }

    /// Asks who is in a room, if that is wanted and not known.
    fn ask_members(&mut self, room: &RoomId) {
        let Some((asked, after)) = self.room(room).presence.ask(now()) else { return };
        let message = |id| ClientMessage::Members {
            room: room.clone(),
            id: Some(id),
            after: after.map(Into::into),
            limit: Some(1000),
        };
        match self.machine.ask(message, now()) {
            Ok(id) => drop(self.waiters.insert(id, Waiter::Members(room.clone(), asked))),
            Err(_) => self.listed(room, asked, None),
        }
    }

    fn listed(&mut self, room: &RoomId, asked: Asked, answer: Option<Answer>) {
        let page = answer.and_then(|answer| answer.json().ok());
        let Some(state) = self.rooms.get_mut(room) else { return };
        state.presence.listed(asked, page, now());
        if state.is_joined {
            self.asks_at = self.asks_at.into_iter().chain(state.presence.asks_at()).min();
            self.ask_members(room);
        }
    }

    /// Asks who is in the rooms where that has failed, if a moment has passed since.
    fn ask_again(&mut self) {
        if self.asks_at.is_none_or(|asks_at| now() < asks_at) {
            return;
        }
        let joined: Vec<_> =
            self.rooms.iter().filter(|(_, state)| state.is_joined).map(|(room, _)| room.clone()).collect();
        self.asks_at = None;
        for room in &joined {
            self.ask_members(room);
            let asks_at = self.room(room).presence.asks_at();
            self.asks_at = self.asks_at.into_iter().chain(asks_at).min();
        }
    }

    fn disconnected(&mut self) {
        for state in self.rooms.values_mut() {
            state.is_joined = false;
            state.presence.detached();
        }
    }

    /// Nothing comes any more.
    fn end(&mut self) {
        self.has_ended = true;
        self.direct.end();
        self.server_rooms.end();
        for state in self.rooms.values_mut() {
            state.listeners.end();
            // Who watches is told that nothing changes any more.
            state.presence = Watched::default();
        }
    }
}

/// The room whose position a message moves, and whose listeners get it.
fn room_moved_by<'m>(message: &'m ServerMessage<'_>) -> Option<&'m RoomId> {
    match message {
        ServerMessage::Event(ServerEvent { room, .. }) => room.as_ref(),
        ServerMessage::Skip { id, .. }
        | ServerMessage::EpochChange { id, .. }
        | ServerMessage::Reset { id, .. } => Some(&id.room),
        _ => None,
    }
}

/// Tokio's clock, which a test may move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
