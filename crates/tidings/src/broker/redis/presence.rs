//! Who is in a room, as calls: the scripts that alone write it, and what they answer.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::ConnectionLike;
use redis::{Cmd, Value};
use tidings_protocol::event_id::{Epoch, Position};

use super::answer::texts;
use super::deltas;
use super::error::CallError;
use super::keys::RoomKeys;
use super::script::{Script, Scripts, script};
use crate::room::{Alive, Stand};
use crate::roster::{AskList, Changed, ListPage, Listed, Revision};

/// How long a node counts as alive in a room after it has said so.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// About how many users one call reads, or looks through.
const USERS_PER_CALL: usize = 500;

// All of them also where there is no memory left for events: whoever leaves is to be gone.
const PRESENCE: &str = script!(" flags=allow-oom", "head.lua", "presence_head.lua", "presence.lua");
const MEMBERS: &str = script!(" flags=allow-oom", "head.lua", "presence_head.lua", "members.lua");
const ALIVE: &str = script!(" flags=allow-oom", "head.lua", "presence_head.lua", "alive.lua");
const SWEEP: &str = script!(" flags=allow-oom", "head.lua", "presence_head.lua", "sweep.lua");

/// The scripts of the presence.
pub(crate) struct PresenceScripts {
    presence: Script,
    members: Script,
    alive: Script,
    sweep: Script,
}

impl PresenceScripts {
    pub(super) fn new() -> Self {
        Self {
            presence: Script::new(PRESENCE),
            members: Script::new(MEMBERS),
            alive: Script::new(ALIVE),
            sweep: Script::new(SWEEP),
        }
    }

    pub(super) fn all(&self) -> [&Script; 4] {
        [&self.presence, &self.members, &self.alive, &self.sweep]
    }
}

/// Who calls, for one call: the node as it signs, an epoch of this call's own, and whether it wants to be told what the call
/// has changed.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) node: &'a str,
    pub(super) fresh: Epoch,
    pub(super) observes: bool,
}

/// What telling of users has led to.
#[derive(Debug)]
pub(super) struct Told {
    /// Nothing was changed, because something was lost: read first.
    pub(super) jumped: bool,
    pub(super) some_dead: bool,
    pub(super) changed: Changed,
}

/// A page of users, and whether some node is dead.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) page: ListPage,
    pub(super) some_dead: bool,
}

/// What is left to look through; the node is empty if nothing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sweep {
    pub(super) node: Bytes,
    cursor: u64,
}

impl Sweep {
    pub(super) const BEGIN: Self = Self { node: Bytes::new(), cursor: 0 };
}

