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
use tidings_protocol::limits::{Limit, Limits, PRESENCE_CHANGES_BYTES_MAX};
use tidings_protocol::message::{EventName, Lost, MessageId, PresenceChange, PresenceCount, ServerMessage};
use tidings_protocol::room_log::{LogBounds, Recovery, Reset, RoomLog};
use tidings_protocol::token_bucket::TokenBucket;
use tokio::sync::Notify;

use crate::auth::UserId;
use crate::changes::Changes;
use crate::encode;
use crate::env::Env;
use crate::idempotency::{Claim, IdempotencyIds};
use crate::inbox::{Entry, Inbox, LocalRoom, Snapshot, Unstored};
use crate::metrics::Metrics;
use crate::newest::Newest;
use crate::presence::{Departed, Page, Presence};
use crate::publication::{Draft, Excluded, Payload, Publication};
use crate::rules::{self, RoomRules};

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
    /// What is told later; while there is some, somebody runs [`tell_changes`] for this room. Boxed, because hardly any
    /// room has it.
    changes: Option<Box<Changes>>,
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
    /// The newest event of each key, if the rule asks for it.
    newest: Newest,
    snapshot: SnapshotState,
}

impl Rare {
    fn is_idle(&self) -> bool {
        self.publishes.is_none() && self.newest.is_empty() && self.snapshot.is_idle()
    }
}

