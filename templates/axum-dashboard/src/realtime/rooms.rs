//! Who watches which board, on all nodes, with the watchers in the database; and what is published there.
//!
//! A user watches with all his sockets: `join` and `leave` of one are those of all.

use axum::http::StatusCode;
use serde::Serialize;
use tidings::protocol::event_id::InvalidId;
use tidings::{Broadcast, Hub, RoomId, SessionId};

use crate::app::Failure;
use crate::database::Database;

const BOARD: &str = "board:";

/// A board's room.
pub fn room_of(board: &str) -> Result<RoomId, InvalidId> {
    RoomId::parse(&format!("{BOARD}{board}"))
}

/// A room's board.
pub fn board_of(room_id: &RoomId) -> Option<&str> {
    room_id.as_str().strip_prefix(BOARD)
}

/// A socket: whose it is, and its session, as `session.welcome` names both.
#[derive(Clone, Debug)]
pub struct SocketId {
    pub user: String,
    pub session: SessionId,
}

/// Cloning shares it.
#[derive(Clone)]
pub struct RoomManager {
    hub: Hub,
    database: Database,
}

impl RoomManager {
    pub fn new(hub: Hub, database: Database) -> Self {
        Self { hub, database }
    }

    /// Adds a socket to a room, and its user to the watchers, so that he is there again after a reconnect.
    pub async fn join(&self, socket_id: &SocketId, room_id: &RoomId) -> Result<(), Failure> {
        self.add_user(&socket_id.user, room_id).await
    }

    /// Takes a socket out of a room, and its user out of the watchers.
    pub async fn leave(&self, socket_id: &SocketId, room_id: &RoomId) -> Result<(), Failure> {
        self.remove_user(&socket_id.user, room_id).await
    }

    /// Sends to all in a room, but for one socket.
    pub async fn broadcast(
        &self,
        room_id: &RoomId,
        event: &str,
        data: &impl Serialize,
        exclude_socket_id: Option<&SocketId>,
    ) -> Result<(), Failure> {
        let mut broadcast = Broadcast::json(event, data)?;
        if let Some(SocketId { user, session }) = exclude_socket_id {
            broadcast = broadcast.excluding(user, *session);
        }
        self.hub.room(room_id).broadcast_as(broadcast).await?;
        Ok(())
    }

    /// Sends several events to all in a room, in their order, together. If some can't be sent the others are.
    pub async fn broadcast_all(
        &self,
        room_id: &RoomId,
        event: &str,
        all: &[impl Serialize],
    ) -> Result<(), Failure> {
        let broadcasts = all.iter().map(|data| Broadcast::json(event, data));
        let sent = self
            .hub
            .room(room_id)
            .broadcast_all(broadcasts.collect::<Result<_, _>>()?)
            .await;
        Ok(sent.into_iter().try_for_each(|sent| sent.map(drop))?)
    }

    /// The users who are connected.
    pub async fn get_members(&self, room_id: &RoomId) -> Result<Vec<String>, Failure> {
        let members = self.hub.room(room_id).members().await?;
        Ok(members.into_iter().map(|member| member.user).collect())
    }

    /// The rooms that a socket is in; none, if it is gone.
    pub async fn get_user_rooms(&self, socket_id: &SocketId) -> Vec<RoomId> {
        let sessions = self.hub.sessions_of(&socket_id.user).await.found;
        let session = sessions
            .into_iter()
            .find(|info| info.session == socket_id.session);
        session.map(|info| info.rooms).unwrap_or_default()
    }

    /// Lets a user's pages watch from now on.
    pub async fn add_user(&self, user: &str, room_id: &RoomId) -> Result<(), Failure> {
        let board = board_of(room_id).ok_or("no board has this room")?;
        self.database.add_watcher(board, user).await?;
        // At a node that does not answer he is in it when he connects again.
        self.hub.join_user(user, room_id).await;
        Ok(())
    }

    /// Whoever is taken out sees nothing more at once, whatever his page does.
    pub async fn remove_user(&self, user: &str, room_id: &RoomId) -> Result<(), Failure> {
        let board = board_of(room_id).ok_or("no board has this room")?;
        // The database first: he can't join again.
        self.database.remove_watcher(board, user).await?;
        if self.hub.leave_user(user, room_id).await.nodes_missing > 0 {
            let words = "a node did not answer, and he may still watch there: try again";
            return Err(Failure::told(StatusCode::SERVICE_UNAVAILABLE, words));
        }
        Ok(())
    }
}
