//! Who is in a room, and how those who listen learn of it: at once where the room is small, else together.

use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_protocol::limits::{Limits, PRESENCE_CHANGES_BYTES_MAX};
use tidings_protocol::message::{PresenceChange, PresenceCount, ServerMessage};

use super::{Room, State};
use crate::auth::UserId;
use crate::changes::Changes;
use crate::encode;
use crate::env::Env;
use crate::inbox::{Entry, Unstored};
use crate::presence::{Departed, Page};
use crate::rules;

/// What whoever changed a room's presence has to run for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PresenceTask {
    /// [`tell_departures`].
    Departures,
    /// [`tell_changes`].
    Changes,
}

/// One change of a room's presence.
#[derive(Clone, Copy)]
struct Delta<'a> {
    change: PresenceChange,
    user: &'a UserId,
    info: Option<&'a RawValue>,
    rev: u64,
}

impl State {
    /// Hands something of the presence to everyone who listens, but for the user whom it is about. Where it finds no
    /// room it leaves a hole in `rev`, which clients see.
    fn hand_over(&self, frame: &Bytes, about: Option<&UserId>) {
        for listener in &self.listeners {
            let what = Unstored::Presence { about: about.cloned() };
            listener.inbox.try_push(Entry::Unstored { room: listener.room, frame: frame.clone(), what });
        }
    }
}

impl Room {
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

    /// How many users are here, those in their grace included.
    pub(crate) fn members(&self) -> u64 {
        self.state.lock().presence.len() as u64
    }

    /// Who is here, in the order of the users' ids.
    pub(crate) fn members_page(&self, after: Option<&str>, limit: usize, bytes_max: usize) -> Page {
        self.state.lock().presence.page(after, limit, bytes_max)
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
