//! The application: its state, its routes, and Tidings among them.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{self, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tidings::auth::Jwt;
use tidings::{Access, Hub, HubBuilder, Limits, RoomRules, SnapshotError};

use crate::database::Database;
use crate::login::{SignedIn, login, logout, token};
use crate::memberships::ChannelMemberships;
use crate::{handlers, pages};

/// An image is one binary message.
const IMAGE_BYTES_MAX: usize = 256 * 1024;

/// What every route has at hand. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) database: Database,
    pub(crate) token_secret: Arc<[u8]>,
}

impl App {
    /// Opens the database. The secret is in it, so that a server that starts again takes the tokens of before.
    pub(crate) async fn open(file: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let database = Database::open(file).await?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let token_secret = database.setting("token_secret", || secret.to_vec()).await?;
        Ok(Self { database, token_secret: token_secret.into() })
    }

    /// The chat's rooms: who is in them, what may be done there, what a page gets that has missed too much.
    pub(crate) fn hub(&self) -> HubBuilder {
        let database = self.database.clone();
        let mut limits = Limits::default();
        limits.binary_message_bytes_max = IMAGE_BYTES_MAX;
        let hub = Hub::builder()
            .memberships(ChannelMemberships(self.database.clone()))
            .rule(RoomRules::new("ch_*").join(Access::Members).snapshot(move |room| {
                let database = database.clone();
                async move {
                    let messages = database.messages(room.as_str()).await.map_err(SnapshotError::from)?;
                    Ok(json!({ "messages": messages }))
                }
            }))
            .limits(limits);
        handlers::register(hub, &self.database)
    }

    /// The hub behind the application's own tokens.
    pub(crate) fn authenticated_hub(&self) -> Result<Hub, Box<dyn std::error::Error>> {
        Ok(self.hub().authenticate(Jwt::hs256(&self.token_secret)?).build()?)
    }

    /// Every route, Tidings' own among them.
    pub(crate) fn router(&self, hub: &Hub) -> Router {
        Router::new()
            .merge(pages::router())
            .route("/login", post(login))
            .route("/logout", post(logout))
            .route("/token", get(token))
            .route("/me", get(me))
            .route("/channels/{id}/messages", get(messages))
            .route("/images/{seq}", get(image))
            .route("/ws", hub.route())
            .with_state(self.clone())
    }
}

/// `GET /me`: who is logged in, and the channels.
async fn me(State(app): State<App>, SignedIn(user): SignedIn) -> Result<Response, Failure> {
    let channels = app.database.channels_of(&user).await?;
    Ok(Json(json!({ "user": user, "channels": channels })).into_response())
}

/// `GET /channels/{id}/messages`: the same as a reset's state.
async fn messages(
    State(app): State<App>,
    SignedIn(user): SignedIn,
    extract::Path(channel): extract::Path<String>,
) -> Result<Response, Failure> {
    if !app.database.is_member(&user, &channel).await? {
        return Err(Failure::told(StatusCode::FORBIDDEN, "you are not a member of this channel"));
    }
    Ok(Json(json!({ "messages": app.database.messages(&channel).await? })).into_response())
}

/// `GET /images/{seq}`
async fn image(
    State(app): State<App>,
    SignedIn(user): SignedIn,
    extract::Path(seq): extract::Path<i64>,
) -> Result<Response, Failure> {
    let image = app.database.image(seq, &user).await?;
    let image =
        image.ok_or_else(|| Failure::told(StatusCode::NOT_FOUND, "there is no such image for you"))?;
    let headers = [
        (header::CONTENT_TYPE, pages::image_type(&image)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((headers, image).into_response())
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the user is told.
    Told(StatusCode, &'static str),
    /// What the log is told.
    Internal(Box<dyn std::error::Error>),
}

impl Failure {
    pub(crate) fn told(status: StatusCode, words: &'static str) -> Self {
        Self::Told(status, words)
    }
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Failure {
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
