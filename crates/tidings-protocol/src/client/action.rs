//! What a client's shell is told, and why a message is not taken.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::link::{ConnectUrl, State};
use super::positions::CaughtUp;
use crate::close::CloseCode;
use crate::codec::Encoding;
use crate::error::{ErrorCode, Refusal};
use crate::event_id::{EventId, RoomId};
use crate::message::{LeftReason, MessageId};

/// How much may wait for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientQueueLimits {
    /// Requests without an answer. One more is refused with [`NotAccepted::Full`]. 256.
    pub requests_max: usize,
    /// Bytes of the requests without an answer. More is refused with [`NotAccepted::Full`]. 4 MiB.
    pub request_bytes_max: usize,
    /// Messages without an id that the shell has not yet taken. One more is refused with [`NotAccepted::Full`]. 256.
    pub sends_max: usize,
}

impl Default for ClientQueueLimits {
    fn default() -> Self {
        Self { requests_max: 256, request_bytes_max: 4 * 1024 * 1024, sends_max: 256 }
    }
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Action {
    /// Open a connection, then call [`Client::receive`](super::Client::receive) for what comes, or [`Client::refused`](super::Client::refused) or [`Client::closed`](super::Client::closed).
    Connect(ConnectUrl),
    /// Send these bytes as one frame of this kind.
    Send(Encoding, Bytes),
    /// Close the connection with this code, and report nothing of it any more.
    Disconnect(CloseCode),
    /// The answer to a request; each has exactly one.
    Settled(MessageId, Outcome),
    /// The server has joined a room by itself, on connect or later: [`Joined`](Self::Joined) comes with it.
    JoinedByServer(RoomId),
    /// A room is joined, by a join, a resume or the server itself.
    Joined(RoomId),
    /// What a room's join or resume had to bring has come, and from here on events are live.
    CaughtUp(RoomId, CaughtUp),
    /// A room that the client followed is not followed any more, and that was not the application's wish.
    RoomLost(RoomId, RoomLoss),
    /// The connection's state changed.
    StateChanged(State),
}

/// Why a room is not followed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RoomLoss {
    /// It could not be joined again.
    Refused(ErrorCode),
    /// The connection was taken out of it.
    Left(LeftReason),
}

impl fmt::Display for RoomLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(code) => code.as_str(),
            Self::Left(reason) => reason.as_str(),
        })
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With an ack, and this result.
    Acked(Box<RawValue>),
    /// Its event came back before its ack.
    Published(EventId),
    /// With an error that is final.
    Refused(Refusal),
    /// Nothing was heard of it for two minutes, or the client ended before: it may have been served or not.
    OutcomeUnknown,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAccepted {
    /// As much as may wait does wait.
    Full,
    /// It is larger than the server takes: see [`ClientLimits`](crate::message::ClientLimits).
    TooLarge,
    /// It asks for no answer and so can't wait for a connection, and there is none.
    NotConnected,
    /// The client was closed, or has given up for good.
    Closed,
    /// `session.resume` is the client's own to send.
    Reserved,
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many messages wait for the connection",
            Self::TooLarge => "the message is larger than the server takes",
            Self::NotConnected => "there is no connection",
            Self::Closed => "the client is closed",
            Self::Reserved => "the client resumes by itself",
        })
    }
}

impl std::error::Error for NotAccepted {}
