//! The page, embedded, and the token that it connects with.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tidings::auth::mint_hs256;

/// A page asks for another token at every connect.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// Nothing from elsewhere and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's files.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || page("text/html; charset=utf-8", include_str!("../page/index.html"))))
        .route(
            "/dashboard.css",
            get(async || page("text/css; charset=utf-8", include_str!("../page/dashboard.css"))),
        )
        .route(
            "/dashboard.js",
            get(async || page("text/javascript; charset=utf-8", include_str!("../page/dashboard.js"))),
        )
}

fn page(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    aud: &'static str,
    exp: u64,
}

/// `GET /token`: everyone may watch, each as a viewer of his own. An application with a login says here who it is.
pub(crate) async fn token(secret: Arc<[u8]>) -> Response {
    let minted = || {
        let number = getrandom::u64()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let claims =
            Claims { sub: format!("viewer-{number:x}"), aud: "tidings", exp: (now + TOKEN_TTL).as_secs() };
        Ok::<_, Box<dyn std::error::Error>>(mint_hs256(&secret, &claims)?)
    };
    match minted() {
        Ok(token) => ([(header::CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "token": token })))
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "no token");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
