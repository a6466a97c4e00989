//! Appending our own JSON, field by field.
//!
//! Hot messages are put together here by hand: room, event name, event id and numbers need no escaping by their
//! alphabets, so only a user, a client's id and sentences go through serde_json. Nothing here reads.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::event_id::{Position, RoomId};
use crate::message::{EventName, MessageId};

/// Appends everything of a publication's envelope that its publisher knows, as an open JSON object:
/// `{"event":…,"room":…,"data":…,"from":…,"re":…`. `data` is none for a binary one, whose payload follows the header.
/// [`put_publication_tail`] closes it, once the position is known.
pub fn put_publication_head(
    out: &mut Vec<u8>,
    event: &EventName,
    room: &RoomId,
    data: Option<&RawValue>,
    from: Option<&str>,
    re: Option<&MessageId>,
) {
    put_event_head(out, event, Some(room), data, from, re);
}

/// As [`put_publication_head`], for an event that may have no room.
pub(super) fn put_event_head(
    out: &mut Vec<u8>,
    event: &EventName,
    room: Option<&RoomId>,
    data: Option<&RawValue>,
    from: Option<&str>,
    re: Option<&MessageId>,
) {
    put_open(out, event.as_str());
    if let Some(room) = room {
        put_room(out, room);
    }
    if let Some(data) = data {
        put_data(out, data);
    }
    if let Some(from) = from {
        out.extend_from_slice(br#","from":"#);
        put_text(out, from);
    }
    if let Some(re) = re {
        out.extend_from_slice(br#","re":"#);
        put_text(out, re.as_str());
    }
}

/// Appends what the sequencer knows, and closes the object: `,"id":"room@epoch.offset","at":1795468800123}`.
/// `at_ms` is in milliseconds since 1970.
pub fn put_publication_tail(out: &mut Vec<u8>, room: &RoomId, position: Position, at_ms: u64) {
    put_event_id(out, room, position);
    put_at(out, at_ms);
    out.push(b'}');
}

/// The most that the envelope of a publication takes besides `data`, where nothing needs escaping.
pub fn publication_bytes(
    event: &EventName,
    room: &RoomId,
    from: Option<&str>,
    re: Option<&MessageId>,
) -> usize {
    // Field names and punctuation, an epoch, and an offset and a time of twenty digits each.
    const FIXED: usize = 140;
    let [from, re] = [from, re.map(MessageId::as_str)].map(|text| text.map_or(0, str::len));
    FIXED + event.as_str().len() + 2 * room.as_str().len() + from + re
}

/// Appends the whole ack of a publish: the event's name in the log, and whether the id had published it before.
pub fn put_published(out: &mut Vec<u8>, id: &MessageId, room: &RoomId, position: Position, duplicate: bool) {
    put_open(out, "ack");
    put_message_id(out, id);
    out.extend_from_slice(br#","data":{"event_id":""#);
    put_position(out, room, position);
    out.extend_from_slice(br#"","duplicate":"#);
    out.extend_from_slice(if duplicate { b"true}}" } else { b"false}}" });
}

/// Begins a binary frame: reserves the header's length. The header is appended next, then comes
/// [`end_binary_header`] with what this returned, then the payload is appended. PROTOCOL.md §4.
pub fn begin_binary(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    start
}

/// Ends a binary frame's header: fills in the length of what was appended since [`begin_binary`], which gave `start`.
pub fn end_binary_header(out: &mut [u8], start: usize) {
    // Every part of a header has a limit, and all of them together stay under 2 KiB.
    let header_bytes = u16::try_from(out.len().saturating_sub(start + 2)).unwrap_or(u16::MAX);
    if let Some(len) = out.get_mut(start..start + 2) {
        len.copy_from_slice(&header_bytes.to_be_bytes());
    }
}

/// `{"event":"name"`; the name is ours or an [`EventName`]'s, so it needs no escaping.
pub(super) fn put_open(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(br#"{"event":""#);
    out.extend_from_slice(event.as_bytes());
    out.push(b'"');
}

pub(super) fn put_room(out: &mut Vec<u8>, room: &RoomId) {
    out.extend_from_slice(br#","room":""#);
    out.extend_from_slice(room.as_str().as_bytes());
    out.push(b'"');
}

pub(super) fn put_data(out: &mut Vec<u8>, data: &RawValue) {
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(data.get().as_bytes());
}

/// A client's id, with the escaping that quotation marks and backslashes need.
pub(super) fn put_message_id(out: &mut Vec<u8>, id: &MessageId) {
    out.extend_from_slice(br#","id":"#);
    put_text(out, id.as_str());
}

pub(super) fn put_event_id(out: &mut Vec<u8>, room: &RoomId, position: Position) {
    out.extend_from_slice(br#","id":""#);
    put_position(out, room, position);
    out.push(b'"');
}

fn put_position(out: &mut Vec<u8>, room: &RoomId, position: Position) {
    out.extend_from_slice(room.as_str().as_bytes());
    out.push(b'@');
    out.extend_from_slice(position.epoch.as_str().as_bytes());
    out.push(b'.');
    put_number(out, position.offset);
}

pub(super) fn put_at(out: &mut Vec<u8>, at_ms: u64) {
    out.extend_from_slice(br#","at":"#);
    put_number(out, at_ms);
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    // A u64 has at most twenty digits.
    let mut digits = [0; 20];
    let (mut rest, mut begin) = (number, digits.len());
    loop {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// A text that seldom needs escaping.
fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        put_json(out, text);
    }
}

pub(super) fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // A vector takes every write, and what is written here has string keys only: there is no error to report.
    let _infallible = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_id::Epoch;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 1, 9, 10, 1_795_468_800_123, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn a_publication_is_its_head_and_its_tail() {
        let (room, mut out) = (RoomId::parse("chat:lobby").unwrap(), Vec::new());
        let (event, re) = (EventName::parse("message.send").unwrap(), MessageId::parse(r#"9f"\"#).unwrap());
        let data = serde_json::from_str(r#"{"a": 1}"#).unwrap();
        put_publication_head(&mut out, &event, &room, Some(data), Some("user_\n"), Some(&re));
        let position = Position { epoch: Epoch::parse("k3f9a1qz").unwrap(), offset: 1042 };
        put_publication_tail(&mut out, &room, position, 1_795_468_800_123);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"event":"message.send","room":"chat:lobby","data":{"a": 1},"from":"user_\n","re":"9f\"\\","#,
                r#""id":"chat:lobby@k3f9a1qz.1042","at":1795468800123}"#
            )
        );
    }

    #[test]
    fn the_ack_of_a_publish_is_what_the_general_encoder_writes() {
        use crate::message::{Published, ServerMessage};
        let (room, id) = (RoomId::parse("chat:lobby").unwrap(), MessageId::parse(r#"9f"1"#).unwrap());
        let position = Position { epoch: Epoch::parse("k3f9a1qz").unwrap(), offset: 1042 };
        for duplicate in [false, true] {
            let published = Published { event_id: position.of(&room), duplicate };
            let data = serde_json::value::to_raw_value(&published).unwrap();
            let (mut expected, mut out) = (Vec::new(), Vec::new());
            super::super::encode_server(&ServerMessage::Ack { id: id.clone(), data: &data }, &mut expected);
            put_published(&mut out, &id, &room, position, duplicate);
            assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(expected).unwrap());
        }
    }

    #[test]
    fn a_publication_fits_what_is_reserved_for_it() {
        let (room, mut out) = (RoomId::parse(&"r".repeat(128)).unwrap(), Vec::new());
        let event = EventName::parse(&"e".repeat(64)).unwrap();
        let re = MessageId::parse(&"i".repeat(64)).unwrap();
        let data = RawValue::NULL;
        let reserved = publication_bytes(&event, &room, Some("user"), Some(&re)) + data.get().len();
        put_publication_head(&mut out, &event, &room, Some(data), Some("user"), Some(&re));
        let position = Position { epoch: Epoch::parse("k3f9a1qz").unwrap(), offset: u64::MAX };
        put_publication_tail(&mut out, &room, position, u64::MAX);
        assert!((out.len()..out.len() + 64).contains(&reserved), "{} in {reserved}", out.len());
    }

    #[test]
    fn a_binary_header_has_its_length_in_front() {
        let mut out = b"before".to_vec();
        let start = begin_binary(&mut out);
        out.extend_from_slice(&[b' '; 300]);
        end_binary_header(&mut out, start);
        assert_eq!(out[..10], *b"before\x01\x2c  ");
    }
}
