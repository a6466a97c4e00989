//! One connection to Redis: it is made, carries a share of the rooms both ways, and is made anew when it breaks.
//!
//! Commands and subscriptions share it, so that they keep their order: what a read brings was read after the
//! subscription was confirmed, and a publication's own message is taken before its publisher is told. Whenever it was
//! lost every room on it heals.
//!
//! In a cluster it is two: a server that gives a slot away ends the subscriptions there unasked, which the client library
//! would take for an answer to whatever waits. So commands have a connection of their own, and an answer is waited for
//! before anything is concluded from it.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, PushInfo, PushKind, Value};
use siphasher::sip::SipHasher13;
use tidings_protocol::event_id::RoomId;
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, info, warn};

use super::Shared;
use super::address::Place;
use super::carried;
use super::control;
use super::deltas::DELTAS;
use super::error::CallError;
use super::orders;
use super::probe::Probe;
use super::reading::READS_MAX;
use super::routes::Routes;
use super::script::Channels;
use super::sentinels::is_same;
use super::subscriptions::Change;
use crate::room::Room;

/// A call that has no answer by then has failed, though it may have been carried out.
pub(super) const CALL_MAX: Duration = Duration::from_millis(500);
/// A connection is given up after so many calls in a row without an answer.
const SILENT_CALLS_MAX: u64 = 4;
/// From the first packet to a connection that can be used.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Requests that may wait for the connection's task.
const PIPELINE_REQUESTS_MAX: usize = 4096;
/// How often rooms are looked through for those that are due.
pub(super) const CHECK_TICK: Duration = Duration::from_secs(1);

/// A connection and what hangs on it.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) routes: Weak<Routes>,
    place: Place,
    pub(super) rooms: Mutex<Rooms>,
    /// Told when a room is held now, or is not any more.
    touched: Notify,
    connection: Mutex<Option<Connected>>,
    /// Told when the connection is of no more use.
    broken: Notify,
    /// Told when there is to be no connection any more.
    retired: Notify,
    connections_made: AtomicU64,
    /// Told when there is a connection.
    made: Notify,
    /// Where nodes tell each other what is no room's, on the one link of a node that listens.
    control_channel: Option<String>,
    pub(super) reads: Semaphore,
    pub(super) probe: Probe,
}

pub(super) struct Rooms {
    /// Those whose channels are subscribed to, or are about to be.
    pub(super) by_channel: HashMap<Box<[u8]>, Arc<Room>, Keyed>,
    /// Those that were held or let go of since the subscriptions were brought in line.
    pub(super) touched: HashMap<RoomId, Arc<Room>, Keyed>,
}

/// Hashes under a key that is the environment's: rooms are gone through in an order that nobody can aim at, and that a
/// simulation sees twice.
#[derive(Clone)]
pub(super) struct Keyed(u64, u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// A connection that answers.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    /// The same one, unless it is a cluster's.
    pub(super) subscriber: MultiplexedConnection,
    /// Where it leads.
    to: ConnectionAddr,
    number: u64,
    pub(super) since: Instant,
    pub(super) health: Arc<Health>,
}

