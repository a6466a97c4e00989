//! Which rooms a user belongs to, as the application's database knows.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidings_protocol::event_id::RoomId;

use crate::auth::Identity;

/// A boxed answer.
pub type MembershipFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, MembershipError>> + Send + 'a>>;

/// The application's memberships: a query on its own database.
///
/// A connection is joined to [`Memberships::rooms`] when it opens, beside the rooms of its token's `rooms` claim.
/// Joining a room under [`Access::Members`](crate::Access::Members) later, every resume, and every refreshed token asks
/// [`Memberships::is_member`] again, which has [`Limits::access_duration_max`](crate::Limits::access_duration_max) to answer.
pub trait Memberships: Send + Sync + 'static {
    /// The rooms that this user is joined to on connect.
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>>;

    /// Whether this user may be in `room` now.
    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        Box::pin(async move { Ok(self.rooms(identity).await?.contains(room)) })
    }
}

impl<M: Memberships + ?Sized> Memberships for Arc<M> {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        (**self).rooms(identity)
    }

    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        (**self).is_member(identity, room)
    }
}

/// Why there are no memberships: they could not be read, or the application does not let this user in at all.
///
/// Any error type becomes the first by `?`: a handshake is refused with 503 `broker_unavailable`, a join answers
/// `unavailable`, and the words go to the log alone.
#[derive(Debug)]
pub struct MembershipError(Fault);

#[derive(Debug)]
enum Fault {
    Unread(Box<dyn std::error::Error + Send + Sync>),
    Unavailable { code: &'static str, detail: String },
    Forbidden { reason: String },
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for MembershipError {
    fn from(error: E) -> Self {
        Self(Fault::Unread(error.into()))
    }
}

/// A client is shown so much of what the application says.
const REASON_BYTES_MAX: usize = 500;

impl MembershipError {
    /// The application does not let this user in: a handshake is refused with 403 `forbidden`, after which no client comes
    /// back by itself, and a join with `forbidden`. The client is shown the reason.
    pub fn forbidden(reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self(Fault::Forbidden { reason })
    }

    /// Not now: a handshake is refused with 503 and this code, and the client is shown the detail.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self(Fault::Unavailable { code, detail: detail.into() })
    }

    /// The error's own words, for the log.
    pub fn message(&self) -> String {
        match &self.0 {
            Fault::Unread(error) => error.to_string(),
            Fault::Unavailable { detail, .. } => detail.clone(),
            Fault::Forbidden { reason } => reason.clone(),
        }
    }

    /// Why the user is not let in, if it is that.
    pub fn forbids(&self) -> Option<&str> {
        match &self.0 {
            Fault::Forbidden { reason } => Some(reason),
            Fault::Unread(_) | Fault::Unavailable { .. } => None,
        }
    }

    /// The code and the detail for the client, if the application has its own.
    pub(crate) fn unavailable_as(&self) -> Option<(&'static str, &str)> {
        match &self.0 {
            Fault::Unavailable { code, detail } => Some((code, detail)),
            Fault::Unread(_) | Fault::Forbidden { .. } => None,
        }
    }
}
