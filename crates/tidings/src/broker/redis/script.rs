//! The scripts as calls: whatever changes a room in Redis is one of them, in one round trip.
//!
//! A call is sent when its future is first polled, and nothing takes it back: dropping the future drops the answer.
//! Calls of one room must not overlap, because one that has to bring its script along is sent twice.

use std::fmt::Write as _;

use bytes::Bytes;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, ServerErrorKind, Value};
use sha1::{Digest as _, Sha1};
use tidings_protocol::event_id::{Epoch, Offset, Position};
use tidings_protocol::follower::Page;
use tidings_protocol::room_log::LogBounds;

use super::answer::{self, Receipts};
use super::error::CallError;
use super::keys::RoomKeys;
use super::presence::PresenceScripts;
use super::user_scripts::UserScripts;

/// A script of these files of `lua/`. Without `no-writes`, so that a replica refuses it.
macro_rules! script {
    ($flags:literal, $($file:literal),*) => {
        concat!("#!lua", $flags, "\n", $(include_str!(concat!("lua/", $file))),*)
    };
}

pub(super) use script;

const PUBLISH: &str = script!("", "head.lua", "log.lua", "publish.lua");
// A room is read, and made, also where there is no memory left for events.
const READ: &str = script!(" flags=allow-oom", "head.lua", "log.lua", "read.lua");
const REDACT: &str = script!(" flags=allow-oom", "head.lua", "log.lua", "redact.lua");
const POSITIONS: &str = script!(" flags=allow-oom", "head.lua", "positions.lua");

/// How many events one read brings at most.
pub(crate) const READ_EVENTS_MAX: usize = 500;
/// How many bytes one read brings at most, if they are more than one event.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;

/// By what a fork of a room's log is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lineage {
    /// By the server's replication id, which every script asks for.
    ReplicationId,
    /// By nothing: one event id may name two events after a failover.
    None,
}

/// How a room's messages are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channels {
    /// `PUBLISH`.
    Classic,
    /// `SPUBLISH`: in Redis Cluster the other would go to every server.
    Sharded,
}

impl Channels {
    pub(crate) fn publish_command(self) -> &'static str {
        match self {
            Self::Classic => "PUBLISH",
            Self::Sharded => "SPUBLISH",
        }
    }
}

/// What a room may keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomBounds {
    pub(crate) log: LogBounds,
    /// How many idempotency ids it takes within five minutes.
    pub(crate) ids_max: usize,
}

/// One publication, as Redis takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitted<'a> {
    pub(crate) id: Option<&'a [u8; 16]>,
    /// Of what was asked for under this id.
    pub(crate) fingerprint: u64,
    pub(crate) record: &'a [u8],
}

pub(super) struct Script {
    body: &'static str,
    sha: String,
}

impl Script {
    pub(super) fn new(body: &'static str) -> Self {
        let mut sha = String::with_capacity(40);
        for byte in Sha1::digest(body.as_bytes()) {
            // A string takes everything.
            let _ = write!(sha, "{byte:02x}");
        }
        Self { body, sha }
    }

    pub(super) async fn call(
        &self,
        connection: &mut impl ConnectionLike,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, CallError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha);
        arguments(&mut command);
        match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                // Somebody has emptied the script cache: bring the script along, and it is there again.
                let mut command = redis::cmd("EVAL");
                command.arg(self.body);
                arguments(&mut command);
                Ok(command.query_async(connection).await?)
            }
            answer => Ok(answer?),
        }
    }
}

/// Every script, with how this installation wants them run.
pub(crate) struct Scripts {
    publish: Script,
    read: Script,
    redact: Script,
    positions: Script,
    /// Those of the presence.
    pub(super) presence: PresenceScripts,
    /// Those of what holds for all nodes.
    pub(super) users: UserScripts,
    pub(super) lineage: &'static str,
    pub(super) carry: &'static str,
}

impl Scripts {
    pub(crate) fn new(lineage: Lineage, channels: Channels) -> Self {
        let lineage = match lineage {
            Lineage::ReplicationId => "replid",
            Lineage::None => "none",
        };
        Self {
            publish: Script::new(PUBLISH),
            read: Script::new(READ),
            redact: Script::new(REDACT),
            positions: Script::new(POSITIONS),
            presence: PresenceScripts::new(),
            users: UserScripts::new(lineage),
            lineage,
            carry: channels.publish_command(),
        }
    }

