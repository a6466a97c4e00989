//! The application: what its routes share, and its routes. What is real-time is in `realtime/`, and merged here.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::database::Database;
use crate::login::{self, SignedIn};
use crate::page;
use crate::realtime::Realtime;
use crate::realtime::rooms::room_of;

const CHANNEL_NAME_CHARS_MAX: usize = 64;

/// Cloning is cheap, and shares all of it.
#[derive(Clone)]
pub struct App {
    pub database: Database,
    pub realtime: Realtime,
}

impl App {
    /// Every route, Tidings' own among them.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(page::router())
            .merge(self.realtime.router())
            .route("/login", post(login::enter))
            .route("/logout", post(login::leave))
            .route("/me", get(me))
            .route("/channels", post(create_channel))
            .route("/channels/{channel}/messages", get(messages))
            .route(
                "/channels/{channel}/members/{user}",
                put(add_member).delete(remove_member),
            )
            .with_state(self.clone())
    }
}

/// `GET /me`: who is logged in, and his channels.
async fn me(State(app): State<App>, SignedIn(user): SignedIn) -> Result<Json<Value>, Failure> {
    let channels = app.database.channels_of(&user).await?;
    let channels: Vec<Value> = channels
        .iter()
        .map(|channel| json!({"id": channel.id, "name": channel.name, "room": room_of(channel.id)}))
        .collect();
    Ok(Json(json!({"user": user, "channels": channels})))
}

#[derive(Deserialize)]
struct NewChannel {
    name: String,
}

/// `POST /channels`: its first member is who made it.
async fn create_channel(
    State(app): State<App>,
    SignedIn(user): SignedIn,
    Json(new): Json<NewChannel>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let name: String = new
        .name
        .trim()
        .chars()
        .take(CHANNEL_NAME_CHARS_MAX)
        .collect();
    if name.is_empty() {
        return Err(Failure::told(
            StatusCode::BAD_REQUEST,
            "a channel has a name",
        ));
    }
    let id = app.database.create_channel(&name).await?;
    let room = room_of(id);
    app.realtime.rooms.add_user(&user, &room).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"id": id, "name": name, "room": room})),
    ))
}

/// `GET /channels/{channel}/messages`: the newest, with which a page begins.
async fn messages(State(app): State<App>, member: Member) -> Result<Json<Value>, Failure> {
    let messages = app.database.messages(member.channel).await?;
    Ok(Json(json!({"messages": messages})))
}

/// `PUT /channels/{channel}/members/{user}`
async fn add_member(
    State(app): State<App>,
    member: Member,
    Path((_, user)): Path<(i64, String)>,
) -> Result<StatusCode, Failure> {
    if app.database.password_of(&user).await?.is_none() {
        return Err(Failure::told(
            StatusCode::NOT_FOUND,
            "there is no such user",
        ));
    }
    app.realtime
        .rooms
        .add_user(&user, &room_of(member.channel))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /channels/{channel}/members/{user}`
async fn remove_member(
    State(app): State<App>,
    member: Member,
    Path((_, user)): Path<(i64, String)>,
) -> Result<StatusCode, Failure> {
    app.realtime
        .rooms
        .remove_user(&user, &room_of(member.channel))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever asks is a member of the path's channel; 403 if he is not.
struct Member {
    channel: i64,
}

#[derive(Deserialize)]
struct OfChannel {
    channel: i64,
}

impl FromRequestParts<App> for Member {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let SignedIn(user) = SignedIn::from_request_parts(parts, app)
            .await
            .map_err(IntoResponse::into_response)?;
        let Path(OfChannel { channel }) = Path::from_request_parts(parts, app)
            .await
            .map_err(IntoResponse::into_response)?;
        match app.database.is_member(channel, &user).await {
            Ok(true) => Ok(Self { channel }),
            Ok(false) => {
                let words = "you are not a member of this channel";
                Err(Failure::told(StatusCode::FORBIDDEN, words).into_response())
            }
            Err(error) => Err(Failure::from(error).into_response()),
        }
    }
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// What the user is told.
    Told(StatusCode, String),
    /// What the log is told.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    pub fn told(status: StatusCode, words: impl Into<String>) -> Self {
        Self::Told(status, words.into())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Internal(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Told(status, words) => (status, words).into_response(),
            Self::Internal(error) => {
                tracing::error!(%error, "a request failed");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
