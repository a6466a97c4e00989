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
            .route("/boards/{board}/samples", get(samples))
            .route(
                "/boards/{board}/watchers/{user}",
                put(add_watcher).delete(remove_watcher),
            )
            .with_state(self.clone())
    }
}

/// `GET /me`: who is logged in, and the boards that are his to watch.
async fn me(State(app): State<App>, SignedIn(user): SignedIn) -> Result<Json<Value>, Failure> {
    let mut boards = Vec::new();
    for name in app.database.boards_of(&user).await? {
        boards.push(json!({"name": name, "room": room_of(&name)?}));
    }
    Ok(Json(json!({"user": user, "boards": boards})))
}

/// `GET /boards/{board}/samples`: the newest that are stored, with which a page begins.
async fn samples(State(app): State<App>, watcher: Watcher) -> Result<Json<Value>, Failure> {
    let samples = app.database.samples(&watcher.board).await?;
    Ok(Json(json!({"samples": samples})))
}

/// `PUT /boards/{board}/watchers/{user}`
async fn add_watcher(
    State(app): State<App>,
    watcher: Watcher,
    Path((_, user)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    if app.database.password_of(&user).await?.is_none() {
        return Err(Failure::told(
            StatusCode::NOT_FOUND,
            "there is no such user",
        ));
    }
    app.realtime
        .rooms
        .add_user(&user, &room_of(&watcher.board)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /boards/{board}/watchers/{user}`
async fn remove_watcher(
    State(app): State<App>,
    watcher: Watcher,
    Path((_, user)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    app.realtime
        .rooms
        .remove_user(&user, &room_of(&watcher.board)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever asks may watch the path's board; 403 if he may not.
struct Watcher {
    board: String,
}

#[derive(Deserialize)]
struct OfBoard {
    board: String,
}

impl FromRequestParts<App> for Watcher {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let SignedIn(user) = SignedIn::from_request_parts(parts, app)
            .await
            .map_err(IntoResponse::into_response)?;
        let Path(OfBoard { board }) = Path::from_request_parts(parts, app)
            .await
            .map_err(IntoResponse::into_response)?;
        match app.database.is_watcher(&board, &user).await {
            Ok(true) => Ok(Self { board }),
            Ok(false) => {
                let words = "this board is not yours to watch";
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
