//! The client's side: one connection at a time, positions, requests without an answer. PROTOCOL.md §6 and §7.
//!
//! [`Client`] takes values and `now`, and gives actions: its shell owns the socket, the clock, the token and the
//! application's callbacks. Nothing here waits, and nothing is random but what the seed makes.
//!
//! The shell's part: after every input, take [`poll_action`](Client::poll_action) until it gives none; call
//! [`tick`](Client::tick) at [`next_deadline`](Client::next_deadline); hand what [`receive`](Client::receive) accepts to
//! the application, before the next message is received.

mod action;
mod backoff;
mod link;
mod message_sizes;
mod pace;
mod pending;
mod positions;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;

pub use self::action::{Action, ClientQueueLimits, NotAccepted, Outcome, RoomLoss};
pub use self::backoff::Backoff;
pub use self::link::{ConnectUrl, HandshakeRefusal, State};
pub use self::pending::GIVE_UP_AFTER;
pub use self::positions::{CaughtUp, Decision, Positions};

use self::link::Link;
use self::message_sizes::MessageSizes;
use self::pace::Pace;
use self::pending::{Pending, Purpose, Request};
use crate::close::CloseCode;
use crate::codec::{Encoding, encode_client};
use crate::error::{ErrorCode, Refusal};
use crate::event_id::{Cursor, Position, RoomId};
use crate::limits::CURSOR_BYTES_MAX;
use crate::message::{
    ClientMessage, JoinFrom, Joined, LeftReason, MessageId, Resumed, ResumedRoom, ServerEvent, ServerMessage,
};

/// The pure state of one client.
#[derive(Debug)]
pub struct Client {
    link: Link,
    positions: Positions,
    pending: Pending,
    pace: Pace,
    sizes: MessageSizes,
    limits: ClientQueueLimits,
    /// Who the server says we are: the `from` of our own events.
    user: Option<String>,
    id_prefix: String,
    ids_given: u64,
    sends: VecDeque<(Encoding, Bytes)>,
    actions: VecDeque<Action>,
}

impl Client {
    /// A client that connects at once. `seed` has to be random: ids and jitter come from it.
    pub fn new(seed: u64, limits: ClientQueueLimits, now: Instant) -> Self {
        let mut client = Self {
            link: Link::new(seed, now),
            positions: Positions::default(),
            pending: Pending::default(),
            pace: Pace::default(),
            sizes: MessageSizes::default(),
            limits,
            user: None,
            id_prefix: String::new(),
            ids_given: 0,
            sends: VecDeque::new(),
            actions: VecDeque::new(),
        };
        client.id_prefix = format!("{:016x}", client.link.random());
        client.tick(now);
        client
    }

    /// What the connection is doing.
    pub fn state(&self) -> &State {
        self.link.state()
    }