impl Scripts {
    /// Tells how users of a node stand in one room. For `lease` it counts as alive there; without, it has nobody there.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn tell_users(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        caller: Caller<'_>,
        known_rev: u64,
        lease: Option<Duration>,
        users: &[(crate::auth::UserId, Stand)],
    ) -> Result<Told, CallError> {
        let answer = self.presence.presence.call(connection, |command| {
            self.begin(command, &[keys], caller);
            command.arg(known_rev).arg(lease.map_or(0, milliseconds)).arg(u8::from(caller.observes));
            for (user, stand) in users {
                let (kind, info) = match stand {
                    Stand::Here(info) => ("e", info.as_deref().unwrap_or_default()),
                    Stand::Shows(info) => ("u", &**info),
                    Stand::Gone => ("l", ""),
                };
                command.arg(kind).arg(user.as_str()).arg(info);
            }
        });
        match &texts(answer.await?).map(Iterator::collect::<Vec<_>>).unwrap_or_default()[..] {
            [_, jumped, some_dead, members_before, changes] => {
                let (jumped, some_dead) = (jumped == "1", some_dead == "1");
                changed(members_before, changes).map(|changed| Told { jumped, some_dead, changed })
            }
            _ => None,
        }
        .ok_or(CallError::Malformed("what became of users"))
    }

    /// Reads some of a room's users.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn members(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        caller: Caller<'_>,
        ask: AskList,
    ) -> Result<Page, CallError> {
        let answer = self.presence.members.call(connection, |command| {
            self.begin(command, &[keys], caller);
            command.arg(ask.known_rev).arg(ask.cursor).arg(USERS_PER_CALL);
            command.arg(if ask.jump { "jump" } else { "" });
        });
        page(answer.await?).ok_or(CallError::Malformed("a room's users"))
    }

    /// Says that a node is alive, and where the revision of each room stands; whether some node is dead there.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn alive(
        &self,
        connection: &mut impl ConnectionLike,
        caller: Caller<'_>,
        lease: Duration,
        rooms: &[(RoomKeys, Alive)],
    ) -> Result<Vec<(Revision, bool)>, CallError> {
        let keys: Vec<_> = rooms.iter().map(|(keys, _)| keys).collect();
        let answer = self.presence.alive.call(connection, |command| {
            self.begin(command, &keys, caller);
            command.arg(milliseconds(lease));
            for (_, Alive { ours, renew }) in rooms {
                command.arg(ours.rev).arg(if *renew { "1" } else { "0" });
            }
        });
        let malformed = CallError::Malformed("each room's revision");
        let Some(texts) = texts(answer.await?) else { return Err(malformed) };
        let texts: Vec<_> = texts.collect();
        let rooms_told: Option<Vec<_>> = texts
            .chunks(2)
            .map(|pair| match pair {
                [at, some_dead] => Some((revision(at)?, some_dead == "1")),
                _ => None,
            })
            .collect();
        rooms_told.filter(|told| told.len() == rooms.len()).ok_or(malformed)
    }

    /// Takes some of a dead node's users out of a room; what is left to do, and who has left.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn sweep(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        caller: Caller<'_>,
        known_rev: u64,
        sweep: &Sweep,
    ) -> Result<(Sweep, Changed), CallError> {
        let answer = self.presence.sweep.call(connection, |command| {
            self.begin(command, &[keys], caller);
            command.arg(known_rev).arg(&sweep.node[..]).arg(sweep.cursor).arg(USERS_PER_CALL);
            command.arg(u8::from(caller.observes));
        });
        match &texts(answer.await?).map(Iterator::collect::<Vec<_>>).unwrap_or_default()[..] {
            [node, cursor, members_before, changes] => number(cursor).and_then(|cursor| {
                Some((Sweep { node: node.clone(), cursor }, changed(members_before, changes)?))
            }),
            _ => None,
        }
        .ok_or(CallError::Malformed("what is left of a dead node"))
    }

    /// What all of them begin with.
    fn begin(&self, command: &mut Cmd, rooms: &[&RoomKeys], caller: Caller<'_>) {
        command.arg(rooms.len() * 6);
        for room in rooms {
            command.arg(&room.all()[..]).arg(&room.presence()[..]);
        }
        command.arg(caller.fresh.as_str()).arg(self.lineage).arg(self.carry).arg(caller.node);
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn page(answer: Value) -> Option<Page> {
    let mut texts = texts(answer)?;
    let at = revision(&texts.next()?)?;
    let settled = Duration::from_millis(number(&texts.next()?)?);
    let some_dead = texts.next()? == "1";
    let cursor = number(&texts.next()?)?;
    let mut listed = Vec::new();
    while let Some(user) = texts.next() {
        let (here, info) = (texts.next()? == "1", texts.next()?);
        // Somebody else has written what is no user or no JSON: nobody can be told that.
        if let (Some(user), Some(info)) = (deltas::user(&user), deltas::info(&info)) {
            listed.push(Listed { user, info, here });
        }
    }
    Some(Page { page: ListPage { at, settled, cursor, listed }, some_dead })
}

/// What a call has changed; nothing if it was not to be told.
fn changed(members_before: &[u8], changes: &[u8]) -> Option<Changed> {
    let members_before = usize::try_from(number(members_before)?).ok()?;
    let changes = if changes.is_empty() { Vec::new() } else { deltas::parse(changes)?.changes };
    Some(Changed { members_before, changes })
}

/// `EPOCH.REV`, which looks like a position.
fn revision(text: &[u8]) -> Option<Revision> {
    let Position { epoch, offset } = Position::parse(std::str::from_utf8(text).ok()?).ok()?;
    Some(Revision { epoch, rev: offset })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
