//! Tidings: a token at the handshake names the user and the rooms; every publish has an id and so an ack.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{Client, Dialect, Role, Step, Unit};
use crate::plan::PlanError;

/// How long a token is good.
const TOKEN_SECONDS: u64 = 3600;

/// What tokens are signed with.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: String,
}

impl SigningKey {
    /// A shared secret: HS256.
    pub fn secret(secret: &[u8]) -> Self {
        Self {
            key: EncodingKey::from_secret(secret),
            algorithm: Algorithm::HS256,
            audience: "tidings".into(),
        }
    }

    /// A private key on the curve P-256, as PEM: ES256.
    ///
    /// # Errors
    /// When it is none.
    pub fn es256_pem(pem: &[u8]) -> Result<Self, PlanError> {
        let key = EncodingKey::from_ec_pem(pem).map_err(|error| PlanError::Key(error.to_string()))?;
        Ok(Self { key, algorithm: Algorithm::ES256, audience: "tidings".into() })
    }

    /// For whom the tokens are, if not for `tidings`.
    #[must_use]
    pub fn audience(mut self, audience: String) -> Self {
        self.audience = audience;
        self
    }

    fn token(&self, user: &str, rooms: &[String]) -> String {
        let claims = Claims { sub: user, aud: &self.audience, exp: unix_s() + TOKEN_SECONDS, rooms };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    rooms: &'a [String],
}

/// The dialect.
pub struct Tidings {
    key: SigningKey,
    /// Makes this run's users and ids its own.
    run: u64,
}

impl Tidings {
    /// With tokens signed by `key`.
    pub fn new(key: SigningKey) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Short, as a client's own prefix would be.
        Self { key, run: since.as_micros() as u64 & 0xf_ffff }
    }

    fn event(&self, room: &str, number: u64, payload: &str) -> Vec<u8> {
        let run = self.run;
        format!(r#"{{"event":"tick","room":"{room}","data":"{payload}","id":"{run:x}-{number}"}}"#)
            .into_bytes()
    }
}

impl Dialect for Tidings {
    fn path(&self, client: &Client) -> String {
        let own = [own_room(client)];
        let rooms = if client.role == Role::Requester { &own[..] } else { &client.rooms };
        format!("/ws?token={}", self.key.token(&format!("u{:x}{:x}", client.number, self.run), rooms))
    }

    fn opening(&self, _client: &Client) -> Vec<Step> {
        vec![Step::Await("session.welcome")]
    }

    fn publish(&self, room: &str, number: u64, payload: &str) -> Vec<u8> {
        self.event(room, number, payload)
    }

    fn unit(&self, _room: &str, payload: &str) -> Unit {
        Unit::Frame { min: payload.len() as u64 + 2, max: u64::MAX }
    }

    /// A publish into a room of the client's own: besides the ack, it gets its event.
    fn request(&self, client: &Client, number: u64, payload: &str) -> Option<Vec<u8>> {
        Some(self.event(&own_room(client), number, payload))
    }

    fn refusal(&self, message: &[u8]) -> Option<String> {
        let error = message.strip_prefix(br#"{"event":"error""#)?;
        let hint = if error.windows(12).any(|word| word == b"rate_limited") {
            ": raise messages_per_second and the other rates for the run, as bench/tidings.toml does, or give --rate"
        } else {
            ""
        };
        Some(format!("the server refused a publish{hint}: {}", String::from_utf8_lossy(message)))
    }

    /// The ack, which does not repeat the payload.
    fn answer(&self, payload: &str) -> Unit {
        Unit::Frame { min: 0, max: payload.len() as u64 }
    }
}

fn own_room(client: &Client) -> String {
    format!("own{}", client.number)
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
