//! One room on this node: its log, who listens to it, who is in it.
//!
//! A room is sequenced here, under its own short lock: take the offset, encode once, append, hand over to each
//! shard with members. The log is the truth and the hand-over its fast path: a shard whose inbox is full is marked
//! behind and reads on from the log. Nothing here waits for a subscriber, and no lock is held across an await.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tidings_protocol::event_id::{Epoch, Offset, Position, RoomId};
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::message::Lost;
use tidings_protocol::room_log::{LogBounds, Recovery, Reset, RoomLog};
use tidings_protocol::token_bucket::TokenBucket;
use tokio::sync::Notify;

use crate::auth::UserId;
use crate::encode;
use crate::env::Env;
use crate::idempotency::{Claim, IdempotencyIds};
use crate::inbox::{Entry, Inbox, LocalRoom, Snapshot, Unstored};
use crate::metrics::Metrics;
use crate::presence::{Departed, Page, Presence};
use crate::publication::{Draft, Excluded, Publication};
use crate::rules::RoomRules;

/// A room of this node.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) rules: Arc<RoomRules>,
    state: Mutex<State>,
}

struct State {
    log: RoomLog<Arc<Publication>>,
    listeners: Vec<Listener>,
    /// Told when a shard that was behind has caught up, if somebody waits for that.
    caught_up: Option<Arc<Notify>>,
    presence: Presence,
    /// Somebody runs [`tell_departures`] for this room.
    departures_run: bool,
    used_at: Instant,
    /// Boxed, because most rooms have none of it most of the time.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// The rate of publishes; none while it would be full.
    publishes: Option<TokenBucket>,
    snapshot: SnapshotState,
}

impl Rare {
    fn is_idle(&self) -> bool {
        self.publishes.is_none() && self.snapshot.is_idle()
    }
}

impl State {
    /// Takes one publish of the room's rate, with so many at once.
    fn take_publish(
        &mut self,
        at_once: u32,
        limits: &Limits,
        metrics: &Metrics,
        now: Instant,
    ) -> Result<(), PublishError> {
        let rare = self.rare.get_or_insert_default();
        let bucket = rare.publishes.get_or_insert_with(|| TokenBucket::full(now));
        bucket.take(limits.publishes_per_second_per_room, at_once, now).map_err(|retry_after| {
            metrics.hit(Limit::PublishesPerSecondPerRoom);
            PublishError::TooFast { retry_after }
        })
    }

    fn tell_caught_up(&mut self) {
        if let Some(waiting) = self.caught_up.take() {
            waiting.notify_waiters();
        }
    }
}

/// A shard that has members of this room.
struct Listener {
    inbox: Arc<Inbox>,
    room: LocalRoom,
    behind: bool,
}

#[derive(Default)]
struct SnapshotState {
    latest: Option<(Instant, Snapshot)>,
    in_flight: bool,
    waiting: Vec<(Arc<Inbox>, LocalRoom)>,
}

impl SnapshotState {
    fn is_idle(&self) -> bool {
        self.latest.is_none() && !self.in_flight && self.waiting.is_empty()
    }
}

/// What a publish led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Receipt {
    pub(crate) position: Position,
    pub(crate) duplicate: bool,
}

/// Why nothing was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The request's id was used for another request in the last five minutes.
    Conflict,
    /// There is no room to remember another idempotency id: later.
    TooManyIds,
    /// The room has as many publishes a second as it takes.
    TooFast {
        /// How long until it takes another.
        retry_after: Duration,
    },
    /// The message is larger than a message may be.
    TooLarge,
    /// No rule covers the room.
    UnknownRoom,
}

/// A slice of the log.
pub(crate) struct Batch {
    pub(crate) publications: Vec<Arc<Publication>>,
    /// What would have come first and is not stored any more; the publications follow it.
    pub(crate) lost: Option<Lost>,
}

/// What a room takes.
pub(crate) struct Weight {
    /// Bytes of the log.
    pub(crate) bytes: usize,
    pub(crate) members: usize,
    pub(crate) quiet_since: Instant,
}

/// How a snapshot is come by.
pub(crate) enum SnapshotRequest {
    /// This one will do.
    Ready(Snapshot),
    /// One is on its way; the shard will be told.
    Pending,
    /// The same, and the caller has to run the handler. The state must be taken after this position.
    Run(Position),
}

/// Where the ids of publishes are remembered.
pub(crate) type PublishIds = IdempotencyIds<Position>;

impl Room {
    pub(crate) fn new(id: RoomId, rules: Arc<RoomRules>, epoch: Epoch, now: Instant) -> Self {
        let state = State {
            log: RoomLog::new(epoch),
            listeners: Vec::new(),
            caught_up: None,
            presence: Presence::default(),
            departures_run: false,
            used_at: now,
            rare: None,
        };
        Self { id, rules, state: Mutex::new(state) }
    }

