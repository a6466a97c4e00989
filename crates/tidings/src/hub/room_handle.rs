//! One room of a hub, from outside of any handler: broadcast to it, read it, take something back.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_protocol::event_id::{EventId, Position, RoomId};
use tidings_protocol::limits::{HISTORY_PAGE_EVENTS_DEFAULT, HISTORY_PAGE_EVENTS_MAX};
use tidings_protocol::message::MessageId;

use super::Hub;
use crate::auth::UserId;
use crate::broker::ControlError;
use crate::node::{Body, BroadcastError, Caller, Origin, RoomError};
use crate::publication::Excluded;
use crate::room::Receipt;
use crate::session_id::SessionId;

/// One room of a hub, from outside of any handler.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    hub: Hub,
    room: RoomId,
}

/// One member of a room.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    /// The user.
    pub user: String,
    /// What the user shows, as JSON; `null` before the first `presence.update`.
    pub info: Arc<RawValue>,
}

/// Something to broadcast, with all that can be said of it.
///
/// ```
/// use tidings::Broadcast;
/// let news = Broadcast::json("news", &serde_json::json!({"hi": 1}))?;
/// # Ok::<(), tidings::BroadcastError>(())
/// ```
pub struct Broadcast {
    event: String,
    body: Body,
    excluded: Option<Excluded>,
    caller: Option<Caller>,
}

/// What was broadcast, as it is stored in the room's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its id.
    pub id: EventId,
    /// Whether it was stored before, under the same key.
    pub duplicate: bool,
}

/// A piece of a room's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Events as clients get them, ascending; bytes as base64, with `"encoding":"base64"`.
    pub events: Vec<Arc<RawValue>>,
    /// What to ask for to have those before them; none if there are none.
    pub next: Option<EventId>,
}

/// How a room stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomStatus {
    /// How many users are in it, on all nodes.
    pub members: u64,
    /// The newest position of its log.
    pub last_event_id: EventId,
}

impl Broadcast {
    /// An event with JSON.
    ///
    /// # Errors
    /// [`BroadcastError::Data`].
    pub fn json(event: &str, data: &impl Serialize) -> Result<Self, BroadcastError> {
        Ok(Self::of(event, Body::json(data)?))
    }

    /// An event with bytes, which goes as a binary frame.
    pub fn binary(event: &str, payload: Bytes) -> Self {
        Self::of(event, Body::Binary(payload))
    }

    fn of(event: &str, body: Body) -> Self {
        Self { event: event.to_owned(), body, excluded: None, caller: None }
    }

    /// For everyone but one session of a user's, wherever it reconnects to.
    #[must_use]
    pub fn excluding(mut self, user: &str, session: SessionId) -> Self {
        self.excluded = UserId::parse(user).ok().map(|user| Excluded::new(user, session));
        self
    }

    /// Once: the same `caller` with the same key, room, event and data is one event for five minutes, however often it
    /// is broadcast; with another event or data it is [`PublishError::Conflict`](crate::PublishError::Conflict). A caller is a part of the
    /// application, such as a key of its API; it has nothing to do with users.
    #[must_use]
    pub fn once(mut self, caller: &str, key: MessageId) -> Self {
        self.caller = Some(Caller { name: caller.to_owned(), key });
        self
    }
}

impl RoomHandle {
    pub(super) fn new(hub: Hub, room: RoomId) -> Self {
        Self { hub, room }
    }

    /// Broadcasts to everyone in the room. When it returns, the event is stored in the room's history.
    ///
    /// # Errors
    /// See [`BroadcastError`]; nothing was published then.
    pub async fn broadcast(&self, event: &str, data: &impl Serialize) -> Result<EventId, BroadcastError> {
        Ok(self.broadcast_as(Broadcast::json(event, data)?).await?.id)
    }

    /// Broadcasts to everyone in the room but one session, wherever it reconnects to.
    ///
    /// # Errors
    /// As [`RoomHandle::broadcast`].
    pub async fn broadcast_excluding(
        &self,
        user: &str,
        session: SessionId,
        event: &str,
        data: &impl Serialize,
    ) -> Result<EventId, BroadcastError> {
        Ok(self.broadcast_as(Broadcast::json(event, data)?.excluding(user, session)).await?.id)
    }

    /// Broadcasts bytes to everyone in the room, as a binary frame.
    ///
    /// # Errors
    /// As [`RoomHandle::broadcast`].
    pub async fn broadcast_binary(&self, event: &str, payload: Bytes) -> Result<EventId, BroadcastError> {
        Ok(self.broadcast_as(Broadcast::binary(event, payload)).await?.id)
    }

