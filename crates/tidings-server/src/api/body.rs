//! What a request says, taken apart: each fault is a problem that tells what it is, and none is a panic or a plain text.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tidings::auth::UserId;
use tidings::{EventId, MessageId, RoomId};
use utoipa::ToSchema;

use super::problem::Problem;

const ROOM_FIX: &str = "a room's name is 1-128 of A-Z a-z 0-9 _ . : -";
const USER_FIX: &str =
    "a user's id is 1-128 bytes of UTF-8 without control characters, percent-encoded in a path";
const EVENT_FIX: &str = "an event's id is what publishing it answered: room@epoch.offset";
const KEY_FIX: &str = "an Idempotency-Key is 1-64 printable ASCII characters without spaces";

/// The room of the path.
pub(super) struct RoomOf(pub(super) RoomId);
/// The user of the path.
pub(super) struct UserOf(pub(super) UserId);
/// The event of the path.
pub(super) struct EventOf(pub(super) EventId);
/// The token's id of the path.
pub(super) struct TokenOf(pub(super) String);
/// The query.
pub(super) struct Asked<T>(pub(super) T);
/// The body, which is JSON.
pub(super) struct Sent<T>(pub(super) T);
/// The `Idempotency-Key`, if there is one.
pub(super) struct Once(pub(super) Option<MessageId>);

/// A room's name.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct RoomName(String);

/// A user's id: 1-128 bytes of UTF-8 without control characters.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 128)]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct UserName(String);

/// An event's id: what publishing it answered.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}@[a-z0-9]{8}\\.[0-9]{1,15}$")]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct EventName(String);

/// A token's `jti`: 1-256 bytes of UTF-8 without control characters.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 256)]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct TokenName(String);

/// What makes a retry the same.
#[derive(ToSchema)]
#[schema(pattern = "^[!-~]{1,64}$")]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct KeyName(String);

pub(super) fn room(text: &str) -> Result<RoomId, Problem> {
    RoomId::parse(text).map_err(|_| Problem::invalid(format!("{text:?} is no room's name"), ROOM_FIX))
}

pub(super) fn user(text: &str) -> Result<UserId, Problem> {
    UserId::parse(text).map_err(|_| Problem::invalid(format!("{text:?} is no user's id"), USER_FIX))
}

pub(super) fn event_id(text: &str) -> Result<EventId, Problem> {
    EventId::parse(text).map_err(|_| Problem::invalid(format!("{text:?} is no event's id"), EVENT_FIX))
}

pub(super) fn key(text: &str) -> Result<MessageId, Problem> {
    MessageId::parse(text).map_err(|_| Problem::invalid(format!("{text:?} is no Idempotency-Key"), KEY_FIX))
}

async fn part<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let Path(mut all): Path<HashMap<String, String>> = Path::from_request_parts(parts, state)
        .await
        .map_err(|fault| Problem::invalid(fault.to_string(), "percent-encode UTF-8 in a path"))?;
    Ok(all.remove(name).unwrap_or_default())
}

impl<S: Send + Sync> FromRequestParts<S> for RoomOf {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        room(&part(parts, state, "room").await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UserOf {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        user(&part(parts, state, "user").await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EventOf {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        event_id(&part(parts, state, "event_id").await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TokenOf {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = part(parts, state, "jti").await?;
        if id.is_empty() || id.len() > TOKEN_ID_BYTES_MAX || id.chars().any(char::is_control) {
            let fix = "send the token's jti: 1-256 bytes of UTF-8 without control characters";
            return Err(Problem::invalid("the path has no token's id", fix));
        }
        Ok(Self(id))
    }
}

/// A longer `jti` would be none that anybody mints.
const TOKEN_ID_BYTES_MAX: usize = 256;

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|fault| {
            Problem::invalid(fault.to_string(), "see /openapi.json for what may be asked")
        })?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut sent = parts.headers.get_all("idempotency-key").iter();
        match (sent.next(), sent.next()) {
            (None, _) => Ok(Self(None)),
            (Some(text), None) => Ok(Self(Some(key(text.to_str().unwrap_or_default())?))),
            _ => Err(Problem::invalid("there are several Idempotency-Keys", KEY_FIX)),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "the body is not said to be JSON",
                "send Content-Type: application/json",
            ));
        }
        let body = Bytes::from_request(request, state).await.map_err(|fault| {
            let fix = "split it, or raise api.body_bytes_max";
            match fault.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", fault.body_text(), fix)
                }
                _ => Problem::invalid(fault.body_text(), "send the whole body"),
            }
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|fault| {
            Problem::invalid(format!("the body: {fault}"), "see /openapi.json for what a body may have")
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|sent| sent.to_str().ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