    /// Gives a draft its position, stores it and hands it to every shard with members; whoever calls rings
    /// ([`Node::ring`](crate::node::Node::ring)) after the last of several.
    pub(crate) fn sequence(
        &self,
        draft: Draft,
        ids: &PublishIds,
        metrics: &Metrics,
        limits: &Limits,
        now: Instant,
        at_ms: u64,
    ) -> Result<Receipt, PublishError> {
        let mut state = self.state.lock();
        // Before the id is claimed: a refused publish must not use it up.
        state.take_publish(limits.publishes_per_second_per_room, limits, metrics, now)?;
        let position = state.log.next();
        // Under the room's lock, and nothing that follows can fail: so the position that is remembered is the event's.
        if let Some(key) = &draft.key {
            let request = (&self.id, &key.request_room, &key.id, key.nth);
            match ids.claim(ids.key(&key.user, &request, key.fingerprint), position, now) {
                Claim::New => {}
                Claim::Known(position) => {
                    metrics.duplicates.add(1);
                    return Ok(Receipt { position, duplicate: true });
                }
                Claim::Conflict => return Err(PublishError::Conflict),
                Claim::Full(limit) => {
                    metrics.hit(limit);
                    return Err(PublishError::TooManyIds);
                }
            }
        }
        let publication = Arc::new(draft.publish(&self.id, position, at_ms));
        state.log.append(Arc::clone(&publication), publication.bytes(), at_ms);
        if let Some(bound) = state.log.trim(&self.rules.bounds, at_ms).by {
            metrics.hit(bound);
        }
        state.used_at = now;
        for listener in state.listeners.iter_mut().filter(|listener| !listener.behind) {
            let entry = Entry::Publication { room: listener.room, publication: Arc::clone(&publication) };
            if !listener.inbox.try_push_quietly(entry) {
                listener.behind = true;
                listener.inbox.push(Entry::Behind(listener.room));
                metrics.shards_behind.add(1);
            }
        }
        metrics.publications.add(1);
        Ok(Receipt { position, duplicate: false })
    }

    /// A shard has its first member: from the position that comes back on, it is handed everything.
    pub(crate) fn listen(&self, inbox: Arc<Inbox>, room: LocalRoom) -> Position {
        let mut state = self.state.lock();
        // Most nodes have few shards, and most rooms members in one.
        state.listeners.reserve_exact(1);
        state.listeners.push(Listener { inbox, room, behind: false });
        state.log.top()
    }

    /// A shard's last member has left.
    pub(crate) fn stop_listening(&self, shard: u16, now: Instant) {
        let mut state = self.state.lock();
        state.listeners.retain(|listener| listener.inbox.shard() != shard);
        if let Some(rare) = &mut state.rare {
            rare.snapshot.waiting.retain(|(inbox, _)| inbox.shard() != shard);
        }
        state.used_at = now;
        state.tell_caught_up();
    }

    /// The publications after `after` and up to `until`, at most so many and about so many bytes.
    pub(crate) fn read(&self, after: Offset, until: Offset, events_max: usize, bytes_max: usize) -> Batch {
        read(&self.state.lock().log, after, until, events_max, bytes_max)
    }

