//! Who a token says is connecting.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU64;

use serde::Deserialize;
use smol_str::SmolStr;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::limits::USER_BYTES_MAX;

use super::claims::{IssuedAt, NumericDate, TokenId};
use crate::logged::log_safe;

/// A user's id: 1–128 bytes of UTF-8 without control characters. Cloning copies a short text and shares a
/// long one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(SmolStr);

/// Not a user's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUserId;

impl UserId {
    /// Parses a user's id.
    ///
    /// # Errors
    /// When it is empty, longer than 128 bytes or holds a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        let fits = (1..=USER_BYTES_MAX).contains(&text.len());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text.into())) } else { Err(InvalidUserId) }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as it stands in the log.
    pub(crate) fn logged(&self) -> impl fmt::Display {
        log_safe(&self.0, USER_BYTES_MAX)
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for InvalidUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user id is 1-128 bytes of UTF-8 without control characters")
    }
}

impl std::error::Error for InvalidUserId {}

/// A verified token's content.
#[derive(Clone)]
pub struct Identity {
    user: UserId,
    /// The claims as they were signed: parsed again by those who want them, so that an idle connection holds no tree.
    claims: Box<str>,
    rooms: Box<[RoomId]>,
    max_connections: Option<u32>,
    expires_at_unix_s: Option<NonZeroU64>,
}

impl Identity {
    /// An identity with nothing but a user: no claims, no rooms, no end.
    pub fn new(user: UserId) -> Self {
        Self {
            user,
            claims: "{}".into(),
            rooms: Box::default(),
            max_connections: None,
            expires_at_unix_s: None,
        }
    }

    /// The claims' JSON text.
    #[must_use]
    pub fn with_claims(mut self, claims: &str) -> Self {
        self.claims = claims.into();
        self
    }

    /// The rooms that the user belongs to and is joined to on connect.
    #[must_use]
    pub fn with_rooms(mut self, rooms: Vec<RoomId>) -> Self {
        self.rooms = rooms.into();
        self
    }

    /// How many connections the user may have, instead of the limit.
    #[must_use]
    pub fn with_max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = Some(u32::try_from(max_connections).unwrap_or(u32::MAX));
        self
    }

    /// When the token ends, in seconds since 1970.
    #[must_use]
    pub fn with_expiry(mut self, expires_at_unix_s: u64) -> Self {
        // At zero or at one, it is long over.
        self.expires_at_unix_s = Some(NonZeroU64::new(expires_at_unix_s).unwrap_or(NonZeroU64::MIN));
        self
    }

    /// The user.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The claims, as any type that they fit.
    ///
    /// # Errors
    /// When they don't fit `T`.
    pub fn claims<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.claims)
    }

    /// The rooms of the token's `rooms` claim.
    pub fn rooms(&self) -> &[RoomId] {
        &self.rooms
    }

    /// The token's `max_connections` claim.
    pub fn max_connections(&self) -> Option<usize> {
        self.max_connections.map(|max| max as usize)
    }

    /// The token's `jti`, which tells it from every other. Read anew from the claims at each call, so that a connection
    /// keeps nothing for it; the same holds for [`Identity::issued_at_unix_s`].
    pub fn token_id(&self) -> Option<String> {
        self.claims::<TokenId>().ok()?.jti
    }

    /// The token's `iat`, in seconds since 1970: when it was minted.
    pub fn issued_at_unix_s(&self) -> Option<u64> {
        self.claims::<IssuedAt>().ok()?.iat.map(|NumericDate(seconds)| seconds)
    }

    /// The token's `exp`, in seconds since 1970.
    pub fn expires_at_unix_s(&self) -> Option<u64> {
        self.expires_at_unix_s.map(NonZeroU64::get)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Claims may hold what no log should.
        f.debug_struct("Identity").field("user", &self.user).finish_non_exhaustive()
    }
}