#[derive(Default)]
pub(super) struct Health {
    /// Calls in a row that had no answer in time.
    silent_calls: AtomicU64,
    /// It is of no more use, for good: it was silent for too long, or said something that nobody had asked for, and which
    /// answer is whose can't be told any more. Whoever has seen that has let go of what it was about.
    is_given_up: AtomicBool,
    /// Channels that are being unsubscribed from.
    pub(super) leaving: Mutex<HashSet<Box<[u8]>>>,
    /// The subscriber waits for answers.
    pub(super) is_changing: AtomicBool,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        routes: Weak<Routes>,
        place: Place,
        probe: Probe,
        control_channel: Option<String>,
    ) -> Arc<Self> {
        let keyed = Keyed(shared.env.random(), shared.env.random());
        let rooms =
            Rooms { by_channel: HashMap::with_hasher(keyed.clone()), touched: HashMap::with_hasher(keyed) };
        Arc::new(Self {
            shared,
            routes,
            place,
            rooms: Mutex::new(rooms),
            touched: Notify::new(),
            connection: Mutex::new(None),
            broken: Notify::new(),
            retired: Notify::new(),
            connections_made: AtomicU64::new(0),
            made: Notify::new(),
            control_channel,
            reads: Semaphore::new(READS_MAX),
            probe,
        })
    }

    /// A room is held now, or is not any more.
    pub(super) fn touch(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms.lock();
        if room.is_held() || self.connected().is_some() {
            rooms.touched.insert(room.id.clone(), Arc::clone(room));
        } else {
            // A new connection subscribes to nothing that nobody holds: there would only be more and more of them.
            rooms.touched.remove(&room.id);
        }
        drop(rooms);
        self.touched.notify_one();
    }

    /// Lets go of those rooms that another link carries.
    pub(super) fn give_up(&self, is_elsewhere: impl Fn(&Room) -> bool) -> Vec<Arc<Room>> {
        let mut rooms = self.rooms.lock();
        let held = rooms.by_channel.extract_if(|_, room| is_elsewhere(room));
        let mut gone: Vec<_> = held.map(|(_, room)| room).collect();
        gone.extend(rooms.touched.extract_if(|_, room| is_elsewhere(room)).map(|(_, room)| room));
        gone
    }

    /// Ends: nothing leads to it any more.
    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Gives its connection up, if it leads to another server.
    pub(super) fn leave_all_but(&self, master: &ConnectionAddr) {
        if let Some(connected) = self.connected()
            && !is_same(&connected.to, master)
        {
            connected.health.is_given_up.store(true, Ordering::Relaxed);
            self.broken.notify_one();
        }
    }

    /// The connection, if there is one.
    pub(super) fn connected(&self) -> Option<Connected> {
        self.connection.lock().clone()
    }

    /// Waits for one.
    pub(super) async fn connection_made(&self) -> Connected {
        loop {
            let mut made = std::pin::pin!(self.made.notified());
            // Before it is looked for, so that none is missed.
            made.as_mut().enable();
            if let Some(connected) = self.connected() {
                return connected;
            }
            made.await;
        }
    }

    /// Keeps a connection until the link is retired.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.keep_connected() => {}
            () = self.retired.notified() => self.disconnected(),
        }
    }

    async fn keep_connected(self: &Arc<Self>) {
        let mut wait = BACKOFF.0;
        let mut told = false;
        loop {
            let connected = match tokio::time::timeout(CONNECT_MAX, self.connect()).await {
                Ok(Ok(connected)) => self.catch_up(&connected).await.map(|()| connected),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(CallError::Late),
            };
            match connected {
                Ok(connected) => {
                    (wait, told) = (BACKOFF.0, false);
                    self.serve(connected).await;
                    self.shared.metrics.broker_connections_lost.add(1);
                }
                Err(error) if !told => {
                    warn!(%error, "Redis can't be reached: trying again");
                    told = true;
                }
                Err(error) => debug!(%error, "Redis can't be reached"),
            }
            // Perhaps because another server is the master now.
            self.shared.slots_moved.notify_one();
            // Not all nodes at the same moment.
            let jitter = self.shared.env.random() % 100;
            #[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
            tokio::time::sleep(wait.mul_f64(0.5 + jitter as f64 / 100.0)).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Connected, CallError> {
        let number = self.connections_made.fetch_add(1, Ordering::Relaxed) + 1;
        let health = Arc::new(Health::default());
        let (link, its_health) = (Arc::downgrade(self), Arc::clone(&health));
        let config = AsyncConnectionConfig::new()
            // A call has a time of its own, and a connection is made in less than this waits.
            .set_response_timeout(None)
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_pipeline_buffer_size(PIPELINE_REQUESTS_MAX)
            .set_push_sender(move |push: PushInfo| {
                if let Some(link) = link.upgrade() {
                    link.take(push, number, &its_health);
                }
                Ok::<(), ()>(())
            });
        let master = self.place.master().await?;
        let mut connection = master.connect(&config).await?;
        let subscriber = match self.shared.channels {
            Channels::Classic => connection.clone(),
            Channels::Sharded => master.connect(&config).await?,
        };
        self.shared.scripts.load(&mut connection).await?;
        // Of no room: only whether it is the master.
        self.shared.scripts.positions(&mut connection, &[], self.shared.fresh_epoch()).await?;
        let to = master.addr();
        let since = self.shared.env.now();
        let connected = Connected { connection, subscriber, to, number, since, health };
        let channels: Vec<_> = self.own_channels().collect();
        if let Some((_, error)) = self.change(&connected, Change::Subscribe, &channels).await?.pop() {
            return Err(error);
        }
        Ok(connected)
    }

    /// Learns what was revoked meanwhile, before anybody is let in through the connection. Each page has its own time: of
    /// many, for many nodes at once, a server has more to tell than a connection may take to be made.
    async fn catch_up(&self, connected: &Connected) -> Result<(), CallError> {
        if self.control_channel.is_none() {
            return Ok(());
        }
        orders::read_all_again(&self.shared);
        orders::catch_up(&self.shared, &mut connected.connection.clone()).await
    }

    /// Uses a connection until it is of no more use.
    async fn serve(self: &Arc<Self>, connected: Connected) {
        info!(connection = connected.number, "connected to Redis");
        *self.connection.lock() = Some(connected.clone());
        self.made.notify_waiters();
        self.shared.metrics.broker_connections.add(1);
        {
            // In one step, so that whoever moves rooms to another link finds them all.
            let Rooms { by_channel, touched } = &mut *self.rooms.lock();
            touched.extend(by_channel.drain().map(|(_, room)| (room.id.clone(), room)));
        }
        self.touched.notify_one();
        let mut checks = tokio::time::interval(CHECK_TICK);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if connected.is_useless() {
                break;
            }
            tokio::select! {
                // What comes often comes last; and in this order also when a simulation sees it again.
                biased;
                () = self.broken.notified() => {}
                _ = checks.tick() => {
                    self.check_positions(&connected);
                    let rooms = self.rooms.lock().by_channel.values().cloned().collect();
                    self.check_presence(&connected, rooms);
                    self.send_probe(&connected);
                }
                () = self.touched.notified() => {
                    if let Err(error) = self.subscribe_touched(&connected).await {
                        warn!(%error, "rooms could not be subscribed to");
                        break;
                    }
                }
            }
        }
        self.disconnected();
        warn!(connection = connected.number, "the connection to Redis is lost: connecting anew");
        // Under the lock: one that another link carries by now may be subscribed to there.
        for room in self.rooms.lock().by_channel.values() {
            room.disconnected();
        }
    }

    fn disconnected(&self) {
        if self.connection.lock().take().is_some() {
            self.shared.metrics.broker_connections.subtract(1);
            self.probe.lost();
        }
    }

    // What comes.

    /// What the connection pushes, in the order in which the server sent it.
    fn take(self: &Arc<Self>, push: PushInfo, number: u64, health: &Arc<Health>) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) =
                    (data.next(), data.next())
                {
                    self.take_message(&channel, &message.into());
                }
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                let Some(Value::BulkString(channel)) = push.data.into_iter().next() else { return };
                if health.leaving.lock().remove(&channel[..]) {
                    return;
                }
                // The server has ended a subscription. The client library takes that for an answer, if it waits for one.
                let waits = push.kind == PushKind::Unsubscribe || health.is_changing.load(Ordering::Relaxed);
                if waits || self.is_its_own(&channel) {
                    health.is_given_up.store(true, Ordering::Relaxed);
                    self.broken.notify_one();
                } else {
                    self.lose(&channel);
                }
            }
            PushKind::Disconnection => {
                health.is_given_up.store(true, Ordering::Relaxed);
                self.broken.notify_one();
                debug!(connection = number, "Redis has closed the connection");
            }
            _ => {}
        }
    }

    fn take_message(self: &Arc<Self>, channel: &[u8], message: &Bytes) {
        if channel == self.probe.channel().as_bytes() {
            return self.probe.came_back(message, self.shared.env.now());
        }
        if self.is_its_own(channel) {
            return control::take(self, message);
        }
        let room = self.rooms.lock().by_channel.get(channel).cloned();
        let Some(room) = room else { return };
        if message.first() == Some(&DELTAS) {
            return self.take_deltas(&room, message);
        }
        let ask = carried::take(&self.shared, &room, message);
        self.ask(&room, ask);
    }

    /// The channels that it is subscribed to for as long as it is connected.
    fn own_channels(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.probe.channel()).chain(self.control_channel.as_deref())
    }

    fn is_its_own(&self, channel: &[u8]) -> bool {
        self.own_channels().any(|own| own.as_bytes() == channel)
    }

    fn send_probe(self: &Arc<Self>, connected: &Connected) {
        let (link, connected) = (Arc::clone(self), connected.clone());
        let now = self.shared.env.now();
        drop(self.shared.runtime.spawn(async move {
            let mut connection = connected.connection.clone();
            let command = link.probe.command(link.shared.env.random(), now);
            let call = async { Ok(command.query_async::<()>(&mut connection).await?) };
            if let Err(error) = link.call(&connected, call).await {
                debug!(%error, "a probe was not sent");
            }
        }));
    }

    /// Sends what is not stored on a channel, if there is a connection, and waits for nothing.
    pub(super) fn carry(self: &Arc<Self>, channel: String, message: Vec<u8>) {
        let Some(connected) = self.connected() else { return };
        let link = Arc::clone(self);
        drop(self.shared.runtime.spawn(async move {
            let mut connection = connected.connection.clone();
            let mut command = redis::cmd(link.shared.channels.publish_command());
            command.arg(channel).arg(message);
            let call = async { Ok(command.query_async::<()>(&mut connection).await?) };
            if let Err(error) = link.call(&connected, call).await {
                debug!(%error, "an event that is not stored was not carried");
            }
        }));
    }

    /// Waits for a call's answer as long as one is worth waiting for.
    pub(super) async fn call<T>(
        &self,
        connected: &Connected,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let answer = match tokio::time::timeout(CALL_MAX, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Late),
        };
        if connected.is_useless() {
            return Err(CallError::Late);
        }
        match &answer {
            Err(CallError::Late) => self.shared.metrics.broker_calls_late.add(1),
            Err(error) if error.is_elsewhere() => self.shared.slots_moved.notify_one(),
            _ => {}
        }
        if connected.health.is_ended_by(answer.as_ref().err()) {
            self.broken.notify_one();
        }
        answer
    }
}

