//! A room: what comes from it, and what goes to it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_protocol::client::{CaughtUp, RoomLoss};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::{EventId, RoomId};
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom};

use crate::client::Handle;
use crate::event::{Event, Reset};
use crate::listeners::{Queue, Taken};
use crate::presence::Presence;
use crate::request::{Request, RequestError};

/// A room of a client. Cloning gives another handle of the same.
#[derive(Clone, Debug)]
pub struct Room {
    pub(crate) handle: Arc<Handle>,
    name: RoomId,
}

/// What comes from a room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RoomEvent {
    /// An event, once and in order.
    Event(Event),
    /// What was known of the room counts no more.
    Reset(Reset),
    /// What a join or a reconnect had to bring has come, and from here on events are live.
    CaughtUp(CaughtUp),
    /// The room could not be joined again, or the application has taken this connection out of it: the client does not
    /// follow it any more.
    Lost(RoomLoss),
}

/// A page of a room's members.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct MembersPage {
    /// Users, in the order of their ids, with what they show.
    pub members: Vec<RoomMember>,
    /// The revision that the list belongs to.
    pub rev: u64,
    /// How many there are in all.
    #[serde(default)]
    pub count: Option<u64>,
    /// There are more: ask for those after this one.
    #[serde(default)]
    pub next: Option<String>,
}

/// One member of a room.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct RoomMember {
    /// The user.
    pub user: String,
    /// What he shows; `null` if nothing.
    #[serde(default = "null")]
    pub info: Box<RawValue>,
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

impl Room {
    pub(crate) fn new(handle: Arc<Handle>, name: RoomId) -> Self {
        Self { handle, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether the server has this connection in the room now.
    pub fn is_joined(&self) -> bool {
        self.handle.shared.is_joined(&self.name)
    }

    /// Joins the room: await it. One that is joined already goes on where it is.
    pub fn join(&self) -> Join {
        Join { room: Ok(self.clone()), from: JoinFrom::Newest { history: 0 } }
    }

    /// Leaves the room.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn leave(&self) -> Result<(), RequestError> {
        let room = self.name.clone();
        let request = self.handle.shared.request(|id| ClientMessage::Leave { room, id: Some(id) });
        self.handle.shared.left(&self.name);
        match request.await {
            // After a reconnect the server knows nothing of a room that was not joined again: that is what was wanted.
            Err(RequestError::Refused { code: ErrorCode::NotJoined, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What comes from the room from now on. Each call has its own copy of all that comes.
    pub fn events(&self) -> RoomEvents {
        let queue = self.handle.shared.listen(&self.name);
        RoomEvents { room: self.clone(), queue }
    }

    /// Who is here, kept up to date.
    pub fn presence(&self) -> Presence {
        Presence::new(Arc::clone(&self.handle), self.name.clone())
    }

    /// Sends an event: await it for its ack. It counts once, whatever the network does.
    pub fn request(&self, event: &str, data: &impl Serialize) -> Request {
        self.handle.request(Some(&self.name), event, data)
    }

    /// The same with bytes, as a binary frame.
    pub fn request_bytes(&self, event: &str, bytes: &[u8]) -> Request {
        self.handle.request_data(Some(&self.name), event, Data::Binary(bytes))
    }

    /// Sends an event that nobody waits for, such as typing; whether there was a connection to send it over, and a place
    /// where it is a slow one: 256 may wait.
    ///
    /// # Errors
    /// [`RequestError::Invalid`], or `too_large`.
    pub fn send(&self, event: &str, data: &impl Serialize) -> Result<bool, RequestError> {
        self.handle.send(Some(&self.name), event, data)
    }

    /// A page of the room's members: those after a user, so many at most.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn members(
        &self,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<MembersPage, RequestError> {
        let (room, after) = (self.name.clone(), after.map(str::to_owned));
        let request =
            self.handle.shared.request(|id| ClientMessage::Members { room, id: Some(id), after, limit });
        request.await?.json().map_err(|error| RequestError::Invalid(error.to_string()))
    }
}

/// A join: await it. The room's events from its beginning come with it.
#[derive(Debug)]
#[must_use = "a join does nothing until it is awaited"]
pub struct Join {
    pub(crate) room: Result<Room, RequestError>,
    pub(crate) from: JoinFrom,
}

impl Join {
    /// With so many of the room's last events, unless the client knows already where it is in it.
    pub fn history(mut self, events: u32) -> Self {
        self.from = JoinFrom::Newest { history: events };
        self
    }

    /// With all that came after this event, as an earlier run of the program has stored it: [`Event::id`].
    pub fn after(mut self, event: &EventId) -> Self {
        match &self.room {
            Ok(room) if room.name == event.room => self.from = JoinFrom::Position(event.position),
            Ok(room) => {
                let why = format!("{event} is no event of the room {}", room.name);
                self.room = Err(RequestError::Invalid(why));
            }
            Err(_) => {}
        }
        self
    }
}

impl IntoFuture for Join {
    type Output = Result<(Room, RoomEvents), RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let room = self.room?;
            // Before it is sent, so that nothing is missed.
            let events = room.events();
            room.handle.shared.join(&room.name, self.from).await?;
            Ok((room, events))
        })
    }
}

/// What comes from a room. Who takes it slower than it comes gets all of it all the same: what has no place is asked for
/// again, and a [`RoomEvent::Reset`] says where it is not stored any more.
#[derive(Debug)]
pub struct RoomEvents {
    pub(crate) room: Room,
    pub(crate) queue: Arc<Queue<RoomEvent>>,
}

impl RoomEvents {
    /// Waits for the next; none when the client is closed.
    pub async fn next(&mut self) -> Option<RoomEvent> {
        loop {
            match self.queue.take().await {
                Taken::Event(event) => return Some(event),
                Taken::Overflowed => self.room.handle.shared.rejoin(&self.room.name),
                Taken::Ended => return None,
            }
        }
    }
}

/// The message of an application's event.
pub(crate) fn event_message<'m>(
    room: Option<&RoomId>,
    event: &str,
    data: Data<'m>,
) -> Result<ClientEvent<'m>, RequestError> {
    let event = match EventName::parse(event) {
        Ok(event) if !event.is_reserved() => event,
        Ok(_) | Err(_) => {
            let why = format!(
                "{event:?} is no event of an application: 1-64 of A-Z a-z 0-9 _ . : -, not ack, error, room.*, session.*, presence.*"
            );
            return Err(RequestError::Invalid(why));
        }
    };
    Ok(ClientEvent { event, room: room.cloned(), data, id: None })
}