    /// The same up to the top, for a shard that is behind; the flag says whether it is not any more.
    pub(crate) fn catch_up(
        &self,
        shard: u16,
        after: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> (Batch, bool) {
        let mut state = self.state.lock();
        let top = state.log.top().offset;
        let batch = read(&state.log, after, top, events_max, bytes_max);
        let reached = batch.publications.last().map_or(after, |publication| publication.offset);
        let caught_up = reached >= top || batch.lost.is_some();
        if let Some(listener) = state.listeners.iter_mut().find(|listener| listener.inbox.shard() == shard) {
            listener.behind = !caught_up;
        }
        if caught_up {
            state.tell_caught_up();
        }
        (batch, caught_up)
    }

    /// Waits until no shard is behind.
    pub(crate) async fn wait_for_shards(&self) {
        loop {
            let caught_up = {
                let mut state = self.state.lock();
                if !state.listeners.iter().any(|listener| listener.behind) {
                    return;
                }
                // Whoever tells takes the lock first, so this future hears it.
                Arc::clone(state.caught_up.get_or_insert_default()).notified_owned()
            };
            caught_up.await;
        }
    }

    pub(crate) fn top(&self) -> Position {
        self.state.lock().log.top()
    }

    /// Judges a client's position; with the top as of that moment.
    pub(crate) fn recover(&self, from: Option<Position>) -> (Recovery, Position) {
        let state = self.state.lock();
        let recovery = match from {
            Some(position) => state.log.recover(position),
            None => Recovery::Reset(state.log.no_position()),
        };
        (recovery, state.log.top())
    }

    /// The reset of a reader whose next event is not stored any more.
    pub(crate) fn expired(&self, after: Offset) -> Option<Reset> {
        let state = self.state.lock();
        match state.log.recover(Position { offset: after, ..state.log.top() }) {
            Recovery::Reset(reset) => Some(reset),
            Recovery::Replay { .. } | Recovery::Moved { .. } => None,
        }
    }

    /// The position that the last `events` events follow, and the top.
    pub(crate) fn newest(&self, events: u32) -> (Offset, Position) {
        let state = self.state.lock();
        let top = state.log.top();
        (top.offset.saturating_sub(Offset::from(events)).max(state.log.oldest() - 1), top)
    }

    /// The stored events before an offset, newest first; what comes back tells how far it got.
    pub(crate) fn history(&self, before: Option<Offset>) -> (Epoch, Vec<Arc<Publication>>) {
        let state = self.state.lock();
        let events = state.log.read(0).rev().map(|(_, publication)| publication);
        let older =
            events.skip_while(|publication| before.is_some_and(|before| publication.offset >= before));
        (state.log.top().epoch, older.take(HISTORY_SCAN_MAX).cloned().collect())
    }

    /// A connection of `user` came; how many users are in the room now.
    pub(crate) fn enter(&self, user: &UserId, now: Instant) -> u64 {
        let mut state = self.state.lock();
        state.used_at = now;
        if let Some(rev) = state.presence.enter(user) {
            self.tell(&mut state, user, || encode::presence_join(&self.id, user, rev));
        }
        state.presence.len() as u64
    }

    /// A connection of `user` left for good.
    pub(crate) fn leave(&self, user: &UserId, now: Instant) {
        let mut state = self.state.lock();
        state.used_at = now;
        if let Some((rev, info)) = state.presence.leave(user) {
            self.tell(&mut state, user, || encode::presence_leave(&self.id, user, info.as_deref(), rev));
        }
    }

    /// A connection of `user` was lost; if it was the last, he is a member for another `grace`. Whether the caller
    /// has to run [`tell_departures`] for this room.
    #[must_use]
    pub(crate) fn lose(&self, user: &UserId, now: Instant, grace: Duration) -> bool {
        // A grace beyond what the clock can count is refused when the hub is built, so only zero gives none here.
        let Some(until) = now.checked_add(grace).filter(|until| *until > now) else {
            self.leave(user, now);
            return false;
        };
        let mut state = self.state.lock();
        state.used_at = now;
        state.presence.lose(user, until);
        state.presence.next_expiry().is_some() && !std::mem::replace(&mut state.departures_run, true)
    }

    /// Tells who has left because his grace has ended; when the next one ends, or none if nobody is left in one.
    /// After none, somebody else runs [`tell_departures`] when it is needed again.
    fn expire_members(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        for Departed { user, rev, info } in state.presence.expire(now) {
            state.used_at = now;
            let frame = || encode::presence_leave(&self.id, &user, info.as_deref(), rev);
            self.tell(&mut state, &user, frame);
        }
        let next = state.presence.next_expiry();
        state.departures_run = next.is_some();
        next
    }

    /// `user` shows something else now.
    pub(crate) fn update_presence(&self, user: &UserId, info: &Arc<RawValue>) {
        let mut state = self.state.lock();
        if let Some(rev) = state.presence.update(user, Arc::clone(info)) {
            self.tell(&mut state, user, || encode::presence_update(&self.id, user, info, rev));
        }
    }

    /// Hands a presence delta to everyone who listens. One that finds no room leaves a hole in `rev`, which
    /// clients see.
    fn tell(&self, state: &mut State, about: &UserId, frame: impl FnOnce() -> Bytes) {
        if !self.rules.presence || state.listeners.is_empty() {
            return;
        }
        let frame = frame();
        for listener in &state.listeners {
            let what = Unstored::Presence { about: about.clone() };
            listener.inbox.try_push(Entry::Unstored { room: listener.room, frame: frame.clone(), what });
        }
    }

    /// Hands an ephemeral event to everyone who listens, but for one session. A shard with a full inbox does not
    /// get it: there is nothing to catch up on.
    pub(crate) fn pass_on(
        &self,
        frame: &Bytes,
        except: Option<&Excluded>,
        metrics: &Metrics,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), PublishError> {
        let mut state = self.state.lock();
        // Half of the rate's burst is kept for what must not be lost.
        state.take_publish(limits.publishes_per_second_per_room.div_ceil(2), limits, metrics, now)?;
        for listener in &state.listeners {
            let what = Unstored::Ephemeral { except: except.cloned() };
            let entry = Entry::Unstored { room: listener.room, frame: frame.clone(), what };
            if !listener.inbox.try_push(entry) {
                metrics.ephemeral_dropped.add(1);
            }
        }
        Ok(())
    }

    /// How many users are here, those in their grace included.
    pub(crate) fn members(&self) -> u64 {
        self.state.lock().presence.len() as u64
    }

    /// Who is here, in the order of the users' ids.
    pub(crate) fn members_page(&self, after: Option<&str>, limit: usize) -> Page {
        self.state.lock().presence.page(after, limit)
    }

    /// Asks for the room's state on behalf of a shard. The rule must have a snapshot handler.
    pub(crate) fn request_snapshot(
        &self,
        inbox: &Arc<Inbox>,
        room: LocalRoom,
        limits: &Limits,
        now: Instant,
    ) -> SnapshotRequest {
        let mut state = self.state.lock();
        let top = state.log.top();
        let state = &mut state.rare.get_or_insert_default().snapshot;
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < limits.snapshot_reuse;
        if let Some((_, snapshot)) = state.latest.as_ref().filter(|(at, _)| fresh(at)) {
            return SnapshotRequest::Ready(snapshot.clone());
        }
        if !state.waiting.iter().any(|(other, _)| other.shard() == inbox.shard()) {
            state.waiting.push((Arc::clone(inbox), room));
        }
        if std::mem::replace(&mut state.in_flight, true) {
            return SnapshotRequest::Pending;
        }
        SnapshotRequest::Run(top)
    }

    /// The snapshot handler has answered: tells every shard that waits.
    pub(crate) fn finish_snapshot(&self, snapshot: Option<&Snapshot>, now: Instant) {
        let mut state = self.state.lock();
        let state = &mut state.rare.get_or_insert_default().snapshot;
        state.in_flight = false;
        state.latest = snapshot.map(|snapshot| (now, snapshot.clone()));
        for (inbox, room) in state.waiting.drain(..) {
            inbox.push(Entry::Snapshot { room, snapshot: snapshot.cloned() });
        }
    }

    /// Trims by age and lets go of what is past its time. Whether somebody still needs this room.
    pub(crate) fn maintain(&self, limits: &Limits, metrics: &Metrics, now: Instant, now_ms: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(bound) = state.log.trim(&self.rules.bounds, now_ms).by {
            metrics.hit(bound);
        }
        let old = |at: &Instant| now.saturating_duration_since(*at) >= limits.snapshot_reuse;
        if let Some(rare) = &mut state.rare {
            rare.publishes.take_if(|bucket| bucket.is_full(limits.publishes_per_second_per_room, now));
            rare.snapshot.latest.take_if(|(at, _)| old(at));
        }
        state.rare.take_if(|rare| rare.is_idle());
        // A log that has had events keeps its epoch for as long as a cursor of it may come back. Any other begins with
        // the same epoch again.
        let keep = if state.log.top().offset == 0 { Duration::ZERO } else { self.rules.bounds.age_max };
        let idle = now.saturating_duration_since(state.used_at);
        let in_grace = state.presence.next_expiry().is_some();
        in_grace || !(state.listeners.is_empty() && state.log.is_empty() && idle >= keep)
    }

    /// What the room takes, and since when it is quiet.
    pub(crate) fn weight(&self) -> Weight {
        let state = self.state.lock();
        Weight { bytes: state.log.bytes(), members: state.presence.len(), quiet_since: state.used_at }
    }

    /// Forgets the whole log, since the node has too much; gives back how many bytes that were.
    pub(crate) fn forget_log(&self, now_ms: u64) -> usize {
        self.state.lock().log.trim(&LogBounds { events_max: 0, ..self.rules.bounds }, now_ms).bytes
    }
}

/// Tells the departures of a room's users when their graces end, and ends when nobody is left in one. Whoever
/// sleeps here does not keep the room: when its node is gone, there is nobody to tell.
pub(crate) async fn tell_departures(room: Weak<Room>, env: Arc<dyn Env>) {
    while let Some(next) = room.upgrade().and_then(|room| room.expire_members(env.now())) {
        tokio::time::sleep_until(next.into()).await;
    }
}

/// A page of history looks at so many events at most, those that are excluded from its reader included.
const HISTORY_SCAN_MAX: usize = 2 * tidings_protocol::limits::HISTORY_PAGE_EVENTS_MAX as usize;

fn read(
    log: &RoomLog<Arc<Publication>>,
    after: Offset,
    until: Offset,
    events_max: usize,
    bytes_max: usize,
) -> Batch {
    let mut bytes = 0;
    let publications = log
        .read(after)
        .take_while(|(offset, publication)| {
            let fits = bytes < bytes_max;
            bytes += publication.bytes();
            *offset <= until && fits
        })
        .take(events_max)
        .map(|(_, publication)| Arc::clone(publication))
        .collect();
    Batch { publications, lost: log.lost_after(after) }
}
