//! Who is at the other end of a connection.

use std::fmt;

use tidings_protocol::event_id::RoomId;

use crate::auth::{Identity, UserId};
use crate::session_id::SessionId;

/// A connection's identity: who the token says it is, under which session, and what he belongs to.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    pub(crate) session: SessionId,
    /// The rooms of the memberships that the token does not name, as of the handshake; sorted.
    besides: Box<[RoomId]>,
}

impl Peer {
    pub(crate) fn new(identity: Identity, session: SessionId, mut member_of: Vec<RoomId>) -> Self {
        member_of.retain(|room| !identity.rooms().contains(room));
        member_of.sort_unstable();
        member_of.dedup();
        Self { identity, session, besides: member_of.into() }
    }

    pub(crate) fn user(&self) -> &UserId {
        self.identity.user()
    }

    /// The rooms that it is joined to on connect, of the token and of the memberships, sorted.
    pub(crate) fn member_of(&self) -> Vec<RoomId> {
        let mut rooms = [self.identity.rooms(), &self.besides].concat();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }

    /// Whether token or memberships named this room at the handshake.
    pub(crate) fn is_member_of(&self, room: &RoomId) -> bool {
        self.besides.binary_search(room).is_ok() || self.identity.rooms().contains(room)
    }

    /// The same connection with a newer token. What the database said at the handshake stays.
    pub(crate) fn refreshed(&self, identity: Identity) -> Self {
        Self::new(identity, self.session, self.besides.to_vec())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("user", self.user())
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