    /// Where the client stands in its rooms. An application that stores it does so after it has handled what was
    /// accepted so far.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Sends a message that gets an answer: one [`Action::Settled`] with the id that is returned. It waits for a
    /// connection, and survives the loss of one. `message` makes the message with the id that it is given.
    /// A `room.join` makes the client follow the room, a `room.leave` ends that.
    ///
    /// # Errors
    /// [`NotAccepted`]; nothing was sent then.
    pub fn request<'m>(
        &mut self,
        message: impl FnOnce(MessageId) -> ClientMessage<'m>,
        now: Instant,
    ) -> Result<MessageId, NotAccepted> {
        if self.link.is_over() {
            return Err(NotAccepted::Closed);
        }
        let id = self.next_id()?;
        let message = message(id.clone());
        let (mut frame, (waiting, waiting_bytes)) = (Vec::new(), self.pending.load());
        let encoding = encode_client(&message, &mut frame);
        if !self.sizes.takes(encoding, frame.len()) {
            return Err(NotAccepted::TooLarge);
        }
        let bytes = waiting_bytes.saturating_add(frame.len());
        if waiting >= self.limits.requests_max || bytes > self.limits.request_bytes_max {
            return Err(NotAccepted::Full);
        }
        let purpose = match &message {
            ClientMessage::Resume { .. } => return Err(NotAccepted::Reserved),
            ClientMessage::Join { room, from, .. } => {
                let position = if let JoinFrom::Position(position) = from { Some(*position) } else { None };
                self.positions.follow(room.clone(), position);
                self.positions.await_join(room, &id);
                Purpose::Join
            }
            ClientMessage::Leave { room, .. } => {
                self.positions.forget(room);
                Purpose::Leave
            }
            _ => Purpose::Application,
        };
        self.pending.push(id.clone(), message.room().cloned(), purpose, (encoding, frame), now);
        Ok(id)
    }

    /// Sends a question of the shell's own: it is none of the application's requests, so it always has a place and goes
    /// before them, and it holds none of them back. It ends with its connection, as [`Outcome::OutcomeUnknown`]. Whoever
    /// asks sees to it that there are not many at a time.
    ///
    /// # Errors
    /// [`NotAccepted`]; nothing was sent then.
    pub fn ask<'m>(
        &mut self,
        message: impl FnOnce(MessageId) -> ClientMessage<'m>,
        now: Instant,
    ) -> Result<MessageId, NotAccepted> {
        self.need_connection()?;
        let id = self.next_id()?;
        self.push(&message(id.clone()), Purpose::Question, now);
        Ok(id)
    }

    /// Sends a message that gets no answer, if there is a connection.
    ///
    /// # Errors
    /// [`NotAccepted`]; nothing was sent then.
    pub fn send(&mut self, message: &ClientMessage<'_>) -> Result<(), NotAccepted> {
        self.need_connection()?;
        if self.sends.len() >= self.limits.sends_max {
            return Err(NotAccepted::Full);
        }
        let mut frame = Vec::new();
        let encoding = encode_client(message, &mut frame);
        if !self.sizes.takes(encoding, frame.len()) {
            return Err(NotAccepted::TooLarge);
        }
        self.sends.push_back((encoding, frame.into()));
        Ok(())
    }

    /// Takes a message from the server, and says what the application makes of it.
    pub fn receive(&mut self, message: &ServerMessage<'_>, now: Instant) -> Decision {
        self.link.heard(now);
        let decision = self.positions.judge(message);
        match message {
            ServerMessage::Welcome(welcome) => {
                let known: Vec<_> =
                    self.positions.iter().map(|(room, position)| (room.clone(), position)).collect();
                self.user = Some(welcome.user.clone().into_owned());
                // One whose leave has no answer yet is left again.
                let rooms: Vec<_> =
                    welcome.rooms.iter().filter(|room| !self.pending.leaves(room)).cloned().collect();
                self.positions.welcomed(&rooms, &welcome.last_event_id);
                self.link.welcomed(&welcome.session, now);
                self.pace = Pace::new(&welcome.limits, now);
                self.sizes = MessageSizes::new(&welcome.limits);
                // What was asked for before anybody could know.
                for id in self.pending.larger_than(&self.sizes) {
                    let refusal = Refusal::new(ErrorCode::TooLarge, NotAccepted::TooLarge.to_string());
                    self.refused_request(&id, &refusal, now);
                }
                for room in &rooms {
                    if !known.iter().any(|(known, _)| known == room) {
                        self.actions.push_back(Action::JoinedByServer(room.clone()));
                        self.actions.push_back(Action::Joined(room.clone()));
                    }
                }
                self.resume(known, now);
            }
            ServerMessage::Ack { id, data } => self.acked(id, data, now),
            ServerMessage::Error { id: Some(id), refusal } => self.refused_request(id, refusal, now),
            ServerMessage::Event(event) => self.settle_by_own_event(event),
            ServerMessage::RoomJoined { room, joined } => self.joined_by_server(room, joined, now),
            ServerMessage::RoomLeft { room, reason } => self.left_by_server(room, *reason, now),
            ServerMessage::Reconnect { after_ms, within_ms, .. } => {
                self.link.told_to_reconnect(*after_ms, *within_ms, now);
            }
            _ => {}
        }
        if decision == Decision::Hole {
            self.rejoin_after_hole(message, now);
        }
        while let Some((room, caught_up)) = self.positions.next_caught_up() {
            self.actions.push_back(Action::CaughtUp(room, caught_up));
        }
        decision
    }

    /// Joins a followed room again where it is: what came since was not [received](Self::receive), because the
    /// application had no place for it.
    pub fn rejoin(&mut self, room: &RoomId, now: Instant) {
        let is_joining = self.pending.joins(room) || self.pending.is_resuming();
        if *self.link.state() == State::Connected && self.positions.contains(room) && !is_joining {
            self.join_again(room, now);
        }
    }

    /// Notes a sign of life that is no message: a ping or a pong.
    pub fn heard(&mut self, now: Instant) {
        self.link.heard(now);
    }

    /// The connection ended; `code` is none without a close frame.
    pub fn closed(&mut self, code: Option<CloseCode>, now: Instant) {
        if self.link.closed(code, now) {
            self.lost();
        }
    }

    /// The handshake was refused, or the server not reached.
    pub fn refused(&mut self, refusal: &HandshakeRefusal, now: Instant) {
        self.link.refused(refusal, now);
    }

    /// Tries again now: after [`State::Refused`], with a token that is fetched anew, or instead of waiting for a backoff's
    /// end.
    pub fn reconnect(&mut self, now: Instant) {
        self.link.reconnect(now);
        self.tick(now);
    }

    /// Ends it: what has no answer settles as unknown.
    pub fn close(&mut self) {
        if self.link.close() {
            self.actions.push_back(Action::Disconnect(CloseCode::NORMAL));
        }
        self.lost();
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.pending.tick(now);
        self.pace.tick(now);
        let mut is_stuck = false;
        while let Some(Request { id, room, purpose, .. }) = self.pending.overdue(now) {
            let (id, room, purpose) = (id.clone(), room.clone(), *purpose);
            // Unless a later join of it is waited for.
            let is_awaited = |room: &&RoomId| self.positions.awaiting(&id).contains(room);
            if let (Purpose::Join, Some(room)) = (&purpose, room.as_ref().filter(is_awaited)) {
                self.positions.unfollow(room);
            }
            // A server that leaves the client's own joins unanswered for two minutes is not going to answer them.
            is_stuck |= !purpose.is_awaited();
            self.settle(&id, Outcome::OutcomeUnknown);
        }
        match if is_stuck { self.link.drop_connection(now) } else { self.link.tick(now) } {
            link::Due::Nothing => {}
            link::Due::Heartbeat => {
                if self.sends.is_empty() {
                    let beat = ClientMessage::Heartbeat { room: None, id: None, data: RawValue::NULL };
                    let mut frame = Vec::new();
                    let encoding = encode_client(&beat, &mut frame);
                    self.sends.push_back((encoding, frame.into()));
                }
            }
            link::Due::Connect(mut url) => {
                url.resume_wait = !self.positions.cursor().is_empty();
                self.actions.push_back(Action::Connect(url));
            }
            link::Due::Disconnect(code) => {
                self.actions.push_back(Action::Disconnect(code));
                self.lost();
            }
        }
    }

    /// When [`tick`](Self::tick) is due, if ever.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.link.next_deadline(), self.pending.next_deadline(), self.pace.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// The next thing for the shell to do.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.poll_action_but_send().or_else(|| self.poll_send(now))
    }

    /// The next thing to do beside sending, for a shell whose connection takes no more for now: what is to be sent waits
    /// here, where it is bounded.
    pub fn poll_action_but_send(&mut self) -> Option<Action> {
        if let Some(state) = self.link.take_change() {
            return Some(Action::StateChanged(state));
        }
        self.actions.pop_front()
    }

    fn poll_send(&mut self, now: Instant) -> Option<Action> {
        if *self.link.state() != State::Connected {
            return None;
        }
        let (encoding, frame) = self.next_to_send(now)?;
        self.link.sent(now);
        Some(Action::Send(encoding, frame))
    }

    /// The next message whose turn it is, by the pace that the server has set.
    fn next_to_send(&mut self, now: Instant) -> Option<(Encoding, Bytes)> {
        let Self { pending, pace, .. } = self;
        let request = pending.next_to_send(pace.unanswered_max(), |purpose| {
            let has_token = pace.take(now);
            has_token || purpose == Purpose::Resume
        });
        // Before the rooms are joined again nothing can be sent to them.
        if request.is_some() || pending.is_resuming() {
            return request;
        }
        let send = self.sends.pop_front()?;
        pace.take_if_any(now);
        Some(send)
    }

    /// There is no connection any more.
    fn lost(&mut self) {
        self.sends.clear();
        self.pace = Pace::default();
        self.sizes = MessageSizes::default();
        for (id, outcome) in self.pending.disconnected() {
            self.settle(&id, outcome);
        }
        if *self.link.state() == State::Closed {
            while let Some(id) = self.pending.any() {
                self.settle(&id, Outcome::OutcomeUnknown);
            }
        }
    }

    fn need_connection(&self) -> Result<(), NotAccepted> {
        match self.link.state() {
            State::Connected => Ok(()),
            State::Closed => Err(NotAccepted::Closed),
            _ => Err(NotAccepted::NotConnected),
        }
    }

    fn next_id(&mut self) -> Result<MessageId, NotAccepted> {
        self.ids_given += 1;
        // Sixteen digits of prefix and twenty of counter always make an id.
        MessageId::parse(&format!("{}-{}", self.id_prefix, self.ids_given)).map_err(|_| NotAccepted::Full)
    }

    /// Asks for every room that was known before the welcome, where it is. What does not fit into one cursor is joined
    /// room by room.
    fn resume(&mut self, known: Vec<(RoomId, Option<Position>)>, now: Instant) {
        let Ok(id) = self.next_id() else { return };
        let (mut cursor, mut bytes) = (Cursor::default(), 0);
        for (room, position) in known {
            // The application's own join of the room is sent again, which does the same.
            if self.pending.joins(&room) {
                continue;
            }
            let event_id = position.map(|position| position.of(&room).to_string());
            bytes += event_id.as_ref().map_or(0, |event_id| event_id.len() + 1);
            match position {
                Some(position) if bytes <= CURSOR_BYTES_MAX => {
                    self.positions.await_join(&room, &id);
                    cursor.set(room, position);
                }
                _ => self.join_again(&room, now),
            }
        }
        if !cursor.is_empty() {
            self.push(&ClientMessage::Resume { id, cursor }, Purpose::Resume, now);
        }
    }

    /// The application has joined this connection to a room: it is followed as if it had been in the welcome.
    fn joined_by_server(&mut self, room: &RoomId, joined: &Joined, now: Instant) {
        // What we have asked about the room and has no answer yet comes later, and decides.
        if self.positions.is_awaiting(room) || self.pending.leaves(room) {
            return;
        }
        let Ok(id) = self.next_id() else { return };
        self.actions.push_back(Action::JoinedByServer(room.clone()));
        self.positions.follow(room.clone(), None);
        let start = joined.last_event_id.as_ref().map(|id| id.position);
        match self.positions.get(room) {
            // It was here before: what has come since is asked for.
            Some(position) if Some(position) != start => self.join_again(room, now),
            _ => {
                self.positions.await_join(room, &id);
                self.attached(room, &id, joined);
            }
        }
    }

    /// This connection was taken out of a room. A join that is under way comes later, and its answer counts.
    fn left_by_server(&mut self, room: &RoomId, reason: LeftReason, now: Instant) {
        if !self.positions.contains(room) || self.positions.is_awaiting(room) {
            return;
        }
        if reason == LeftReason::Unavailable {
            self.join_again(room, now);
        } else {
            self.positions.forget(room);
            self.actions.push_back(Action::RoomLost(room.clone(), RoomLoss::Left(reason)));
        }
    }

    fn rejoin_after_hole(&mut self, message: &ServerMessage<'_>, now: Instant) {
        match message {
            ServerMessage::Event(ServerEvent { room: Some(room), .. }) => self.join_again(room, now),
            ServerMessage::Skip { id, .. } | ServerMessage::EpochChange { id, .. } => {
                self.join_again(&id.room, now);
            }
            _ => {}
        }
    }

    /// Joins a followed room again, where it is.
    fn join_again(&mut self, room: &RoomId, now: Instant) {
        let Ok(id) = self.next_id() else { return };
        self.positions.await_join(room, &id);
        let from = self.positions.get(room).map_or(JoinFrom::Newest { history: 0 }, JoinFrom::Position);
        self.push(&ClientMessage::Join { room: room.clone(), id, from }, Purpose::Rejoin, now);
    }

    /// Sends a request of the client's own.
    fn push(&mut self, message: &ClientMessage<'_>, purpose: Purpose, now: Instant) {
        let mut frame = Vec::new();
        let encoding = encode_client(message, &mut frame);
        if let Some(id) = message.id() {
            self.pending.push(id.clone(), message.room().cloned(), purpose, (encoding, frame), now);
        }
    }

    fn acked(&mut self, id: &MessageId, data: &RawValue, now: Instant) {
        let Some(request) = self.pending.settle(id) else { return };
        match (&request.purpose, &request.room) {
            (Purpose::Join | Purpose::Rejoin, Some(room)) => {
                if let Ok(joined) = serde_json::from_str::<Joined>(data.get()) {
                    self.attached(room, id, &joined);
                }
            }
            (Purpose::Resume, _) => {
                let resumed = serde_json::from_str::<Resumed>(data.get());
                for (room, outcome) in resumed.map(|resumed| resumed.rooms).unwrap_or_default() {
                    match outcome {
                        ResumedRoom::Joined(joined) => self.attached(&room, id, &joined),
                        ResumedRoom::Refused { error } => self.refused_room(&room, id, error, now),
                    }
                }
            }
            _ => {}
        }
        // An answer that says nothing of a room, or nothing that can be read, has not joined it.
        for room in self.positions.awaiting(id) {
            self.refused_room(&room, id, ErrorCode::Other, now);
        }
        if request.purpose.is_awaited() {
            self.actions.push_back(Action::Settled(request.id, Outcome::Acked(data.to_owned())));
        }
    }

    fn attached(&mut self, room: &RoomId, id: &MessageId, joined: &Joined) {
        if self.positions.attached(room, id, joined) {
            self.actions.push_back(Action::Joined(room.clone()));
        }
    }

    fn refused_request(&mut self, id: &MessageId, refusal: &Refusal, now: Instant) {
        if refusal.code.is_retryable() {
            self.pending.retry_later(id, refusal.retry_after_ms.map(Duration::from_millis), now);
            return;
        }
        let Some(request) = self.pending.settle(id) else { return };
        for room in self.positions.awaiting(id) {
            match request.purpose {
                // Room by room, so that each has its own answer.
                Purpose::Resume => self.join_again(&room, now),
                Purpose::Join => self.positions.forget(&room),
                Purpose::Rejoin | Purpose::Application | Purpose::Leave | Purpose::Question => {
                    self.refused_room(&room, id, refusal.code, now);
                }
            }
        }
        if request.purpose.is_awaited() {
            self.actions.push_back(Action::Settled(request.id, Outcome::Refused(refusal.clone())));
        }
    }

    /// A room that the client followed was not joined again by the request with this id.
    fn refused_room(&mut self, room: &RoomId, id: &MessageId, code: ErrorCode, now: Instant) {
        if !self.positions.awaiting(id).contains(room) {
            return;
        }
        if code.is_retryable() {
            self.join_again(room, now);
        } else {
            self.positions.forget(room);
            self.actions.push_back(Action::RoomLost(room.clone(), RoomLoss::Refused(code)));
        }
    }

    /// An event that this client caused answers its request, also in a replay after the ack was lost.
    fn settle_by_own_event(&mut self, event: &ServerEvent<'_>) {
        let is_own = event.from.is_some() && event.from.as_deref() == self.user.as_deref();
        let (true, Some(re), Some(room), Some(position)) = (is_own, &event.re, &event.room, event.id) else {
            return;
        };
        if self.pending.purpose(re) == Some(Purpose::Application)
            && self.pending.published(re, position.of(room))
        {
            self.settle(re, Outcome::Published(position.of(room)));
        }
    }

    /// Takes a request off the list, and tells who waits for it.
    fn settle(&mut self, id: &MessageId, outcome: Outcome) {
        if let Some(request) = self.pending.settle(id).filter(|request| request.purpose.is_awaited()) {
            self.actions.push_back(Action::Settled(request.id, outcome));
        }
    }
}
