//! What a client sends: read strictly, written plainly. PROTOCOL.md §2 and §4.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::envelope::{is_within_depth, not_an_object, read_object, split_binary, string};
use super::write::{
    begin_binary, end_binary_header, put_data, put_json, put_message_id, put_number, put_open, put_room,
};
use super::{DecodeError, Encoding, invalid};
use crate::error::{ErrorCode, Refusal};
use crate::event_id::{Cursor, EventId, InvalidId, OFFSET_MAX, Position, RoomId};
use crate::limits::{DATA_DEPTH_MAX, PRESENCE_INFO_BYTES_MAX};
use crate::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom, MessageId};

/// Reads a client's text message.
///
/// # Errors
/// [`DecodeError`] with `invalid`, or `too_large` for a presence's info, and a sentence that says what was expected.
pub fn decode_client_text(text: &str) -> Result<ClientMessage<'_>, DecodeError> {
    let envelope = Envelope::read(text)?;
    let id = envelope.id.clone();
    envelope.into_message().map_err(|refusal| DecodeError { id, refusal })
}

/// Reads a client's binary message, which is always an application's event.
///
/// # Errors
/// [`DecodeError`] with `invalid` and a sentence that says what was expected.
pub fn decode_client_binary(frame: &[u8]) -> Result<ClientMessage<'_>, DecodeError> {
    let (header, payload) = split_binary(frame)?;
    let Envelope { event, room, data, id } = Envelope::read(header)?;
    if data.is_some() {
        let refusal = invalid("a binary frame's header has no data: the payload follows it");
        return Err(DecodeError { id, refusal });
    }
    if event.is_reserved() {
        return Err(DecodeError { id, refusal: invalid(format!("{event} is sent as text")) });
    }
    Ok(ClientMessage::Event(ClientEvent { event, room, data: Data::Binary(payload), id }))
}

/// What every message has, judged for itself; whether the parts fit together depends on the event.
struct Envelope<'a> {
    event: EventName,
    room: Option<RoomId>,
    data: Option<&'a RawValue>,
    id: Option<MessageId>,
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> Result<Self, DecodeError> {
        let object =
            read_object(text, &["event", "room", "data", "id"]).map_err(|fault| not_an_object(&fault))?;
        let [event, room, data, id] = object.values;
        let id = id.map(|raw| parse(raw, "id", MessageId::parse, InvalidId::Message)).transpose();
        let known_id = id.as_ref().ok().cloned().flatten();
        let judge = || {
            if let Some(name) = object.duplicate {
                return Err(invalid(format!("{name:?} stands there twice")));
            }
            if let Some(name) = object.unknown {
                return Err(invalid(format!("a message has event, room, data and id, not {name:?}")));
            }
            let event = event.ok_or_else(|| invalid("a message needs an event"))?;
            if data.is_some_and(|data| !is_within_depth(data, DATA_DEPTH_MAX)) {
                return Err(invalid(format!("data nests deeper than {DATA_DEPTH_MAX}")));
            }
            Ok(Self {
                event: parse(event, "event", EventName::parse, InvalidId::Event)?,
                room: room.map(|room| parse(room, "room", RoomId::parse, InvalidId::Room)).transpose()?,
                data,
                id: id?,
            })
        };
        judge().map_err(|refusal| DecodeError { id: known_id, refusal })
    }

    fn into_message(self) -> Result<ClientMessage<'a>, Refusal> {
        let Self { event, room, data, id } = self;
        let data = data.unwrap_or(RawValue::NULL);
        if !event.is_reserved() {
            return Ok(ClientMessage::Event(ClientEvent { event, room, data: Data::Json(data), id }));
        }
        let name = event.as_str();
        if matches!(name, "room.list" | "session.resume" | "session.refresh") && room.is_some() {
            return Err(invalid(format!("{name} has no room")));
        }
        let room_of = |room: Option<RoomId>| room.ok_or_else(|| invalid(format!("{name} needs a room")));
        let id_of = |id: Option<MessageId>| {
            id.ok_or_else(|| invalid(format!("{name} needs an id: the ack is its result")))
        };
        match name {
            "room.join" => {
                let (room, id) = (room_of(room)?, id_of(id)?);
                let [position, history] = fields(name, data, ["last_event_id", "history"])?;
                let history = history.map(|raw| count(raw, "history", 0)).transpose()?.unwrap_or(0);
                let position = position.map(|raw| position_in(&room, raw, "last_event_id")).transpose()?;
                let from = position.map_or(JoinFrom::Newest { history }, JoinFrom::Position);
                Ok(ClientMessage::Join { room, id, from })
            }
            "room.leave" => {
                let [] = fields(name, data, [])?;
                Ok(ClientMessage::Leave { room: room_of(room)?, id })
            }
            "room.members" => {
                let [after, limit] = fields(name, data, ["after", "limit"])?;
                let after = after.map(|raw| text(raw, "after")).transpose()?.map(Cow::into_owned);
                let limit = limit.map(|raw| count(raw, "limit", 1)).transpose()?;
                Ok(ClientMessage::Members { room: room_of(room)?, id, after, limit })
            }
            "room.history" => {
                let room = room_of(room)?;
                let [before, limit] = fields(name, data, ["before", "limit"])?;
                let before = before.map(|raw| position_in(&room, raw, "before")).transpose()?;
                let limit = limit.map(|raw| count(raw, "limit", 1)).transpose()?;
                Ok(ClientMessage::History { room, id, before, limit })
            }
            "room.list" => {
                let [] = fields(name, data, [])?;
                Ok(ClientMessage::List { id })
            }
            "session.resume" => {
                let [cursor] = fields(name, data, ["last_event_id"])?;
                let cursor = text(cursor.unwrap_or(RawValue::NULL), "last_event_id")?;
                let cursor =
                    Cursor::parse(&cursor).map_err(|fault| invalid(format!("last_event_id: {fault}")))?;
                Ok(ClientMessage::Resume { id: id_of(id)?, cursor })
            }
            "session.refresh" => {
                let [token] = fields(name, data, ["token"])?;
                Ok(ClientMessage::Refresh { id, token: text(token.unwrap_or(RawValue::NULL), "token")? })
            }
            "presence.update" => {
                let room = room_of(room)?;
                let [info] = fields(name, data, ["info"])?;
                let info = info.ok_or_else(|| invalid("presence.update needs info in its data"))?;
                if info.get().len() > PRESENCE_INFO_BYTES_MAX {
                    let sentence = format!("info is at most {PRESENCE_INFO_BYTES_MAX} bytes");
                    return Err(Refusal::new(ErrorCode::TooLarge, sentence));
                }
                Ok(ClientMessage::PresenceUpdate { room, id, info })
            }
            "presence.heartbeat" => Ok(ClientMessage::Heartbeat { room, id, data }),
            _ => Err(invalid(format!("{name} is reserved, and not for a client to send"))),
        }
    }
}

