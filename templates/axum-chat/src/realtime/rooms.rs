//! Who is in which room, on all nodes, with the memberships in the database.
//!
//! A user is in a room with all his sockets, so that his devices show the same: `join` and `leave` of one are those of all.
//! Members are told by Tidings' presence.

use axum::http::StatusCode;
use serde_json::json;
use tidings::{Broadcast, Hub, RoomId, SessionId};

use crate::app::Failure;
use crate::database::Database;

const CHANNEL: &str = "ch_";
const USER: &str = "user:";

/// A channel's room.
pub fn room_of(channel: i64) -> RoomId {
    RoomId::parse(&format!("{CHANNEL}{channel}")).expect("a number makes a good name")
}

/// A room's channel.
pub fn channel_of(room_id: &RoomId) -> Option<i64> {
    room_id.as_str().strip_prefix(CHANNEL)?.parse().ok()
}

/// A user's own room; none, if no room can be called like him.
pub fn room_of_user(user: &str) -> Option<RoomId> {
    RoomId::parse(&format!("{USER}{user}")).ok()
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

    /// Adds a socket to a room, and its user to the members, so that he is there again after a reconnect.
    pub async fn join(&self, socket_id: &SocketId, room_id: &RoomId) -> Result<(), Failure> {
        self.add_user(&socket_id.user, room_id).await
    }

    /// Takes a socket out of a room, and its user out of the members.
    pub async fn leave(&self, socket_id: &SocketId, room_id: &RoomId) -> Result<(), Failure> {
        self.remove_user(&socket_id.user, room_id).await
    }

    /// Sends to all in a room, but for one socket.
    pub async fn broadcast(
        &self,
        room_id: &RoomId,
        event: &str,
        data: &impl serde::Serialize,
        exclude_socket_id: Option<&SocketId>,
    ) -> Result<(), Failure> {
        let mut broadcast = Broadcast::json(event, data)?;
        if let Some(SocketId { user, session }) = exclude_socket_id {
            broadcast = broadcast.excluding(user, *session);
        }
        self.hub.room(room_id).broadcast_as(broadcast).await?;
        Ok(())
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

    /// Makes somebody a member: he hears it from now on, and his pages are told.
    pub async fn add_user(&self, user: &str, room_id: &RoomId) -> Result<(), Failure> {
        let channel = channel_of(room_id).ok_or("no channel has this room")?;
        self.database.add_member(channel, user).await?;
        // At a node that does not answer he is in it when he connects again.
        self.hub.join_user(user, room_id).await;
        self.tell(user, room_id).await
    }

    /// Whoever is taken out hears nothing more at once, whatever his page does.
    pub async fn remove_user(&self, user: &str, room_id: &RoomId) -> Result<(), Failure> {
        let channel = channel_of(room_id).ok_or("no channel has this room")?;
        // The database first: he can't join again.
        self.database.remove_member(channel, user).await?;
        if self.hub.leave_user(user, room_id).await.nodes_missing > 0 {
            let words = "a node did not answer, and he may still hear there: try again";
            return Err(Failure::told(StatusCode::SERVICE_UNAVAILABLE, words));
        }
        self.tell(user, room_id).await
    }

    async fn tell(&self, user: &str, room_id: &RoomId) -> Result<(), Failure> {
        if let Some(own) = room_of_user(user) {
            self.broadcast(&own, "channels.changed", &json!({"room": room_id}), None)
                .await?;
        }
        Ok(())
    }
}
