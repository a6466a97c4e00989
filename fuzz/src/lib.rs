//! What the fuzz targets do, as plain functions of bytes that panic when something is wrong. A fuzzer calls them with what
//! it makes up, and `crates/tidings/tests/fuzz_corpus.rs` with what lies in `corpus/`, on any compiler.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings::auth::{Jwt, TokenFault};
use tidings::{ErrorCode, Schema};
use tidings_protocol::codec::{
    Encoding, decode_client_binary, decode_client_text, decode_server_binary, decode_server_text,
    encode_client, encode_server,
};
use tidings_protocol::event_id::{Cursor, Epoch, EventId, Position, RoomId};
use tidings_protocol::frame::{FrameError, MessageReader, ReaderLimits, Role};
use tidings_protocol::limits::{CURSOR_BYTES_MAX, SCHEMA_FAULT_BYTES_MAX, SCHEMA_POINTER_BYTES_MAX};
use tidings_protocol::message::{ClientMessage, ServerMessage};

const WIDE: ReaderLimits =
    ReaderLimits { text_bytes_max: 1 << 20, binary_bytes_max: 1 << 20, fragments_max: u32::MAX };
const NARROW: ReaderLimits = ReaderLimits { text_bytes_max: 40, binary_bytes_max: 60, fragments_max: 3 };

/// What the stream means, each message as its debug text, when it comes in pieces of `length` bytes and, in turn, of
/// `next` bytes.
fn read(
    role: Role,
    limits: &ReaderLimits,
    stream: &[u8],
    length: usize,
    next: usize,
) -> (Vec<String>, Option<FrameError>) {
    let mut reader = MessageReader::new(role);
    let mut stream = stream.to_vec();
    let mut rest = stream.as_mut_slice();
    let mut lengths = [length, next].into_iter().cycle();
    let mut received = Vec::new();
    while !rest.is_empty() {
        let cut = lengths.next().unwrap_or(1).min(rest.len());
        let (mut piece, behind) = rest.split_at_mut(cut);
        rest = behind;
        loop {
            let mut used = 0;
            match reader.read(piece, &mut used, limits) {
                Ok(Some(inbound)) => received.push(format!("{inbound:?}")),
                Ok(None) => {
                    assert_eq!(used, piece.len());
                    assert!(reader.is_mid_message() || reader.buffered_bytes() == 0);
                    break;
                }
                Err(error) => return (received, Some(error)),
            }
            piece = &mut piece[used..];
        }
    }
    (received, None)
}

/// The frame reader on any bytes: it never panics, holds nothing when idle, and how a stream is cut never changes what it
/// means. The input's first bytes choose role, limits and cuts; the rest is the stream.
pub fn frame_reader(input: &[u8]) {
    let Some((&[choice, length, next], stream)) = input.split_first_chunk() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let limits = if choice & 2 == 0 { WIDE } else { NARROW };
    let whole = read(role, &limits, stream, stream.len(), 1);
    assert_eq!(read(role, &limits, stream, 1, 1), whole);
    assert_eq!(read(role, &limits, stream, length.max(1).into(), next.max(1).into()), whole);
}

/// Messages of both directions, text and binary: nothing panics, and what was read is written so that it is read again as
/// the same.
pub fn envelope(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        match decode_client_text(text) {
            Ok(message) => client_again(&message, text.as_bytes()),
            Err(error) => assert!(!error.refusal.message.is_empty()),
        }
        if let Ok(message) = decode_server_text(text) {
            server_again(&message);
        }
    }
    if let Ok(message) = decode_client_binary(input) {
        client_again(&message, input);
    }
    if let Ok(message) = decode_server_binary(input) {
        server_again(&message);
    }
}

fn client_again(message: &ClientMessage<'_>, input: &[u8]) {
    if let ClientMessage::Event(event) = message {
        // Carried through as the bytes that came, unless the field was left out.
        let data = event.data.as_bytes();
        let is_there = input.windows(data.len().max(1)).any(|window| window == data);
        assert!(is_there || data.is_empty() || data == RawValue::NULL.get().as_bytes());
    }
    let mut written = Vec::new();
    let again = match encode_client(message, &mut written) {
        Encoding::Text => decode_client_text(std::str::from_utf8(&written).expect("text is UTF-8")),
        Encoding::Binary => decode_client_binary(&written),
    };
    assert_eq!(format!("{message:?}"), format!("{:?}", again.expect("our own writing")));
}

fn server_again(message: &ServerMessage<'_>) {
    let mut written = Vec::new();
    let again = match encode_server(message, &mut written) {
        Encoding::Text => decode_server_text(std::str::from_utf8(&written).expect("text is UTF-8")),
        Encoding::Binary => decode_server_binary(&written),
    };
    assert_eq!(format!("{message:?}"), format!("{:?}", again.expect("our own writing")));
}

