//! `tidings token`: a token for `tidings dev`, alone on stdout, so that `$(tidings token --user ada)` is one.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tidings::RoomId;
use tidings::auth::{UserId, mint_hs256};

use crate::failure::Failure;
use crate::{dev_secret, span_of_time};

/// For whom tokens of `tidings dev` are.
pub(super) const AUDIENCE: &str = "tidings";

/// Print a token for `tidings dev`
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The user's id: 1-128 bytes without control characters
    #[arg(long, value_name = "ID", value_parser = user)]
    user: UserId,
    /// Rooms that the user belongs to, and is joined to on connect
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = room)]
    rooms: Vec<RoomId>,
    /// How long the token is good: 30s, 10m, 2h, 1d
    #[arg(long, default_value = "10m", value_parser = span_of_time::parse)]
    ttl: Duration,
}

impl Token {
    pub(super) fn run(self) -> Result<(), Failure> {
        let token = mint(&dev_secret::load()?, &self.user, &self.rooms, self.ttl)?;
        writeln!(std::io::stdout(), "{token}")
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'static str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rooms: &'a [&'a str],
}

/// Signs a token that `tidings dev` takes.
pub(super) fn mint(
    secret: &SecretString,
    user: &UserId,
    rooms: &[RoomId],
    ttl: Duration,
) -> Result<String, Failure> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let rooms: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    let exp = now_s.saturating_add(ttl.as_secs());
    let claims = Claims { sub: user.as_str(), aud: AUDIENCE, iat: now_s, exp, rooms: &rooms };
    mint_hs256(secret.expose_secret().as_bytes(), &claims).map_err(Failure::failed)
}

pub(super) fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn room(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).map_err(|error| error.to_string())
}
