//! Publishing to rooms and to users, one event or many; reading what is stored, and taking it back.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings::{Broadcast, MessageId, RoomId, SessionId, Stored};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{self, Asked, EventName, EventOf, KeyName, Once, RoomName, RoomOf, Sent, UserName, UserOf};
use super::keys::Key;
use super::problem::{Problem, Problems};

/// So many events at most are one batch.
pub(crate) const BATCH_EVENTS_MAX: usize = 1000;

/// An event that is to be published.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// Its name: none of Tidings' own, `ack`, `error`, `room.*`, `session.*` and `presence.*`.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,64}$")]
    event: String,
    /// Any JSON. It goes through byte for byte.
    #[schema(value_type = serde_json::Value)]
    data: Option<Box<RawValue>>,
    /// `base64` where `data` is bytes that are to go as a binary frame.
    encoding: Option<Encoding>,
    /// The session that is not to get it, of the user `exclude_user`.
    exclude_session: Option<String>,
    /// Whose session that is.
    exclude_user: Option<String>,
    /// Not stored, without a position, and the first to be dropped.
    #[serde(default)]
    ephemeral: bool,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

/// What was published.
#[derive(Serialize, ToSchema)]
pub(super) struct Published {
    /// Its id; null for one that is not stored.
    #[schema(required)]
    event_id: Option<String>,
    /// Whether it was published before, under the same key.
    duplicate: bool,
}

/// One event of a batch: to a `room` or to a `user`.
// It has the fields of `Event` once more, because flattened into this raw JSON would not come through.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchEvent {
    /// The room that it is for.
    room: Option<String>,
    /// Or the user.
    user: Option<String>,
    /// As the header of one event: 1-64 printable ASCII characters.
    idempotency_key: Option<String>,
    /// Its name.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,64}$")]
    event: String,
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    data: Option<Box<RawValue>>,
    /// `base64` where `data` is bytes.
    encoding: Option<Encoding>,
    /// The session that is not to get it.
    exclude_session: Option<String>,
    /// Whose session that is.
    exclude_user: Option<String>,
    /// Not stored.
    #[serde(default)]
    ephemeral: bool,
}

/// Several events.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Those of one room are published in this order.
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<BatchEvent>,
}

/// What became of each, in their order.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResults {
    results: Vec<BatchResult>,
}

/// What became of one.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchResult {
    Published(Published),
    Refused { error: BatchError },
}

/// Why it was not published.
#[derive(Serialize, ToSchema)]
struct BatchError {
    /// As in a problem.
    code: String,
    /// What went wrong.
    detail: String,
}

/// A page of what is stored.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    /// As clients get them, ascending.
    #[schema(value_type = Vec<serde_json::Value>)]
    events: Vec<Arc<RawValue>>,
    /// What to ask for by `before` to have those before them; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// An event's id: only older ones.
    before: Option<String>,
    /// How many at most. 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Whether it was stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Redacted {
    redacted: bool,
}

impl Event {
    fn data(&self) -> &RawValue {
        self.data.as_deref().unwrap_or(RawValue::NULL)
    }

    /// What the library is to broadcast, under a key of this caller's.
    fn broadcast(&self, once: Option<(&Key, MessageId)>) -> Result<Broadcast, Problem> {
        let mut broadcast = match self.encoding {
            None => Broadcast::json(&self.event, &self.data())?,
            Some(Encoding::Base64) => {
                let no_base64 = |fault: &dyn std::fmt::Display| {
                    let fix = "send a text of base64 with its padding, or leave `encoding` out";
                    Problem::invalid(format!("`data` is no base64: {fault}"), fix)
                };
                let text: String =
                    serde_json::from_str(self.data().get()).map_err(|fault| no_base64(&fault))?;
                let bytes = BASE64.decode(text).map_err(|fault| no_base64(&fault))?;
                Broadcast::binary(&self.event, bytes.into())
            }
        };
        broadcast = match (&self.exclude_session, &self.exclude_user) {
            (None, None) => broadcast,
            (Some(session), Some(user)) => {
                let user = body::user(user)?;
                let session = SessionId::parse(session).ok_or_else(|| {
                    let fix = "send the session of the client's session.welcome";
                    Problem::invalid(format!("exclude_session: {session:?} is no session"), fix)
                })?;
                broadcast.excluding(user.as_str(), session)
            }
            _ => {
                let fix = "send both: the session, and the user whose it is";
                return Err(Problem::invalid("exclude_session and exclude_user go together", fix));
            }
        };
        Ok(match once {
            Some((key, id)) => broadcast.once(key.name(), id),
            None => broadcast,
        })
    }
}

