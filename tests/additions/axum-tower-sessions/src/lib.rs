//! A guest book: whoever is logged in signs it.

mod entries;
mod login;

use std::sync::{Arc, Mutex};

use axum::routing::{get, post};
use axum::Router;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};

#[derive(Clone, Default)]
pub struct AppState {
    pub entries: Arc<Mutex<Vec<entries::Entry>>>,
}

/// The whole application, as `main` serves it and tests call it.
pub fn app(state: AppState) -> Router {
    let session_layer = SessionManagerLayer::new(MemoryStore::default())
        .with_secure(false)
        .with_expiry(Expiry::OnSessionEnd);

    Router::new()
        .route("/", get(|| async { "Guest book" }))
        .route("/login", post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/me", get(login::me))
        .route("/entries", get(entries::list).post(entries::sign))
        .fallback(|| async { (axum::http::StatusCode::NOT_FOUND, "nothing here") })
        .layer(session_layer)
        .with_state(state)
}
