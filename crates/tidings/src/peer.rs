//! Who is at the other end of a connection.

use std::fmt;

use tidings_protocol::event_id::RoomId;

use crate::auth::{Identity, UserId};
use crate::session_id::SessionId;

/// A connection's identity: who the token says it is, under which session, and what he belongs to.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    pub(crate) session: SessionId,
    /// The rooms of the token and of the memberships, as of the handshake; sorted.
    member_of: Vec<RoomId>,
}

impl Peer {
    pub(crate) fn new(identity: Identity, session: SessionId, mut member_of: Vec<RoomId>) -> Self {
        member_of.extend_from_slice(identity.rooms());
        member_of.sort_unstable();
        member_of.dedup();
        member_of.shrink_to_fit();
        Self { identity, session, member_of }
    }

    pub(crate) fn user(&self) -> &UserId {
        self.identity.user()
    }

    /// The rooms that it is joined to on connect.
    pub(crate) fn member_of(&self) -> &[RoomId] {
        &self.member_of
    }

    /// Whether token or memberships named this room at the handshake.
    pub(crate) fn is_member_of(&self, room: &RoomId) -> bool {
        self.member_of.binary_search(room).is_ok()
    }

    /// The same connection with a newer token. What the database said at the handshake stays.
    pub(crate) fn refreshed(&self, identity: Identity) -> Self {
        let of_token = self.identity.rooms();
        let kept = self.member_of.iter().filter(|room| !of_token.contains(room)).cloned().collect();
        Self::new(identity, self.session, kept)
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