impl State {
    /// What its events take in memory. One that both hold counts twice, so that this is never too little.
    fn bytes(&self) -> usize {
        self.log.bytes() + self.newest().map_or(0, Newest::bytes)
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

    fn tell_caught_up(&mut self) {
        if let Some(waiting) = self.caught_up.take() {
            waiting.notify_waiters();
        }
    }

    /// Hands something of the presence to everyone who listens, but for the user whom it is about. Where it finds no
    /// room it leaves a hole in `rev`, which clients see.
    fn hand_over(&self, frame: &Bytes, about: Option<&UserId>) {
        for listener in &self.listeners {
            let what = Unstored::Presence { about: about.cloned() };
            listener.inbox.try_push(Entry::Unstored { room: listener.room, frame: frame.clone(), what });
        }
    }
}

/// One change of a room's presence.
#[derive(Clone, Copy)]
struct Delta<'a> {
    change: PresenceChange,
    user: &'a UserId,
    info: Option<&'a RawValue>,
    rev: u64,
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

/// What whoever changed a room's presence has to run for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PresenceTask {
    /// [`tell_departures`].
    Departures,
    /// [`tell_changes`].
    Changes,
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
        };
        Self { id, rules, state: Mutex::new(state) }
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
        state.log.append(Arc::clone(&publication), publication.bytes(), at_ms);
        if let Some(bound) = state.log.trim(&self.rules.bounds, at_ms).by {
            metrics.hit(bound);
        }
        if let Some(key) = about {
            let newest = &mut state.rare.get_or_insert_default().newest;
            newest.insert(key, Arc::clone(&publication), at_ms);
            if newest.trim(self.rules.keys_max, &self.rules.bounds, at_ms) {
                metrics.hit(Limit::RoomKeysMax);
            }
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
        (state.log.within(recovery, self.rules.replay_events_max()), state.log.top())
    }

    /// The reset of a reader whose next event is not stored any more.
    pub(crate) fn expired(&self, after: Offset) -> Option<Reset> {
        let state = self.state.lock();
        let recovery = state.log.recover(Position { offset: after, ..state.log.top() });
        match state.log.within(recovery, self.rules.replay_events_max()) {
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

    /// The newest of each key that lie after `after` and not after `until`, in order, at most so many and about so many
    /// bytes.
    pub(crate) fn read_newest(
        &self,
        after: Offset,
        until: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> Vec<Arc<Publication>> {
        let state = self.state.lock();
        let newest = state.newest();
        newest.map(|newest| newest.between(after, until, events_max, bytes_max)).unwrap_or_default()
    }

    /// The offset that the picture of a room that retains begins after, and the top.
    pub(crate) fn picture(&self) -> (Offset, Position) {
        let state = self.state.lock();
        let top = state.log.top();
        let first = state.newest().and_then(Newest::first);
        (first.map_or(top.offset, |first| first - 1), top)
    }

    /// The offset that the last events up to `until` follow, as many as are stored and within `events_max` and
    /// `bytes_max`.
    pub(crate) fn tail(&self, until: Offset, events_max: usize, bytes_max: usize) -> Offset {
        let state = self.state.lock();
        let mut bytes = 0;
        let older = state.log.read(0).rev().skip_while(|(offset, _)| *offset > until);
        let fitting = older.take(events_max).take_while(|(_, publication)| {
            // One of any size is admitted.
            let fits = bytes == 0 || bytes + publication.bytes() <= bytes_max;
            bytes += publication.bytes();
            fits
        });
        fitting.last().map_or(until, |(offset, _)| offset - 1)
    }

    /// The stored events before an offset, newest first; what comes back tells how far it got.
    pub(crate) fn history(&self, before: Option<Offset>) -> (Epoch, Vec<Arc<Publication>>) {
        let state = self.state.lock();
        let events = state.log.read(0).rev().map(|(_, publication)| publication);
        let older =
            events.skip_while(|publication| before.is_some_and(|before| publication.offset >= before));
        (state.log.top().epoch, older.take(HISTORY_SCAN_MAX).cloned().collect())
    }

    /// A connection of `user` came; how many users are in the room now, and what the caller has to run.
    pub(crate) fn enter(&self, user: &UserId, limits: &Limits, now: Instant) -> (u64, Option<PresenceTask>) {
        let mut state = self.state.lock();
        state.used_at = now;
        let before = state.presence.len();
        let task = state.presence.enter(user).and_then(|rev| {
            let delta = Delta { change: PresenceChange::Join, user, info: None, rev };
            self.tell(&mut state, &delta, before, limits, now)
        });
        (state.presence.len() as u64, task)
    }

    /// A connection of `user` left for good; what the caller has to run.
    #[must_use]
    pub(crate) fn leave(&self, user: &UserId, limits: &Limits, now: Instant) -> Option<PresenceTask> {
        let mut state = self.state.lock();
        state.used_at = now;
        let before = state.presence.len();
        let (rev, info) = state.presence.leave(user)?;
        let delta = Delta { change: PresenceChange::Leave, user, info: info.as_deref(), rev };
        self.tell(&mut state, &delta, before, limits, now)
    }

    /// A connection of `user` was lost; if it was the last, he is a member for the grace. What the caller has to run.
    #[must_use]
    pub(crate) fn lose(&self, user: &UserId, limits: &Limits, now: Instant) -> Option<PresenceTask> {
        // A grace beyond what the clock can count is refused when the hub is built, so only zero gives none here.
        let Some(until) = now.checked_add(limits.presence_grace).filter(|until| *until > now) else {
            return self.leave(user, limits, now);
        };
        let mut state = self.state.lock();
        state.used_at = now;
        state.presence.lose(user, until);
        let is_new =
            state.presence.next_expiry().is_some() && !std::mem::replace(&mut state.departures_run, true);
        is_new.then_some(PresenceTask::Departures)
    }

    /// Tells who has left because his grace has ended; when the next one ends, or none if nobody is left in one, and
    /// what the caller has to run. After none, somebody else runs [`tell_departures`] when it is needed again.
    pub(crate) fn expire_members(
        &self,
        limits: &Limits,
        now: Instant,
    ) -> (Option<Instant>, Option<PresenceTask>) {
        let mut state = self.state.lock();
        let (before, mut task) = (state.presence.len(), None);
        for Departed { user, rev, info } in state.presence.expire(now) {
            state.used_at = now;
            let delta = Delta { change: PresenceChange::Leave, user: &user, info: info.as_deref(), rev };
            let told = self.tell(&mut state, &delta, before, limits, now);
            task = task.or(told);
        }
        let next = state.presence.next_expiry();
        state.departures_run = next.is_some();
        (next, task)
    }

    /// `user` shows something else now; what the caller has to run.
    #[must_use]
    pub(crate) fn update_presence(
        &self,
        user: &UserId,
        info: &Arc<RawValue>,
        limits: &Limits,
        now: Instant,
    ) -> Option<PresenceTask> {
        let mut state = self.state.lock();
        let rev = state.presence.update(user, Arc::clone(info))?;
        let delta = Delta { change: PresenceChange::Update, user, info: Some(info.as_ref()), rev };
        let before = state.presence.len();
        self.tell(&mut state, &delta, before, limits, now)
    }

    /// Tells a change to everyone who listens: in a small room at once, else later, with what else has changed by then.
    /// What the caller has to run. `members_before` is how many were here before it.
    fn tell(
        &self,
        state: &mut State,
        delta: &Delta<'_>,
        members_before: usize,
        limits: &Limits,
        now: Instant,
    ) -> Option<PresenceTask> {
        let Delta { change, user, info, rev } = *delta;
        let tells = match self.rules.presence {
            rules::Presence::On => true,
            rules::Presence::Counts => change != PresenceChange::Update,
            rules::Presence::Off => false,
        };
        // What is collected already has to stay complete, whoever listens when it is told.
        if !tells || (state.listeners.is_empty() && state.changes.is_none()) {
            return None;
        }
        let tells_who = self.rules.presence == rules::Presence::On;
        let members = members_before.max(state.presence.len());
        if tells_who && members <= limits.presence_batch_from && state.changes.is_none() {
            state.hand_over(&encode::presence(&self.id, change, user, info, rev), Some(user));
            return None;
        }
        let is_first = state.changes.is_none();
        let changes = state.changes.get_or_insert_with(|| {
            let due = now + limits.presence_interval(members);
            Box::new(Changes::begin(rev, due, members_before))
        });
        if tells_who {
            changes.note(user, rev, change != PresenceChange::Join);
        }
        is_first.then_some(PresenceTask::Changes)
    }

    /// Tells what was collected, if it is time; when something is to be told next, or none if nothing is left. After
    /// none, somebody else runs [`tell_changes`] when it is needed again.
    pub(crate) fn tell_due(&self, limits: &Limits, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let Some(mut changes) = state.changes.take_if(|changes| changes.due <= now) else {
            return state.changes.as_ref().map(|changes| changes.due);
        };
        if state.listeners.is_empty() {
            return None;
        }
        let (room, members) = (self.id.clone(), state.presence.len());
        if self.rules.presence == rules::Presence::Counts {
            if members != changes.members_before {
                let count = PresenceCount { members: members as u64, rev: state.presence.rev() };
                state.hand_over(&encode::message(&ServerMessage::PresenceCount { room, count }), None);
            }
            return None;
        }
        // More than half a queue would make slow consumers of members that read.
        let bytes_max = PRESENCE_CHANGES_BYTES_MAX.min(limits.outbound_bytes_max / 2);
        let telling = changes.take(&state.presence, bytes_max);
        let message = ServerMessage::PresenceChanges { room, changes: telling.message() };
        state.hand_over(&encode::message(&message), None);
        if changes.is_empty() {
            return None;
        }
        let due = now + limits.presence_interval(members);
        changes.due = due;
        state.changes = Some(changes);
        Some(due)
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
    pub(crate) fn members_page(&self, after: Option<&str>, limit: usize, bytes_max: usize) -> Page {
        self.state.lock().presence.page(after, limit, bytes_max)
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
            rare.newest.trim(self.rules.keys_max, &self.rules.bounds, now_ms);
            rare.snapshot.latest.take_if(|(at, _)| old(at));
        }
        state.rare.take_if(|rare| rare.is_idle());
        // A log that has had events keeps its epoch for as long as a cursor of it may come back. Any other begins with
        // the same epoch again.
        let keep = if state.log.top().offset == 0 { Duration::ZERO } else { self.rules.bounds.age_max };
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
        state.log.trim(&LogBounds { events_max: 0, ..self.rules.bounds }, now_ms);
        if let Some(rare) = &mut state.rare {
            rare.newest = Newest::default();
        }
        before - state.bytes()
    }
}

/// Tells the departures of a room's users when their graces end, and ends when nobody is left in one. Whoever
/// sleeps here does not keep the room: when its node is gone, there is nobody to tell.
pub(crate) async fn tell_departures(room: Weak<Room>, env: Arc<dyn Env>, limits: Arc<Limits>) {
    while let Some((next, task)) = room.upgrade().map(|room| room.expire_members(&limits, env.now())) {
        if task == Some(PresenceTask::Changes) {
            drop(tokio::spawn(tell_changes(Weak::clone(&room), Arc::clone(&env), Arc::clone(&limits))));
        }
        let Some(next) = next else { return };
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Tells what has changed in a room's presence when it is time, and ends when nothing is left to tell. It does not keep
/// the room either.
pub(crate) async fn tell_changes(room: Weak<Room>, env: Arc<dyn Env>, limits: Arc<Limits>) {
    while let Some(next) = room.upgrade().and_then(|room| room.tell_due(&limits, env.now())) {
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
