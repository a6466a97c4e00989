//! One room on this node: its log, who listens to it, who is in it.
//!
//! A room is sequenced here, under its own short lock: take the offset, encode once, append, hand over to each
//! shard with members. The log is the truth and the hand-over its fast path: a shard whose inbox is full is marked
//! behind and reads on from the log. Nothing here waits for a subscriber, and no lock is held across an await.

mod following;
mod presence;
mod reading;
mod redaction;
mod sharing;
mod snapshots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_protocol::event_id::{Epoch, Position, RoomId};
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::message::{EventName, MessageId};
use tidings_protocol::room_log::{LogBounds, RoomLog};
use tidings_protocol::token_bucket::TokenBucket;
use tokio::sync::Notify;

use crate::auth::UserId;
use crate::changes::Changes;
use crate::idempotency::{Claim, IdempotencyIds};
use crate::inbox::{Entry, Inbox, LocalRoom, Unstored};
use crate::metrics::Metrics;
use crate::newest::{Key, Newest};
use crate::observe::Observe;
use crate::presence::Presence;
use crate::publication::{Draft, Excluded, Payload, Publication};
use crate::rules::RoomRules;

use following::Following;
pub(crate) use following::Need;
pub(crate) use presence::{PresenceTask, tell_changes, tell_departures};
pub(crate) use reading::HistoryPage;
#[cfg(feature = "redis")]
pub(crate) use sharing::{Alive, Next, Stand, Work};
pub(crate) use snapshots::SnapshotRequest;
use snapshots::SnapshotState;

/// A room of this node.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) rules: Arc<RoomRules>,
    /// What the log here may hold.
    bounds: LogBounds,
    observer: Option<Arc<dyn Observe>>,
    state: Mutex<State>,
}

struct State {
    log: RoomLog<Arc<Publication>>,
    listeners: Vec<Listener>,
    /// Told when a shard that was behind has caught up, if somebody waits for that.
    caught_up: Option<Arc<Notify>>,
    presence: Presence,
    /// What is told later; while there is some, somebody runs [`tell_changes`] for this room. Boxed, because hardly any
    /// room has it.
    changes: Option<Box<Changes>>,
    /// Somebody runs [`tell_departures`] for this room.
    departures_run: bool,
    used_at: Instant,
    /// Boxed, because most rooms have none of it most of the time.
    rare: Option<Box<Rare>>,
    /// How it follows the broker's log; none where this node is the one that sequences it.
    following: Option<Box<Following>>,
}

#[derive(Default)]
struct Rare {
    /// The rate of publishes; none while it would be full.
    publishes: Option<TokenBucket>,
    /// The newest event of each key, if the rule asks for it.
    newest: Newest,
    snapshot: SnapshotState,
    /// What was redacted and may still come from the broker with its content.
    redacted: VecDeque<Position>,
}

impl Rare {
    fn is_idle(&self) -> bool {
        self.publishes.is_none()
            && self.newest.is_empty()
            && self.snapshot.is_idle()
            && self.redacted.is_empty()
    }
}

impl State {
    /// What its events take in memory. One that both hold counts twice, so that this is never too little.
    fn bytes(&self) -> usize {
        self.log.bytes() + self.newest().map_or(0, Newest::bytes)
    }

    /// Appends a publication to the log, and lets go of what is over its bounds then.
    fn store(
        &mut self,
        rules: &RoomRules,
        bounds: &LogBounds,
        publication: &Arc<Publication>,
        about: Option<Key>,
        metrics: &Metrics,
        at_ms: u64,
    ) {
        self.log.append(Arc::clone(publication), publication.bytes(), at_ms);
        if let Some(bound) = self.log.trim(bounds, at_ms).by {
            metrics.hit(bound);
        }
        if let Some(key) = about {
            let newest = &mut self.rare.get_or_insert_default().newest;
            newest.insert(key, Arc::clone(publication), at_ms);
            if newest.trim(rules.keys_max, bounds, at_ms) {
                metrics.hit(Limit::RoomKeysMax);
            }
        }
    }

    /// Hands a publication to every shard with members that is not behind.
    fn hand_on(&mut self, publication: &Arc<Publication>, metrics: &Metrics) {
        for listener in self.listeners.iter_mut().filter(|listener| !listener.behind) {
            let entry = Entry::Publication { room: listener.room, publication: Arc::clone(publication) };
            if !listener.inbox.try_push_quietly(entry) {
                listener.behind = true;
                listener.inbox.push(Entry::Behind(listener.room));
                metrics.shards_behind.add(1);
            }
        }
        metrics.publications.add(1);
    }

    fn newest(&self) -> Option<&Newest> {
        self.rare.as_ref().map(|rare| &rare.newest)
    }

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

