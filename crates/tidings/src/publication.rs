//! One event with its position, encoded once for everyone who gets it.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_protocol::codec;
use tidings_protocol::event_id::{Offset, Position, RoomId};
use tidings_protocol::frame::{self, Opcode};
use tidings_protocol::message::{EventName, MessageId};

use crate::auth::UserId;
use crate::session_id::SessionId;

/// What a publication takes in the log beyond its frame, roughly: for the bounds in bytes.
const OVERHEAD_BYTES: usize = 160;

/// A publication before it has a position: all of its envelope that its publisher knows, as an open JSON object.
pub(crate) struct Draft {
    head: Vec<u8>,
    /// A binary frame's payload.
    payload: Option<Bytes>,
    pub(crate) excluded: Option<Excluded>,
    pub(crate) key: Option<PublishKey>,
}

/// Whose retry this would be.
#[derive(Clone)]
pub(crate) struct PublishKey {
    pub(crate) user: UserId,
    /// The room of the request, which need not be the one that is published to.
    pub(crate) request_room: Option<RoomId>,
    pub(crate) id: MessageId,
    /// The call's k-th publish.
    pub(crate) nth: u32,
    /// Of the request: event name and raw data.
    pub(crate) fingerprint: u64,
}

/// The one session that a publication is not for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Excluded {
    pub(crate) user: UserId,
    /// The session and whatever took its place later.
    pub(crate) lineage: u64,
}

impl Excluded {
    pub(crate) fn new(user: UserId, session: SessionId) -> Self {
        Self { user, lineage: session.lineage() }
    }

    /// Whether this is the session, or one that took its place.
    pub(crate) fn is(&self, user: &UserId, session: SessionId) -> bool {
        self.lineage == session.lineage() && self.user == *user
    }
}

/// What an event carries, on its way into a draft.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    Json(&'a RawValue),
    Binary(Bytes),
}

impl Draft {
    pub(crate) fn new(
        event: &EventName,
        room: &RoomId,
        payload: Payload<'_>,
        from: Option<&UserId>,
        re: Option<&MessageId>,
    ) -> Self {
        let (data, payload) = match payload {
            Payload::Json(data) => (Some(data), None),
            Payload::Binary(payload) => (None, Some(payload)),
        };
        let mut head = Vec::with_capacity(128 + data.map_or(0, |data| data.get().len()));
        codec::put_publication_head(&mut head, event, room, data, from.map(UserId::as_str), re);
        Self { head, payload, excluded: None, key: None }
    }

    /// Bytes of the message without its position.
    pub(crate) fn bytes(&self) -> usize {
        self.head.len() + self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// Gives it its position: encodes the one frame that everybody gets.
    pub(crate) fn publish(mut self, room: &RoomId, position: Position, at_ms: u64) -> Publication {
        codec::put_publication_tail(&mut self.head, room, position, at_ms);
        let (frame, binary) = match &self.payload {
            None => (frame::frame(Opcode::Text, &[&self.head]), false),
            Some(payload) => {
                let header_len = u16::try_from(self.head.len()).unwrap_or(u16::MAX).to_be_bytes();
                (frame::frame(Opcode::Binary, &[&header_len, &self.head, payload]), true)
            }
        };
        Publication {
            offset: position.offset,
            excluded: self.excluded,
            body_len: self.head.len() + self.payload.map_or(0, |payload| payload.len() + 2),
            binary,
            frame,
            json: OnceLock::new(),
        }
    }
}

/// An event in a room's log, in every encoding that somebody has asked for.
pub(crate) struct Publication {
    pub(crate) offset: Offset,
    pub(crate) excluded: Option<Excluded>,
    binary: bool,
    /// Bytes of the message inside `frame`.
    body_len: usize,
    /// The WebSocket frame.
    frame: Bytes,
    /// The message as one JSON object, for `room.history`: made of a binary message when first asked for.
    json: OnceLock<Option<Arc<RawValue>>>,
}

impl Publication {
    /// The WebSocket frame, shared.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// What it takes in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.frame.len() + OVERHEAD_BYTES
    }

    /// Whether it is kept from this session.
    pub(crate) fn excludes(&self, user: &UserId, session: SessionId) -> bool {
        self.excluded.as_ref().is_some_and(|excluded| excluded.is(user, session))
    }

    /// The message as one JSON object; a binary payload as base64 with `"encoding":"base64"`.
    pub(crate) fn json(&self) -> Option<Arc<RawValue>> {
        self.json
            .get_or_init(|| {
                let body = &self.frame[self.frame.len() - self.body_len..];
                let text = if self.binary {
                    binary_as_json(body)?
                } else {
                    std::str::from_utf8(body).ok()?.to_owned()
                };
                RawValue::from_string(text).ok().map(Arc::from)
            })
            .clone()
    }
}

fn binary_as_json(body: &[u8]) -> Option<String> {
    let (header_len, rest) = body.split_first_chunk::<2>()?;
    let (header, payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*header_len)))?;
    let open = std::str::from_utf8(header).ok()?.strip_suffix('}')?;
    Some(format!("{open},\"data\":\"{}\",\"encoding\":\"base64\"}}", BASE64.encode(payload)))
}
