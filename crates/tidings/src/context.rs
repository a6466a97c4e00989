//! What a handler sees and can do: who calls, with what, and the room to answer into.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::event_id::{EventId, RoomId};
use tidings_protocol::message::{EventName, MessageId};

use crate::broker;
use crate::node::{Body, BroadcastError, Node, Origin};
use crate::peer::Peer;
use crate::publication::{Excluded, PublishKey};
use crate::session_id::SessionId;
use crate::users::ConnectionKey;

/// One call of a handler. Cloning is cheap.
#[derive(Clone)]
pub struct Context(Arc<Call>);

pub(crate) struct Call {
    pub(crate) node: Arc<Node>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) connection: ConnectionKey,
    pub(crate) event: EventName,
    pub(crate) room: Option<RoomId>,
    pub(crate) id: Option<MessageId>,
    pub(crate) fingerprint: u64,
    /// How many publishes the call has begun: a retry's k-th is the first's k-th.
    pub(crate) publishes: AtomicU32,
}

impl Context {
    pub(crate) fn new(call: Call) -> Self {
        Self(Arc::new(call))
    }

    /// The user that the connection's token names.
    pub fn user(&self) -> &str {
        self.0.peer.user().as_str()
    }

    /// The token's claims, as any type of the application's.
    ///
    /// # Errors
    /// When the claims don't fit `T`; the caller is told `forbidden`.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, AckError> {
        self.0
            .peer
            .identity
            .claims()
            .map_err(|error| AckError::forbidden(format!("the token's claims don't fit: {error}")))
    }

    /// The connection's session, as its `session.welcome` told.
    pub fn session(&self) -> SessionId {
        self.0.peer.session
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        self.0.event.as_str()
    }

    /// The room that the message was for. The connection is a member of it.
    pub fn room(&self) -> Option<&RoomId> {
        self.0.room.as_ref()
    }

    /// The client's id for this request, the same again in a retry: for the application's own unique constraint
    /// on (user, request id).
    pub fn request_id(&self) -> Option<&MessageId> {
        self.0.id.as_ref()
    }

    /// Broadcasts to everyone in a room, in the caller's name. A retry of the call does not broadcast twice.
    ///
    /// # Errors
    /// See [`BroadcastError`]; with `?` a handler answers what fits.
    pub async fn broadcast(
        &self,
        room: &RoomId,
        event: &str,
        data: &impl Serialize,
    ) -> Result<EventId, BroadcastError> {
        self.publish(room, event, Body::json(data)?, None).await
    }

    /// Broadcasts to everyone in a room but the calling session.
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    pub async fn broadcast_to_others(
        &self,
        room: &RoomId,
        event: &str,
        data: &impl Serialize,
    ) -> Result<EventId, BroadcastError> {
        let excluded = Excluded::new(self.0.peer.user().clone(), self.0.peer.session);
        self.publish(room, event, Body::json(data)?, Some(excluded)).await
    }

    /// Broadcasts bytes to everyone in a room, as a binary frame.
    ///
    /// # Errors
    /// As [`Context::broadcast`].
    pub async fn broadcast_binary(
        &self,
        room: &RoomId,
        event: &str,
        payload: Bytes,
    ) -> Result<EventId, BroadcastError> {
        self.publish(room, event, Body::Binary(payload), None).await
    }

    /// Sends an ephemeral event, such as typing, to everyone in a room but the calling session, in the caller's name:
    /// it has no position and is in no history, and is the first to be dropped where too much waits.
    ///
    /// # Errors
    /// See [`BroadcastError`]; nothing was sent then.
    pub fn broadcast_ephemeral(
        &self,
        room: &RoomId,
        event: &str,
        data: &impl Serialize,
    ) -> Result<(), BroadcastError> {
        let peer = &self.0.peer;
        let except = Excluded::new(peer.user().clone(), peer.session);
        self.0.node.broadcast_ephemeral(room, event, &Body::json(data)?, Some(peer.user()), Some(&except))
    }

    async fn publish(
        &self,
        room: &RoomId,
        event: &str,
        body: Body,
        excluded: Option<Excluded>,
    ) -> Result<EventId, BroadcastError> {
        let call = &*self.0;
        let nth = call.publishes.fetch_add(1, Ordering::Relaxed);
        let key = call.id.clone().map(|id| PublishKey {
            user: call.peer.user().clone(),
            request_room: call.room.clone(),
            id,
            nth,
            fingerprint: call.fingerprint,
        });
        let origin = Origin { from: Some(call.peer.user()), re: call.id.as_ref(), excluded, key };
        Ok(call.node.broadcast(room, event, body, origin).await?.position.of(room))
    }

    /// Sends an event to the calling connection alone. It has no room and no position: a lost connection loses it.
    ///
    /// # Errors
    /// [`BroadcastError::Event`] and [`BroadcastError::Data`].
    pub fn send(&self, event: &str, data: &impl Serialize) -> Result<(), BroadcastError> {
        let frame = Node::direct_frame(event, &Body::json(data)?, None)?;
        self.0.node.send(self.0.connection, frame);
        Ok(())
    }

    /// Sends an event to every connection of a user, as [`Hub::send_to_user`](crate::Hub::send_to_user) does; how many
    /// there were on this node.
    ///
    /// # Errors
    /// As [`Context::send`].
    pub fn send_to_user(
        &self,
        user: &str,
        event: &str,
        data: &impl Serialize,
    ) -> Result<usize, BroadcastError> {
        self.0.node.send_to_user(user, event, &Body::json(data)?, Some(self.0.peer.user()))
    }

    /// Joins the calling connection to a room, whatever the room's rule says, and tells it by a `room.joined`; `false` if it is
    /// gone or has too many.
    pub async fn join(&self, room: &RoomId) -> bool {
        self.0.node.join(self.session(), room.clone()).await
    }

    /// Takes the calling connection out of a room, and tells it by a `room.left`; `false` if it was not there.
    pub async fn leave(&self, room: &RoomId) -> bool {
        self.0.node.leave(self.session(), room.clone()).await
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("peer", &self.0.peer)
            .field("event", &self.0.event)
            .finish_non_exhaustive()
    }
}

