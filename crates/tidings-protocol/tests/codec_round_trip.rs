//! What holds for every message and for every input: round trips, raw bytes, no panic.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use proptest::prelude::*;
use tidings_protocol::codec::{
    Encoding, decode_client_binary, decode_client_text, decode_server_binary, decode_server_text,
    encode_client, encode_server,
};
use tidings_protocol::message::{ClientMessage, ServerMessage};

fn binary(header: &str, payload: &[u8]) -> Vec<u8> {
    [&u16::try_from(header.len()).unwrap().to_be_bytes()[..], header.as_bytes(), payload].concat()
}

/// JSON with the spacing, duplicates and numbers that re-serialising would change.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e999".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud800\u0041\/""#.to_owned()),
    ];
    leaf.prop_recursive(6, 32, 4, |inner| {
        let field = ("[a-c]", inner.clone()).prop_map(|(key, value)| format!("\"{key}\" :{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[ {}]", items.join(",\n"))),
            prop::collection::vec(field, 0..4).prop_map(|fields| format!("{{{}\t}}", fields.join(", "))),
        ]
    })
}

fn room() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.:-]{1,128}"
}

fn id() -> impl Strategy<Value = String> {
    "[ -~]{1,64}"
}

fn name() -> impl Strategy<Value = String> {
    "x[A-Za-z0-9_.:-]{0,63}"
}

