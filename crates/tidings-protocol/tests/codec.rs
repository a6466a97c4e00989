//! The codec from outside: the strict rules of PROTOCOL.md §2 one by one, and the lenient ones of §3.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use proptest::prelude::*;
use serde_json::value::RawValue;
use tidings_protocol::codec::{
    DecodeError, decode_client_binary, decode_client_text, decode_server_text, encode_server,
};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::message::{
    ClientEvent, ClientMessage, Data, JoinFrom, MessageId, ServerEvent, ServerMessage,
};

fn refused(text: &str) -> DecodeError {
    decode_client_text(text).map(|message| panic!("{text} was read as {message:?}")).unwrap_err()
}

fn assert_invalid(text: &str, id: Option<&str>) {
    let error = refused(text);
    assert_eq!(error.refusal.code, ErrorCode::Invalid, "{text}");
    assert_eq!(error.id.as_ref().map(|id| id.as_str()), id, "{text}");
    assert!(error.refusal.message.len() < 400, "{text}: {}", error.refusal.message);
}

fn event(text: &str) -> ClientEvent<'_> {
    match decode_client_text(text) {
        Ok(ClientMessage::Event(event)) => event,
        other => panic!("{text}: {other:?}"),
    }
}

fn data_of(text: &str) -> &str {
    match event(text).data {
        Data::Json(raw) => raw.get(),
        Data::Binary(_) => panic!("{text}"),
    }
}

