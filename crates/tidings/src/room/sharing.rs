//! Who is in a room on all nodes: what this node tells the broker of its own users, and what it makes of what it hears.
//!
//! The room's [`Presence`](crate::presence::Presence) knows the connections and graces of this node. What comes of them
//! is only noted here, and told one call at a time, each user as he stands by then. After every reading of the list the
//! two are compared, so that nothing has to be remembered of what was lost on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tidings_protocol::limits::Limits;
use tidings_protocol::message::PresenceChange;
use tokio::sync::oneshot;

use super::presence::{Delta, PresenceTask};
use super::{Room, State};
use crate::auth::UserId;
use crate::presence::{Info, Presence, Shown as _};
use crate::roster::{AskList, Change, Changed, Deltas, ListPage, Read, Revision, Roster, Through};

/// One call tells of so many users at most, and of about so many bytes.
const TELL_USERS_MAX: usize = 256;
const TELL_BYTES_MAX: usize = 256 * 1024;

/// How a room's presence is shared.
#[derive(Default)]
pub(super) struct Sharing {
    pub(super) roster: Roster,
    /// Whom the broker is to be told about. While the list does not follow, only what reading it can't tell.
    pending: BTreeMap<UserId, Pending>,
    /// What users here want to show, in the call that is on its way.
    telling: Vec<(UserId, Arc<RawValue>)>,
    /// Whom the call on its way tells about, where somebody observes what comes of it; and those of a call that had no
    /// answer, until the list that is read next says how they stand.
    calling: Vec<(UserId, Stand)>,
    unanswered: Vec<(UserId, Stand)>,
    /// Somebody does what is to be done.
    working: bool,
    /// The room is held because it has, or had, users here of whom the broker knows.
    holds: bool,
    /// Some node has ended without a word.
    sweep: bool,
    /// When the revision is to be compared, the node is to say that it is alive, and the list is to be read again.
    check_at: Option<Instant>,
    alive_at: Option<Instant>,
    again_at: Option<Instant>,
    /// Those who wait for a list.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Pending {
    /// He was not here for a moment: what he showed before is gone.
    left: bool,
    update: Option<Arc<RawValue>>,
    /// What he showed before the broker lost him.
    restore: Info,
}

/// What became of a user here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// He is here, and shows this if he is nowhere else.
    Here(Option<Box<str>>),
    /// He is here and shows this.
    Shows(Box<str>),
    /// He is not here.
    Gone,
}

/// What a room's presence wants of the broker.
#[derive(Debug)]
pub(crate) enum Work {
    /// Tell how these users stand; `stays` if some are here after that.
    Tell { users: Vec<(UserId, Stand)>, stays: bool, known_rev: u64 },
    /// Read the list.
    Read(AskList),
    /// Take the users of dead nodes out.
    Sweep { known_rev: u64 },
}

/// What there is to do.
pub(crate) enum Next {
    Do(Work),
    /// Nothing, and whoever works may go; whether nobody holds the room any more, so that the broker is to be told.
    Rest {
        let_go: bool,
    },
}

/// A comparison that is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alive {
    pub(crate) ours: Revision,
    /// Whether this node is to say that it is alive.
    pub(crate) renew: bool,
}

impl Sharing {
    pub(super) fn wait(&mut self) -> oneshot::Receiver<()> {
        let (listed, wait) = oneshot::channel();
        if self.waiting.len() == self.waiting.capacity() {
            // Those who have given up must not pile up.
            self.waiting.retain(|waiting| !waiting.is_closed());
        }
        self.waiting.push(listed);
        wait
    }

    /// The connection to the broker was lost.
    pub(super) fn disconnected(&mut self) {
        self.roster.disconnected();
        self.call_failed();
    }

    /// What is carried comes here.
    pub(super) fn subscribed(&mut self) {
        self.roster.subscribed();
        // Whatever time has passed, nobody is to take this node for dead now.
        (self.alive_at, self.check_at) = (None, None);
    }

    /// Nobody here wants the list any more.
    pub(super) fn end(&mut self) {
        let (mut roster, working) = (std::mem::take(&mut self.roster), self.working);
        roster.end();
        *self = Self { roster, working, ..Self::default() };
    }

