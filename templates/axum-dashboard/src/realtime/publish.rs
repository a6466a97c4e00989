//! `POST /v1/rooms/{room}/events`: the way in for other processes of yours, and for `tidings publish` and `tidings smoke`.
//!
//! It is Tidings' HTTP API as far as this application needs one. The key is what `tidings key` makes of the secret.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidings::{Broadcast, BroadcastError, MessageId, PublishError, RoomId};

use crate::app::{App, Failure};

/// What the key is made of, beside the secret.
const KEY: &[u8] = b"tidings api key v1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    event: String,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// Publishes one event: once, if it comes with an `Idempotency-Key`, however often it is sent.
pub async fn publish(
    State(app): State<App>,
    Path(room): Path<String>,
    headers: HeaderMap,
    Json(event): Json<Event>,
) -> Result<Json<Value>, Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let given =
        text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    if !given.is_some_and(|key| is_key(key, &app.realtime.secret)) {
        return Err(Failure::told(
            StatusCode::UNAUTHORIZED,
            "send what `tidings key` prints",
        ));
    }
    let room = RoomId::parse(&room)
        .map_err(|error| Failure::told(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut broadcast = Broadcast::json(&event.event, &event.data)?;
    if let Some(key) = text("idempotency-key") {
        let key = MessageId::parse(key)
            .map_err(|error| Failure::told(StatusCode::BAD_REQUEST, error.to_string()))?;
        broadcast = broadcast.once("api", key);
    }
    let stored = app
        .realtime
        .hub
        .room(&room)
        .broadcast_as(broadcast)
        .await
        .map_err(refused)?;
    Ok(Json(
        json!({"event_id": stored.id.to_string(), "duplicate": stored.duplicate}),
    ))
}

fn refused(error: BroadcastError) -> Failure {
    let status = match &error {
        BroadcastError::Publish(PublishError::UnknownRoom) => StatusCode::NOT_FOUND,
        BroadcastError::Publish(PublishError::Conflict) => StatusCode::CONFLICT,
        BroadcastError::Publish(PublishError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        BroadcastError::Event(_) | BroadcastError::Data(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Failure::told(status, error.to_string())
}

fn is_key(given: &str, secret: &str) -> bool {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    let key = mac.chain_update(KEY).finalize().into_bytes();
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // Of hashes, so that the time that it takes tells nothing of the key.
    Sha256::digest(given) == Sha256::digest(key)
}
