//! What the two sides say to each other: one enum per direction, borrowed from the bytes it came in.
//!
//! `data` is never parsed here: it stays the raw JSON (or the raw bytes) that it was. PROTOCOL.md §2–§4.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::error::{ErrorCode, Refusal};
use crate::event_id::{
    Cursor, Epoch, EventId, InvalidId, Offset, Position, RoomId, is_name_byte, serde_as_text,
};
use crate::limits::{EVENT_BYTES_MAX, MESSAGE_ID_BYTES_MAX};

/// An event's name: 1–64 of `A-Za-z0-9_.:-`. Cloning copies a short text and shares a long one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(SmolStr);

impl EventName {
    /// Parses an event's name, reserved or not.
    ///
    /// # Errors
    /// [`InvalidId::Event`] when it is empty, longer than 64 bytes or holds a byte outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=EVENT_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(is_name_byte) { Ok(Self(text.into())) } else { Err(InvalidId::Event) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the protocol keeps this name for itself: `ack`, `error`, `room.*`, `session.*`, `presence.*`.
    pub fn is_reserved(&self) -> bool {
        matches!(self.as_str(), "ack" | "error")
            || ["room.", "session.", "presence."].iter().any(|prefix| self.0.starts_with(prefix))
    }
}

impl std::borrow::Borrow<str> for EventName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A client's name for one of its messages: 1–64 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(SmolStr);

impl MessageId {
    /// Parses a message id. A space counts as printable.
    ///
    /// # Errors
    /// [`InvalidId::Message`] when it is empty, longer than 64 bytes or holds anything but printable ASCII.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=MESSAGE_ID_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::Message)
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown_as_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    )*};
}
shown_as_text!(EventName, MessageId);
serde_as_text!(EventName, MessageId);

/// What an event carries.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// JSON, as the bytes it came in; `null` if the field was absent.
    Json(&'a RawValue),
    /// A binary frame's payload.
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    /// The bytes, JSON text or payload.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Json(raw) => raw.get().as_bytes(),
            Self::Binary(payload) => payload,
        }
    }
}

/// A message from a client.
#[derive(Clone, Debug)]
pub enum ClientMessage<'a> {
    /// `room.join`.
    Join {
        /// The room.
        room: RoomId,
        /// The ack is the result, so there always is one.
        id: MessageId,
        /// From where.
        from: JoinFrom,
    },
    /// `room.leave`.
    Leave {
        /// The room.
        room: RoomId,
        /// Asks for an ack.
        id: Option<MessageId>,
    },
    /// `room.members`.
    Members {
        /// The room.
        room: RoomId,
        /// Asks for an ack, without which the answer goes nowhere.
        id: Option<MessageId>,
        /// Users after this one, in the order of their ids.
        after: Option<String>,
        /// At most so many.
        limit: Option<u32>,
    },
    /// `room.history`.
    History {
        /// The room.
        room: RoomId,
        /// Asks for an ack, without which the answer goes nowhere.
        id: Option<MessageId>,
        /// Events older than this one.
        before: Option<Position>,
        /// At most so many.
        limit: Option<u32>,
    },
    /// `room.list`.
    List {
        /// Asks for an ack, without which the answer goes nowhere.
        id: Option<MessageId>,
    },
    /// `session.resume`.
    Resume {
        /// The ack is the result, so there always is one.
        id: MessageId,
        /// The rooms to join and from where.
        cursor: Cursor,
    },
    /// `session.refresh`.
    Refresh {
        /// Asks for an ack.
        id: Option<MessageId>,
        /// The new token.
        token: Cow<'a, str>,
    },
    /// `presence.update`.
    PresenceUpdate {
        /// The room.
        room: RoomId,
        /// Asks for an ack.
        id: Option<MessageId>,
        /// What the others are to see.
        info: &'a RawValue,
    },
    /// `presence.heartbeat`.
    Heartbeat {
        /// The room, for an application's handler.
        room: Option<RoomId>,
        /// Asks for an ack.
        id: Option<MessageId>,
        /// For an application's handler.
        data: &'a RawValue,
    },
    /// One of the application's own.
    Event(ClientEvent<'a>),
}

impl ClientMessage<'_> {
    /// The client's id for it.
    pub fn id(&self) -> Option<&MessageId> {
        match self {
            Self::Join { id, .. } | Self::Resume { id, .. } => Some(id),
            Self::Leave { id, .. }
            | Self::Members { id, .. }
            | Self::History { id, .. }
            | Self::List { id }
            | Self::Refresh { id, .. }
            | Self::PresenceUpdate { id, .. }
            | Self::Heartbeat { id, .. }
            | Self::Event(ClientEvent { id, .. }) => id.as_ref(),
        }
    }

    /// The room that it belongs to.
    pub fn room(&self) -> Option<&RoomId> {
        match self {
            Self::Join { room, .. }
            | Self::Leave { room, .. }
            | Self::Members { room, .. }
            | Self::History { room, .. }
            | Self::PresenceUpdate { room, .. } => Some(room),
            Self::Heartbeat { room, .. } | Self::Event(ClientEvent { room, .. }) => room.as_ref(),
            Self::List { .. } | Self::Resume { .. } | Self::Refresh { .. } => None,
        }
    }
}