    fn entered(&mut self, user: &UserId) {
        if self.roster.is_following() {
            self.pending.entry(user.clone()).or_default();
        }
    }

    fn left(&mut self, user: &UserId) {
        if self.roster.is_following() {
            self.pending.insert(user.clone(), Pending { left: true, ..Pending::default() });
        } else {
            self.pending.remove(user);
        }
    }

    fn shows(&mut self, user: &UserId, info: &Arc<RawValue>) {
        self.pending.entry(user.clone()).or_default().update = Some(Arc::clone(info));
    }

    /// Takes what one call tells.
    fn take_pending(&mut self, local: &Presence) -> Vec<(UserId, Stand)> {
        let (mut users, mut bytes) = (Vec::new(), 0);
        while users.len() < TELL_USERS_MAX && bytes < TELL_BYTES_MAX {
            let Some(user) = self.pending.keys().next().cloned() else { break };
            let Some(Pending { left, update, restore }) = self.pending.remove(&user) else { break };
            if !local.has(&user) {
                users.push((user, Stand::Gone));
                continue;
            }
            if left {
                users.push((user.clone(), Stand::Gone));
            }
            let shown: Option<Box<str>> = update.as_ref().or(restore.as_ref()).map(|info| info.get().into());
            bytes += shown.as_deref().map_or(0, str::len);
            match (update, shown) {
                (Some(update), Some(shown)) => {
                    self.telling.push((user.clone(), update));
                    users.push((user, Stand::Shows(shown)));
                }
                (_, shown) => users.push((user, Stand::Here(shown))),
            }
        }
        users
    }

    /// A call may or may not have been carried out: what it told is told again, or seen when the list is read.
    fn call_failed(&mut self) {
        self.roster.doubt();
        self.unanswered.append(&mut self.calling);
        self.pending.retain(|_, pending| pending.update.is_some());
        for (user, info) in self.telling.drain(..) {
            self.pending.entry(user).or_default().update.get_or_insert(info);
        }
    }

    fn next(&mut self, local: &Presence, may_sweep: bool) -> Option<Work> {
        if self.sweep && may_sweep && self.roster.is_listed() {
            self.sweep = false;
            return Some(Work::Sweep { known_rev: self.roster.rev() });
        }
        if let Some(ask) = self.roster.next_read() {
            return Some(Work::Read(ask));
        }
        if !self.roster.is_following() || self.pending.is_empty() {
            return None;
        }
        let users = self.take_pending(local);
        let stays = local.len() > 0 || !self.pending.is_empty();
        Some(Work::Tell { users, stays, known_rev: self.roster.rev() })
    }
}

impl State {
    /// The list of all nodes' users, if there are other nodes.
    pub(super) fn roster(&self) -> Option<&Roster> {
        self.following.as_ref().map(|following| &following.sharing.roster)
    }

    /// Whether the list is missing this user, who is here: the others are about to be told.
    pub(super) fn is_unlisted(&self, user: &UserId) -> bool {
        self.presence.has(user) && self.roster().is_some_and(|roster| roster.shown(user).is_none())
    }

    /// `user` has come to this node; what the caller has to run.
    pub(super) fn entered(&mut self, user: &UserId) -> Option<PresenceTask> {
        let following = self.following.as_mut()?;
        if !std::mem::replace(&mut following.sharing.holds, true) {
            following.hold();
        }
        following.sharing.entered(user);
        Some(PresenceTask::Share)
    }

    /// `user` is not at this node any more; what the caller has to run.
    pub(super) fn left(&mut self, user: &UserId) -> Option<PresenceTask> {
        self.following.as_mut()?.sharing.left(user);
        Some(PresenceTask::Share)
    }

    /// `user` is here and shows something else; what the caller has to run.
    pub(super) fn shows(&mut self, user: &UserId, info: &Arc<RawValue>) -> Option<PresenceTask> {
        self.following.as_mut()?.sharing.shows(user, info);
        Some(PresenceTask::Share)
    }

    /// This user is here, and the broker does not have him here: it is to be told, with what he showed.
    fn put_back(&mut self, user: &UserId, restore: &Info) {
        let Some(following) = &mut self.following else { return };
        let pending = following.sharing.pending.entry(user.clone()).or_default();
        pending.restore.clone_from(restore);
    }
}

