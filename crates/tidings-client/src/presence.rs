//! Who is in a room: the list that the server gives, kept up to date by its deltas. PROTOCOL.md §3.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{ClientMessage, Member, PresenceChange, ServerMessage};
use tokio::sync::watch;

use crate::client::Handle;
use crate::event::shared;
use crate::request::RequestError;
use crate::room::MembersPage;

/// So much waits while the list is asked for. With more, the list is asked for anew.
const WAITING_MAX: usize = 4096;
/// How long after a question that failed the next one is asked; it grows with every one.
const ASK_AGAIN_STEP: Duration = Duration::from_secs(1);
/// The longest wait before it is asked again.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);

/// Who is in a room, as far as is known. Users, not connections: two of one user are one.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// Each with what he shows ([`Presence::update`]); `null` if nothing.
    pub users: BTreeMap<Box<str>, Arc<RawValue>>,
    /// How many they are, where the room tells nobody who.
    pub count: Option<u64>,
}

impl Members {
    /// How many are here, also in a room that tells nobody who.
    pub fn len(&self) -> usize {
        self.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(self.users.len())
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who is in a room, kept up to date for as long as this is there. While reconnecting it is as it was.
#[derive(Debug)]
pub struct Presence {
    handle: Arc<Handle>,
    room: RoomId,
    members: watch::Receiver<Arc<Members>>,
}

impl Presence {
    pub(crate) fn new(handle: Arc<Handle>, room: RoomId) -> Self {
        let members = handle.shared.watch_members(&room);
        Self { handle, room, members }
    }

    /// Who is here, as far as is known; nobody until the server has said so.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.borrow())
    }

    /// Waits until that has changed since it was last looked at, and gives it; none when the client is closed.
    pub async fn changed(&mut self) -> Option<Arc<Members>> {
        self.members.changed().await.ok()?;
        Some(Arc::clone(&self.members.borrow_and_update()))
    }

    /// Says what the others see of this user, at most 4,096 bytes of JSON.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn update(&self, info: &impl Serialize) -> Result<(), RequestError> {
        let info = serde_json::value::to_raw_value(info)
            .map_err(|error| RequestError::Invalid(error.to_string()))?;
        let room = self.room.clone();
        let request = self.handle.shared.request(|id| ClientMessage::PresenceUpdate {
            room,
            id: Some(id),
            info: &info,
        });
        request.await.map(drop)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Not watched by this one any more, when that is looked at.
        let (_, nobody) = watch::channel(Arc::default());
        self.members = nobody;
        self.handle.shared.unwatch_members(&self.room);
    }
}

/// A question for the list: one that was asked before another does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asked(u64);

/// A change, kept while the list is asked for.
#[derive(Clone)]
struct Change {
    from: u64,
    rev: u64,
    here: Vec<(Box<str>, Arc<RawValue>)>,
    gone: Vec<Box<str>>,
    count: Option<u64>,
}

/// What is known of a room's members, for those who watch.
#[derive(Default)]
pub(crate) struct Watched {
    sender: watch::Sender<Arc<Members>>,
    /// The revision of what is known; none while the list is wanted.
    rev: Option<u64>,
    asked: Asked,
    is_asking: bool,
    /// How many questions have failed, one after another.
    failures: u32,
    /// When the next one is asked, if one has failed.
    asks_at: Option<Instant>,
    /// The pages that have come, with the first one's revision and count.
    pages: Option<(Members, u64, Option<u64>)>,
    /// After whom the next page starts.
    after: Option<Box<str>>,
    waiting: Vec<Change>,
}

impl Watched {
    pub(crate) fn watch(&mut self) -> watch::Receiver<Arc<Members>> {
        if !self.is_watched() {
            // Nothing was taken while nobody watched.
            self.detached();
        }
        self.sender.subscribe()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// The room was left, lost or joined again: what was known may be old, and what was asked counts no more.
    pub(crate) fn detached(&mut self) {
        self.asked.0 += 1;
        (self.rev, self.is_asking, self.pages, self.after) = (None, false, None, None);
        (self.failures, self.asks_at) = (0, None);
        self.waiting.clear();
    }

    /// What is to be asked now, if somebody wants to know and nothing is under way: after whom, for a later page.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<(Asked, Option<Box<str>>)> {
        let is_early = self.asks_at.is_some_and(|asks_at| now < asks_at);
        if !self.is_watched() || self.rev.is_some() || self.is_asking || is_early {
            return None;
        }
        (self.is_asking, self.asks_at) = (true, None);
        Some((self.asked, self.after.clone()))
    }

