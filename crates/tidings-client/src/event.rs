//! What comes from the server, as the application gets it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidings_protocol::event_id::{EventId, RoomId};
use tidings_protocol::message::{Data, Lost, ResetReason, ServerEvent};

/// An application's event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub event: Box<str>,
    /// Its room; none for what is for this user or connection alone.
    pub room: Option<RoomId>,
    /// Its place in the room's log; none for what is not stored. Store it **after** the event was handled, and go on there
    /// with [`Join::after`](crate::Join::after).
    pub id: Option<EventId>,
    /// The user who caused it; none for the server itself.
    pub from: Option<Box<str>>,
    /// When it was sequenced, in milliseconds since 1970.
    pub at_unix_ms: Option<u64>,
    /// The id of the request that caused it: [`Request::id`](crate::Request::id).
    pub re: Option<Box<str>>,
    /// What it carries.
    pub data: Payload,
}

/// What an event carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// JSON, as the text that it came in; `null` if there was none.
    Json(Arc<RawValue>),
    /// Bytes, of a binary frame.
    Binary(Bytes),
}

impl Payload {
    /// The JSON as a value.
    ///
    /// # Errors
    /// Where it is no such value, or bytes.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.as_str())
    }

    /// The JSON's text; empty for bytes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json(data) => data.get(),
            Self::Binary(_) => "",
        }
    }

    /// The bytes, of a binary frame or of the JSON's text.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(data) => data.get().as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// What was known of a room counts no more: clear it, and take `state` if there is one. Events follow from there.
#[derive(Clone, Debug)]
pub struct Reset {
    /// Where the room stands now.
    pub id: EventId,
    /// Why.
    pub reason: ResetReason,
    /// The offsets that are lost, first and last; none across unrelated epochs.
    pub lost: Option<(u64, u64)>,
    /// The room's state at `id`, as the server's application tells it.
    pub state: Option<Arc<RawValue>>,
}

impl Reset {
    pub(crate) fn new(
        id: &EventId,
        reason: ResetReason,
        lost: Option<Lost>,
        state: Option<&RawValue>,
    ) -> Self {
        let lost = lost.map(|lost| (lost.from, lost.to));
        Self { id: id.clone(), reason, lost, state: state.map(shared) }
    }
}

impl From<&ServerEvent<'_>> for Event {
    fn from(event: &ServerEvent<'_>) -> Self {
        let text = |text: &Cow<'_, str>| Box::from(&**text);
        Self {
            event: event.event.as_str().into(),
            id: event.room.as_ref().zip(event.id).map(|(room, position)| position.of(room)),
            room: event.room.clone(),
            from: event.from.as_ref().map(text),
            at_unix_ms: event.at,
            re: event.re.as_ref().map(|id| id.as_str().into()),
            data: match event.data {
                Data::Json(data) => Payload::Json(shared(data)),
                Data::Binary(bytes) => Payload::Binary(Bytes::copy_from_slice(bytes)),
            },
        }
    }
}

pub(crate) fn shared(data: &RawValue) -> Arc<RawValue> {
    data.to_owned().into()
}
