//! What a server sends: written by hand, read leniently. PROTOCOL.md §3 and §4.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::{not_an_object, read_object, split_binary, string};
use super::write::{
    begin_binary, end_binary_header, put_at, put_data, put_event_head, put_event_id, put_json,
    put_message_id, put_open, put_publication_head, put_publication_tail, put_room,
};
use super::{DecodeError, Encoding, invalid};
use crate::error::Refusal;
use crate::event_id::{Cursor, Epoch, EventId, Offset, RoomId};
use crate::message::{
    Data, EventName, LeftReason, Lost, Member, PresenceChange, ResetReason, ServerEvent, ServerMessage,
    SkipReason, Welcome,
};

/// Reads a server's text message. Unknown fields are ignored, of duplicates the first counts, and null counts as absent.
///
/// # Errors
/// [`DecodeError`] with `invalid` when a field that is needed is absent or of a wrong type: a fault of the server.
pub fn decode_server_text(text: &str) -> Result<ServerMessage<'_>, DecodeError> {
    Ok(Envelope::read(text)?.into_message()?)
}

/// Reads a server's binary message, which is always an application's event.
///
/// # Errors
/// [`DecodeError`] with `invalid`, as [`decode_server_text`].
pub fn decode_server_binary(frame: &[u8]) -> Result<ServerMessage<'_>, DecodeError> {
    let (header, payload) = split_binary(frame)?;
    let envelope = Envelope::read(header)?;
    if envelope.event.is_reserved() {
        return Err(invalid(format!("{} is sent as text", envelope.event)).into());
    }
    Ok(ServerMessage::Event(envelope.into_event(Data::Binary(payload))?))
}

