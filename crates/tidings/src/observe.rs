//! What becomes of connections and rooms, for an application that wants to know it as it happens.

use std::time::Duration;

use serde_json::value::RawValue;
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::PresenceChange;

use crate::auth::UserId;
use crate::session_id::SessionId;

/// Who is told what happens on this node: see [`HubBuilder::observe`](crate::HubBuilder::observe).
pub trait Observe: Send + Sync + 'static {
    /// Takes note of something, in the order of each connection and of each room.
    ///
    /// It is called where it happens, with locks held for the sake of that order: it must not wait, and it must not call
    /// the hub. Whoever has more to do with it puts it into a bounded queue.
    fn observe(&self, what: Observed<'_>);
}

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Observed<'a> {
    /// A connection is over: its close has begun, or its socket is gone.
    Disconnected {
        /// Whose it was.
        user: &'a UserId,
        /// Which it was.
        session: SessionId,
        /// How it ended; 1006 if that was without a close frame.
        code: CloseCode,
        /// Why, in words.
        reason: &'a str,
        /// How long it was there.
        connected: Duration,
    },
    /// A room has its first member. With several nodes that is the first on all of them, and this node brought him.
    Occupied {
        /// The room.
        room: &'a RoomId,
    },
    /// A room has lost its last member, whose grace is over.
    Vacated {
        /// The room.
        room: &'a RoomId,
    },
    /// A user came into a room, left it when his grace was over, or shows something else. With several nodes only one of
    /// them, the one that has changed the list of all, observes it.
    Presence {
        /// The room.
        room: &'a RoomId,
        /// Who.
        user: &'a UserId,
        /// What has become of him.
        change: PresenceChange,
        /// What he shows, or showed last; none before he has said anything.
        info: Option<&'a RawValue>,
    },
}
