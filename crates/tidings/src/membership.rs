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

/// The memberships could not be read: a handshake is refused with 503, a join answers `unavailable`.
#[derive(Debug)]
pub struct MembershipError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for MembershipError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl MembershipError {
    /// The error's own words, for the log.
    pub fn message(&self) -> String {
        self.0.to_string()
    }
}
