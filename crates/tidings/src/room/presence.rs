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
use crate::observe::Observed;
use crate::presence::{Departed, Info, Page};
use crate::roster::{Roster, Through};
use crate::rules;

/// What whoever changed a room's presence has to run for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PresenceTask {
    /// [`tell_departures`].
    Departures,
    /// [`tell_changes`].
    Changes,
    /// The broker is to be [told](crate::broker::Broker::presence_changed).
    Share,
}

/// One change of a room's presence.
#[derive(Clone, Copy)]
pub(super) struct Delta<'a> {
    pub(super) change: PresenceChange,
    pub(super) user: &'a UserId,
    pub(super) info: Option<&'a RawValue>,
    pub(super) rev: u64,
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

    /// Hands something of the presence to one user alone.
    fn hand_to(&self, frame: &Bytes, user: &UserId) {
        for listener in &self.listeners {
            let what = Unstored::PresenceFor(user.clone());
            listener.inbox.try_push(Entry::Unstored { room: listener.room, frame: frame.clone(), what });
        }
    }

    /// How many users are in the room, on all nodes and those in their grace included.
    pub(super) fn members_len(&self) -> usize {
        self.roster().map_or_else(|| self.presence.len(), Roster::len)
    }

    fn presence_rev(&self) -> u64 {
        self.roster().map_or_else(|| self.presence.rev(), Roster::rev)
    }
}

