//! What the shards of a hub and its application share: rooms, users, the broker, and the ways to reach them.

mod everywhere;
mod logs;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::{Position, RoomId};
use tidings_protocol::limits::Limits;
use tidings_protocol::message::{Data, EventName, MessageId};
use tokio::sync::{Notify, oneshot};

use crate::auth::{Authenticate, UserId};
use crate::broker::{Broker, Completion, ControlError, Held, NodeInfo, Order};
use crate::calls::Calls;
use crate::encode;
use crate::env::Env;
use crate::handshake_rate::HandshakeRate;
use crate::inbox::{Command, Entry, Guard, Inbox};
use crate::local_users::LocalUsers;
use crate::membership::Memberships;
use crate::metrics::Metrics;
use crate::observe::Observe;
use crate::presence::Info;
use crate::publication::{Draft, Excluded, Payload, PublishKey};
use crate::revocations::Revocations;
use crate::room::{PresenceTask, PublishError, Receipt, Room, tell_changes, tell_departures};
use crate::rooms::Rooms;
use crate::session_id::SessionId;
use crate::user_rates::UserRates;
use crate::users::{ConnectionKey, Users};

pub(crate) use everywhere::Answering;
pub use everywhere::{Everywhere, RoomInfo, SessionInfo};
pub(crate) use logs::Caller;

/// How long a broadcast waits for a shard that is behind before it gives up with [`BroadcastError::Overloaded`].
const BEHIND_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long whoever comes waits for a broker that has to be read first.
const BROKER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The broker did not answer in time.
#[derive(Debug)]
pub(crate) struct BrokerSilent;

/// One node: a hub as its parts see it.
pub(crate) struct Node {
    /// Drawn at its start.
    pub(crate) id: u64,
    pub(crate) since_unix_ms: u64,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rooms: Rooms,
    pub(crate) users: Arc<Users>,
    pub(crate) user_rates: UserRates,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) memberships: Option<Arc<dyn Memberships>>,
    pub(crate) observer: Option<Arc<dyn Observe>>,
    pub(crate) calls: Calls,
    pub(crate) handshake_rate: HandshakeRate,
    pub(crate) revocations: Arc<Revocations>,
    /// Both of these, with the ways to the sockets.
    pub(crate) local_users: Arc<LocalUsers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    /// Where handlers and whatever else is the application's runs.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) draining: AtomicBool,
    /// Told whenever a connection has ended.
    pub(crate) connection_ended: Notify,
}

/// Why a broadcast did not happen. Nothing was published.
#[derive(Debug)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The event's name is reserved or not a name.
    Event(String),
    /// The data can't be written as JSON.
    Data(serde_json::Error),
    /// The room did not take it.
    Publish(PublishError),
    /// The node's shards are too far behind.
    Overloaded,
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(name) => write!(
                f,
                "{name:?} is no event of an application: 1-64 of A-Z a-z 0-9 _ . : -, not ack, error, room.*, session.*, presence.*"
            ),
            Self::Data(error) => write!(f, "the data can't be written as JSON: {error}"),
            Self::Publish(error) => write!(f, "not published: {error}"),
            Self::Overloaded => f.write_str("not published: the node is too far behind"),
        }
    }
}

impl std::error::Error for BroadcastError {}

/// Why nothing is known of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RoomError {
    /// No rule covers it.
    UnknownRoom,
    /// What rooms are stored in did not answer in time.
    Unavailable,
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownRoom => "no rule covers this room",
            Self::Unavailable => "what rooms are stored in does not answer: try again",
        })
    }
}

impl std::error::Error for RoomError {}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::broker::refusal(*self).message)
    }
}

impl std::error::Error for PublishError {}

/// Whose doing a broadcast is, besides the application's.
#[derive(Default)]
pub(crate) struct Origin<'a> {
    pub(crate) from: Option<&'a UserId>,
    pub(crate) re: Option<&'a MessageId>,
    pub(crate) excluded: Option<Excluded>,
    pub(crate) key: Option<PublishKey>,
}