#[test]
fn an_event_may_have_a_room_data_and_an_id() {
    let whole = event(r#" {"event":"message.send","room":"chat:lobby","data": {"a" :1} ,"id":"9f3a-1"} "#);
    assert_eq!((whole.event.as_str(), whole.room.unwrap().as_str()), ("message.send", "chat:lobby"));
    assert_eq!((whole.data.as_bytes(), whole.id.unwrap().as_str()), (&br#"{"a" :1}"#[..], "9f3a-1"));
    let least = event(r#"{"event":"typing"}"#);
    assert_eq!((least.room, least.data.as_bytes(), least.id), (None, &b"null"[..], None));
}

#[test]
fn data_comes_back_as_the_bytes_that_it_was() {
    for data in [
        "null",
        "1e999",
        "-0.0",
        "123456789012345678901234567890123456789",
        r#"{"a":1,"a":2}"#,
        r#"{"__proto__":{"b":[]}}"#,
        r#""\ud800""#,
        "[ 1 ,\n2\t]",
        r#""\u0061""#,
        r#"{"":"\/"}"#,
    ] {
        assert_eq!(data_of(&format!(r#"{{"event":"e","data":{data}}}"#)), data);
    }
}

#[test]
fn names_that_other_languages_trip_over_are_names() {
    let proto = event(r#"{"event":"__proto__","room":"__proto__","id":"__proto__"}"#);
    assert_eq!((proto.event.as_str(), proto.room.unwrap().as_str()), ("__proto__", "__proto__"));
    assert_invalid(r#"{"event":"e","__proto__":{},"id":"a"}"#, Some("a"));
}

#[test]
fn the_envelope_is_strict_and_the_error_carries_the_id_wherever_it_stands() {
    for text in [
        r#"{"event":"e","id":"a","extra":1}"#,
        r#"{"extra":1,"event":"e","id":"a"}"#,
        r#"{"event":"e","event":"e","id":"a"}"#,
        r#"{"\u0065vent":"e","event":"e","id":"a"}"#,
        r#"{"event":"e","data":1,"data":1,"id":"a"}"#,
        r#"{"event":"e","i\u0064":"a","id":"b"}"#,
        r#"{"id":"a"}"#,
        r#"{"event":null,"id":"a"}"#,
        r#"{"event":1,"id":"a"}"#,
        r#"{"event":"","id":"a"}"#,
        r#"{"event":"a b","id":"a"}"#,
        r#"{"event":"\ud800","id":"a"}"#,
        r#"{"event":"e","room":null,"id":"a"}"#,
        r#"{"event":"e","room":["r"],"id":"a"}"#,
        r#"{"event":"e","room":"a@b","id":"a"}"#,
        r#"{"event":"e","room":"\udc00","id":"a"}"#,
        r#"{"event":"e","from":"me","id":"a"}"#,
    ] {
        assert_invalid(text, Some("a"));
    }
}

#[test]
fn an_id_that_is_none_is_not_repeated() {
    let long = format!(r#"{{"event":"e","id":"{}"}}"#, "x".repeat(65));
    for text in [
        r#"{"event":"e","id":null}"#,
        r#"{"event":"e","id":1}"#,
        r#"{"event":"e","id":""}"#,
        r#"{"event":"e","id":"é"}"#,
        r#"{"event":"e","id":"\n"}"#,
        &long,
    ] {
        assert_invalid(text, None);
    }
}

#[test]
fn a_text_is_one_json_object_and_nothing_else() {
    let text = r#"{"event":"e","id":"a"}"#;
    let long_string = format!("{:?}", "x".repeat(60_000));
    for bad in [
        "",
        "null",
        "[]",
        "1",
        "{",
        r#"{"event":"e""#,
        r#"{"event":"e",}"#,
        r#"{event:"e"}"#,
        r#"{'event':'e'}"#,
        &long_string,
        &format!("{text}x"),
        &format!("{text}{text}"),
        &format!("\u{feff}{text}"),
        &format!("{text}\0"),
        "{\"event\":\"e\n\"}",
    ] {
        assert_invalid(bad, None);
    }
}

#[test]
fn data_nests_32_deep_and_no_deeper() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"event":"e","id":"a","data":{}{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    assert_eq!(event(&nested("[", "]", 32)).data.as_bytes().len(), 64);
    assert_invalid(&nested("[", "]", 33), Some("a"));
    assert_invalid(&nested("[", "]", 100_000), Some("a"));
    assert_invalid(&nested(r#"{"a":["#, "]}", 17), Some("a"));
    assert_invalid(&nested("[", "", 100_000), None);
    assert_invalid(&"[".repeat(100_000), None);
    assert_invalid(&format!(r#"{{"x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000)), None);
    let heartbeat = nested("[", "]", 33).replace(r#""e""#, r#""presence.heartbeat""#);
    assert_invalid(&heartbeat, Some("a"));
}

#[test]
fn reserved_events_are_read_into_their_own_messages() {
    let json =
        r#"{"event":"room.join","room":"r","id":"a","data":{"last_event_id":"r@k3f9a1qz.7","history":9}}"#;
    let Ok(ClientMessage::Join { room, id, from: JoinFrom::Position(position) }) = decode_client_text(json)
    else {
        panic!("no join");
    };
    assert_eq!((room.as_str(), id.as_str(), position.to_string().as_str()), ("r", "a", "k3f9a1qz.7"));
    for (data, history) in
        [("null", 0), ("{}", 0), (r#"{"history":5}"#, 5), (r#"{"history":9007199254740991}"#, u32::MAX)]
    {
        let json = format!(r#"{{"event":"room.join","room":"r","id":"a","data":{data}}}"#);
        let Ok(ClientMessage::Join { from, .. }) = decode_client_text(&json) else { panic!("{json}") };
        assert_eq!(from, JoinFrom::Newest { history }, "{json}");
    }
    let heartbeat = decode_client_text(r#"{"event":"presence.heartbeat","room":"r","data":[1]}"#);
    assert!(
        matches!(heartbeat, Ok(ClientMessage::Heartbeat { room: Some(_), data, .. }) if data.get() == "[1]")
    );
}

#[test]
fn reserved_events_are_strict_about_room_id_and_data() {
    let (join, resume) = (r#""event":"room.join","room":"r""#, r#""event":"session.resume""#);
    for rest in [
        join.into(),
        resume.into(),
        r#""event":"session.resume","data":{"last_event_id":""}"#.to_owned(),
        r#""event":"room.leave""#.into(),
    ] {
        assert_invalid(&format!("{{{rest}}}"), None);
    }
    for rest in [
        r#""event":"room.join""#,
        r#""event":"room.leave""#,
        r#""event":"room.members""#,
        r#""event":"room.history""#,
        r#""event":"presence.update","data":{"info":1}"#,
        r#""event":"room.list","room":"r""#,
        r#""event":"session.resume","room":"r","data":{"last_event_id":""}"#,
        r#""event":"session.refresh","room":"r","data":{"token":"t"}"#,
        r#""event":"room.list","data":{"x":1}"#,
        r#""event":"room.list","data":1"#,
        r#""event":"room.leave","room":"r","data":[]"#,
        r#""event":"session.resume""#,
        r#""event":"session.resume","data":{"last_event_id":"r"}"#,
        r#""event":"session.resume","data":{"last_event_id":null}"#,
        r#""event":"session.refresh","data":{}"#,
        r#""event":"session.refresh","data":{"token":"\ud800"}"#,
        r#""event":"presence.update","room":"r""#,
        r#""event":"presence.update","room":"r","data":{"info":1,"rev":1}"#,
    ] {
        assert_invalid(&format!(r#"{{{rest},"id":"a"}}"#), Some("a"));
    }
    for data in [
        "1",
        "[]",
        r#"{"unknown":1}"#,
        r#"{"history":1,"history":1}"#,
        r#"{"history":1,"h\u0069story":1}"#,
        r#"{"history":-1}"#,
        r#"{"history":1.0}"#,
        r#"{"history":"1"}"#,
        r#"{"history":null}"#,
        r#"{"history":1e400}"#,
        r#"{"history":9007199254740992}"#,
        r#"{"last_event_id":null}"#,
        r#"{"last_event_id":"q@k3f9a1qz.7"}"#,
        r#"{"last_event_id":"r@k3f9a1qz.7,r@k3f9a1qz.8"}"#,
    ] {
        assert_invalid(&format!(r#"{{{join},"data":{data},"id":"a"}}"#), Some("a"));
    }
    for data in [r#"{"limit":0}"#, r#"{"limit":-1}"#, r#"{"before":"q@k3f9a1qz.7"}"#, r#"{"before":7}"#] {
        assert_invalid(
            &format!(r#"{{"event":"room.history","room":"r","data":{data},"id":"a"}}"#),
            Some("a"),
        );
    }
}

#[test]
fn an_unlisted_reserved_event_is_invalid() {
    for name in ["ack", "error", "room.reset", "room.", "session.welcome", "presence.join", "presence.x"] {
        assert_invalid(&format!(r#"{{"event":"{name}","room":"r","id":"a"}}"#), Some("a"));
    }
    for name in ["acks", "errors", "room", "rooms.x", "Room.join", "session", "presence"] {
        assert_eq!(event(&format!(r#"{{"event":"{name}"}}"#)).event.as_str(), name);
    }
}

#[test]
fn a_presence_info_has_a_limit() {
    let update = |bytes: usize| {
        format!(
            r#"{{"event":"presence.update","room":"r","id":"a","data":{{"info":"{}"}}}}"#,
            "x".repeat(bytes - 2)
        )
    };
    assert!(decode_client_text(&update(4096)).is_ok());
    let error = refused(&update(4097));
    assert_eq!((error.refusal.code, error.id.unwrap().as_str()), (ErrorCode::TooLarge, "a"));
}

fn binary(header: &str, payload: &[u8]) -> Vec<u8> {
    [&u16::try_from(header.len()).unwrap().to_be_bytes()[..], header.as_bytes(), payload].concat()
}

#[test]
fn a_binary_frame_is_an_event_without_data_and_its_payload() {
    let frame = binary(r#"{"event":"image","room":"r","id":"a"}"#, b"\xff\0");
    let Ok(ClientMessage::Event(event)) = decode_client_binary(&frame) else { panic!("no event") };
    assert!(matches!(event.data, Data::Binary(b"\xff\0")));
    for header in [
        r#"{"event":"image","data":null,"id":"a"}"#,
        r#"{"event":"room.list","id":"a"}"#,
        r#"{"event":"image","x":1,"id":"a"}"#,
    ] {
        let error = decode_client_binary(&binary(header, b"")).unwrap_err();
        assert_eq!((error.refusal.code, error.id.unwrap().as_str()), (ErrorCode::Invalid, "a"), "{header}");
    }
    for frame in [&b""[..], b"\0", b"\0\0", b"\0\x05{}", b"\xff\xff{}", b"\0\x01\xff"] {
        assert_eq!(decode_client_binary(frame).unwrap_err().id, None, "{frame:?}");
    }
}

#[test]
fn a_client_lives_with_a_newer_server() {
    let unknown = decode_server_text(r#"{"event":"session.renewed","data":{"since":1},"hint":true}"#);
    assert!(matches!(unknown, Ok(ServerMessage::Unknown { event }) if event.as_str() == "session.renewed"));
    let skip = r#"{"event":"room.skip","room":"r","id":"r@k3f9a1qz.3","data":{"from":2,"reason":"bored","x":1},"y":2}"#;
    assert!(matches!(decode_server_text(skip), Ok(ServerMessage::Skip { from: 2, .. })));
    let error = r#"{"event":"error","id":"a","data":{"code":"teapot","message":"short","brew":1}}"#;
    let Ok(ServerMessage::Error { refusal, .. }) = decode_server_text(error) else { panic!("no error") };
    assert_eq!((refusal.code, refusal.code.is_retryable()), (ErrorCode::Other, false));
    let event = r#"{"event":"e","room":null,"id":null,"from":null,"re":null,"at":null}"#;
    assert!(matches!(
        decode_server_text(event),
        Ok(ServerMessage::Event(ServerEvent { room: None, id: None, .. }))
    ));
}

#[test]
fn a_position_belongs_to_the_room_of_its_message() {
    for text in [
        r#"{"event":"e","room":"r","id":"q@k3f9a1qz.3"}"#,
        r#"{"event":"e","room":"r","id":"3"}"#,
        r#"{"event":"room.epoch","room":"r","id":"q@k3f9a1qz.3","data":{"was":"p0d2mm4c"}}"#,
        r#"{"event":"room.epoch","room":"r","data":{"was":"p0d2mm4c"}}"#,
    ] {
        assert!(decode_server_text(text).is_err(), "{text}");
    }
}

#[test]
fn a_reset_tells_a_null_state_from_none() {
    let reset = |state: &str| {
        format!(
            r#"{{"event":"room.reset","room":"r","id":"r@k3f9a1qz.3","data":{{"reason":"expired","lost":null{state}}}}}"#
        )
    };
    assert!(matches!(
        decode_server_text(&reset("")),
        Ok(ServerMessage::Reset { state: None, lost: None, .. })
    ));
    let (text, mut again) = (reset(r#","state":null"#), Vec::new());
    let message = decode_server_text(&text).unwrap();
    assert!(matches!(message, ServerMessage::Reset { state: Some(_), .. }));
    encode_server(&message, &mut again);
    assert_eq!(String::from_utf8(again).unwrap(), text);
}

#[test]
fn raw_values_of_our_own_are_encoded_as_they_are() {
    let data = RawValue::from_string("[1, 2]".into()).unwrap();
    let message = ServerMessage::Ack { id: MessageId::parse("a").unwrap(), data: &data };
    let mut encoded = Vec::new();
    encode_server(&message, &mut encoded);
    assert_eq!(encoded, br#"{"event":"ack","id":"a","data":[1, 2]}"#);
}

proptest! {
    #[test]
    fn the_id_is_found_wherever_it_stands(
        order in Just(vec![r#""event":"e""#, r#""room":"r""#, r#""data":{"id":"no"}"#, r#""id":"a""#, r#""wrong":[]"#]).prop_shuffle(),
    ) {
        assert_invalid(&format!("{{{}}}", order.join(",")), Some("a"));
    }
}