/// A field that is the text of a name or an id. `not_text` is the fault of a value that is no string.
fn parse<T>(
    raw: &RawValue,
    field: &str,
    parse_text: fn(&str) -> Result<T, InvalidId>,
    not_text: InvalidId,
) -> Result<T, Refusal> {
    let parsed = string(raw).ok_or(not_text).and_then(|text| parse_text(&text));
    parsed.map_err(|fault| invalid(format!("{field}: {fault}")))
}

/// The fields of a reserved event's data, of which null has none.
fn fields<'a, const N: usize>(
    event: &str,
    data: &'a RawValue,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], Refusal> {
    if data.get() == RawValue::NULL.get() {
        return Ok([None; N]);
    }
    let expected = || if N == 0 { "no fields".to_owned() } else { names.join(" and ") };
    let object = read_object(data.get(), &names)
        .map_err(|_| invalid(format!("{event}'s data is an object with {}", expected())))?;
    if let Some(name) = object.duplicate {
        return Err(invalid(format!("{name:?} stands twice in {event}'s data")));
    }
    if let Some(name) = object.unknown {
        return Err(invalid(format!("{event}'s data has {}, not {name:?}", expected())));
    }
    Ok(object.values)
}

fn text<'a>(raw: &'a RawValue, field: &str) -> Result<Cow<'a, str>, Refusal> {
    string(raw).ok_or_else(|| invalid(format!("{field} is a text")))
}