/// Why a handler refuses: the client gets it as an `error`.
///
/// Any error type becomes `internal` by `?`: its words go to the log and not to the client. A [`BroadcastError`]
/// becomes what fits it.
#[derive(Debug)]
pub struct AckError {
    refusal: Refusal,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl AckError {
    /// A refusal with one of the protocol's codes.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { refusal: Refusal::new(code, message), cause: None }
    }

    /// The caller may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// The message makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// Not now: the client retries with the same id.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// What the client is told.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// What the log is told.
    pub(crate) fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for AckError {
    fn from(error: E) -> Self {
        let cause = error.into();
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return Self { refusal: refusal.clone(), cause: None };
        }
        let refusal = match cause.downcast_ref::<BroadcastError>() {
            Some(BroadcastError::Publish(error)) => broker::refusal(*error),
            Some(BroadcastError::Overloaded) => {
                Refusal::new(ErrorCode::Unavailable, "the node is too far behind")
            }
            Some(BroadcastError::Event(_) | BroadcastError::Data(_)) | None => {
                Refusal::new(ErrorCode::Internal, "the handler failed")
            }
        };
        Self { refusal, cause: Some(cause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::PublishError;

    #[test]
    fn an_unexpected_error_keeps_its_words_to_the_log() {
        let error = AckError::from(std::io::Error::other("password is hunter2"));
        assert_eq!(error.refusal().code, ErrorCode::Internal);
        assert!(!error.refusal().message.contains("hunter2"));
        assert!(error.cause().is_some_and(|cause| cause.to_string().contains("hunter2")));
    }

    #[test]
    fn a_refusal_passes_as_it_is_and_a_broadcast_error_as_what_fits() {
        let refusal = Refusal::new(ErrorCode::Forbidden, "not yours");
        assert_eq!(AckError::from(refusal.clone()).refusal(), &refusal);
        let conflict = BroadcastError::Publish(PublishError::Conflict);
        assert_eq!(AckError::from(conflict).refusal().code, ErrorCode::IdempotencyConflict);
    }
}