impl Room {
    /// Begins to do what the presence wants of the broker, unless somebody does.
    pub(crate) fn begin_work(&self) -> bool {
        let mut state = self.state.lock();
        state
            .following
            .as_mut()
            .is_some_and(|following| !std::mem::replace(&mut following.sharing.working, true))
    }

    /// Whoever works can't go on: there is no connection.
    pub(crate) fn stop_work(&self) {
        if let Some(following) = &mut self.state.lock().following {
            following.sharing.working = false;
        }
    }

    /// What is to be done next by whoever works.
    pub(crate) fn next_work(&self, may_sweep: bool) -> Next {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(following) = &mut state.following else { return Next::Rest { let_go: false } };
        let sharing = &mut following.sharing;
        if let Some(work) = sharing.next(&state.presence, may_sweep) {
            if let (Some(_), Work::Tell { users, .. }) = (&self.observer, &work) {
                sharing.calling.clone_from(users);
            }
            return Next::Do(work);
        }
        sharing.working = false;
        let told = sharing.roster.is_following() && sharing.pending.is_empty() && sharing.telling.is_empty();
        let let_go =
            told && state.presence.len() == 0 && std::mem::take(&mut sharing.holds) && following.release();
        Next::Rest { let_go }
    }

    /// A call came to nothing, as far as is known.
    pub(crate) fn work_failed(&self) {
        if let Some(following) = &mut self.state.lock().following {
            following.sharing.call_failed();
        }
    }

