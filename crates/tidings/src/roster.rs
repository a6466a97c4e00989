//! Who is in a room on all nodes, as this node was told: a list that is read, and follows by numbered changes.
//!
//! What is carried may be lost, so changes count only if none is missing before them; otherwise the list is read again.
//! Until that is through it stays as it was told last. Where the broker has lost users, as after a restart without its
//! data, the list is kept until every node has had the time to put its own back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidings_protocol::event_id::Epoch;
use tidings_protocol::message::PresenceChange;

use crate::auth::UserId;
use crate::members::Members;
use crate::presence::{Info, Page, Shown};

/// While the list is being read, so many messages are kept, and so many bytes of them. With more it is read again.
const KEPT_MESSAGES_MAX: usize = 1024;
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// After the broker has lost something, every node has put its own users back within this time: it has noticed, has a
/// connection again (two seconds and the wait between two attempts), and has read the list.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(8);

/// A state of the list. Revisions of different epochs don't compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Revision {
    pub(crate) epoch: Epoch,
    pub(crate) rev: u64,
}

/// Something that happened to one user.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: PresenceChange,
    pub(crate) user: UserId,
    /// What he shows now; of who has left, what he showed last.
    pub(crate) info: Info,
}

/// Changes as they are carried: their revisions follow `before`. None says that the revision has jumped.
#[derive(Clone, Debug)]
pub(crate) struct Deltas {
    pub(crate) before: Revision,
    pub(crate) changes: Vec<Change>,
    /// What they take in memory.
    pub(crate) bytes: usize,
}

/// What this node has changed in the list, for who observes it.
#[derive(Default, Debug)]
pub(crate) struct Changed {
    /// How many users there were before.
    pub(crate) members_before: usize,
    pub(crate) changes: Vec<Change>,
}

/// Some of the list, as the broker had it.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(crate) at: Revision,
    /// For how long the broker has lost nothing.
    pub(crate) settled: Duration,
    /// Where the next page begins; zero if there is none.
    pub(crate) cursor: u64,
    pub(crate) listed: Vec<Listed>,
}

#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) user: UserId,
    pub(crate) info: Info,
    /// Whether the broker has him at this node.
    pub(crate) here: bool,
}

/// What a page that was read has led to.
#[derive(Debug)]
pub(crate) enum Read {
    /// There are more.
    More,
    /// It was no list of one state: begin again.
    Again,
    /// The list is the broker's now, or will be.
    Through(Through),
}

/// A reading that is through.
#[derive(Debug)]
pub(crate) struct Through {
    /// The revision before it.
    pub(crate) before: u64,
    /// How many users there were.
    pub(crate) members_before: usize,
    /// What is different now, and is to be told under revisions up to the list's.
    pub(crate) changes: Vec<Change>,
    /// Whom the broker has at this node.
    pub(crate) here: BTreeSet<UserId>,
    /// The list stays as it was until then, and is to be read again.
    pub(crate) again_at: Option<Instant>,
}

#[derive(Default)]
enum Phase {
    /// What is carried does not come here.
    #[default]
    Away,
    /// The list is to be read; with a jump of the revision, if there are not enough to tell the differences by.
    Stale {
        jump: bool,
    },
    Reading(Box<Reading>),
    Following,
}

#[derive(Default)]
struct Reading {
    /// The first page's.
    first: Option<Revision>,
    cursor: u64,
    listed: BTreeMap<UserId, (Info, bool)>,
    kept: Vec<Deltas>,
    kept_bytes: usize,
    overflowed: bool,
}

/// The list.
#[derive(Default)]
pub(crate) struct Roster {
    members: Members<Info>,
    /// None before it was read.
    at: Option<Revision>,
    phase: Phase,
    /// By then every node has put its users back.
    settles_at: Option<Instant>,
    /// Which connection's answers count.
    connection: u64,
}

/// A read that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AskList {
    /// Comes back with the page.
    pub(crate) connection: u64,
    pub(crate) cursor: u64,
    /// The revision that was seen.
    pub(crate) known_rev: u64,
    pub(crate) jump: bool,
}

impl Roster {
    /// Nobody here wants it any more.
    pub(crate) fn end(&mut self) {
        *self = Self { connection: self.connection + 1, ..Self::default() };
    }

    /// The connection to the broker was lost. The list stays as it is.
    pub(crate) fn disconnected(&mut self) {
        self.phase = Phase::Away;
        self.connection += 1;
    }

    /// What is carried comes here from now on.
    pub(crate) fn subscribed(&mut self) {
        self.phase = Phase::Stale { jump: false };
    }

