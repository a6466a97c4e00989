//! The chat page of `tidings dev`, embedded. Its sources are in `pages/`; `npm run build` there writes the files beside this.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Nothing from elsewhere, nothing inline; images are what a message brought.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' blob:; \
     img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its parts.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || embedded("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/chat.js", get(async || embedded("text/javascript; charset=utf-8", include_str!("chat.js"))))
        .route("/chat.css", get(async || embedded("text/css; charset=utf-8", include_str!("chat.css"))))
}

fn embedded(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}