/// Where a `room.join` starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinFrom {
    /// At the newest position, with the last `history` events first.
    Newest {
        /// How many older events to send first; 0 for none.
        history: u32,
    },
    /// After this position.
    Position(Position),
}

/// An application's event on its way in.
#[derive(Clone, Debug)]
pub struct ClientEvent<'a> {
    /// Its name, never a reserved one.
    pub event: EventName,
    /// The room that it is for; without one it is the handler's alone.
    pub room: Option<RoomId>,
    /// What it carries.
    pub data: Data<'a>,
    /// Asks for an ack and makes a retry safe.
    pub id: Option<MessageId>,
}

/// A message from the server.
#[derive(Clone, Debug)]
pub enum ServerMessage<'a> {
    /// The result of a message with an id.
    Ack {
        /// The client's id.
        id: MessageId,
        /// The result.
        data: &'a RawValue,
    },
    /// Why a message was not served.
    Error {
        /// The client's id, if it could be read.
        id: Option<MessageId>,
        /// Code and sentence.
        refusal: Refusal,
    },
    /// `session.welcome`: the first message of every connection.
    Welcome(Welcome<'a>),
    /// An application's event: a publication if it has a room and an id, else a direct message.
    Event(ServerEvent<'a>),
    /// `presence.join`, `presence.update` or `presence.leave`.
    Presence {
        /// The room.
        room: RoomId,
        /// What happened.
        change: PresenceChange,
        /// The member, with what the others are to see.
        member: Member<'a>,
        /// The room's presence revision after it.
        rev: u64,
    },
    /// `presence.changes`: several of those in one, of a large room.
    PresenceChanges {
        /// The room.
        room: RoomId,
        /// What happened, each user once.
        changes: PresenceChanges<'a>,
    },
    /// `presence.count`: how many are in a room that does not tell who.
    PresenceCount {
        /// The room.
        room: RoomId,
        /// How many, as of when.
        count: PresenceCount,
    },
    /// `room.skip`: the offsets from `from` to `id`'s are not for this connection.
    Skip {
        /// The position that it moves to.
        id: EventId,
        /// The first offset that is left out.
        from: Offset,
        /// Why.
        reason: SkipReason,
    },
    /// `room.epoch`: the log goes on under a new epoch, nothing was lost.
    EpochChange {
        /// The position that it moves to.
        id: EventId,
        /// The epoch until now.
        was: Epoch,
    },
    /// `room.reset`: something was lost.
    Reset {
        /// With `state` the snapshot's position, else the last lost offset.
        id: EventId,
        /// Why.
        reason: ResetReason,
        /// The lost offsets, first and last; none across unrelated epochs.
        lost: Option<Lost>,
        /// The room's state at `id`, from the rule's snapshot handler.
        state: Option<&'a RawValue>,
    },
    /// `room.joined`: the application has joined this connection to a room, whose events follow.
    RoomJoined {
        /// The room.
        room: RoomId,
        /// As the ack of a join of the connection's own.
        joined: Joined,
    },
    /// `room.left`: this connection was taken out of a room that it did not ask to leave.
    RoomLeft {
        /// The room.
        room: RoomId,
        /// Why.
        reason: LeftReason,
    },
    /// `session.checkpoint`: a cursor for clients that keep one string only.
    Checkpoint {
        /// Every room's position as of this message.
        last_event_id: Cursor,
    },
    /// `session.reconnect`: come back at a random time inside the window.
    Reconnect {
        /// The window's begin, in milliseconds from now.
        after_ms: u64,
        /// The window's end, in milliseconds from now.
        within_ms: u64,
        /// Why, `draining` for one.
        reason: Cow<'a, str>,
    },
    /// `session.degraded`: what rooms are stored in is out of the node's reach, or within it again.
    Degraded {
        /// Whether it is out of reach.
        degraded: bool,
    },
    /// A reserved event that this version does not know: to be ignored.
    Unknown {
        /// Its name.
        event: EventName,
    },
}

/// The data of `session.welcome`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// This connection's session, for `?session=` and for excluding it.
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// Who the token says it is.
    #[serde(borrow)]
    pub user: Cow<'a, str>,
    /// The rooms that the user was joined to.
    pub rooms: Vec<RoomId>,
    /// Their positions before what follows.
    pub last_event_id: Cursor,
    /// Between pings, in milliseconds.
    pub heartbeat_ms: u64,
    /// The limits that a client can run into.
    pub limits: ClientLimits,
    /// What this server can do beyond version 1.
    pub features: Vec<String>,
}

/// The limits that `session.welcome` tells.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientLimits {
    /// A text message, in bytes.
    pub text_message_bytes: usize,
    /// A binary message, in bytes.
    pub binary_message_bytes: usize,
    /// Messages a second.
    pub messages_per_second: u32,
    /// Messages at once.
    pub messages_burst: u32,
    /// Rooms of a connection.
    pub rooms: usize,
    /// Joins a second.
    pub joins_per_second: u32,
    /// Without a frame of any kind, in milliseconds.
    pub silence_ms: u64,
}