impl Room {
    /// A connection of `user` came; how many users are in the room now, and what the caller has to run.
    pub(crate) fn enter(&self, user: &UserId, limits: &Limits, now: Instant) -> (u64, Option<PresenceTask>) {
        let mut state = self.state.lock();
        state.used_at = now;
        if state.following.is_some() {
            let is_first = state.presence.enter(user).is_some();
            let task = if is_first { state.entered(user) } else { None };
            let unlisted = u64::from(state.is_unlisted(user));
            return (state.members_len() as u64 + unlisted, task);
        }
        let before = state.presence.len();
        let task = state.presence.enter(user).and_then(|rev| {
            let delta = Delta { change: PresenceChange::Join, user, info: None, rev };
            self.observe(delta.change, user, None, before, before + 1);
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
        if state.following.is_some() {
            return state.left(user);
        }
        let delta = Delta { change: PresenceChange::Leave, user, info: info.as_deref(), rev };
        self.observe(delta.change, user, delta.info, before, state.presence.len());
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
        for (index, Departed { user, rev, info }) in state.presence.expire(now).into_iter().enumerate() {
            state.used_at = now;
            if state.following.is_some() {
                task = state.left(&user);
                continue;
            }
            let delta = Delta { change: PresenceChange::Leave, user: &user, info: info.as_deref(), rev };
            self.observe(delta.change, &user, delta.info, before - index, before - index - 1);
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
        if state.following.is_some() {
            return if state.presence.has(user) { state.shows(user, info) } else { None };
        }
        let rev = state.presence.update(user, Arc::clone(info))?;
        let delta = Delta { change: PresenceChange::Update, user, info: Some(info.as_ref()), rev };
        let before = state.presence.len();
        self.observe(delta.change, user, delta.info, before, before);
        self.tell(&mut state, &delta, before, limits, now)
    }

    /// Tells whoever observes of a change, and of what it means to the room. The caller has the room's lock, so that it
    /// is told in the order in which it happens.
    pub(super) fn observe(
        &self,
        change: PresenceChange,
        user: &UserId,
        info: Option<&RawValue>,
        members_before: usize,
        members: usize,
    ) {
        let Some(observer) = &self.observer else { return };
        if members_before == 0 && members > 0 {
            observer.observe(Observed::Occupied { room: &self.id });
        }
        observer.observe(Observed::Presence { room: &self.id, user, change, info });
        if members_before > 0 && members == 0 {
            observer.observe(Observed::Vacated { room: &self.id });
        }
    }

    /// Tells a change to everyone who listens: in a small room at once, else later, with what else has changed by then.
    /// What the caller has to run. `members_before` is how many were here before it.
    pub(super) fn tell(
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
        let members = members_before.max(state.members_len());
        if tells_who && members <= limits.presence_batch_from && state.changes.is_none() {
            state.hand_over(&encode::presence(&self.id, change, user, info, rev), Some(user));
            // He has a list without himself, or with himself and the revision before: to him this is no hole.
            if state.following.is_some() && state.presence.has(user) {
                state.hand_to(&encode::presence_about_oneself(&self.id, change, user, info, rev), user);
            }
            return None;
        }
        let (is_first, changes) = collect(state, rev, members, members_before, limits, now);
        if tells_who {
            changes.note(user, rev, change != PresenceChange::Join);
        }
        is_first.then_some(PresenceTask::Changes)
    }

    /// Nobody here has to know of anybody who changed from the revision `from` to `rev`, but that they are past.
    pub(super) fn cover(
        &self,
        state: &mut State,
        from: u64,
        rev: u64,
        members_before: usize,
        limits: &Limits,
        now: Instant,
    ) -> Option<PresenceTask> {
        let is_idle = state.listeners.is_empty() && state.changes.is_none();
        if self.rules.presence == rules::Presence::Off || is_idle {
            return None;
        }
        let members = members_before.max(state.members_len());
        let (is_first, changes) = collect(state, from, members, members_before, limits, now);
        changes.cover(rev);
        is_first.then_some(PresenceTask::Changes)
    }

    /// Tells what is different in a list that has taken the place of another: under the last of the revisions that went
    /// by, of which there is one for each.
    pub(super) fn tell_replaced(
        &self,
        state: &mut State,
        through: &Through,
        limits: &Limits,
        now: Instant,
    ) -> Option<PresenceTask> {
        let rev = state.presence_rev();
        if rev <= through.before {
            return None;
        }
        let task = self.cover(state, through.before + 1, rev, through.members_before, limits, now);
        if self.rules.presence == rules::Presence::On
            && let Some(changes) = &mut state.changes
        {
            let first = rev + 1 - (through.changes.len() as u64).min(rev - through.before);
            for (rev, change) in (first..=rev).zip(&through.changes) {
                changes.note(&change.user, rev, change.kind != PresenceChange::Join);
            }
        }
        task
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
        let (room, members) = (self.id.clone(), state.members_len());
        if self.rules.presence == rules::Presence::Counts {
            if members != changes.members_before {
                let count = PresenceCount { members: members as u64, rev: state.presence_rev() };
                state.hand_over(&encode::message(&ServerMessage::PresenceCount { room, count }), None);
            }
            return None;
        }
        // More than half a queue would make slow consumers of members that read.
        let bytes_max = PRESENCE_CHANGES_BYTES_MAX.min(limits.outbound_bytes_max / 2);
        let telling = match state.roster() {
            Some(roster) => changes.take(roster, bytes_max),
            None => changes.take(&state.presence, bytes_max),
        };
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

    /// How many users are here, on all nodes and those in their grace included, with one who is here himself.
    pub(crate) fn members(&self, asker: &UserId) -> u64 {
        let state = self.state.lock();
        state.members_len() as u64 + u64::from(state.is_unlisted(asker))
    }

    /// How many users are here, on all nodes and those in their grace included; none where no user of this node is.
    pub(crate) fn members_everywhere(&self) -> u64 {
        let state = self.state.lock();
        let here = state.presence.len();
        // A copy of the list is kept only where somebody is.
        if here == 0 { 0 } else { state.members_len().max(here) as u64 }
    }

    /// Who is here, in the order of the users' ids, as somebody who is here himself sees it.
    pub(crate) fn members_page(
        &self,
        after: Option<&str>,
        limit: usize,
        bytes_max: usize,
        asker: Option<&UserId>,
    ) -> Page {
        let state = self.state.lock();
        match state.roster() {
            Some(roster) => {
                roster.list(after, limit, bytes_max, asker.filter(|asker| state.is_unlisted(asker)))
            }
            None => state.presence.page(after, limit, bytes_max),
        }
    }

    /// Everyone who is here, or none if this node does not follow who is.
    pub(crate) fn all_members(&self) -> Option<Vec<(UserId, Info)>> {
        let state = self.state.lock();
        let Some(roster) = state.roster() else {
            return Some(state.presence.page(None, usize::MAX, usize::MAX).members);
        };
        if !roster.is_listed() {
            return None;
        }
        let mut all = roster.list(None, usize::MAX, usize::MAX, None).members;
        let unlisted = state.presence.users().into_iter().filter(|user| state.is_unlisted(user));
        let unlisted: Vec<_> = unlisted.map(|user| (user, None)).collect();
        if !unlisted.is_empty() {
            all.extend(unlisted);
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        Some(all)
    }
}

/// What a room collects, which begins with the revision `from` if nothing was collected, and whether it does.
fn collect<'a>(
    state: &'a mut State,
    from: u64,
    members: usize,
    members_before: usize,
    limits: &Limits,
    now: Instant,
) -> (bool, &'a mut Changes) {
    let is_first = state.changes.is_none();
    let changes = state.changes.get_or_insert_with(|| {
        let due = now + limits.presence_interval(members);
        Box::new(Changes::begin(from, due, members_before))
    });
    (is_first, changes)
}

/// Tells the departures of a room's users when their graces end, or lets somebody share them with other nodes, and ends
/// when nobody is left in one. Whoever sleeps here does not keep the room: when its node is gone, there is nobody to tell.
pub(crate) async fn tell_departures(
    room: Weak<Room>,
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    share: impl Fn(&Arc<Room>) + Send,
) {
    while let Some((next, task)) = room.upgrade().map(|room| {
        let (next, task) = room.expire_members(&limits, env.now());
        if task == Some(PresenceTask::Share) {
            share(&room);
        }
        (next, task)
    }) {
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