fn position() -> impl Strategy<Value = String> {
    ("[a-z0-9]{8}", 0..1u64 << 53).prop_map(|(epoch, offset)| format!("{epoch}.{offset}"))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn client_text() -> impl Strategy<Value = String> {
    let event = (name(), prop::option::of(room()), json(), prop::option::of(id())).prop_map(
        |(name, room, data, id)| {
            let room = room.map_or(String::new(), |room| format!(r#""room":"{room}","#));
            let id = id.map_or(String::new(), |id| format!(r#","id":{}"#, quoted(&id)));
            format!(r#"{{{room}"event":"{name}","data":{data}{id}}}"#)
        },
    );
    let room_event = (room(), id(), position(), any::<u32>(), any::<String>(), 0..7usize).prop_map(
        |(room, id, position, number, text, kind)| {
            let limit = number.max(1);
            let (event, data) = match kind {
                0 => ("room.join", format!(r#"{{"last_event_id":"{room}@{position}","history":3}}"#)),
                1 => ("room.join", format!(r#"{{"history":{number}}}"#)),
                2 => ("room.leave", "{}".into()),
                3 => ("room.members", format!(r#"{{"after":{},"limit":{limit}}}"#, quoted(&text))),
                4 => ("room.history", format!(r#"{{"before":"{room}@{position}"}}"#)),
                5 => ("room.history", format!(r#"{{"limit":{limit}}}"#)),
                _ => ("presence.update", format!(r#"{{"info":{}}}"#, quoted(&text))),
            };
            format!(r#"{{"event":"{event}","room":"{room}","data":{data},"id":{}}}"#, quoted(&id))
        },
    );
    let session_event = (id(), room(), position(), any::<String>(), json(), 0..4usize).prop_map(
        |(id, room, position, text, data, kind)| {
            let (event, data) = match kind {
                0 => ("session.resume", format!(r#"{{"last_event_id":"{room}@{position}"}}"#)),
                1 => ("session.refresh", format!(r#"{{"token":{}}}"#, quoted(&text))),
                2 => ("presence.heartbeat", data),
                _ => ("room.list", "null".into()),
            };
            format!(r#"{{"id":{},"event":"{event}","data":{data}}}"#, quoted(&id))
        },
    );
    prop_oneof![event, room_event, session_event]
}

fn server_text() -> impl Strategy<Value = String> {
    (name(), room(), position(), any::<String>(), id(), any::<u64>(), json(), 0..16usize).prop_map(
        |(name, room, position, text, id, number, data, kind)| {
            let (user, id) = (quoted(&text), quoted(&id));
            let moving = |event: &str, data: &str| {
                format!(r#"{{"event":"{event}","room":"{room}","id":"{room}@{position}","data":{data}}}"#)
            };
            match kind {
                0 => format!(
                    r#"{{"event":"{name}","data":{data},"room":"{room}","re":{id},"from":{user},"at":{number},"id":"{room}@{position}"}}"#
                ),
                1 => format!(r#"{{"event":"{name}","data":{data},"from":{user}}}"#),
                2 => format!(r#"{{"event":"ack","id":{id},"data":{data}}}"#),
                3 => format!(r#"{{"event":"error","data":{{"code":"schema","message":{user},"pointer":{user}}},"id":{id}}}"#),
                4 => format!(r#"{{"event":"presence.update","room":"{room}","data":{{"user":{user},"rev":{number},"info":{data}}}}}"#),
                5 => moving("room.skip", &format!(r#"{{"from":{number},"reason":"conflated"}}"#)),
                6 => moving("room.epoch", r#"{"was":"k3f9a1qz"}"#),
                7 => moving("room.reset", &format!(r#"{{"reason":"forked","lost":{{"from":1,"to":{number}}},"state":{data}}}"#)),
                8 => format!(r#"{{"event":"session.checkpoint","data":{{"last_event_id":"{room}@{position}"}}}}"#),
                9 => format!(r#"{{"event":"session.reconnect","data":{{"after_ms":0,"within_ms":{number},"reason":{user}}}}}"#),
                10 => format!(r#"{{"event":"presence.count","room":"{room}","data":{{"rev":{number},"members":3}}}}"#),
                11 => format!(
                    r#"{{"event":"presence.changes","room":"{room}","data":{{"joins":[{{"user":{user},"info":{data}}}],"leaves":[{user},"u"],"from":1,"rev":{number}}}}}"#
                ),
                12 => format!(r#"{{"event":"session.degraded","data":{{"degraded":{}}}}}"#, number % 2 == 0),
                13 => format!(
                    r#"{{"event":"room.joined","room":"{room}","data":{{"recovery":"fresh","last_event_id":null,"top":"{room}@{position}","members":{number}}}}}"#
                ),
                14 => format!(r#"{{"event":"room.left","room":"{room}","data":{{"reason":"removed"}}}}"#),
                _ => format!(
                    r#"{{"event":"session.welcome","data":{{"session":{user},"user":{user},"rooms":["{room}"],"last_event_id":"{room}@{position}","heartbeat_ms":{number},"limits":{{"rooms":7}},"features":["x"]}}}}"#
                ),
            }
        },
    )
}

proptest! {
    #[test]
    fn client_messages_survive_a_round_trip(text in client_text()) {
        let message = decode_client_text(&text).unwrap();
        let mut encoded = Vec::new();
        prop_assert_eq!(encode_client(&message, &mut encoded), Encoding::Text);
        let encoded = String::from_utf8(encoded).unwrap();
        prop_assert_eq!(format!("{:?}", decode_client_text(&encoded).unwrap()), format!("{message:?}"));
    }

    #[test]
    fn server_messages_survive_a_round_trip(text in server_text()) {
        let message = decode_server_text(&text).unwrap();
        let known = !matches!(message, ServerMessage::Unknown { .. });
        prop_assert!(known);
        let mut encoded = Vec::new();
        prop_assert_eq!(encode_server(&message, &mut encoded), Encoding::Text);
        let encoded = String::from_utf8(encoded).unwrap();
        prop_assert_eq!(format!("{:?}", decode_server_text(&encoded).unwrap()), format!("{message:?}"));
    }

    #[test]
    fn binary_messages_survive_a_round_trip(
        name in name(), room in room(), id in id(), from in "\\PC{0,40}", payload: Vec<u8>, at: u64, offset in 0..1u64 << 53,
    ) {
        let header = format!(r#"{{"event":"{name}","room":"{room}","id":{}}}"#, quoted(&id));
        let frame = binary(&header, &payload);
        let message = decode_client_binary(&frame).unwrap();
        let mut encoded = Vec::new();
        prop_assert_eq!(encode_client(&message, &mut encoded), Encoding::Binary);
        prop_assert_eq!(encoded, frame);

        let header = format!(
            r#"{{"event":"{name}","room":"{room}","from":{},"re":{},"id":"{room}@k3f9a1qz.{offset}","at":{at}}}"#,
            quoted(&from), quoted(&id)
        );
        let frame = binary(&header, &payload);
        let message = decode_server_binary(&frame).unwrap();
        let mut encoded = Vec::new();
        prop_assert_eq!(encode_server(&message, &mut encoded), Encoding::Binary);
        prop_assert_eq!(encoded, frame);
    }

    #[test]
    fn data_is_carried_byte_by_byte(data in json()) {
        let text = format!(r#"{{"event":"e","data":{data}}}"#);
        let Ok(ClientMessage::Event(event)) = decode_client_text(&text) else { panic!("{text}") };
        prop_assert_eq!(event.data.as_bytes(), data.as_bytes());
        let Ok(ServerMessage::Event(event)) = decode_server_text(&text) else { panic!("{text}") };
        prop_assert_eq!(event.data.as_bytes(), data.as_bytes());
    }

    #[test]
    fn nothing_makes_a_decoder_panic(text: String, bytes: Vec<u8>, json in json()) {
        let _ = (decode_client_text(&text), decode_server_text(&text), decode_client_text(&json), decode_server_text(&json));
        let _ = (decode_client_binary(&bytes), decode_server_binary(&bytes));
    }

    #[test]
    fn a_message_that_was_altered_is_read_or_refused(
        texts in (client_text(), server_text()), at: prop::sample::Index, with: Option<char>,
    ) {
        for text in [&texts.0, &texts.1] {
            let mut characters: Vec<char> = text.chars().collect();
            let place = at.index(characters.len());
            match with {
                Some(character) => characters[place] = character,
                None => characters.truncate(place),
            }
            let altered: String = characters.into_iter().collect();
            let _ = (decode_client_text(&altered), decode_server_text(&altered));
            let frame = binary(&altered.chars().take(10_000).collect::<String>(), b"x");
            let _ = (decode_client_binary(&frame), decode_server_binary(&frame));
        }
    }
}
