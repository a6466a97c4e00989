//! The HTTP API at `/v1`: what a backend does with rooms and users. docs/http-api.md is its page for people, `/openapi.json`
//! the same for programs, made of the handlers.

mod body;
mod events;
mod keys;
mod problem;
mod request_id;
mod rooms;
mod users;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, middleware};
use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use tidings::{Hub, RoomId};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use keys::{DERIVED_NAME, KEY_BYTES_MIN, Keys, Rate, Scope, derived};
use problem::Problem;

use crate::user_rooms::RoomsOfUsers;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    hub: Hub,
    rooms_of_users: Option<RoomsOfUsers>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidings", description = "Rooms and users, for a backend. docs/http-api.md explains it."),
    tags(
        (name = "publish", description = "Events to rooms and users: the scope `publish`"),
        (name = "read", description = "Rooms, members, histories, users: the scope `read`"),
        (name = "admin", description = "Send away, join, take back: the scope `admin`"),
    ),
    modifiers(&Bearer),
    security(("key" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("key", bearer);
    }
}

impl Api {
    pub(crate) fn new(hub: &Hub, rooms_of_users: Option<RoomsOfUsers>) -> Self {
        Self { hub: hub.clone(), rooms_of_users }
    }

    /// The room that is a user's own.
    fn room_of_user(&self, user: &str) -> Result<RoomId, Problem> {
        let Some(rooms) = &self.rooms_of_users else {
            let fix = "switch them on: [user_rooms] enabled = true";
            let detail = "users have no rooms of their own here";
            return Err(Problem::new(StatusCode::CONFLICT, "user_rooms_off", detail, fix));
        };
        rooms.of(user).ok_or_else(|| {
            let detail = format!("the user {user:?} has no room of his own: its name would be none");
            Problem::invalid(detail, "give users ids of at most 100 of A-Z a-z 0-9 _ . : -")
        })
    }

    /// The routes: each group behind the scope that it takes.
    pub(crate) fn router(self, keys: Keys, body_bytes_max: usize) -> Router {
        let keys = Arc::new(keys);
        let group = |scope, routes: OpenApiRouter<Self>| {
            routes.route_layer(middleware::from_fn_with_state((Arc::clone(&keys), scope), keys::permit))
        };
        let (router, _) = OpenApiRouter::new()
            .merge(group(Scope::Publish, publishing()))
            .merge(group(Scope::Read, reading()))
            .merge(group(Scope::Admin, administering()))
            .split_for_parts();
        // Made once: it is large, and anybody may ask for it.
        let document = Bytes::from(document().to_json().unwrap_or_default());
        let is_json = [(header::CONTENT_TYPE, "application/json")];
        let api = router
            .route("/openapi.json", get(move || std::future::ready((is_json, document.clone()))))
            .route("/v1", any(no_such_route))
            .route("/v1/", any(no_such_route))
            .route("/v1/{*rest}", any(no_such_route))
            .method_not_allowed_fallback(wrong_method)
            .with_state(self);
        // Of the routes alone: what is asked elsewhere is not this log's, a token in a wrong path least of all.
        api.route_layer(DefaultBodyLimit::max(body_bytes_max))
            .route_layer(middleware::from_fn(request_id::name))
    }
}

/// The document, in OpenAPI 3.1.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let routes: OpenApiRouter<Api> = OpenApiRouter::with_openapi(Document::openapi())
        .merge(publishing())
        .merge(reading())
        .merge(administering());
    routes.into_openapi()
}

fn publishing() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(events::publish))
        .routes(routes!(events::publish_to_user))
        .routes(routes!(events::publish_batch))
}

fn reading() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(rooms::rooms))
        .routes(routes!(rooms::room))
        .routes(routes!(rooms::members))
        .routes(routes!(events::history))
        .routes(routes!(users::presence))
        .routes(routes!(users::sessions))
        .routes(routes!(users::rooms))
        .routes(routes!(users::nodes))
}

fn administering() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(events::redact))
        .routes(routes!(users::join))
        .routes(routes!(users::leave))
        .routes(routes!(users::disconnect))
        .routes(routes!(users::revoke))
        .routes(routes!(users::revoke_token))
}

async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is no {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail, "see /openapi.json for what there is")
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let detail = format!("{} can't be asked by {method}", uri.path());
    let fix = "see Allow, and /openapi.json";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail, fix);
    axum::response::IntoResponse::into_response(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_says_what_each_may_answer() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let page = include_str!("../../../../docs/http-api.md");
        let mut routes = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                routes += 1;
                let row = format!("| `{} {path}` |", method.to_uppercase());
                assert!(page.contains(&row), "docs/http-api.md has no {row}");
                for status in ["200", "400", "401", "403", "404", "409", "413", "415", "429", "503"] {
                    assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
                }
            }
        }
        assert_eq!(
            page.matches("| `GET /v1").count()
                + page.matches("| `POST /v1").count()
                + page.matches("| `PUT /v1").count()
                + page.matches("| `DELETE /v1").count(),
            routes
        );
    }
}