/// An application's event on its way out.
#[derive(Clone, Debug)]
pub struct ServerEvent<'a> {
    /// Its name.
    pub event: EventName,
    /// Its room, if it has one.
    pub room: Option<RoomId>,
    /// What it carries.
    pub data: Data<'a>,
    /// Its place in the room's log; with it, it moves the position.
    pub id: Option<Position>,
    /// The user who caused it; none for the server itself.
    pub from: Option<Cow<'a, str>>,
    /// When it was sequenced, in milliseconds since 1970.
    pub at: Option<u64>,
    /// The id of the client's message that caused it.
    pub re: Option<MessageId>,
}

/// What a `presence.*` event tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PresenceChange {
    /// The user's first connection came.
    Join,
    /// The user's info changed.
    Update,
    /// The user's last connection left.
    Leave,
}

impl PresenceChange {
    /// The name of the event that tells it.
    pub fn event_name(self) -> &'static str {
        match self {
            Self::Join => "presence.join",
            Self::Update => "presence.update",
            Self::Leave => "presence.leave",
        }
    }
}

/// The data of `presence.changes`: how the users stand who have changed from one revision to another. PROTOCOL.md §3.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PresenceChanges<'a> {
    /// Who came, with what the others are to see now.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Member<'a>>,
    /// Who was here and is, with what the others are to see now.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub updates: Vec<Member<'a>>,
    /// Who is not here any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<Cow<'a, str>>,
    /// The first revision that is in it.
    pub from: u64,
    /// The room's presence revision after it.
    pub rev: u64,
}

/// The data of `presence.count`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PresenceCount {
    /// How many users are in the room.
    pub members: u64,
    /// The room's presence revision that the number belongs to.
    pub rev: u64,
}

/// One member of a room: a user, however many connections he has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member<'a> {
    /// The user.
    #[serde(borrow)]
    pub user: Cow<'a, str>,
    /// The last `presence.update`; null before the first.
    #[serde(borrow, default = "null")]
    pub info: Cow<'a, RawValue>,
}

fn null() -> Cow<'static, RawValue> {
    Cow::Borrowed(RawValue::NULL)
}

/// Why offsets are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The publisher excluded this session.
    Excluded,
    /// A newer value of the same key follows.
    Conflated,
    /// The room's overflow policy dropped them.
    Dropped,
    /// The room's rule keeps them from this connection.
    Filtered,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// Why a room was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResetReason {
    /// The events after the position are no longer stored.
    Expired,
    /// The log forked behind the position.
    Forked,
    /// The client told no position for this room.
    NoPosition,
    /// The position's epoch is not of this log.
    UnknownEpoch,
    /// The position is newer than the log's top.
    TooFar,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// Why a connection was taken out of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftReason {
    /// The application took it out.
    Removed,
    /// The refreshed token does not allow the room.
    Forbidden,
    /// Whether the refreshed token allows the room could not be found out: join it again.
    Unavailable,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

impl LeftReason {
    /// The reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::Other => "other",
        }
    }
}

/// Offsets that a reset declares lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lost {
    /// The first.
    pub from: Offset,
    /// The last.
    pub to: Offset,
}

/// How a join went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// No position was asked for.
    Fresh,
    /// Everything after the position follows.
    Complete,
    /// Something was lost: a `room.reset` follows.
    Gap,
}

/// The ack's data of `room.join`, and the data of `room.joined`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// How it went.
    pub recovery: Recovery,
    /// The position before what follows; for a gap the one asked for, or none.
    pub last_event_id: Option<EventId>,
    /// The newest position.
    pub top: EventId,
    /// How many users are in the room, with this one.
    pub members: u64,
}

/// The ack's data of `session.resume`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resumed {
    /// Each room of the cursor.
    pub rooms: BTreeMap<RoomId, ResumedRoom>,
}

/// One room of a `session.resume`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResumedRoom {
    /// Joined again.
    Joined(Joined),
    /// The rule said no, or the room limit was reached.
    Refused {
        /// Why.
        error: ErrorCode,
    },
}

/// The ack's data of `room.members`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Members<'a> {
    /// The page, in the order of the users' ids.
    #[serde(borrow)]
    pub members: Vec<Member<'a>>,
    /// The room's presence revision that the page belongs to.
    pub rev: u64,
    /// How many users are in the room, on this page or not; a server of before it was told leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `after` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The ack's data of `room.history`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History<'a> {
    /// The events as they were sent, oldest first; a binary one has its payload as base64 and `"encoding":"base64"`.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
    /// `before` of the next older page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<EventId>,
}

/// The ack's data of `room.list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoomList {
    /// This connection's rooms, sorted.
    pub rooms: Vec<RoomId>,
}

/// The ack's data of an event that was published as it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The event's name in the log.
    pub event_id: EventId,
    /// Whether this id had published it before.
    pub duplicate: bool,
}

/// The ack's data of `session.refresh`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refreshed {
    /// The new token's `exp`, in seconds since 1970.
    pub expires_at: u64,
}
