//! What holds for all nodes together, as the seam has it: places in a user's limit, what all nodes have to do, who they are.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tidings_protocol::event_id::{EventId, Position, RoomId};

use crate::auth::{Identity, UserId};
use crate::revocations::TooManyRevocations;
use crate::session_id::SessionId;
use crate::users::ConnectionLimit;

/// A broker's answer that takes a round trip.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place among a user's connections, as a handshake wants it.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) session: SessionId,
    pub(crate) takes_over: Option<SessionId>,
    pub(crate) limit: ConnectionLimit,
}

/// A place, and whether it was the oldest's, because the limit was reached.
pub(crate) struct Place {
    /// Gives it back when dropped.
    pub(crate) lease: Box<dyn Send>,
    pub(crate) limit_reached: bool,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPlace {
    /// The user has as many connections as he may.
    LimitReached,
    /// The broker knows that the token was revoked, and so does this node now.
    Revoked,
    /// Nobody knows: the broker does not answer.
    Silent,
}

/// What every node has to do, also one that can't be reached now or starts later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order<'a> {
    /// Close the connections that a user has until now.
    Disconnect(&'a UserId),
    /// Refuse a user's tokens that were issued until then.
    RevokeUser { user: &'a UserId, until_unix_s: u64 },
    /// Refuse this token.
    RevokeToken(&'a str),
    /// Forget the content of an event that was read before it was redacted.
    Redact { room: &'a RoomId, event: Position },
}

/// What one node asks of all.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Question {
    /// Which connections has this user?
    Sessions { user: String },
    /// Which rooms have members? Those behind `after`, so many at most.
    Rooms { prefix: String, after: Option<String>, limit: usize },
    /// Join the user's connections to a room: how many are in it?
    Join { user: String, room: String },
    /// Take them out of it: how many were in it?
    Leave { user: String, room: String },
}

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Reply {
    /// Sessions with their rooms.
    Sessions(Vec<(String, Vec<String>)>),
    /// Rooms, and how many users are in each.
    Rooms(Vec<(String, u64)>),
    /// How many.
    Count(u64),
}

/// What came back.
#[derive(Default, Debug)]
pub(crate) struct Replies {
    /// Of which node.
    pub(crate) all: Vec<(u64, Reply)>,
    /// Nodes that are there and did not answer.
    pub(crate) missing: usize,
}

/// The node itself, for a broker that carries other nodes' questions to it.
pub(crate) trait Answers: Send + Sync {
    /// Answers; none if the node is gone.
    fn answer(&self, question: Question) -> Answer<'static, Option<Reply>>;

    /// Forgets the content of an event.
    fn redact(&self, event: &EventId);
}

/// Why not every node does what was asked of all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ControlError {
    /// As many are remembered as may be.
    TooMany(TooManyRevocations),
    /// The broker did not answer. This node has done it; whether the others will is not known. Ask again: it does no harm.
    Unavailable,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(error) => error.fmt(f),
            Self::Unavailable => f.write_str(
                "what tells the other nodes does not answer: it is done on this node, and perhaps on no other; ask again",
            ),
        }
    }
}

impl std::error::Error for ControlError {}

impl From<TooManyRevocations> for ControlError {
    fn from(error: TooManyRevocations) -> Self {
        Self::TooMany(error)
    }
}

/// One of the nodes that share a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Drawn when it started: 16 hexadecimal digits.
    pub id: String,
    /// When it started, in milliseconds since 1970, by its own clock.
    pub since_unix_ms: u64,
    /// Its connections, as of some seconds ago.
    pub connections: u64,
    /// Whether it is the one that was asked.
    pub is_this: bool,
}