    /// The list may differ from the broker's: it is to be read.
    pub(crate) fn doubt(&mut self) {
        if !matches!(self.phase, Phase::Away) {
            self.phase = Phase::Stale { jump: false };
        }
    }

    /// Whether there is a list at all.
    pub(crate) fn is_listed(&self) -> bool {
        self.at.is_some()
    }

    /// Whether the list is the broker's, as far as this node can know.
    pub(crate) fn is_following(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    pub(crate) fn at(&self) -> Option<Revision> {
        self.at
    }

    pub(crate) fn rev(&self) -> u64 {
        self.at.map_or(0, |at| at.rev)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// What is to be read next, if something is.
    pub(crate) fn next_read(&mut self) -> Option<AskList> {
        let (cursor, jump) = match &self.phase {
            Phase::Away | Phase::Following => return None,
            Phase::Reading(reading) => (reading.cursor, false),
            Phase::Stale { jump } => {
                let jump = *jump;
                self.phase = Phase::Reading(Box::default());
                (0, jump)
            }
        };
        Some(AskList { connection: self.connection, cursor, known_rev: self.rev(), jump })
    }

    /// Those of these changes that follow what is here, each with its revision. If some are missing before them, the list
    /// is to be read instead.
    pub(crate) fn take(&mut self, deltas: Deltas) -> Vec<(u64, Change)> {
        match &mut self.phase {
            Phase::Away | Phase::Stale { .. } => Vec::new(),
            Phase::Reading(reading) => {
                reading.keep(deltas);
                Vec::new()
            }
            Phase::Following => match self.at.and_then(|at| fresh(at, deltas)) {
                Some(changes) => changes,
                None => {
                    self.phase = Phase::Stale { jump: false };
                    Vec::new()
                }
            },
        }
    }

    /// Makes the list as it is after a change that follows; what is to be told, or none if nobody here sees it.
    pub(crate) fn apply(&mut self, rev: u64, change: Change) -> Option<Change> {
        if let Some(at) = &mut self.at {
            at.rev = rev;
        }
        let Change { kind, user, info } = change;
        if kind == PresenceChange::Leave {
            let info = self.members.remove(&user)?;
            return Some(Change { kind, user, info });
        }
        let Some(shown) = self.members.get_mut(&user) else {
            self.members.insert(user.clone(), info.clone());
            return Some(Change { kind: PresenceChange::Join, user, info });
        };
        // A node has put him back.
        if kind == PresenceChange::Join && same(shown, &info) {
            return None;
        }
        shown.clone_from(&info);
        Some(Change { kind: PresenceChange::Update, user, info })
    }

    /// Takes what a read has brought.
    pub(crate) fn page(&mut self, ask: AskList, page: ListPage, now: Instant) -> Read {
        if ask.connection != self.connection {
            return Read::Again;
        }
        let Phase::Reading(reading) = &mut self.phase else { return Read::Again };
        let first = *reading.first.get_or_insert(page.at);
        // Another epoch is another life, or a server that may not have what the other had.
        let is_other = self.at.is_some_and(|at| at.epoch != page.at.epoch);
        let settled = if is_other { Duration::ZERO } else { page.settled };
        if let Some(wait) = SETTLED_AFTER.checked_sub(settled).filter(|wait| !wait.is_zero()) {
            self.settles_at = self.settles_at.max(Some(now + wait));
        }
        let last = page.at;
        for Listed { user, info, here } in page.listed {
            reading.listed.insert(user, (info, here));
        }
        reading.cursor = page.cursor;
        if page.cursor != 0 && last.epoch == first.epoch {
            return Read::More;
        }
        let reached = reading.finish(first);
        let Some(reached) = reached.filter(|at| at.epoch == last.epoch && at.rev >= last.rev) else {
            self.doubt();
            return Read::Again;
        };
        let listed = std::mem::take(&mut reading.listed);
        self.replace(reached, listed, now)
    }

    fn replace(&mut self, at: Revision, listed: BTreeMap<UserId, (Info, bool)>, now: Instant) -> Read {
        let changes = self.differences(&listed);
        let (before, members_before) = (self.rev(), self.members.len());
        let mut through = Through {
            before,
            members_before,
            changes: Vec::new(),
            here: listed.iter().filter(|(_, (_, here))| *here).map(|(user, _)| user.clone()).collect(),
            again_at: None,
        };
        let is_first = self.at.is_none();
        let revisions = at.rev.saturating_sub(before);
        self.settles_at.take_if(|at| *at <= now);
        if !is_first && !changes.is_empty() && self.settles_at.is_some() {
            through.again_at = self.settles_at;
        } else if !is_first && changes.len() as u64 > revisions {
            // Whoever has the list at this revision could not be told what is different: another revision is needed.
            self.phase = Phase::Stale { jump: true };
            return Read::Again;
        } else {
            self.members = Members::default();
            for (user, (info, _)) in listed {
                self.members.insert(user, info);
            }
            through.changes = changes;
        }
        self.at = Some(at);
        self.phase = Phase::Following;
        Read::Through(through)
    }

    /// What has to happen to this list to be that one.
    fn differences(&self, listed: &BTreeMap<UserId, (Info, bool)>) -> Vec<Change> {
        let mut changes = Vec::new();
        let (ours, _) = self.members.page(None, usize::MAX, |user, info| (user.clone(), info.clone()));
        for (user, info) in ours {
            match listed.get(&user) {
                None => changes.push(Change { kind: PresenceChange::Leave, user, info }),
                Some((shown, _)) if !same(shown, &info) => {
                    changes.push(Change { kind: PresenceChange::Update, user, info: shown.clone() });
                }
                Some(_) => {}
            }
        }
        let new = listed.iter().filter(|(user, _)| self.members.get(user).is_none());
        changes.extend(new.map(|(user, (info, _))| Change {
            kind: PresenceChange::Join,
            user: user.clone(),
            info: info.clone(),
        }));
        changes
    }

    /// The broker's revision, asked for when this node's was `ours`; whether they agree.
    pub(crate) fn agrees(&self, ours: Revision, broker: Revision) -> bool {
        // What has changed meanwhile is on its way, and what has come meanwhile is not in the answer.
        self.at.is_some_and(|at| {
            broker.epoch == at.epoch
                && at.epoch == ours.epoch
                && (ours.rev..=at.rev.max(ours.rev)).contains(&broker.rev)
        })
    }

    /// The users after `after` in their order; `asker` among them, whom the others have not been told yet.
    pub(crate) fn list(
        &self,
        after: Option<&str>,
        limit: usize,
        bytes_max: usize,
        asker: Option<&UserId>,
    ) -> Page {
        let (mut members, mut more) =
            self.members.page(after, limit, |user, info| (user.clone(), info.clone()));
        let mut count = self.members.len();
        if let Some(asker) = asker.filter(|asker| self.members.get(asker).is_none()) {
            count += 1;
            let at = members.partition_point(|(user, _)| user < asker);
            let is_on_page = after.is_none_or(|after| asker.as_str() > after);
            if is_on_page && (at < members.len() || !more) {
                members.insert(at, (asker.clone(), None));
                more |= members.len() > limit;
                members.truncate(limit);
            }
        }
        Page::fitting(members, more, self.rev(), count, bytes_max)
    }
}

impl Shown for Roster {
    fn shown(&self, user: &UserId) -> Option<&Info> {
        self.members.get(user)
    }
}

impl Reading {
    fn keep(&mut self, deltas: Deltas) {
        let fits = self.kept.len() < KEPT_MESSAGES_MAX && self.kept_bytes + deltas.bytes <= KEPT_BYTES_MAX;
        if fits && !self.overflowed {
            self.kept_bytes += deltas.bytes;
            self.kept.push(deltas);
        } else {
            self.overflowed = true;
        }
    }

    /// Makes of the pages, which are of different moments, the list of one: what was carried meanwhile, from the first
    /// page on, says how everyone stands who has changed. The revision that it reaches, if nothing is missing.
    fn finish(&mut self, first: Revision) -> Option<Revision> {
        if self.overflowed {
            return None;
        }
        let mut at = first;
        for deltas in std::mem::take(&mut self.kept) {
            // From before a jump, and so in the first page.
            if deltas.before.rev + deltas.changes.len() as u64 <= first.rev {
                continue;
            }
            for (rev, Change { kind, user, info }) in fresh(at, deltas)? {
                at.rev = rev;
                if kind == PresenceChange::Leave {
                    self.listed.remove(&user);
                } else {
                    let here = self.listed.get(&user).is_some_and(|(_, here)| *here);
                    self.listed.insert(user, (info, here));
                }
            }
        }
        Some(at)
    }
}

/// Those that are newer than `at`, each with its revision; none at all if something is missing before them.
fn fresh(at: Revision, deltas: Deltas) -> Option<Vec<(u64, Change)>> {
    let Deltas { before, changes, .. } = deltas;
    // A jump has no changes, and goes beyond what anybody has seen.
    if before.epoch != at.epoch || before.rev > at.rev {
        return None;
    }
    let numbered = (before.rev + 1..).zip(changes);
    Some(numbered.filter(|(rev, _)| *rev > at.rev).collect())
}

fn same(one: &Info, other: &Info) -> bool {
    one.as_ref().map(|info| info.get()) == other.as_ref().map(|info| info.get())
}

#[cfg(test)]
mod tests;