struct Envelope<'a> {
    event: EventName,
    room: Option<&'a RawValue>,
    data: &'a RawValue,
    from: Option<&'a RawValue>,
    re: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    at: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        let object = read_object(text, &["event", "room", "data", "from", "re", "id", "at"])
            .map_err(|fault| not_an_object(&fault))?;
        let present = |raw: &&RawValue| raw.get() != RawValue::NULL.get();
        let [event, room, data, from, re, id, at] = object.values.map(|value| value.filter(present));
        Ok(Self {
            event: needed(event, "event")?,
            room,
            data: data.unwrap_or(RawValue::NULL),
            from,
            re,
            id,
            at,
        })
    }

    fn into_message(self) -> Result<ServerMessage<'a>, Refusal> {
        Ok(match self.event.as_str() {
            "ack" => ServerMessage::Ack { id: needed(self.id, "id")?, data: self.data },
            "error" => ServerMessage::Error {
                id: optional(self.id, "id")?,
                refusal: needed(Some(self.data), "data")?,
            },
            "session.welcome" => ServerMessage::Welcome(self.borrowed_data::<Welcome<'a>>()?),
            "presence.join" => self.presence(PresenceChange::Join)?,
            "presence.update" => self.presence(PresenceChange::Update)?,
            "presence.leave" => self.presence(PresenceChange::Leave)?,
            "presence.changes" => ServerMessage::PresenceChanges {
                room: needed(self.room, "room")?,
                changes: self.borrowed_data()?,
            },
            "presence.count" => ServerMessage::PresenceCount {
                room: needed(self.room, "room")?,
                count: needed(Some(self.data), "data")?,
            },
            "room.skip" => {
                let [from, reason] = self.data_fields(["from", "reason"])?;
                ServerMessage::Skip {
                    id: self.moving_id()?,
                    from: needed(from, "from")?,
                    reason: needed(reason, "reason")?,
                }
            }
            "room.epoch" => {
                let [was] = self.data_fields(["was"])?;
                ServerMessage::EpochChange { id: self.moving_id()?, was: needed(was, "was")? }
            }
            "room.reset" => {
                let [reason, lost, state] = self.data_fields(["reason", "lost", "state"])?;
                let lost = needed(Some(lost.unwrap_or(RawValue::NULL)), "lost")?;
                ServerMessage::Reset { id: self.moving_id()?, reason: needed(reason, "reason")?, lost, state }
            }
            "room.joined" => ServerMessage::RoomJoined {
                room: needed(self.room, "room")?,
                joined: needed(Some(self.data), "data")?,
            },
            "room.left" => {
                let [reason] = self.data_fields(["reason"])?;
                ServerMessage::RoomLeft {
                    room: needed(self.room, "room")?,
                    reason: needed(reason, "reason")?,
                }
            }
            "session.checkpoint" => {
                let [cursor] = self.data_fields(["last_event_id"])?;
                ServerMessage::Checkpoint { last_event_id: needed(cursor, "last_event_id")? }
            }
            "session.reconnect" => {
                let [after, within, reason] = self.data_fields(["after_ms", "within_ms", "reason"])?;
                ServerMessage::Reconnect {
                    after_ms: needed(after, "after_ms")?,
                    within_ms: needed(within, "within_ms")?,
                    reason: reason.and_then(string).unwrap_or_default(),
                }
            }
            "session.degraded" => {
                let [degraded] = self.data_fields(["degraded"])?;
                ServerMessage::Degraded { degraded: needed(degraded, "degraded")? }
            }
            _ if self.event.is_reserved() => ServerMessage::Unknown { event: self.event },
            _ => {
                let data = Data::Json(self.data);
                ServerMessage::Event(self.into_event(data)?)
            }
        })
    }

    fn into_event(self, data: Data<'a>) -> Result<ServerEvent<'a>, Refusal> {
        let room: Option<RoomId> = optional(self.room, "room")?;
        // Without a room an id is nobody's position.
        let id = if room.is_some() && self.id.is_some() { Some(self.moving_id()?.position) } else { None };
        let from = self.from.map(|raw| string(raw).ok_or_else(|| invalid("from is a text"))).transpose()?;
        let (at, re) = (optional(self.at, "at")?, optional(self.re, "re")?);
        Ok(ServerEvent { event: self.event, room, data, id, from, at, re })
    }

    fn presence(&self, change: PresenceChange) -> Result<ServerMessage<'a>, Refusal> {
        let PresenceData { user, info, rev } = self.borrowed_data()?;
        Ok(ServerMessage::Presence {
            room: needed(self.room, "room")?,
            change,
            member: Member { user, info },
            rev,
        })
    }

    /// The id of a message that moves a position: it has to be one of the message's own room.
    fn moving_id(&self) -> Result<EventId, Refusal> {
        let (room, id): (RoomId, EventId) = (needed(self.room, "room")?, needed(self.id, "id")?);
        if id.room == room {
            Ok(id)
        } else {
            Err(invalid(format!("id is an event id of {room}, not of {}", id.room)))
        }
    }

    fn data_fields<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Result<[Option<&'a RawValue>; N], Refusal> {
        let object = read_object(self.data.get(), &names);
        object.map(|object| object.values).map_err(|_| invalid(format!("{}'s data is an object", self.event)))
    }

    fn borrowed_data<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        serde_json::from_str(self.data.get())
            .map_err(|fault| invalid(format!("{}'s data: {fault}", self.event)))
    }
}

fn needed<T: DeserializeOwned>(raw: Option<&RawValue>, field: &str) -> Result<T, Refusal> {
    let raw = raw.ok_or_else(|| invalid(format!("{field} is absent")))?;
    serde_json::from_str(raw.get()).map_err(|fault| invalid(format!("{field}: {fault}")))
}

fn optional<T: DeserializeOwned>(raw: Option<&RawValue>, field: &str) -> Result<Option<T>, Refusal> {
    raw.map(|raw| needed(Some(raw), field)).transpose()
}

/// The data of `presence.*`.
#[derive(Serialize, Deserialize)]
struct PresenceData<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(default = "null_info")]
    info: Cow<'a, RawValue>,
    rev: u64,
}

fn null_info() -> Cow<'static, RawValue> {
    Cow::Borrowed(RawValue::NULL)
}

