//! What an application asks of a room's log: how it stands, what is stored, and that something of it is taken back.

use std::sync::Arc;

use tidings_protocol::event_id::{Position, RoomId};
use tidings_protocol::message::MessageId;

use super::{Body, BrokerSilent, Node, RoomError};
use crate::auth::UserId;
use crate::broker::{ControlError, Order};
use crate::publication::PublishKey;
use crate::room::{HistoryPage, Room};

/// So many groups share the ids that a user may have, so that a part of the application may have as many times more.
const CALLER_GROUPS: u64 = 256;

/// Who wants something published once, beside any user.
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) key: MessageId,
}

impl Node {
    /// The key under which a caller's publication is remembered. No user's request has it: no call of a handler publishes as
    /// often as its number says.
    pub(crate) fn key_of_caller(
        &self,
        caller: &Caller,
        room: &RoomId,
        event: &str,
        body: &Body,
    ) -> Option<PublishKey> {
        let group = self.fingerprint(caller.key.as_str(), &[]) % CALLER_GROUPS;
        // As a number, since a name may be longer than a user's, or have what no user has.
        let name = self.fingerprint(&caller.name, &[]);
        let user = UserId::parse(&format!("{name:016x}#{group}")).ok()?;
        Some(PublishKey {
            user,
            request_room: Some(room.clone()),
            id: caller.key.clone(),
            nth: u32::MAX,
            fingerprint: self.fingerprint(event, body.data().as_bytes()),
        })
    }

    /// How many users are in a room, and where its log stands.
    pub(crate) async fn status(&self, room: &RoomId) -> Result<(u64, Position), RoomError> {
        let members = self.members(room).await?.len() as u64;
        let top = self.ready(room).await?.1.top();
        Ok((members, top))
    }

    /// A piece of what is stored, with what is excluded from somebody.
    pub(crate) async fn history(
        &self,
        room: &RoomId,
        before: Option<Position>,
        limit: u32,
    ) -> Result<HistoryPage, RoomError> {
        let (_held, room) = self.ready(room).await?;
        Ok(room.history(before, limit as usize, |_| false))
    }

    /// Takes the content of an event back; whether it was stored.
    pub(crate) async fn redact(&self, id: &RoomId, event: Position) -> Result<bool, ControlError> {
        let Some(room) = self.rooms.open(id) else { return Ok(false) };
        let Some(stored) = self.broker.redact(&room, event) else {
            return Ok(room.redact(event));
        };
        if !stored.await? {
            return Ok(false);
        }
        // What the broker has is redacted, and so is what anybody reads from it. Now for what was read before.
        room.redact(event);
        self.order(Order::Redact { room: id, event }).await?;
        Ok(true)
    }

    /// A room whose log here is the broker's, for as long as what comes with it lives.
    async fn ready(&self, id: &RoomId) -> Result<(Vec<crate::inbox::Guard>, Arc<Room>), RoomError> {
        let room = self.rooms.open(id).ok_or(RoomError::UnknownRoom)?;
        let held = self.hold([(id.clone(), None)]).await.map_err(|BrokerSilent| RoomError::Unavailable)?;
        Ok((held, room))
    }
}
