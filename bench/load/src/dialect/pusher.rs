//! Pusher's protocol, version 7, as sockudo speaks it: client events in private channels, which need a signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Deserialize;

use super::{Client, Dialect, Step, Unit, at_least};

pub(super) struct Pusher;

/// What `bench/peers/sockudo/serve` configures: they guard nothing.
const APP_KEY: &str = "app-key";
const APP_SECRET: &[u8] = b"app-secret";

#[derive(Deserialize)]
struct Established {
    /// JSON within JSON.
    data: String,
}

#[derive(Deserialize)]
struct Socket {
    socket_id: String,
}

fn channel(room: &str) -> String {
    format!("private-{room}")
}

/// HMAC-SHA-256 in hexadecimal.
fn signature(message: &str) -> Option<String> {
    let key = EncodingKey::from_secret(APP_SECRET);
    let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).ok()?;
    let bytes = URL_SAFE_NO_PAD.decode(signed).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Dialect for Pusher {
    fn path(&self, _client: &Client) -> String {
        format!("/app/{APP_KEY}?protocol=7&client=bench&version=1")
    }

    fn opening(&self, _client: &Client) -> Vec<Step> {
        vec![Step::Learn("connection_established"), Step::Await("subscription_succeeded")]
    }

    fn learned(&self, client: &Client, message: &[u8]) -> Vec<u8> {
        let subscribe = || {
            let established: Established = serde_json::from_slice(message).ok()?;
            let socket: Socket = serde_json::from_str(&established.data).ok()?;
            let channel = channel(client.rooms.first()?);
            let signature = signature(&format!("{}:{channel}", socket.socket_id))?;
            Some(format!(
                r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{APP_KEY}:{signature}"}}}}"#
            ))
        };
        subscribe().unwrap_or_default().into_bytes()
    }

    fn publish(&self, room: &str, _number: u64, payload: &str) -> Vec<u8> {
        format!(r#"{{"event":"client-m","channel":"{}","data":"{payload}"}}"#, channel(room)).into_bytes()
    }

    fn unit(&self, _room: &str, payload: &str) -> Unit {
        at_least(payload)
    }

    fn heartbeat(&self, message: &[u8]) -> Option<&'static [u8]> {
        let ping: &[u8] = b"pusher:ping";
        let is_ping = message.windows(ping.len()).any(|part| part == ping);
        is_ping.then_some(br#"{"event":"pusher:pong","data":{}}"#)
    }

    fn publisher_listens(&self) -> bool {
        false
    }
}