/// What the application broadcasts: JSON or bytes.
pub(crate) enum Body {
    Json(Box<RawValue>),
    Binary(Bytes),
}

impl Body {
    pub(crate) fn json(data: &impl Serialize) -> Result<Self, BroadcastError> {
        to_raw_value(data).map(Self::Json).map_err(BroadcastError::Data)
    }

    fn data(&self) -> Data<'_> {
        match self {
            Self::Json(data) => Data::Json(data),
            Self::Binary(bytes) => Data::Binary(bytes),
        }
    }
}

/// Parses the name of an event that the application sends.
fn application_event(event: &str) -> Result<EventName, BroadcastError> {
    match EventName::parse(event) {
        Ok(name) if !name.is_reserved() => Ok(name),
        Ok(_) | Err(_) => Err(BroadcastError::Event(event.chars().take(100).collect())),
    }
}

async fn told(outcome: oneshot::Receiver<Result<Receipt, PublishError>>) -> Result<Receipt, BroadcastError> {
    match outcome.await {
        Ok(outcome) => outcome.map_err(BroadcastError::Publish),
        Err(_) => Err(BroadcastError::Overloaded),
    }
}

impl Node {
    /// Publishes to a room on the application's behalf.
    pub(crate) async fn broadcast(
        &self,
        room: &RoomId,
        event: &str,
        body: Body,
        origin: Origin<'_>,
    ) -> Result<Receipt, BroadcastError> {
        let room = self.rooms.open(room).ok_or(BroadcastError::Publish(PublishError::UnknownRoom))?;
        let draft = self.draft(&room, event, &body, origin)?;
        self.wait_for_shards(&room).await?;
        let outcome = self.submit(&room, draft);
        self.ring();
        told(outcome).await
    }