/// A whole number. What is above a u32 asks for more than there can be, and so for the most there is.
fn count(raw: &RawValue, field: &str, least: u64) -> Result<u32, Refusal> {
    let number: Option<u64> = serde_json::from_str(raw.get()).ok();
    let number = number.filter(|number| (least..=OFFSET_MAX).contains(number));
    let number =
        number.ok_or_else(|| invalid(format!("{field} is a whole number from {least} to 2^53-1")))?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The position of an event id that has to be one of `room`.
fn position_in(room: &RoomId, raw: &RawValue, field: &str) -> Result<Position, Refusal> {
    let id = parse(raw, field, EventId::parse, InvalidId::Epoch)?;
    if id.room != *room {
        return Err(invalid(format!("{field} is an event id of {room}, not of {}", id.room)));
    }
    Ok(id.position)
}

/// Appends a client's message, and says which kind of frame it belongs in.
pub fn encode_client(message: &ClientMessage<'_>, out: &mut Vec<u8>) -> Encoding {
    if let ClientMessage::Event(ClientEvent { event, room, data: Data::Binary(payload), id }) = message {
        let start = begin_binary(out);
        put_envelope(out, event.as_str(), room.as_ref(), |_| (), id.as_ref());
        end_binary_header(out, start);
        out.extend_from_slice(payload);
        return Encoding::Binary;
    }
    put_envelope(out, name_of(message), message.room(), |out| put_data_of(out, message), message.id());
    Encoding::Text
}

fn put_envelope(
    out: &mut Vec<u8>,
    event: &str,
    room: Option<&RoomId>,
    put_its_data: impl FnOnce(&mut Vec<u8>),
    id: Option<&MessageId>,
) {
    put_open(out, event);
    if let Some(room) = room {
        put_room(out, room);
    }
    put_its_data(out);
    if let Some(id) = id {
        put_message_id(out, id);
    }
    out.push(b'}');
}

fn name_of<'a>(message: &'a ClientMessage<'_>) -> &'a str {
    match message {
        ClientMessage::Join { .. } => "room.join",
        ClientMessage::Leave { .. } => "room.leave",
        ClientMessage::Members { .. } => "room.members",
        ClientMessage::History { .. } => "room.history",
        ClientMessage::List { .. } => "room.list",
        ClientMessage::Resume { .. } => "session.resume",
        ClientMessage::Refresh { .. } => "session.refresh",
        ClientMessage::PresenceUpdate { .. } => "presence.update",
        ClientMessage::Heartbeat { .. } => "presence.heartbeat",
        ClientMessage::Event(event) => event.event.as_str(),
    }
}

fn put_data_of(out: &mut Vec<u8>, message: &ClientMessage<'_>) {
    match message {
        ClientMessage::Leave { .. } | ClientMessage::List { .. } => {}
        ClientMessage::Join { from: JoinFrom::Newest { history: 0 }, .. } => {}
        ClientMessage::Join { from: JoinFrom::Newest { history }, .. } => {
            out.extend_from_slice(br#","data":{"history":"#);
            put_number(out, (*history).into());
            out.push(b'}');
        }
        ClientMessage::Join { room, from: JoinFrom::Position(position), .. } => {
            out.extend_from_slice(br#","data":{"last_event_id":"#);
            put_json(out, &position.of(room));
            out.push(b'}');
        }
        ClientMessage::Members { after, limit, .. } => {
            put_optional_fields(out, "after", after.as_deref(), *limit);
        }
        ClientMessage::History { room, before, limit, .. } => {
            put_optional_fields(out, "before", before.map(|before| before.of(room)), *limit);
        }
        ClientMessage::Resume { cursor, .. } => {
            out.extend_from_slice(br#","data":{"last_event_id":"#);
            put_json(out, cursor);
            out.push(b'}');
        }
        ClientMessage::Refresh { token, .. } => {
            out.extend_from_slice(br#","data":{"token":"#);
            put_json(out, token);
            out.push(b'}');
        }
        ClientMessage::PresenceUpdate { info, .. } => {
            out.extend_from_slice(br#","data":{"info":"#);
            out.extend_from_slice(info.get().as_bytes());
            out.push(b'}');
        }
        ClientMessage::Heartbeat { data, .. }
        | ClientMessage::Event(ClientEvent { data: Data::Json(data), .. }) => {
            if data.get() != RawValue::NULL.get() {
                put_data(out, data);
            }
        }
        // A payload stands behind the header, not in it.
        ClientMessage::Event(ClientEvent { data: Data::Binary(_), .. }) => {}
    }
}

fn put_optional_fields(
    out: &mut Vec<u8>,
    name: &str,
    value: Option<impl serde::Serialize>,
    limit: Option<u32>,
) {
    let mut separator = r#","data":{"#;
    if let Some(value) = value {
        out.extend_from_slice(format!("{separator}\"{name}\":").as_bytes());
        put_json(out, &value);
        separator = ",";
    }
    if let Some(limit) = limit {
        out.extend_from_slice(format!("{separator}\"limit\":{limit}").as_bytes());
        separator = ",";
    }
    if separator == "," {
        out.push(b'}');
    }
}