impl From<Stored> for Published {
    fn from(stored: Stored) -> Self {
        Self { event_id: Some(stored.id.to_string()), duplicate: stored.duplicate }
    }
}

impl From<Problem> for BatchResult {
    fn from(problem: Problem) -> Self {
        Self::Refused { error: BatchError { code: problem.code.to_owned(), detail: problem.detail } }
    }
}

/// Publish an event to a room.
#[utoipa::path(post, path = "/v1/rooms/{room}/events", tag = "publish",
    params(("room" = inline(RoomName), Path, description = "The room"),
        ("Idempotency-Key" = inline(Option<KeyName>), Header, description = "The same again is one event, for five minutes")),
    request_body = Event, responses((status = 200, description = "It is stored, or was before.", body = Published), Problems))]
pub(super) async fn publish(
    State(api): State<Api>,
    Extension(key): Extension<Arc<Key>>,
    RoomOf(room): RoomOf,
    Once(once): Once,
    Sent(event): Sent<Event>,
) -> Result<Json<Published>, Problem> {
    publish_one(&api, &key, &room, once, &event).await
}

/// Publish an event to a user: to all his devices, also those that are away.
#[utoipa::path(post, path = "/v1/users/{user}/events", tag = "publish",
    params(("user" = inline(UserName), Path, description = "The user"),
        ("Idempotency-Key" = inline(Option<KeyName>), Header, description = "The same again is one event, for five minutes")),
    request_body = Event, responses((status = 200, description = "It is stored, or was before.", body = Published), Problems))]
pub(super) async fn publish_to_user(
    State(api): State<Api>,
    Extension(key): Extension<Arc<Key>>,
    UserOf(user): UserOf,
    Once(once): Once,
    Sent(event): Sent<Event>,
) -> Result<Json<Published>, Problem> {
    let room = api.room_of_user(user.as_str())?;
    publish_one(&api, &key, &room, once, &event).await
}

async fn publish_one(
    api: &Api,
    key: &Key,
    room: &RoomId,
    once: Option<MessageId>,
    event: &Event,
) -> Result<Json<Published>, Problem> {
    let broadcast = event.broadcast(once.map(|id| (key, id)))?;
    let room = api.hub.room(room);
    if event.ephemeral {
        room.broadcast_ephemeral_as(&broadcast)?;
        return Ok(Json(Published { event_id: None, duplicate: false }));
    }
    Ok(Json(room.broadcast_as(broadcast).await?.into()))
}

/// Publish up to 1,000 events, to rooms and to users.
#[utoipa::path(post, path = "/v1/batch", tag = "publish",
    request_body = Batch, responses((status = 200, description = "What became of each.", body = BatchResults), Problems))]
