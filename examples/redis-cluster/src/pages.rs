//! The page, embedded, the tokens that its clients connect with, and what it asks about the nodes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tidings::auth::mint_hs256;

use crate::Fault;
use crate::node::ROOM;
use crate::processes::Nodes;

/// A page asks for another token at every connect.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// Nothing from elsewhere and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn router(nodes: Nodes, secret: [u8; 32]) -> Router {
    let shown = nodes.clone();
    Router::new()
        .route("/", get(async || page("text/html; charset=utf-8", include_str!("../page/index.html"))))
        .route("/nodes.css", get(async || page("text/css; charset=utf-8", include_str!("../page/nodes.css"))))
        .route(
            "/nodes.js",
            get(async || page("text/javascript; charset=utf-8", include_str!("../page/nodes.js"))),
        )
        .route("/token/{user}", get(async move |Path(user): Path<String>| token(&user, secret)))
        .route("/nodes", get(async move || Json(shown.shown())))
        .route(
            "/nodes/{name}/kill",
            post(
                async move |Path(name): Path<String>| {
                    if nodes.kill(&name) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
                },
            ),
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
struct Claims<'a> {
    sub: &'a str,
    aud: &'static str,
    exp: u64,
    rooms: [&'static str; 1],
}

/// Everyone may be whoever he says: an application with a login says here who it is.
fn token(user: &str, secret: [u8; 32]) -> Response {
    let minted = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let claims = Claims { sub: user, aud: "tidings", exp: (now + TOKEN_TTL).as_secs(), rooms: [ROOM] };
        Ok::<_, Fault>(mint_hs256(&secret, &claims)?)
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
