//! The claims of a token, read strictly: a claim of the wrong type is a refusal, never an absent claim.

use std::fmt;
use std::num::NonZeroU32;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use tidings_protocol::event_id::RoomId;

use super::{AuthError, Identity, TokenFault, UserId};

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    exp: NumericDate,
    aud: Audience,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "its type is checked; whoever needs it reads it anew")]
    iat: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    #[expect(dead_code, reason = "its type is checked; whoever needs it reads it anew")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "present")]
    rooms: Option<Vec<RoomId>>,
    #[serde(default, deserialize_with = "present")]
    max_connections: Option<NonZeroU32>,
}

/// A member that may be left out and must not be null.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A token's `jti`, alone.
#[derive(serde::Deserialize)]
pub(super) struct TokenId {
    pub(super) jti: Option<String>,
}

/// A token's `iat`, alone.
#[derive(serde::Deserialize)]
pub(super) struct IssuedAt {
    pub(super) iat: Option<NumericDate>,
}

/// RFC 7519's NumericDate, in whole seconds: a fraction is cut off.
pub(super) struct NumericDate(pub(super) u64);

/// Seconds beyond which a date is no date: the year 10,000.
const DATE_MAX: u64 = 253_402_300_800;

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = NumericDate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970 as a number")
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<NumericDate, E> {
                if seconds <= DATE_MAX {
                    Ok(NumericDate(seconds))
                } else {
                    Err(E::custom("a date after the year 9999"))
                }
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<NumericDate, E> {
                if (0.0..=DATE_MAX as f64).contains(&seconds) {
                    Ok(NumericDate(seconds as u64))
                } else {
                    Err(E::custom("a date before 1970 or after the year 9999"))
                }
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

/// One audience or several.
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(one) => Ok(Self(vec![one])),
            several @ serde_json::Value::Array(_) => serde_json::from_value(several)
                .map(Self)
                .map_err(|_| D::Error::custom("aud holds something that is no text")),
            _ => Err(D::Error::custom("aud is neither a text nor a list of texts")),
        }
    }
}

/// Reads the claims of a token whose signature is good.
pub(super) fn identity(
    claims: &str,
    audience: &str,
    leeway_s: u64,
    now_unix_s: u64,
) -> Result<Identity, AuthError> {
    let refused = |detail: &str| AuthError::new(TokenFault::Claims, detail);
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(claims).is_err() {
        return Err(AuthError::new(TokenFault::Malformed, "the claims are not a JSON object"));
    }
    // Position numbers of a text that the reader does not see would only confuse.
    let fault = |error: serde_json::Error| {
        let text = error.to_string();
        refused(text.split(" at line ").next().unwrap_or_default())
    };
    let read: Claims = serde_json::from_str(claims).map_err(fault)?;
    if now_unix_s > read.exp.0.saturating_add(leeway_s) {
        return Err(AuthError::new(
            TokenFault::Expired,
            format!("the token expired {} s ago", now_unix_s - read.exp.0),
        ));
    }
    if let Some(NumericDate(not_before)) = read.nbf
        && now_unix_s.saturating_add(leeway_s) < not_before
    {
        return Err(refused(&format!("the token is valid only in {} s (nbf)", not_before - now_unix_s)));
    }
    if !read.aud.0.iter().any(|aud| aud == audience) {
        return Err(refused(&format!(
            "the token is for another audience (aud): this server is {audience:?}"
        )));
    }
    let user = UserId::parse(&read.sub).map_err(|error| refused(&format!("sub: {error}")))?;
    let identity = Identity::new(user)
        .with_claims(claims)
        .with_rooms(read.rooms.unwrap_or_default())
        .with_expiry(read.exp.0);
    Ok(match read.max_connections {
        Some(max) => identity.with_max_connections(max.get() as usize),
        None => identity,
    })
}
