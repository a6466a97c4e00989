//! What an `error` message says: a code for programs, a sentence for people. PROTOCOL.md §3.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a client's message was not served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not now; it may have been stored, so retry with the same id.
    Unavailable,
    /// Too fast; retry with the same id after `retry_after_ms`, and send nothing later to that room first.
    RateLimited,
    /// The server failed; retry with the same id.
    Internal,
    /// Not a message of this protocol.
    Invalid,
    /// The data does not fit the event's schema; `pointer` names the place.
    Schema,
    /// A part of the message is above its limit.
    TooLarge,
    /// The room's rule says no.
    Forbidden,
    /// The room has to be joined first.
    NotJoined,
    /// Neither a handler nor a schema is known for this event.
    UnknownEvent,
    /// No rule covers this room.
    UnknownRoom,
    /// The id was used in the last five minutes for another payload.
    IdempotencyConflict,
    /// More rooms than a connection may join.
    RoomLimit,
    /// A code of a later version, which a client takes for a final one.
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// Whether the same message with the same id may be sent again.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::RateLimited | Self::Internal)
    }

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Schema => "schema",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::NotJoined => "not_joined",
            Self::UnknownEvent => "unknown_event",
            Self::UnknownRoom => "unknown_room",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::RoomLimit => "room_limit",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The data of an `error` message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// With `rate_limited`: when a retry has a chance, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `schema`: the JSON pointer (RFC 6901) of the fault inside `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, pointer: None }
    }

    /// Says when a retry has a chance.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Names the place of a schema fault.
    #[must_use]
    pub fn pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