    /// The broker was told; or it was not, because its revision has jumped. Whether some node is dead, and what has changed.
    pub(crate) fn users_told(
        &self,
        jumped: bool,
        some_dead: bool,
        changed: &Changed,
        alive_again_at: Instant,
    ) {
        let mut state = self.state.lock();
        self.observe_changed(changed);
        let Some(following) = &mut state.following else { return };
        let sharing = &mut following.sharing;
        sharing.calling.clear();
        if jumped {
            return sharing.call_failed();
        }
        sharing.telling.clear();
        sharing.sweep |= some_dead;
        sharing.alive_at = Some(alive_again_at);
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// This node has taken users of a dead one out.
    pub(crate) fn observe_swept(&self, changed: &Changed) {
        let _in_order = self.state.lock();
        self.observe_changed(changed);
    }

    /// Tells whoever observes what this node has changed. The caller has the room's lock.
    fn observe_changed(&self, changed: &Changed) {
        let mut members = changed.members_before;
        for Change { kind, user, info } in &changed.changes {
            let before = members;
            members = match kind {
                PresenceChange::Join => members + 1,
                PresenceChange::Leave => members.saturating_sub(1),
                PresenceChange::Update => members,
            };
            self.observe(*kind, user, info.as_deref(), before, members);
        }
    }

    /// What a call has changed that had no answer can't be known. Whoever stands as it told is told of once more rather than
    /// not at all; an update, and who does not stand so, are told to the broker again anyway.
    fn observe_unanswered(&self, state: &mut State, through: &Through) {
        let Some(following) = &mut state.following else { return };
        let unanswered = std::mem::take(&mut following.sharing.unanswered);
        let roster = &following.sharing.roster;
        for (user, stand) in unanswered {
            let (is_listed, members) = (roster.shown(&user).is_some(), roster.len());
            match stand {
                Stand::Gone if !is_listed => {
                    self.observe(PresenceChange::Leave, &user, None, members + 1, members);
                }
                Stand::Here(_) | Stand::Shows(_) if through.here.contains(&user) => {
                    let info = roster.shown(&user).and_then(Option::as_deref);
                    self.observe(PresenceChange::Join, &user, info, members.saturating_sub(1), members);
                }
                _ => {}
            }
        }
    }

    /// Takes what a read has brought; whether it is to be begun again a moment later, and what the caller has to run.
    pub(crate) fn take_list(
        &self,
        ask: AskList,
        page: ListPage,
        some_dead: bool,
        limits: &Limits,
        now: Instant,
    ) -> (bool, Option<PresenceTask>) {
        let mut state = self.state.lock();
        let Some(following) = &mut state.following else { return (false, None) };
        following.sharing.sweep |= some_dead;
        let through = match following.sharing.roster.page(ask, page, now) {
            Read::More => return (false, None),
            Read::Again => return (true, None),
            Read::Through(through) => through,
        };
        following.sharing.again_at = through.again_at;
        for listed in following.sharing.waiting.drain(..) {
            // Whoever has stopped waiting does not want to know.
            let _ = listed.send(());
        }
        self.observe_unanswered(&mut state, &through);
        self.compare_here(&mut state, &through);
        (false, self.tell_replaced(&mut state, &through, limits, now))
    }

    /// Notes what the broker has otherwise of this node's users.
    fn compare_here(&self, state: &mut State, through: &Through) {
        let unknown: Vec<_> =
            state.presence.users().into_iter().filter(|user| !through.here.contains(user)).collect();
        let lost: BTreeMap<_, _> =
            through.changes.iter().map(|change| (&change.user, &change.info)).collect();
        for user in unknown {
            let kept = state.roster().and_then(|roster| roster.shown(&user)).cloned().flatten();
            let restore = kept.or_else(|| lost.get(&user).copied().cloned().flatten());
            state.put_back(&user, &restore);
        }
        for user in through.here.iter().filter(|user| !state.presence.has(user)).cloned().collect::<Vec<_>>()
        {
            state.left(&user);
        }
    }

    /// Takes what other nodes, or this one, have told; what the caller has to run, and whether there is more to do.
    pub(crate) fn take_deltas(
        &self,
        deltas: Deltas,
        limits: &Limits,
        now: Instant,
    ) -> (Option<PresenceTask>, bool) {
        let mut state = self.state.lock();
        let Some(following) = &mut state.following else { return (None, false) };
        let changes = following.sharing.roster.take(deltas);
        if !changes.is_empty() {
            following.sharing.check_at = None;
        }
        let mut task = None;
        for (rev, change) in changes {
            let before = state.members_len();
            let Some(following) = &mut state.following else { break };
            let told = match following.sharing.roster.apply(rev, change) {
                None => self.cover(&mut state, rev, rev, before, limits, now),
                Some(change) => {
                    if change.kind == PresenceChange::Leave && state.presence.has(&change.user) {
                        state.put_back(&change.user, &change.info);
                    }
                    let delta =
                        Delta { change: change.kind, user: &change.user, info: change.info.as_deref(), rev };
                    self.tell(&mut state, &delta, before, limits, now)
                }
            };
            task = task.or(told);
        }
        let more = state.following.as_ref().is_some_and(|following| {
            !following.sharing.roster.is_following() || !following.sharing.pending.is_empty()
        });
        (task, more)
    }

    /// Whether the revision is to be compared with the broker's, or the node is to say that it is alive: the first is
    /// due `check` after the last comparison or change, the second `renew` after the last time, and then both are done.
    /// Whether there is work besides.
    pub(crate) fn due_alive(&self, now: Instant, check: Duration, renew: Duration) -> (Option<Alive>, bool) {
        let mut state = self.state.lock();
        let Some(following) = &mut state.following else { return (None, false) };
        let sharing = &mut following.sharing;
        let again = sharing.again_at.take_if(|at| *at <= now).is_some();
        if again {
            sharing.roster.doubt();
        }
        let (true, Some(ours)) = (sharing.roster.is_following(), sharing.roster.at()) else {
            return (None, again);
        };
        let check_due = *sharing.check_at.get_or_insert(now + check) <= now;
        // An interval that was longer counts no more.
        let is_due = |at: Instant| at <= now || at > now + 2 * renew;
        let renew_due = sharing.holds && sharing.alive_at.is_none_or(is_due);
        if !check_due && !renew_due {
            return (None, sharing.sweep);
        }
        sharing.check_at = Some(now + check);
        if renew_due {
            sharing.alive_at = Some(now + renew);
        }
        (Some(Alive { ours, renew: renew_due }), sharing.sweep)
    }

    /// The broker's revision, asked for when this node's was `ours`; whether there is something to do.
    pub(crate) fn compare_revision(&self, ours: Revision, broker: Revision, some_dead: bool) -> bool {
        let mut state = self.state.lock();
        let Some(following) = &mut state.following else { return false };
        let sharing = &mut following.sharing;
        sharing.sweep |= some_dead;
        let agrees = sharing.roster.agrees(ours, broker);
        if !agrees {
            sharing.roster.doubt();
        }
        some_dead || !agrees
    }
}
