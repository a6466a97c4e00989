//! One event with its position, encoded once for everyone who gets it.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::value::RawValue;
use smol_str::SmolStr;
use tidings_protocol::codec;
use tidings_protocol::event_id::{Offset, Position, RoomId};
use tidings_protocol::frame::{FrameBuffer, Opcode};
use tidings_protocol::message::{EventName, MessageId, ServerMessage, SkipReason};

use crate::auth::UserId;
use crate::encode;
use crate::session_id::SessionId;

/// What a publication takes in the log beyond its frame, roughly: for the bounds in bytes.
const OVERHEAD_BYTES: usize = 160;

/// What a record's first byte says of it.
const BINARY: u8 = 1;
const EXCLUDED: u8 = 2;
const ABOUT: u8 = 4;
/// Its content was taken back: nothing follows.
const REDACTED: u8 = 8;
/// What stands in the place of a record whose content was taken back.
pub(crate) const REDACTED_RECORD: &[u8] = &[REDACTED];
/// Bytes of a record beyond its draft's, about.
const RECORD_FIXED_BYTES: usize = 64;
/// Bytes of a position and a time at a message's end, about.
const TAIL_BYTES: usize = 200;
/// The length of the header, in front of a binary message.
const BINARY_LENGTH_BYTES: usize = 2;

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (bytes, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(bytes)
}

/// A publication before it has a position: its frame, as far as its publisher knows it, with an open JSON object.
pub(crate) struct Draft {
    frame: FrameBuffer,
    /// A binary frame's payload, and where its header began.
    payload: Option<(Bytes, usize)>,
    pub(crate) excluded: Option<Excluded>,
    pub(crate) key: Option<PublishKey>,
    /// What it is about, in a room that keeps the newest of each.
    pub(crate) about: Option<SmolStr>,
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
        let from = from.map(UserId::as_str);
        let carried = match &payload {
            Payload::Json(data) => data.get().len(),
            Payload::Binary(payload) => payload.len(),
        };
        let mut frame = FrameBuffer::with_capacity(codec::publication_bytes(event, room, from, re) + carried);
        let (data, payload) = match payload {
            Payload::Json(data) => (Some(data), None),
            Payload::Binary(payload) => (None, Some((payload, codec::begin_binary(frame.payload())))),
        };
        codec::put_publication_head(frame.payload(), event, room, data, from, re);
        Self { frame, payload, excluded: None, key: None, about: None }
    }

    /// Bytes of the message without its position.
    pub(crate) fn bytes(&self) -> usize {
        self.frame.len() + self.payload.as_ref().map_or(0, |(payload, _)| payload.len())
    }

    /// Itself as bytes, for a broker that stores it and carries it between nodes: whoever reads them makes the frame
    /// without parsing any JSON.
    pub(crate) fn record(&self) -> Vec<u8> {
        let message = self.frame.written();
        let head = self.payload.as_ref().map_or(message, |_| &message[BINARY_LENGTH_BYTES..]);
        let mut record = Vec::with_capacity(RECORD_FIXED_BYTES + self.bytes());
        let flag = |set, flag| if set { flag } else { 0 };
        record.push(
            flag(self.payload.is_some(), BINARY)
                | flag(self.excluded.is_some(), EXCLUDED)
                | flag(self.about.is_some(), ABOUT),
        );
        if let Some(excluded) = &self.excluded {
            record.extend_from_slice(&excluded.lineage.to_be_bytes());
            put_sized(&mut record, excluded.user.as_str().as_bytes());
        }
        if let Some(about) = &self.about {
            put_sized(&mut record, about.as_bytes());
        }
        put_sized(&mut record, head);
        if let Some((payload, _)) = &self.payload {
            record.extend_from_slice(payload);
        }
        record
    }

    /// A draft from its record; `None` if it is none.
    pub(crate) fn from_record(record: &Bytes) -> Option<Self> {
        let (flags, mut rest) = record.split_first()?;
        let has = |flag| flags & flag != 0;
        let excluded = match has(EXCLUDED) {
            true => {
                let (lineage, after) = rest.split_first_chunk()?;
                rest = after;
                let user = UserId::parse(std::str::from_utf8(take_sized(&mut rest)?).ok()?).ok()?;
                Some(Excluded { user, lineage: u64::from_be_bytes(*lineage) })
            }
            false => None,
        };
        let about = match has(ABOUT) {
            true => Some(std::str::from_utf8(take_sized(&mut rest)?).ok()?.into()),
            false => None,
        };
        let head = take_sized(&mut rest)?;
        let mut frame = FrameBuffer::with_capacity(head.len() + TAIL_BYTES + rest.len());
        let payload = has(BINARY)
            .then(|| (record.slice(record.len() - rest.len()..), codec::begin_binary(frame.payload())));
        frame.payload().extend_from_slice(head);
        Some(Self { frame, payload, excluded, key: None, about })
    }

    /// Gives it its position: completes the one frame that everybody gets.
    pub(crate) fn publish(mut self, room: &RoomId, position: Position, at_ms: u64) -> Publication {
        let out = self.frame.payload();
        codec::put_publication_tail(out, room, position, at_ms);
        let opcode = match &self.payload {
            None => Opcode::Text,
            Some((payload, start)) => {
                codec::end_binary_header(out, *start);
                out.extend_from_slice(payload);
                Opcode::Binary
            }
        };
        Publication {
            offset: position.offset,
            excluded: self.excluded.map(Box::new),
            body_len: self.frame.len(),
            binary: self.payload.is_some(),
            frame: self.frame.finish(opcode),
            json: OnceLock::new(),
        }
    }
}

/// An event in a room's log, in every encoding that somebody has asked for.
pub(crate) struct Publication {
    pub(crate) offset: Offset,
    /// Boxed, because hardly any event has it and all are kept.
    pub(crate) excluded: Option<Box<Excluded>>,
    binary: bool,
    /// Bytes of the message inside `frame`.
    body_len: usize,
    /// The WebSocket frame.
    frame: Vec<u8>,
    /// The message as one JSON object, for `room.history`: made of a binary message when first asked for.
    json: OnceLock<Option<Arc<RawValue>>>,
}

impl Publication {
    /// In the place of an event that can't be read, or was redacted: its offset, and no event.
    pub(crate) fn without_event(room: &RoomId, position: Position) -> Self {
        let id = position.of(room);
        let skip = ServerMessage::Skip { id, from: position.offset, reason: SkipReason::Filtered };
        let frame = encode::message(&skip).to_vec();
        let json = OnceLock::from(None);
        Self { offset: position.offset, excluded: None, binary: false, body_len: 0, frame, json }
    }

    /// The WebSocket frame.
    pub(crate) fn frame(&self) -> &[u8] {
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
