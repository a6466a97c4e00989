//! How `tidings tail` writes an event: on one line, for people or for programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings::RoomId;
use tidings_client::{Event, Payload, Reset};

use crate::timestamp;

/// An event for people. What a terminal would act upon is shown instead.
pub(super) fn for_people(event: &Event) -> String {
    let at = event.at_unix_ms.map_or_else(|| "-".to_owned(), timestamp::rfc3339);
    let room = event.room.as_ref().map_or("-", RoomId::as_str);
    let from = event.from.as_deref().unwrap_or("-");
    let data = match &event.data {
        Payload::Json(data) => one_line(data.get()),
        Payload::Binary(bytes) => format!("({} bytes)", bytes.len()),
    };
    let line = format!("{at} {room} {} {from} {data}", event.event);
    line.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// An event as clients get it; bytes as the HTTP API has them.
#[derive(Serialize)]
struct JsonLine<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<&'a str>,
}

pub(super) fn for_programs(event: &Event) -> String {
    let (data, encoding) = match &event.data {
        Payload::Json(data) => (RawValue::from_string(one_line(data.get())), None),
        Payload::Binary(bytes) => (serde_json::value::to_raw_value(&STANDARD.encode(bytes)), Some("base64")),
    };
    let data = data.unwrap_or_else(|_| RawValue::NULL.to_owned());
    let line = JsonLine {
        event: &event.event,
        room: event.room.as_ref().map(RoomId::as_str),
        data: &data,
        encoding,
        id: event.id.as_ref().map(ToString::to_string),
        from: event.from.as_deref(),
        at: event.at_unix_ms,
        re: event.re.as_deref(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// A reset as clients get it, without the room's state.
pub(super) fn of_reset(room: &str, reset: &Reset, reason: &Value) -> String {
    let lost = reset.lost.map(|(from, to)| json!({"from": from, "to": to}));
    let data = json!({"reason": reason, "lost": lost});
    json!({"event": "room.reset", "room": room, "id": reset.id.to_string(), "data": data}).to_string()
}

/// JSON on one line: a line break in it stands between its parts, where a space says the same.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn event(data: Payload) -> Event {
        Event {
            event: "message.send".into(),
            room: Some(RoomId::parse("chat:a").unwrap()),
            id: None,
            from: Some("ann".into()),
            at_unix_ms: Some(1_795_468_800_123),
            re: None,
            data,
        }
    }

    #[test]
    fn a_line_is_one_line_and_moves_no_cursor() {
        let data = "{\n  \"a\": \"x\\n\u{9b}2J\"\r\n}";
        let event = event(Payload::Json(Arc::from(RawValue::from_string(data.to_owned()).unwrap())));
        assert_eq!(
            for_people(&event),
            "2026-11-23T21:20:00.123Z chat:a message.send ann {   \"a\": \"x\\n\u{fffd}2J\"  }"
        );
        let json = for_programs(&event);
        assert!(!json.contains('\n'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["data"]["a"], "x\n\u{9b}2J");
        assert_eq!((&value["at"], &value["from"]), (&1_795_468_800_123u64.into(), &"ann".into()));
    }

    #[test]
    fn bytes_are_counted_or_encoded() {
        let event = event(Payload::Binary(vec![0, 255].into()));
        assert!(for_people(&event).ends_with("ann (2 bytes)"));
        let value: serde_json::Value = serde_json::from_str(&for_programs(&event)).unwrap();
        assert_eq!((&value["data"], &value["encoding"]), (&"AP8=".into(), &"base64".into()));
    }
}