    /// When a question that failed is asked again.
    pub(crate) fn asks_at(&self) -> Option<Instant> {
        self.asks_at.filter(|_| self.is_watched())
    }

    /// Takes a page, or that the question failed: then the list is asked for from its beginning, after a moment.
    pub(crate) fn listed(&mut self, asked: Asked, page: Option<MembersPage>, now: Instant) {
        if asked != self.asked {
            return;
        }
        let Some(page) = page else {
            let failures = self.failures.saturating_add(1);
            self.detached();
            self.failures = failures;
            self.asks_at = Some(now + ASK_AGAIN_STEP.saturating_mul(failures).min(ASK_AGAIN_MAX));
            return;
        };
        (self.is_asking, self.failures) = (false, 0);
        let (members, rev, count) =
            self.pages.get_or_insert_with(|| (Members::default(), page.rev, page.count));
        for member in page.members {
            members.users.insert(member.user.into(), member.info.into());
        }
        self.after = page.next.map(Into::into);
        if self.after.is_some() {
            return;
        }
        // Later pages may be newer than the first. What has changed since is told all the same, as it is in the end.
        self.rev = Some(*rev);
        let mut members = std::mem::take(members);
        members.count = if members.users.is_empty() { *count } else { None };
        self.pages = None;
        for change in std::mem::take(&mut self.waiting) {
            self.apply(&mut members, change);
        }
        self.sender.send_replace(Arc::new(members));
    }

    /// Takes what the server tells of who comes and goes.
    pub(crate) fn receive(&mut self, message: &ServerMessage<'_>) {
        let Some(change) = Change::read(message).filter(|_| self.is_watched()) else { return };
        if self.rev.is_none() {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push(change);
            } else {
                self.detached();
            }
            return;
        }
        let mut members = (**self.sender.borrow()).clone();
        if self.apply(&mut members, change) {
            self.sender.send_replace(Arc::new(members));
        }
    }

    /// Takes what is newer than what is known; wants the list again if something is missing before it. Whether it
    /// changed something.
    fn apply(&mut self, members: &mut Members, change: Change) -> bool {
        let Some(rev) = self.rev else { return false };
        if change.rev <= rev {
            return false;
        }
        if change.count.is_none() && change.from > rev + 1 {
            self.detached();
            return false;
        }
        self.rev = Some(change.rev);
        if change.count.is_some() {
            members.count = change.count;
        }
        members.users.extend(change.here);
        for user in change.gone {
            members.users.remove(&user);
        }
        true
    }
}

impl Change {
    fn read(message: &ServerMessage<'_>) -> Option<Self> {
        let here = |member: &Member<'_>| (Box::from(&*member.user), shared(&member.info));
        Some(match message {
            ServerMessage::Presence { change: PresenceChange::Leave, member, rev, .. } => {
                let gone = vec![Box::from(&*member.user)];
                Self { from: *rev, rev: *rev, here: Vec::new(), gone, count: None }
            }
            ServerMessage::Presence { member, rev, .. } => {
                Self { from: *rev, rev: *rev, here: vec![here(member)], gone: Vec::new(), count: None }
            }
            ServerMessage::PresenceChanges { changes, .. } => Self {
                from: changes.from,
                rev: changes.rev,
                here: changes.joins.iter().chain(&changes.updates).map(here).collect(),
                gone: changes.leaves.iter().map(|user| Box::from(&**user)).collect(),
                count: None,
            },
            ServerMessage::PresenceCount { count, .. } => Self {
                from: 0,
                rev: count.rev,
                here: Vec::new(),
                gone: Vec::new(),
                count: Some(count.members),
            },
            _ => return None,
        })
    }
}
