//! The Pusher protocol (sockudo): private channels, client events. The channel is signed by the application's secret.

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::{Client, Dialect, Step, Unit};

const KEY: &str = "bench-key";
const SECRET: &[u8] = b"bench-secret";

pub(super) struct Pusher;

impl Dialect for Pusher {
    fn path(&self, _client: &Client) -> String {
        format!("/app/{KEY}?protocol=7&client=bench&version=1")
    }

    fn opening(&self, _client: &Client) -> Vec<Step> {
        vec![Step::Learn("connection_established"), Step::Await("subscription_succeeded")]
    }

    fn learned(&self, client: &Client, message: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(message);
        let socket_id: String = text
            .split_once("socket_id")
            .map(|(_, rest)| rest.trim_start_matches(['\\', '"', ':', ' ']))
            .map(|rest| rest.chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect())
            .unwrap_or_default();
        let channel = format!("private-{}", client.rooms.first().map_or("none", String::as_str));
        let signature = hmac_sha256_hex(format!("{socket_id}:{channel}").as_bytes());
        format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{KEY}:{signature}"}}}}"#
        )
        .into_bytes()
    }

    fn publish(&self, room: &str, _number: u64, payload: &str) -> Vec<u8> {
        format!(r#"{{"event":"client-event","channel":"private-{room}","data":"{payload}"}}"#).into_bytes()
    }

    fn unit(&self, _room: &str, payload: &str) -> Unit {
        Unit::Frame { at_least: payload.len() as u64 }
    }

    fn heartbeat(&self, message: &[u8]) -> Option<&'static [u8]> {
        let ping = b"\"pusher:ping\"";
        let is_ping = message.windows(ping.len()).any(|window| window == ping);
        is_ping.then_some(br#"{"event":"pusher:pong","data":{}}"#)
    }

    fn publisher_listens(&self) -> bool {
        false
    }
}

/// The signature of Pusher's private channels is the one of HS256 tokens, written in hexadecimal.
fn hmac_sha256_hex(message: &[u8]) -> String {
    let signed = sign(message, &EncodingKey::from_secret(SECRET), Algorithm::HS256).unwrap_or_default();
    base64url_bytes(&signed).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64url_bytes(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        bits = bits << 6 | u32::from(value(byte));
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
