//! The server's own messages as frames: one function for each that is sent from more than one place.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec;
use tidings_protocol::error::Refusal;
use tidings_protocol::event_id::{Position, RoomId};
use tidings_protocol::frame::{self, FrameBuffer, Opcode};
use tidings_protocol::message::{
    Data, EventName, Member, MessageId, PresenceChange, PresenceChanges, ServerEvent, ServerMessage,
};

use crate::auth::UserId;

/// Any message, as one frame.
pub(crate) fn message(message: &ServerMessage<'_>) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(128);
    let opcode = match codec::encode_server(message, frame.payload()) {
        codec::Encoding::Text => Opcode::Text,
        codec::Encoding::Binary => Opcode::Binary,
    };
    frame.finish(opcode).into()
}

/// The ack of a message, with data that serialises to JSON.
pub(crate) fn ack(id: &MessageId, data: &impl Serialize) -> Bytes {
    // The data are our own types or have been serialised before, so this never falls back.
    let data = to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
    message(&ServerMessage::Ack { id: id.clone(), data: &data })
}

pub(crate) fn error(id: Option<&MessageId>, refusal: &Refusal) -> Bytes {
    message(&ServerMessage::Error { id: id.cloned(), refusal: refusal.clone() })
}

/// The ack of an event that was published as it came.
pub(crate) fn published(room: &RoomId, id: &MessageId, position: Position, duplicate: bool) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(100 + id.as_str().len() + room.as_str().len());
    codec::put_published(frame.payload(), id, room, position, duplicate);
    frame.finish(Opcode::Text).into()
}

/// An event that is stored nowhere: to a room's members, or without a room to one connection.
pub(crate) fn unstored(
    event: &EventName,
    room: Option<&RoomId>,
    data: Data<'_>,
    from: Option<&UserId>,
) -> Bytes {
    message(&ServerMessage::Event(ServerEvent {
        event: event.clone(),
        room: room.cloned(),
        data,
        id: None,
        from: from.map(|user| user.as_str().into()),
        at: None,
        re: None,
    }))
}

/// One change of a room's presence, by itself.
pub(crate) fn presence(
    room: &RoomId,
    change: PresenceChange,
    user: &UserId,
    info: Option<&RawValue>,
    rev: u64,
) -> Bytes {
    let info = Cow::Borrowed(info.unwrap_or(RawValue::NULL));
    let member = Member { user: Cow::Borrowed(user.as_str()), info };
    message(&ServerMessage::Presence { room: room.clone(), change, member, rev })
}

/// The same for the user himself, who is told of himself only together with others: here, with nobody.
pub(crate) fn presence_about_oneself(
    room: &RoomId,
    change: PresenceChange,
    user: &UserId,
    info: Option<&RawValue>,
    rev: u64,
) -> Bytes {
    let (mut changes, name) =
        (PresenceChanges { from: rev, rev, ..PresenceChanges::default() }, user.as_str());
    let member = Member { user: name.into(), info: Cow::Borrowed(info.unwrap_or(RawValue::NULL)) };
    match change {
        PresenceChange::Join => changes.joins.push(member),
        PresenceChange::Update => changes.updates.push(member),
        PresenceChange::Leave => changes.leaves.push(name.into()),
    }
    message(&ServerMessage::PresenceChanges { room: room.clone(), changes })
}

pub(crate) fn ping() -> Bytes {
    frame::frame(Opcode::Ping, &[])
}

pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame::frame(Opcode::Pong, &[payload])
}

pub(crate) fn close(code: CloseCode, reason: &str) -> Bytes {
    let mut out = Vec::with_capacity(4 + reason.len());
    frame::put_close(&mut out, code, reason);
    out.into()
}