    /// Publishes several events to a room in their order, together.
    pub(crate) async fn broadcast_all(
        &self,
        room: &RoomId,
        events: Vec<(String, Body, Origin<'_>)>,
    ) -> Vec<Result<Receipt, BroadcastError>> {
        let count = events.len();
        let all_refused = |why: fn() -> BroadcastError| (0..count).map(|_| Err(why())).collect();
        let Some(room) = self.rooms.open(room) else {
            return all_refused(|| BroadcastError::Publish(PublishError::UnknownRoom));
        };
        if self.wait_for_shards(&room).await.is_err() {
            return all_refused(|| BroadcastError::Overloaded);
        }
        let submitted: Vec<_> = events
            .into_iter()
            .map(|(event, body, origin)| {
                let draft = self.draft(&room, &event, &body, origin)?;
                Ok(self.submit(&room, draft))
            })
            .collect();
        self.ring();
        let mut receipts = Vec::with_capacity(count);
        for outcome in submitted {
            receipts.push(match outcome {
                Ok(outcome) => told(outcome).await,
                Err(error) => Err(error),
            });
        }
        receipts
    }

    fn draft(
        &self,
        room: &Room,
        event: &str,
        body: &Body,
        origin: Origin<'_>,
    ) -> Result<Draft, BroadcastError> {
        let event = application_event(event)?;
        let payload = match body {
            Body::Json(data) => Payload::Json(data),
            Body::Binary(bytes) => Payload::Binary(bytes.clone()),
        };
        let mut draft = room.draft(&event, payload, origin.from, origin.re);
        // What queue and history can't hold would be lost on the way, so it is refused here.
        if draft.bytes() > (self.limits.outbound_bytes_max / 2).min(self.limits.history_bytes_max / 4) {
            return Err(BroadcastError::Publish(PublishError::TooLarge));
        }
        draft.excluded = origin.excluded;
        draft.key = origin.key;
        Ok(draft)
    }

    fn submit(&self, room: &Arc<Room>, draft: Draft) -> oneshot::Receiver<Result<Receipt, PublishError>> {
        let (caller, outcome) = oneshot::channel();
        self.broker.submit(room, draft, Completion::Caller(caller));
        outcome
    }

    /// Wakes every shard that something was handed to quietly, and the broker.
    pub(crate) fn ring(&self) {
        self.broker.ring();
        for inbox in &self.inboxes {
            inbox.ring();
        }
    }

    /// The shard for a new connection: the one that has the fewest, which has one more now. Of several it is drawn, or
    /// rooms that fill one after the other would have all their first members on the same one.
    pub(crate) fn emptiest_shard(&self, draw: u64) -> &Arc<Inbox> {
        let first = draw as usize % self.inboxes.len();
        let (before, from) = self.inboxes.split_at(first);
        let inbox = from.iter().chain(before).min_by_key(|inbox| inbox.connections());
        // A hub has a shard at least.
        let inbox = inbox.unwrap_or(&self.inboxes[0]);
        inbox.count_connections(1);
        inbox
    }

    /// Sends an event that is not stored to a room's members, but for one session. It waits for nobody.
    pub(crate) fn broadcast_ephemeral(
        &self,
        room: &RoomId,
        event: &str,
        body: &Body,
        from: Option<&UserId>,
        except: Option<&Excluded>,
    ) -> Result<(), BroadcastError> {
        let event = application_event(event)?;
        if self.rooms.rules().of(room.as_str()).is_none() {
            return Err(BroadcastError::Publish(PublishError::UnknownRoom));
        }
        let frame = encode::unstored(&event, Some(room), body.data(), from);
        // One of these alone could make a slow consumer of a member that reads.
        if frame.len() > self.limits.outbound_bytes_max / 2 {
            return Err(BroadcastError::Publish(PublishError::TooLarge));
        }
        // A room that nobody has opened here has no members here either, and nothing is to be kept for it.
        let room = if self.broker.is_shared() { self.rooms.open(room) } else { self.rooms.get(room) };
        room.map_or(Ok(()), |room| self.pass_on(&room, &frame, except)).map_err(BroadcastError::Publish)
    }

    /// Passes an ephemeral event on to a room's members, wherever they are.
    pub(crate) fn pass_on(
        &self,
        room: &Room,
        frame: &Bytes,
        except: Option<&Excluded>,
    ) -> Result<(), PublishError> {
        room.pass_on(frame, except, &self.metrics, &self.limits, self.env.now())?;
        self.broker.pass_on(room, frame, except);
        Ok(())
    }

    /// Waits while a shard is behind in this room: whoever publishes faster than the node can write would push
    /// the members' next events out of the log. This waits for our own work, never for a subscriber.
    async fn wait_for_shards(&self, room: &Room) -> Result<(), BroadcastError> {
        let wait = room.wait_for_shards();
        tokio::time::timeout(BEHIND_WAIT_MAX, wait).await.map_err(|_| BroadcastError::Overloaded)
    }

    /// Sends an event without a room and a position to one connection.
    pub(crate) fn send(&self, connection: ConnectionKey, frame: Bytes) {
        if let Some(inbox) = self.inbox(connection) {
            inbox.push(Entry::Direct { connection, frame });
        }
    }

    /// Ends a call that another connection has joined: its answer, and the next one of its lane.
    pub(crate) fn settle(&self, connection: ConnectionKey, lane: Option<RoomId>, answer: Bytes) {
        if let Some(inbox) = self.inbox(connection) {
            inbox.push(Entry::Settled { connection, lane, answer: Some(answer) });
        }
    }

    /// The frame of an event without a room and a position.
    pub(crate) fn direct_frame(
        event: &str,
        body: &Body,
        from: Option<&UserId>,
    ) -> Result<Bytes, BroadcastError> {
        Ok(encode::unstored(&application_event(event)?, None, body.data(), from))
    }

    /// Sends an event to every connection of a user; how many there were on this node.
    pub(crate) fn send_to_user(
        &self,
        user: &str,
        event: &str,
        body: &Body,
        from: Option<&UserId>,
    ) -> Result<usize, BroadcastError> {
        let frame = Self::direct_frame(event, body, from)?;
        // Nobody is connected under a name that is none.
        let Ok(user) = UserId::parse(user) else { return Ok(0) };
        self.broker.send_to_user(&user, &frame);
        Ok(self.local_users.send(user.as_str(), &frame))
    }

    /// Joins a connection to a room, whatever the room's rule says; `false` if it is gone, has too many, or the broker
    /// does not answer.
    pub(crate) async fn join(&self, session: SessionId, room: RoomId) -> bool {
        let Ok(held) = self.hold([(room.clone(), None)]).await else { return false };
        let (done, joined) = oneshot::channel();
        self.command(session, Command::Join { room, done, held }) && joined.await.unwrap_or(false)
    }

    /// Whether a client at `from` in a room can be told what follows at once.
    pub(crate) fn is_ready(&self, room: &RoomId, from: Option<Position>) -> bool {
        !self.broker.is_shared()
            || self.rooms.get(room).is_some_and(|room| {
                // A room that is let go of meanwhile would follow nothing when the client is in it.
                room.is_held() && room.is_ready(from)
            })
    }

    /// Waits until clients at these positions can be told what follows in these rooms, and keeps it so until what
    /// comes back is dropped. A room that no rule covers is left out.
    pub(crate) async fn hold(
        &self,
        rooms: impl IntoIterator<Item = (RoomId, Option<Position>)>,
    ) -> Result<Vec<Guard>, BrokerSilent> {
        if !self.broker.is_shared() {
            return Ok(Vec::new());
        }
        // All are wanted before one is waited for, so that they are asked for together.
        let rooms = rooms.into_iter().filter_map(|(id, from)| Some((self.rooms.open(&id)?, from)));
        let held: Vec<_> = rooms.map(|(room, from)| (Held::new(&self.broker, &room), from)).collect();
        let all_ready = async {
            for (held, from) in &held {
                held.ready(*from).await;
            }
        };
        tokio::time::timeout(BROKER_WAIT_MAX, all_ready).await.map_err(|_| BrokerSilent)?;
        Ok(held.into_iter().map(|(held, _)| Box::new(held) as Guard).collect())
    }

    /// Who is in a room, on all nodes.
    pub(crate) async fn members(&self, room: &RoomId) -> Result<Vec<(UserId, Info)>, RoomError> {
        if self.rooms.rules().of(room.as_str()).is_none() {
            return Err(RoomError::UnknownRoom);
        }
        let room = if self.broker.is_shared() { self.rooms.open(room) } else { self.rooms.get(room) };
        let Some(room) = room else { return Ok(Vec::new()) };
        match room.all_members() {
            Some(members) => Ok(members),
            None => self.broker.members(&room).await.ok_or(RoomError::Unavailable),
        }
    }

    /// Takes a connection out of a room; `false` if it was not there.
    pub(crate) async fn leave(&self, session: SessionId, room: RoomId) -> bool {
        let (done, left) = oneshot::channel();
        self.command(session, Command::Leave { room, done }) && left.await.unwrap_or(false)
    }

    /// The rooms of a connection; none if it is gone.
    pub(crate) async fn rooms_of(&self, session: SessionId) -> Vec<RoomId> {
        let (done, rooms) = oneshot::channel();
        if self.command(session, Command::Rooms { done }) {
            rooms.await.unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    /// What a request asks for, as a number.
    pub(crate) fn fingerprint(&self, event: &str, data: &[u8]) -> u64 {
        let shared = self.broker.fingerprint(event, data);
        shared.unwrap_or_else(|| self.calls.fingerprint(event, data))
    }

    /// Hands a connection's shard a command; `false` if there is no such session.
    pub(crate) fn command(&self, session: SessionId, command: Command) -> bool {
        let Some(connection) = self.users.connection_of(session) else { return false };
        let Some(inbox) = self.inbox(connection) else { return false };
        inbox.push(Entry::Command { connection, command });
        true
    }

    /// Closes every connection of a user, on every node; how many there were on this one.
    pub(crate) async fn disconnect_user(
        &self,
        user: &str,
        code: CloseCode,
        reason: &'static str,
    ) -> Result<usize, ControlError> {
        let Ok(user) = UserId::parse(user) else { return Ok(0) };
        let closed = self.local_users.close(user.as_str(), code, reason);
        self.order(Order::Disconnect(&user)).await?;
        Ok(closed)
    }

    /// Refuses every token of a user that was issued until now, and closes his connections, on every node; how many there
    /// were on this one.
    pub(crate) async fn revoke_user(&self, user: &str) -> Result<usize, ControlError> {
        let until_unix_s = self.env.unix_ms() / 1000;
        self.revocations.revoke_user(user, self.env.now(), until_unix_s)?;
        let closed = self.local_users.close(user, CloseCode::TOKEN_INVALID, "the token was revoked");
        if let Ok(user) = UserId::parse(user) {
            self.order(Order::RevokeUser { user: &user, until_unix_s }).await?;
        }
        Ok(closed)
    }

    /// Refuses one token, and lets the shards look for its connections, on every node.
    pub(crate) async fn revoke_token(&self, id: &str) -> Result<(), ControlError> {
        self.revocations.revoke_token(id, self.env.now())?;
        self.local_users.close_revoked();
        self.order(Order::RevokeToken(id)).await
    }

    async fn order(&self, order: Order<'_>) -> Result<(), ControlError> {
        match self.broker.order(order) {
            Some(done) => done.await,
            None => Ok(()),
        }
    }

    /// The nodes that share rooms, or this one alone.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeInfo>, ControlError> {
        if let Some(nodes) = self.broker.nodes() {
            return nodes.await;
        }
        Ok(vec![NodeInfo {
            id: format!("{:016x}", self.id),
            since_unix_ms: self.since_unix_ms,
            connections: self.metrics.connections.get(),
            is_this: true,
        }])
    }

    pub(crate) fn inbox(&self, connection: ConnectionKey) -> Option<&Arc<Inbox>> {
        self.inboxes.get(usize::from(connection.shard))
    }

    /// A connection of `user` came into a room; how many users are in it now.
    pub(crate) fn enter(&self, room: &Arc<Room>, user: &UserId) -> u64 {
        let (members, task) = room.enter(user, &self.limits, self.env.now());
        self.run(room, task);
        members
    }

    /// A connection of `user` left a room for good.
    pub(crate) fn leave_for_good(&self, room: &Arc<Room>, user: &UserId) {
        self.run(room, room.leave(user, &self.limits, self.env.now()));
    }

    /// A connection of `user` that was in a room was lost: he stays for the grace, and then his departure is told.
    pub(crate) fn lose(&self, room: &Arc<Room>, user: &UserId) {
        self.run(room, room.lose(user, &self.limits, self.env.now()));
    }

    /// `user` wants the others in a room to see something else.
    pub(crate) fn update_presence(&self, room: &Arc<Room>, user: &UserId, info: &Arc<RawValue>) {
        self.run(room, room.update_presence(user, info, &self.limits, self.env.now()));
    }

    /// Runs what tells a room's presence later.
    fn run(&self, room: &Arc<Room>, task: Option<PresenceTask>) {
        let Some(task) = task else { return };
        let (weak, env, limits) = (Arc::downgrade(room), Arc::clone(&self.env), Arc::clone(&self.limits));
        match task {
            PresenceTask::Departures => {
                // A grace does not keep the broker of a hub that is gone.
                let broker = Arc::downgrade(&self.broker);
                let share = move |room: &Arc<Room>| {
                    if let Some(broker) = broker.upgrade() {
                        broker.presence_changed(room);
                    }
                };
                self.spawn(tell_departures(weak, env, limits, share));
            }
            PresenceTask::Changes => self.spawn(tell_changes(weak, env, limits)),
            PresenceTask::Share => self.broker.presence_changed(room),
        }
    }

    /// Starts something of the application's on its runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Forgets what is past its time.
    pub(crate) fn maintain(&self) {
        self.rooms.maintain();
        self.broker.maintain();
        let now = self.env.now();
        self.calls.sweep(now);
        self.revocations.sweep(now);
        let limiters =
            self.user_rates.sweep(&self.limits, now) + self.handshake_rate.sweep(&self.limits, now);
        self.metrics.limiter_entries.set(limiters as u64);
    }
}