/// Names and positions from any text: each has one way to be written, and a cursor comes back as what it was.
pub fn cursor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(room) = RoomId::parse(text) {
        assert_eq!(room.as_str(), text);
    }
    if let Ok(epoch) = Epoch::parse(text) {
        assert_eq!(epoch.as_str(), text);
    }
    if let Ok(position) = Position::parse(text) {
        assert_eq!(position.to_string(), text);
    }
    if let Ok(id) = EventId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert_eq!(id.position.of(&id.room), id);
    }
    let Ok(cursor) = Cursor::parse(text) else { return };
    let written = cursor.to_string();
    assert!(text.len() <= CURSOR_BYTES_MAX && written.len() <= text.len());
    assert_eq!(cursor.iter().count(), cursor.len());
    assert_eq!(cursor.is_empty(), text.is_empty());
    assert_eq!(Cursor::parse(&written).as_ref(), Ok(&cursor));
    for (room, position) in cursor.iter() {
        assert_eq!(cursor.get(room.as_str()), Some(position));
        assert!(text.split(',').any(|id| id == position.of(room).to_string()));
    }
}

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
/// What a verifier takes for now, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// Tokens: as text, which nobody can have signed, and as claims that somebody has. Whoever gets in is who the claims say,
/// now, with this server as the audience; a token that was changed gets nobody in.
pub fn jwt(input: &[u8]) {
    let jwt = Jwt::hs256(SECRET).expect("a long secret");
    if let Ok(token) = std::str::from_utf8(input) {
        assert!(jwt.verify(token, NOW).is_err(), "forged");
    }
    let token = signed(r#"{"alg":"HS256"}"#, input);
    for other in [r#"{"alg":"none"}"#, r#"{"alg":"HS384"}"#, r#"["HS256"]"#] {
        assert!(jwt.verify(&signed(other, input), NOW).is_err(), "{other}");
    }
    let (unsigned, signature) = token.rsplit_once('.').expect("three parts");
    let first = if signature.starts_with('A') { "B" } else { "A" };
    assert!(jwt.verify(&format!("{unsigned}.{first}{}", &signature[1..]), NOW).is_err(), "changed");
    match jwt.verify(&token, NOW) {
        Ok(identity) => {
            let claims: Value = serde_json::from_slice(input).expect("claims are JSON");
            assert_eq!(claims["sub"].as_str(), Some(identity.user().as_str()));
            assert!(claims["exp"].as_f64().is_some_and(|exp| exp + 31.0 > NOW as f64));
            let aud = &claims["aud"];
            let for_us = |aud: &Value| aud.as_str() == Some("tidings");
            assert!(for_us(aud) || aud.as_array().is_some_and(|several| several.iter().any(for_us)));
            for room in identity.rooms() {
                assert!(
                    claims["rooms"].as_array().is_some_and(|rooms| rooms.contains(&json!(room.as_str())))
                );
            }
        }
        Err(error) => assert!(!matches!(error.fault(), TokenFault::Missing | TokenFault::Signature)),
    }
}

fn signed(header: &str, claims: &[u8]) -> String {
    let unsigned = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = BASE64URL.encode(hmac::sign(&key, unsigned.as_bytes()));
    format!("{unsigned}.{signature}")
}

/// What an application could have declared, with what a validator does: names, numbers, choices, patterns, itself again.
static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let schemas = [
        json!({
            "type": "object",
            "required": ["content"],
            "properties": {
                "content": {"type": "string", "minLength": 1, "maxLength": 20},
                "a/b~c": {"type": "array", "items": {"type": "integer"}, "uniqueItems": true, "maxItems": 40},
            },
            "patternProperties": {"^x-(a+)+$": {"type": ["number", "null"], "multipleOf": 0.5}},
            "propertyNames": {"maxLength": 40},
            "additionalProperties": false,
        }),
        json!({
            "$defs": {"tree": {
                "type": "object",
                "properties": {"of": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "additionalProperties": {"$ref": "#"},
            }},
            "anyOf": [{"$ref": "#/$defs/tree"}, {"type": "array", "contains": {"const": 1}, "minContains": 2}, {"type": "null"}],
        }),
        json!({
            "oneOf": [
                {"required": ["by"], "properties": {"by": {"enum": ["mail", "time"]}}},
                {"required": ["to"], "properties": {"to": {"format": "uuid"}}},
            ],
            "if": {"properties": {"by": {"const": "mail"}}},
            "then": {"properties": {"at": {"format": "email"}}},
            "else": {"properties": {"at": {"format": "date-time"}}},
            "dependentRequired": {"at": ["by"]},
            "properties": {"link": {"format": "uri"}, "n": {"exclusiveMinimum": 0, "maximum": 1e9}, "not": {"not": {"type": "string"}}},
            "unevaluatedProperties": {"pattern": "^(a|a)*$"},
        }),
    ];
    schemas.iter().map(|schema| Schema::new(schema).expect("a schema")).collect()
});
/// A longer text is no schema that anyone writes by hand, and only takes the fuzzer's time.
const SCHEMA_BYTES_MAX: usize = 4096;

/// Data against schemas: no data panics, and a fault is short and has a place in the data. The first byte chooses the schema;
/// with another byte than there are schemas for, the rest is compiled as one.
pub fn schema(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match SCHEMAS.get(usize::from(choice.wrapping_sub(b'0'))) {
        Some(schema) => check(schema, text),
        None if text.len() <= SCHEMA_BYTES_MAX => {
            let Ok(value) = serde_json::from_str(text) else { return };
            match Schema::new(&value) {
                Ok(schema) => check(&schema, r#"{"content":"Hello","a":[1,{"b":null}],"n":-1.5}"#),
                Err(fault) => assert!(!fault.to_string().is_empty()),
            }
        }
        None => {}
    }
}

fn check(schema: &Schema, text: &str) {
    let Ok(data) = serde_json::from_str::<&RawValue>(text) else { return };
    let Err(refusal) = schema.check(data) else { return };
    assert_eq!(refusal.code, ErrorCode::Schema);
    assert!(!refusal.message.is_empty() && refusal.message.len() <= SCHEMA_FAULT_BYTES_MAX);
    let pointer = refusal.pointer.expect("a fault has a place");
    assert!(pointer.len() <= SCHEMA_POINTER_BYTES_MAX);
    // Where a name stands twice the place may be in the first of the two, which a reader of the whole does not see.
    if let (Ok(value), false) =
        (serde_json::from_str::<Value>(text), refusal.message.contains("stands there twice"))
    {
        assert!(value.pointer(&pointer).is_some(), "{pointer} is no place in {text}");
    }
}