    fn hand_on_ephemeral(&self, frame: &Bytes, except: Option<&Excluded>, metrics: &Metrics) {
        for listener in &self.listeners {
            let what = Unstored::Ephemeral { except: except.cloned() };
            let entry = Entry::Unstored { room: listener.room, frame: frame.clone(), what };
            if !listener.inbox.try_push(entry) {
                metrics.ephemeral_dropped.add(1);
            }
        }
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
    /// What rooms are stored in did not answer in time. It may be published all the same.
    Unavailable,
    /// No rule covers the room.
    UnknownRoom,
}

/// What a room takes.
pub(crate) struct Weight {
    /// Bytes of the log.
    pub(crate) bytes: usize,
    pub(crate) members: usize,
    pub(crate) quiet_since: Instant,
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
            changes: None,
            departures_run: false,
            used_at: now,
            rare: None,
            following: None,
        };
        Self { id, bounds: rules.bounds, rules, observer: None, state: Mutex::new(state) }
    }

    /// The same with somebody who is told what becomes of it.
    pub(crate) fn observed_by(self, observer: Option<Arc<dyn Observe>>) -> Self {
        Self { observer, ..self }
    }

    /// A room that a broker sequences: this node's log is empty until somebody [holds](Room::hold) it.
    pub(crate) fn following(id: RoomId, rules: Arc<RoomRules>, epoch: Epoch, now: Instant) -> Self {
        let room = Self::new(id, rules, epoch, now);
        room.state.lock().following = Some(Box::default());
        Self { bounds: following::bounds(&room.rules.bounds), ..room }
    }

    /// Begins a publication of this room.
    pub(crate) fn draft(
        &self,
        event: &EventName,
        payload: Payload<'_>,
        from: Option<&UserId>,
        re: Option<&MessageId>,
    ) -> Draft {
        let about = self.rules.key_of(event, &payload);
        let mut draft = Draft::new(event, &self.id, payload, from, re);
        draft.about = about;
        draft
    }

    /// Gives a draft its position, stores it and hands it to every shard with members; whoever calls rings
    /// ([`Node::ring`](crate::node::Node::ring)) after the last of several.
    pub(crate) fn sequence(
        &self,
        mut draft: Draft,
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
        let about = draft.about.take();
        let publication = Arc::new(draft.publish(&self.id, position, at_ms));
        state.store(&self.rules, &self.bounds, &publication, about, metrics, at_ms);
        state.used_at = now;
        state.hand_on(&publication, metrics);
        Ok(Receipt { position, duplicate: false })
    }

    /// A shard has its first member: from the position that comes back on, it is handed everything.
    pub(crate) fn listen(&self, inbox: Arc<Inbox>, room: LocalRoom) -> Position {
        let mut state = self.state.lock();
        // Most nodes have few shards, and most rooms members in one.
        state.listeners.reserve_exact(1);
        state.listeners.push(Listener { inbox, room, behind: false });
        if let Some(following) = &mut state.following {
            following.hold();
        }
        state.log.top()
    }

    /// A shard's last member has left; whether nobody here follows the broker's log any more, so that the broker is to
    /// be [told](crate::broker::Broker::interest_changed).
    #[must_use]
    pub(crate) fn stop_listening(&self, shard: u16, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.listeners.retain(|listener| listener.inbox.shard() != shard);
        if let Some(rare) = &mut state.rare {
            rare.snapshot.waiting.retain(|(inbox, _)| inbox.shard() != shard);
        }
        state.used_at = now;
        state.tell_caught_up();
        state.following.as_mut().is_some_and(|following| following.release())
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
        state.hand_on_ephemeral(frame, except, metrics);
        Ok(())
    }

    /// The same for one that another node has counted already.
    #[cfg(feature = "redis")]
    pub(crate) fn hand_on_ephemeral(&self, frame: &Bytes, except: Option<&Excluded>, metrics: &Metrics) {
        self.state.lock().hand_on_ephemeral(frame, except, metrics);
    }

    /// Takes one publish of the room's rate.
    #[cfg(feature = "redis")]
    pub(crate) fn take_publish(
        &self,
        metrics: &Metrics,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), PublishError> {
        let mut state = self.state.lock();
        state.take_publish(limits.publishes_per_second_per_room, limits, metrics, now)
    }

    /// Trims by age and lets go of what is past its time. Whether somebody still needs this room.
    pub(crate) fn maintain(&self, limits: &Limits, metrics: &Metrics, now: Instant, now_ms: u64) -> bool {
        let mut state = self.state.lock();
        if let Some(bound) = state.log.trim(&self.bounds, now_ms).by {
            metrics.hit(bound);
        }
        let old = |at: &Instant| now.saturating_duration_since(*at) >= limits.snapshot_reuse;
        let oldest = state.log.oldest();
        if let Some(rare) = &mut state.rare {
            rare.publishes.take_if(|bucket| bucket.is_full(limits.publishes_per_second_per_room, now));
            rare.newest.trim(self.rules.keys_max, &self.bounds, now_ms);
            rare.redacted.retain(|event| event.offset >= oldest);
            rare.snapshot.latest.take_if(|(at, _)| old(at));
        }
        state.rare.take_if(|rare| rare.is_idle());
        // A log that has had events keeps its epoch for as long as a cursor of it may come back. Any other begins with
        // the same epoch again.
        let keep = if state.log.top().offset == 0 { Duration::ZERO } else { self.rules.bounds.age_max };
        if let Some(following) = &state.following {
            // The broker has the log.
            return following.is_held() || state.presence.next_expiry().is_some();
        }
        let idle = now.saturating_duration_since(state.used_at);
        let in_grace = state.presence.next_expiry().is_some();
        let holds_nothing = state.log.is_empty() && state.newest().is_none_or(Newest::is_empty);
        in_grace || !(state.listeners.is_empty() && holds_nothing && idle >= keep)
    }

    /// What the room takes, and since when it is quiet.
    pub(crate) fn weight(&self) -> Weight {
        let state = self.state.lock();
        let bytes = state.bytes();
        Weight { bytes, members: state.presence.len(), quiet_since: state.used_at }
    }

    /// Forgets the whole log, since the node has too much; gives back how many bytes that were.
    pub(crate) fn forget_log(&self, now_ms: u64) -> usize {
        let mut state = self.state.lock();
        let before = state.bytes();
        state.log.trim(&LogBounds { events_max: 0, ..self.bounds }, now_ms);
        if let Some(rare) = &mut state.rare {
            rare.newest = Newest::default();
        }
        if let Some(following) = &mut state.following {
            following.forgot();
        }
        before - state.bytes()
    }
}
