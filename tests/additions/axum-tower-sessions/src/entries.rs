use axum::extract::{Json, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tower_sessions::Session;

use crate::login::user_of;
use crate::AppState;

#[derive(Clone, Serialize)]
pub struct Entry {
    by: i64,
    text: String,
}

#[derive(Deserialize)]
pub struct NewEntry {
    text: String,
}

pub async fn list(State(state): State<AppState>) -> Json<Vec<Entry>> {
    Json(state.entries.lock().unwrap().clone())
}

pub async fn sign(
    State(state): State<AppState>,
    session: Session,
    Json(new): Json<NewEntry>,
) -> Result<(StatusCode, Json<Entry>), StatusCode> {
    let by = user_of(&session).await?;
    let entry = Entry { by, text: new.text };
    state.entries.lock().unwrap().push(entry.clone());
    Ok((StatusCode::CREATED, Json(entry)))
}