/// Appends a server's message, and says which kind of frame it belongs in.
pub fn encode_server(message: &ServerMessage<'_>, out: &mut Vec<u8>) -> Encoding {
    match message {
        ServerMessage::Event(event) => return encode_event(event, out),
        ServerMessage::Ack { id, data } => {
            put_open(out, "ack");
            put_message_id(out, id);
            put_data(out, data);
        }
        ServerMessage::Error { id, refusal } => {
            put_open(out, "error");
            if let Some(id) = id {
                put_message_id(out, id);
            }
            put_data_of(out, refusal);
        }
        ServerMessage::Welcome(welcome) => {
            put_open(out, "session.welcome");
            put_data_of(out, welcome);
        }
        ServerMessage::Presence { room, change, member: Member { user, info }, rev } => {
            put_open(out, change.event_name());
            put_room(out, room);
            // Borrowed again, since the data's type holds what it is given.
            put_data_of(
                out,
                &PresenceData { user: user.as_ref().into(), info: Cow::Borrowed(info.as_ref()), rev: *rev },
            );
        }
        ServerMessage::PresenceChanges { room, changes } => {
            put_open(out, "presence.changes");
            put_room(out, room);
            put_data_of(out, changes);
        }
        ServerMessage::PresenceCount { room, count } => {
            put_open(out, "presence.count");
            put_room(out, room);
            put_data_of(out, count);
        }
        ServerMessage::Skip { id, from, reason } => {
            put_moving(out, "room.skip", id);
            put_data_of(out, &SkipData { from: *from, reason: *reason });
        }
        ServerMessage::EpochChange { id, was } => {
            put_moving(out, "room.epoch", id);
            put_data_of(out, &EpochData { was: *was });
        }
        ServerMessage::Reset { id, reason, lost, state } => {
            put_moving(out, "room.reset", id);
            put_data_of(out, &ResetData { reason: *reason, lost: *lost, state: *state });
        }
        ServerMessage::RoomJoined { room, joined } => {
            put_open(out, "room.joined");
            put_room(out, room);
            put_data_of(out, joined);
        }
        ServerMessage::RoomLeft { room, reason } => {
            put_open(out, "room.left");
            put_room(out, room);
            put_data_of(out, &LeftData { reason: *reason });
        }
        ServerMessage::Checkpoint { last_event_id } => {
            put_open(out, "session.checkpoint");
            put_data_of(out, &CheckpointData { last_event_id });
        }
        ServerMessage::Reconnect { after_ms, within_ms, reason } => {
            put_open(out, "session.reconnect");
            put_data_of(out, &ReconnectData { after_ms: *after_ms, within_ms: *within_ms, reason });
        }
        ServerMessage::Degraded { degraded } => {
            put_open(out, "session.degraded");
            put_data_of(out, &DegradedData { degraded: *degraded });
        }
        ServerMessage::Unknown { event } => put_open(out, event.as_str()),
    }
    out.push(b'}');
    Encoding::Text
}

#[derive(Serialize)]
struct SkipData {
    from: Offset,
    reason: SkipReason,
}

#[derive(Serialize)]
struct EpochData {
    was: Epoch,
}

#[derive(Serialize)]
struct ResetData<'a> {
    reason: ResetReason,
    lost: Option<Lost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct LeftData {
    reason: LeftReason,
}

#[derive(Serialize)]
struct CheckpointData<'a> {
    last_event_id: &'a Cursor,
}

#[derive(Serialize)]
struct ReconnectData<'a> {
    after_ms: u64,
    within_ms: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct DegradedData {
    degraded: bool,
}

fn put_data_of(out: &mut Vec<u8>, data: &impl Serialize) {
    out.extend_from_slice(br#","data":"#);
    put_json(out, data);
}

fn put_moving(out: &mut Vec<u8>, event: &str, id: &EventId) {
    put_open(out, event);
    put_room(out, &id.room);
    put_event_id(out, &id.room, id.position);
}

fn encode_event(event: &ServerEvent<'_>, out: &mut Vec<u8>) -> Encoding {
    match event.data {
        Data::Json(data) => {
            put_event(out, event, Some(data));
            Encoding::Text
        }
        Data::Binary(payload) => {
            let start = begin_binary(out);
            put_event(out, event, None);
            end_binary_header(out, start);
            out.extend_from_slice(payload);
            Encoding::Binary
        }
    }
}

fn put_event(out: &mut Vec<u8>, event: &ServerEvent<'_>, data: Option<&RawValue>) {
    let ServerEvent { event, room, id, from, at, re, .. } = event;
    if let (Some(room), Some(position), Some(at_ms)) = (room, id, at) {
        put_publication_head(out, event, room, data, from.as_deref(), re.as_ref());
        put_publication_tail(out, room, *position, *at_ms);
        return;
    }
    put_event_head(out, event, room.as_ref(), data, from.as_deref(), re.as_ref());
    if let (Some(room), Some(position)) = (room, id) {
        put_event_id(out, room, *position);
    }
    if let Some(at_ms) = at {
        put_at(out, *at_ms);
    }
    out.push(b'}');
}