    /// Makes the server know the scripts: once for each connection.
    ///
    /// # Errors
    /// [`CallError`]; also where a script does not compile, which is refused.
    pub(crate) async fn load(&self, connection: &mut impl ConnectionLike) -> Result<(), CallError> {
        let scripts = [&self.publish, &self.read, &self.redact, &self.positions];
        for script in scripts.into_iter().chain(self.users.all()).chain(self.presence.all()) {
            let sha: String =
                redis::cmd("SCRIPT").arg("LOAD").arg(script.body).query_async(connection).await?;
            if sha != script.sha {
                return Err(CallError::Malformed("the script's hash"));
            }
        }
        Ok(())
    }

    /// Sequences publications of one room in their order, all or none, and carries what was stored.
    ///
    /// `fresh` is the epoch that begins if one has to. It is drawn for this call alone: used twice, it could begin on
    /// two servers.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn publish(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        fresh: Epoch,
        bounds: &RoomBounds,
        publications: &[Submitted<'_>],
    ) -> Result<Receipts, CallError> {
        let answer = self.publish.call(connection, |command| {
            with_keys(command, [keys]);
            command.arg(fresh.as_str()).arg(self.lineage).arg(self.carry).arg(keys.channel());
            command.arg(bounds.log.events_max).arg(bounds.log.bytes_max);
            command
                .arg(u64::try_from(bounds.log.age_max.as_millis()).unwrap_or(u64::MAX))
                .arg(bounds.ids_max);
            for publication in publications {
                let fingerprint = publication.fingerprint.to_be_bytes();
                command
                    .arg(publication.id.map_or(&[][..], |id| id))
                    .arg(&fingerprint[..])
                    .arg(publication.record);
            }
        });
        Receipts::parse(answer.await?, publications.len())
    }

    /// Where the log stands and what it holds after an offset, or everything; at most [`READ_EVENTS_MAX`] and
    /// [`READ_BYTES_MAX`]. Makes the room if there is none.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn read(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        fresh: Epoch,
        after: Option<Offset>,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Page<Bytes>, CallError> {
        let answer = self.read.call(connection, |command| {
            with_keys(command, [keys]);
            command.arg(fresh.as_str()).arg(self.lineage);
            match after {
                Some(offset) => command.arg(offset),
                None => command.arg("-inf"),
            };
            command.arg(events_max).arg(bytes_max);
        });
        answer::page(answer.await?)
    }

    /// Puts `instead` in the place of an event's record; whether the event is stored.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn redact(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &RoomKeys,
        fresh: Epoch,
        event: Position,
        instead: &[u8],
    ) -> Result<bool, CallError> {
        let answer = self.redact.call(connection, |command| {
            with_keys(command, [keys]);
            command.arg(fresh.as_str()).arg(self.lineage);
            command.arg(event.epoch.as_str()).arg(event.offset).arg(instead);
        });
        match answer.await? {
            Value::Int(stored) => Ok(stored == 1),
            _ => Err(CallError::Malformed("whether an event is redacted")),
        }
    }

    /// The newest position of each room, in their order. Makes rooms that are not there. In Redis Cluster one room a
    /// call; elsewhere some hundreds, since nothing else runs meanwhile.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn positions(
        &self,
        connection: &mut impl ConnectionLike,
        rooms: &[&RoomKeys],
        fresh: Epoch,
    ) -> Result<Vec<Position>, CallError> {
        let answer = self.positions.call(connection, |command| {
            with_keys(command, rooms.iter().copied());
            command.arg(fresh.as_str()).arg(self.lineage);
        });
        answer::positions(answer.await?, rooms.len())
    }
}

fn with_keys<'a>(
    command: &mut Cmd,
    rooms: impl IntoIterator<Item = &'a RoomKeys, IntoIter: ExactSizeIterator>,
) {
    let rooms = rooms.into_iter();
    command.arg(rooms.len() * 4);
    for room in rooms {
        command.arg(&room.all()[..]);
    }
}