    /// Broadcasts to the room as it was put together.
    ///
    /// # Errors
    /// As [`RoomHandle::broadcast`]. What has a key may be tried again with it.
    pub async fn broadcast_as(&self, broadcast: Broadcast) -> Result<Stored, BroadcastError> {
        let (event, body, origin) = self.prepare(broadcast);
        let receipt = self.hub.node().broadcast(&self.room, &event, body, origin).await?;
        Ok(self.stored(receipt))
    }

    /// Broadcasts several events in their order, together; what became of each.
    pub async fn broadcast_all(&self, broadcasts: Vec<Broadcast>) -> Vec<Result<Stored, BroadcastError>> {
        let prepared = broadcasts.into_iter().map(|broadcast| self.prepare(broadcast)).collect();
        let receipts = self.hub.node().broadcast_all(&self.room, prepared).await;
        receipts.into_iter().map(|receipt| receipt.map(|receipt| self.stored(receipt))).collect()
    }

    fn prepare(&self, broadcast: Broadcast) -> (String, Body, Origin<'static>) {
        let Broadcast { event, body, excluded, caller } = broadcast;
        let node = self.hub.node();
        let key = caller.and_then(|caller| node.key_of_caller(&caller, &self.room, &event, &body));
        (event, body, Origin { excluded, key, ..Origin::default() })
    }

    fn stored(&self, receipt: Receipt) -> Stored {
        Stored { id: receipt.position.of(&self.room), duplicate: receipt.duplicate }
    }

    /// Sends an ephemeral event to everyone in the room: it has no position and is in no history, and is the first to
    /// be dropped where too much waits.
    ///
    /// # Errors
    /// See [`BroadcastError`]; nothing was sent then.
    pub fn broadcast_ephemeral(&self, event: &str, data: &impl Serialize) -> Result<(), BroadcastError> {
        self.broadcast_ephemeral_as(&Broadcast::json(event, data)?)
    }

    /// Sends an ephemeral event as it was put together. A key of it counts for nothing.
    ///
    /// # Errors
    /// As [`RoomHandle::broadcast_ephemeral`].
    pub fn broadcast_ephemeral_as(&self, broadcast: &Broadcast) -> Result<(), BroadcastError> {
        let Broadcast { event, body, excluded, .. } = broadcast;
        self.hub.node().broadcast_ephemeral(&self.room, event, body, None, excluded.as_ref())
    }

    /// Who is in the room, on all nodes, in the order of the users' ids; a user counts once, however many connections he
    /// has. Where several nodes share rooms and this one has no member of it, they are read from what the nodes share.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn members(&self) -> Result<Vec<MemberInfo>, RoomError> {
        let null = || Arc::from(RawValue::NULL.to_owned());
        let members = self.hub.node().members(&self.room).await?;
        let info = |(user, info): (UserId, Option<_>)| MemberInfo {
            user: user.as_str().to_owned(),
            info: info.unwrap_or_else(null),
        };
        Ok(members.into_iter().map(info).collect())
    }

    /// How many users are in the room, and where its log stands.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn status(&self) -> Result<RoomStatus, RoomError> {
        let (members, top) = self.hub.node().status(&self.room).await?;
        Ok(RoomStatus { members, last_event_id: top.of(&self.room) })
    }

    /// The stored events before an id of the room's, or the newest: 100 of them, or `limit`, at most 1,000 and 256 KiB. They
    /// include those from which a session was excluded.
    ///
    /// # Errors
    /// [`RoomError`].
    pub async fn history(
        &self,
        before: Option<Position>,
        limit: Option<u32>,
    ) -> Result<HistoryPage, RoomError> {
        let limit = limit.unwrap_or(HISTORY_PAGE_EVENTS_DEFAULT).min(HISTORY_PAGE_EVENTS_MAX);
        let page = self.hub.node().history(&self.room, before, limit).await?;
        Ok(HistoryPage { events: page.events, next: page.next.map(|next| next.of(&self.room)) })
    }

    /// Takes the content of a stored event back, on all nodes: from now on a `room.skip` stands at its place, for whoever
    /// catches up and whoever reads the history. Who has got it already has it: tell the room by an event of your own.
    /// `false` if it is not stored.
    ///
    /// # Errors
    /// [`ControlError`]: ask again, until then some node may still have it.
    pub async fn redact(&self, event: Position) -> Result<bool, ControlError> {
        self.hub.node().redact(&self.room, event).await
    }

    /// Joins a connection, whatever the room's rule says, and tells it by a `room.joined`; `false` if it is gone or in as many
    /// rooms as it may be.
    pub async fn join(&self, session: SessionId) -> bool {
        self.hub.node().join(session, self.room.clone()).await
    }

    /// Takes a connection out, and tells it by a `room.left`; `false` if it was not in.
    pub async fn leave(&self, session: SessionId) -> bool {
        self.hub.node().leave(session, self.room.clone()).await
    }
}
