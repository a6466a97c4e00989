use axum::extract::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{json, Value};
use tower_sessions::Session;

pub const USER_ID: &str = "user_id";

const USERS: [(i64, &str, &str); 2] = [
    (1, "ann", "canary-bird of ann"),
    (2, "bob", "canary-bird of bob"),
];

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
}

pub async fn log_in(session: Session, Json(given): Json<Credentials>) -> Result<Json<Value>, StatusCode> {
    let user = USERS
        .iter()
        .find(|(_, name, password)| *name == given.name && *password == given.password)
        .ok_or(StatusCode::UNAUTHORIZED)?;
    session
        .cycle_id()
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    session
        .insert(USER_ID, user.0)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "id": user.0, "name": user.1 })))
}

pub async fn log_out(session: Session) -> StatusCode {
    match session.flush().await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Who is logged in; nobody gets any further.
pub async fn user_of(session: &Session) -> Result<i64, StatusCode> {
    session
        .get::<i64>(USER_ID)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?
        .ok_or(StatusCode::UNAUTHORIZED)
}

pub async fn me(session: Session) -> Result<Json<Value>, StatusCode> {
    let id = user_of(&session).await?;
    Ok(Json(json!({ "id": id })))
}
