//! Runs every file of `/vectors`, the examples that all SDKs share. Their format is in `vectors/README.md`.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidings_protocol::close::{CloseCode, Reaction};
use tidings_protocol::codec::{
    decode_client_binary, decode_client_text, decode_server_binary, decode_server_text, encode_client,
};
use tidings_protocol::event_id::{Cursor, EventId};
use tidings_protocol::message::{ClientMessage, Data, PresenceChange, ServerEvent, ServerMessage};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}

fn vectors(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

fn frame(vector: &Value) -> Frame {
    if let Some(digits) = vector["hex"].as_str() {
        let byte = |index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
        return Frame::Binary((0..digits.len()).step_by(2).map(byte).collect());
    }
    Frame::Text(text(vector))
}

fn text(vector: &Value) -> String {
    if let Some(text) = vector["text"].as_str() {
        return text.to_owned();
    }
    let part = |part: &Value| match part {
        Value::String(text) => text.clone(),
        repeated => repeated[0].as_str().unwrap().repeat(repeated[1].as_u64().unwrap().try_into().unwrap()),
    };
    list(&vector["parts"]).iter().map(part).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_file_is_run() {
    let names: BTreeSet<String> =
        folder().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let run = [
        "README.md",
        "client_machine.json",
        "client_messages.json",
        "close_codes.json",
        "cursors.json",
        "server_messages.json",
    ];
    assert_eq!(names, run.map(str::to_owned).into());
}

#[test]
fn client_messages() {
    for vector in list(&vectors("client_messages.json")) {
        let frame = frame(vector);
        let decoded = match &frame {
            Frame::Text(text) => decode_client_text(text),
            Frame::Binary(bytes) => decode_client_binary(bytes),
        };
        match decoded {
            Ok(message) => {
                assert_eq!(seen_from_client(&message, &vector["expect"]), vector["expect"], "{vector}");
            }
            Err(error) => {
                let seen = json!({"code": error.refusal.code, "id": error.id});
                assert_eq!(seen, vector["error"], "{vector}: {error}");
            }
        }
    }
}

/// The message as a vector describes it. The data of reserved events is compared as JSON, since it is not kept as text.
fn seen_from_client(message: &ClientMessage<'_>, expected: &Value) -> Value {
    if let ClientMessage::Event(event) = message {
        let (name, room, id) = (&event.event, &event.room, &event.id);
        return match event.data {
            Data::Json(raw) => json!({"event": name, "room": room, "data": raw.get(), "id": id}),
            Data::Binary(payload) => {
                json!({"event": name, "room": room, "payload_hex": hex(payload), "id": id})
            }
        };
    }
    let mut encoded = Vec::new();
    encode_client(message, &mut encoded);
    let mut seen: Value = serde_json::from_slice(&encoded).unwrap();
    let raw = expected["data"].as_str().unwrap_or_default();
    let data: Value = serde_json::from_str(raw).unwrap_or_default();
    assert_eq!(seen["data"], data, "{expected}");
    seen["data"] = raw.into();
    for field in ["room", "id"] {
        seen[field] = seen[field].take();
    }
    seen
}

#[test]
fn server_messages() {
    for vector in list(&vectors("server_messages.json")) {
        let frame = frame(vector);
        let decoded = match &frame {
            Frame::Text(text) => decode_server_text(text),
            Frame::Binary(bytes) => decode_server_binary(bytes),
        };
        let seen = decoded.map_or_else(|_| json!({"kind": "invalid"}), |message| seen_from_server(&message));
        assert_eq!(seen, vector["expect"], "{vector}");
    }
}

fn seen_from_server(message: &ServerMessage<'_>) -> Value {
    match message {
        ServerMessage::Ack { id, data } => json!({"kind": "ack", "id": id, "data": data}),
        ServerMessage::Error { id, refusal } => json!({
            "kind": "error", "id": id, "code": refusal.code, "message": refusal.message,
            "retry_after_ms": refusal.retry_after_ms, "pointer": refusal.pointer,
        }),
        ServerMessage::Welcome(welcome) => json!({
            "kind": "welcome", "session": welcome.session, "user": welcome.user, "rooms": welcome.rooms,
            "last_event_id": welcome.last_event_id, "heartbeat_ms": welcome.heartbeat_ms, "features": welcome.features,
        }),
        ServerMessage::Event(ServerEvent { event, room, data, id, from, at, re }) => {
            let id = id.zip(room.as_ref()).map(|(position, room)| position.of(room));
            let mut seen = json!({"kind": "event", "event": event, "room": room, "id": id, "from": from, "at": at, "re": re});
            match data {
                Data::Json(data) => seen["data"] = json!(data),
                Data::Binary(payload) => seen["payload_hex"] = json!(hex(payload)),
            }
            seen
        }
        ServerMessage::Presence { room, change, member, rev } => {
            let change = match change {
                PresenceChange::Join => "join",
                PresenceChange::Update => "update",
                PresenceChange::Leave => "leave",
            };
            json!({
                "kind": "presence", "change": change, "room": room, "user": member.user, "info": member.info, "rev": rev,
            })
        }
        ServerMessage::PresenceChanges { room, changes } => json!({
            "kind": "presence_changes", "room": room, "joins": changes.joins, "updates": changes.updates,
            "leaves": changes.leaves, "from": changes.from, "rev": changes.rev,
        }),
        ServerMessage::PresenceCount { room, count } => {
            json!({"kind": "presence_count", "room": room, "members": count.members, "rev": count.rev})
        }
        ServerMessage::Skip { id, from, reason } => {
            json!({"kind": "skip", "id": id, "from": from, "reason": reason})
        }
        ServerMessage::EpochChange { id, was } => json!({"kind": "epoch", "id": id, "was": was}),
        ServerMessage::Reset { id, reason, lost, state } => {
            let mut seen = json!({"kind": "reset", "id": id, "reason": reason, "lost": lost});
            if let Some(state) = state {
                seen["state"] = json!(state);
            }
            seen
        }
        ServerMessage::RoomJoined { room, joined } => {
            json!({"kind": "joined", "room": room, "joined": joined})
        }
        ServerMessage::RoomLeft { room, reason } => json!({"kind": "left", "room": room, "reason": reason}),
        ServerMessage::Checkpoint { last_event_id } => {
            json!({"kind": "checkpoint", "last_event_id": last_event_id})
        }
        ServerMessage::Reconnect { after_ms, within_ms, reason } => {
            json!({"kind": "reconnect", "after_ms": after_ms, "within_ms": within_ms, "reason": reason})
        }
        ServerMessage::Degraded { degraded } => json!({"kind": "degraded", "degraded": degraded}),
        ServerMessage::Unknown { event } => json!({"kind": "unknown", "event": event}),
    }
}

#[test]
fn cursors_and_event_ids() {
    let vectors = vectors("cursors.json");
    for vector in list(&vectors["cursors"]) {
        let seen = Cursor::parse(&text(vector)).ok().map(|cursor| {
            let positions =
                cursor.iter().map(|(room, position)| (room.to_string(), json!(position.to_string())));
            Value::Object(positions.collect())
        });
        assert_eq!(seen.unwrap_or_default(), vector["expect"], "{vector}");
    }
    for vector in list(&vectors["event_ids"]) {
        let (text, valid) = (text(vector), vector["valid"].as_bool().unwrap());
        assert_eq!(EventId::parse(&text).map(|id| id.to_string()).ok(), valid.then_some(text), "{vector}");
    }
}

#[test]
fn close_codes() {
    for vector in list(&vectors("close_codes.json")) {
        let code = vector["code"].as_u64().map(|code| CloseCode(code.try_into().unwrap()));
        let reaction = match CloseCode::reaction(code) {
            Reaction::Stop => "stop",
            Reaction::TryOnce => "try_once",
            Reaction::BackOff => "back_off",
            Reaction::BackOffAtLeastASecond => "back_off_at_least_a_second",
            Reaction::ReconnectInWindow => "reconnect_in_window",
            Reaction::RefreshToken => "refresh_token",
        };
        assert_eq!(reaction, vector["reaction"], "{vector}");
    }
}