pub(super) async fn publish_batch(
    State(api): State<Api>,
    Extension(key): Extension<Arc<Key>>,
    Sent(batch): Sent<Batch>,
) -> Result<Json<BatchResults>, Problem> {
    if batch.events.is_empty() || batch.events.len() > BATCH_EVENTS_MAX {
        let detail = format!("`events` has {}", batch.events.len());
        return Err(Problem::invalid(detail, "send 1 to 1,000 events in one batch"));
    }
    let mut results: Vec<Option<BatchResult>> = Vec::new();
    let mut by_room: HashMap<RoomId, Vec<(usize, Broadcast)>> = HashMap::new();
    for (index, event) in batch.events.into_iter().enumerate() {
        results.push(match take_one(&api, &key, event) {
            Ok((room, broadcast, true)) => {
                Some(match api.hub.room(&room).broadcast_ephemeral_as(&broadcast) {
                    Ok(()) => BatchResult::Published(Published { event_id: None, duplicate: false }),
                    Err(error) => Problem::from(error).into(),
                })
            }
            Ok((room, broadcast, false)) => {
                by_room.entry(room).or_default().push((index, broadcast));
                None
            }
            Err(problem) => Some(problem.into()),
        });
    }
    let rooms = by_room.into_iter().map(|(room, events)| {
        let room = api.hub.room(&room);
        async move {
            let (indexes, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
            (indexes, room.broadcast_all(events).await)
        }
    });
    for (indexes, stored) in join_all(rooms).await {
        for (index, stored) in indexes.into_iter().zip(stored) {
            results[index] = Some(match stored {
                Ok(stored) => BatchResult::Published(stored.into()),
                Err(error) => Problem::from(error).into(),
            });
        }
    }
    Ok(Json(BatchResults { results: results.into_iter().flatten().collect() }))
}

/// Where one event of a batch is to go, and whether it is ephemeral.
fn take_one(api: &Api, key: &Key, event: BatchEvent) -> Result<(RoomId, Broadcast, bool), Problem> {
    let room = match (&event.room, &event.user) {
        (Some(room), None) => body::room(room)?,
        (None, Some(user)) => api.room_of_user(body::user(user)?.as_str())?,
        _ => {
            let fix = "give each event of a batch one of them";
            return Err(Problem::invalid("an event needs either a room or a user", fix));
        }
    };
    let once = event.idempotency_key.as_deref().map(body::key).transpose()?;
    let BatchEvent { event, data, encoding, exclude_session, exclude_user, ephemeral, .. } = event;
    let event = Event { event, data, encoding, exclude_session, exclude_user, ephemeral };
    Ok((room, event.broadcast(once.map(|id| (key, id)))?, ephemeral))
}

/// What is stored of a room.
#[utoipa::path(get, path = "/v1/rooms/{room}/events", tag = "read",
    params(("room" = inline(RoomName), Path, description = "The room"), HistoryQuery),
    responses((status = 200, description = "What is stored.", body = History), Problems))]
pub(super) async fn history(
    State(api): State<Api>,
    RoomOf(room): RoomOf,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Json<History>, Problem> {
    let before = match query.before.as_deref().map(body::event_id).transpose()? {
        Some(id) if id.room != room => {
            return Err(Problem::invalid(
                format!("before: {id} is another room's"),
                "send an id of this room's",
            ));
        }
        before => before.map(|id| id.position),
    };
    if query.limit == Some(0) {
        return Err(Problem::invalid("limit is 0", "ask for 1 to 1,000 events"));
    }
    let page = api.hub.room(&room).history(before, query.limit).await?;
    Ok(Json(History { events: page.events, next: page.next.map(|id| id.to_string()) }))
}

/// Take the content of a stored event back.
#[utoipa::path(delete, path = "/v1/rooms/{room}/events/{event_id}", tag = "admin",
    params(("room" = inline(RoomName), Path, description = "The room"),
        ("event_id" = inline(EventName), Path, description = "What publishing it answered")),
    responses((status = 200, description = "Its content is gone.", body = Redacted), Problems))]
pub(super) async fn redact(
    State(api): State<Api>,
    RoomOf(room): RoomOf,
    EventOf(id): EventOf,
) -> Result<Json<Redacted>, Problem> {
    if id.room != room {
        return Err(Problem::invalid(
            format!("{id} is another room's"),
            "name the event's own room in the path",
        ));
    }
    if api.hub.room(&room).redact(id.position).await? {
        return Ok(Json(Redacted { redacted: true }));
    }
    let detail = format!("{id} is not stored");
    let fix = "nothing is to be done: it was never there, or is past its time";
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown_event", detail, fix))
}