impl Health {
    /// Takes note of a call's outcome; whether the connection is of no more use by it.
    fn is_ended_by(&self, error: Option<&CallError>) -> bool {
        let ends = match error {
            Some(CallError::Late) => {
                self.silent_calls.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_CALLS_MAX
            }
            Some(CallError::NotMaster | CallError::Io(_) | CallError::Malformed(_)) => true,
            None | Some(CallError::Unavailable(_) | CallError::Refused(_) | CallError::Nowhere(_)) => {
                self.silent_calls.store(0, Ordering::Relaxed);
                false
            }
        };
        self.is_given_up.fetch_or(ends, Ordering::Relaxed) | ends
    }
}

impl Connected {
    pub(super) fn is_useless(&self) -> bool {
        self.health.is_given_up.load(Ordering::Relaxed)
    }
}

pub(super) async fn in_time<T>(call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CONNECT_MAX, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_given_up_stays_so_whatever_it_says_later() {
        let health = Health::default();
        for _ in 1..SILENT_CALLS_MAX {
            assert!(!health.is_ended_by(Some(&CallError::Late)));
        }
        // It has answered in time: they are not in a row.
        assert!(!health.is_ended_by(None));
        for _ in 1..SILENT_CALLS_MAX {
            assert!(!health.is_ended_by(Some(&CallError::Late)));
        }
        assert!(health.is_ended_by(Some(&CallError::Late)));
        // Rooms whose reads were given up with it would be read by nobody.
        assert!(health.is_ended_by(None) && health.is_given_up.load(Ordering::Relaxed));
        assert!(Health::default().is_ended_by(Some(&CallError::NotMaster)));
    }
}
