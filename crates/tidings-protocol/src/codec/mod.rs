//! Bytes to message and back, text and binary, both directions.
//!
//! It owns the envelope: which fields it has, which of them are refused, and in which order ours are written. It never
//! parses an application's `data` (which stays the bytes that it was), never keeps state between two messages, and
//! never panics or recurses on what it is given. What a client sends is read strictly (PROTOCOL.md §2), what a server
//! sends leniently (§3), so that an old client lives with a new server.
//!
//! The fields of our own output stand in this order, an absent one being left out:
//!
//! - a client's message: `event`, `room`, `data`, `id`;
//! - an event: `event`, `room`, `data`, `from`, `re`, `id`, `at`. What the publisher knows comes first, because the
//!   sequencer appends the rest ([`put_publication_head`], [`put_publication_tail`]);
//! - `ack` and `error`: `event`, `id`, `data`;
//! - `room.skip`, `room.epoch`, `room.reset`: `event`, `room`, `id`, `data`;
//! - `presence.*`: `event`, `room`, `data`; `session.*`: `event`, `data`.

mod client_message;
mod envelope;
mod server_message;
mod write;

use std::fmt;

pub use client_message::{decode_client_binary, decode_client_text, encode_client};
pub use server_message::{decode_server_binary, decode_server_text, encode_server};
pub use write::{
    begin_binary, end_binary_header, publication_bytes, put_publication_head, put_publication_tail,
    put_published,
};

use crate::error::{ErrorCode, Refusal};
use crate::message::MessageId;

/// The kind of frame that encoded bytes belong in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A text frame: one JSON object.
    Text,
    /// A binary frame: header length, header, payload. PROTOCOL.md §4.
    Binary,
}

/// Why bytes are no message of this protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// The message's id, if the envelope could be read: the sender then learns which message was refused.
    pub id: Option<MessageId>,
    /// Code and sentence, as they go into the `error`.
    pub refusal: Refusal,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl std::error::Error for DecodeError {}

impl From<Refusal> for DecodeError {
    /// For a message whose envelope could not be read.
    fn from(refusal: Refusal) -> Self {
        Self { id: None, refusal }
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::Invalid, message)
}
