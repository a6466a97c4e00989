//! The users of this node, as whoever is none of its shards reaches them: to send, to close, to revoke.
//!
//! The node's own calls end here, and so does what other nodes ask of all of them.

use std::sync::Arc;

use bytes::Bytes;
use tidings_protocol::close::CloseCode;

use crate::inbox::{Command, Entry, Inbox};
use crate::revocations::Revocations;
use crate::session_id::SessionId;
use crate::users::{ConnectionKey, Users};

/// What is told to whoever loses his place to another connection of his.
const TAKEN_OVER: &str = "another connection took this session over";
/// And to whoever is the oldest of too many.
const OLDEST_OF_TOO_MANY: &str = "a newer connection of this user has taken its place";

/// Why a connection has lost its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// Its client came back with another connection.
    ToItsOwn,
    /// It was the oldest, and the limit was reached.
    AsTheOldest,
}

/// Users, what of theirs was revoked, and the shards that have their sockets.
pub(crate) struct LocalUsers {
    pub(crate) users: Arc<Users>,
    pub(crate) revocations: Arc<Revocations>,
    inboxes: Vec<Arc<Inbox>>,
}

impl LocalUsers {
    pub(crate) fn new(users: Arc<Users>, revocations: Arc<Revocations>, inboxes: Vec<Arc<Inbox>>) -> Self {
        Self { users, revocations, inboxes }
    }

    /// Sends a frame to every connection of a user; how many there were.
    pub(crate) fn send(&self, user: &str, frame: &Bytes) -> usize {
        let connections = self.users.connections_of(user);
        for connection in &connections {
            self.push(*connection, Entry::Direct { connection: *connection, frame: frame.clone() });
        }
        connections.len()
    }

    /// Closes every connection of a user; how many there were.
    pub(crate) fn close(&self, user: &str, code: CloseCode, reason: &'static str) -> usize {
        let connections = self.users.connections_of(user);
        for connection in &connections {
            self.close_one(*connection, code, reason);
        }
        connections.len()
    }

    /// Closes a session's connection, if it is here.
    pub(crate) fn close_session(&self, session: SessionId, code: CloseCode, reason: &'static str) {
        if let Some(connection) = self.users.connection_of(session) {
            self.close_one(connection, code, reason);
        }
    }

    /// Another connection has this session's place: it is closed with 4009, also if its socket is still to come.
    pub(crate) fn replace(&self, user: &str, session: SessionId, lost: Lost) {
        if let Some(connection) = self.users.lose_slot(user, session) {
            self.close_replaced(connection, lost);
        }
    }

    /// Closes a connection that has lost its place.
    pub(crate) fn close_replaced(&self, connection: ConnectionKey, lost: Lost) {
        let reason = match lost {
            Lost::ToItsOwn => TAKEN_OVER,
            Lost::AsTheOldest => OLDEST_OF_TOO_MANY,
        };
        self.close_one(connection, CloseCode::TAKEN_OVER, reason);
    }

    /// Lets the shards close whoever has a token that is revoked.
    pub(crate) fn close_revoked(&self) {
        for inbox in &self.inboxes {
            inbox.push(Entry::Revoked);
        }
    }

    fn close_one(&self, connection: ConnectionKey, code: CloseCode, reason: &'static str) {
        self.push(connection, Entry::Command { connection, command: Command::Close { code, reason } });
    }

    fn push(&self, connection: ConnectionKey, entry: Entry) {
        if let Some(inbox) = self.inboxes.get(usize::from(connection.shard)) {
            inbox.push(entry);
        }
    }
}
