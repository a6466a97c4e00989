//! Users and nodes, as the API shows them; and what is done about users.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{RoomName, RoomOf, TokenName, TokenOf, UserName, UserOf};
use super::problem::{Problem, Problems};

/// Whether a user is there.
#[derive(Serialize, ToSchema)]
pub(super) struct UserPresence {
    user: String,
    online: bool,
    /// How many connections he has, on all nodes.
    connections: usize,
    /// How many nodes did not answer, so that connections may be missing.
    nodes_missing: usize,
}

/// The connections of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<Session>,
    /// How many nodes did not answer, so that connections may be missing.
    nodes_missing: usize,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct Session {
    /// As its `session.welcome` told.
    session: String,
    /// At which node it is.
    node: String,
    /// The rooms that it is in.
    rooms: Vec<String>,
}

/// The rooms of a user.
#[derive(Serialize, ToSchema)]
pub(super) struct UserRoomList {
    /// Those that any of his connections is in, sorted.
    rooms: Vec<String>,
    /// How many nodes did not answer, so that rooms may be missing.
    nodes_missing: usize,
}

/// What was done, and to how many of his connections.
#[derive(Serialize, ToSchema)]
pub(super) struct Affected {
    /// As far as the nodes answered in time.
    connections: u64,
    /// How many nodes did not answer, so that connections there may not be counted.
    nodes_missing: usize,
}

/// The token is taken back.
#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    revoked: bool,
}

/// The nodes that share their rooms.
#[derive(Serialize, ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<NodeEntry>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct NodeEntry {
    /// Drawn when it started.
    id: String,
    /// When that was, in milliseconds since 1970.
    since: u64,
    /// Its connections, as of some seconds ago.
    connections: u64,
    /// Whether it is the one that answers.
    is_this: bool,
}

/// Whether a user is there.
#[utoipa::path(get, path = "/v1/users/{user}/presence", tag = "read",
    params(("user" = inline(UserName), Path, description = "The user")),
    responses((status = 200, description = "Whether he is there.", body = UserPresence), Problems))]
pub(super) async fn presence(
    State(api): State<Api>,
    UserOf(user): UserOf,
) -> Result<Json<UserPresence>, Problem> {
    let all = api.hub.sessions_of(user.as_str()).await;
    Ok(Json(UserPresence {
        user: user.as_str().to_owned(),
        online: !all.found.is_empty(),
        connections: all.found.len(),
        nodes_missing: all.nodes_missing,
    }))
}

/// The connections of a user.
#[utoipa::path(get, path = "/v1/users/{user}/sessions", tag = "read",
    params(("user" = inline(UserName), Path, description = "The user")),
    responses((status = 200, description = "His connections.", body = Sessions), Problems))]
pub(super) async fn sessions(
    State(api): State<Api>,
    UserOf(user): UserOf,
) -> Result<Json<Sessions>, Problem> {
    let all = api.hub.sessions_of(user.as_str()).await;
    let session = |info: tidings::SessionInfo| Session {
        session: info.session.to_string(),
        node: info.node,
        rooms: info.rooms.iter().map(ToString::to_string).collect(),
    };
    let nodes_missing = all.nodes_missing;
    Ok(Json(Sessions { sessions: all.found.into_iter().map(session).collect(), nodes_missing }))
}

/// The rooms that any of a user's connections is in.
#[utoipa::path(get, path = "/v1/users/{user}/rooms", operation_id = "user_rooms", tag = "read",
    params(("user" = inline(UserName), Path, description = "The user")),
    responses((status = 200, description = "His rooms.", body = UserRoomList), Problems))]
pub(super) async fn rooms(
    State(api): State<Api>,
    UserOf(user): UserOf,
) -> Result<Json<UserRoomList>, Problem> {
    let all = api.hub.sessions_of(user.as_str()).await;
    let rooms: BTreeSet<String> =
        all.found.iter().flat_map(|session| &session.rooms).map(ToString::to_string).collect();
    Ok(Json(UserRoomList { rooms: rooms.into_iter().collect(), nodes_missing: all.nodes_missing }))
}

/// Join a user's connections to a room, whatever the room's rule says.
#[utoipa::path(put, path = "/v1/users/{user}/rooms/{room}", tag = "admin",
    params(("user" = inline(UserName), Path, description = "The user"), ("room" = inline(RoomName), Path, description = "The room")),
    responses((status = 200, description = "So many of his connections.", body = Affected), Problems))]
pub(super) async fn join(
    State(api): State<Api>,
    UserOf(user): UserOf,
    RoomOf(room): RoomOf,
) -> Result<Json<Affected>, Problem> {
    // Where no rule covers it there is nothing to join.
    api.hub.room(&room).status().await?;
    let joined = api.hub.join_user(user.as_str(), &room).await;
    Ok(Json(Affected { connections: joined.found, nodes_missing: joined.nodes_missing }))
}

/// Take a user's connections out of a room.
#[utoipa::path(delete, path = "/v1/users/{user}/rooms/{room}", tag = "admin",
    params(("user" = inline(UserName), Path, description = "The user"), ("room" = inline(RoomName), Path, description = "The room")),
    responses((status = 200, description = "So many of his connections.", body = Affected), Problems))]
pub(super) async fn leave(
    State(api): State<Api>,
    UserOf(user): UserOf,
    RoomOf(room): RoomOf,
) -> Result<Json<Affected>, Problem> {
    let left = api.hub.leave_user(user.as_str(), &room).await;
    Ok(Json(Affected { connections: left.found, nodes_missing: left.nodes_missing }))
}

/// Close every connection of a user's with 4006.
#[utoipa::path(post, path = "/v1/users/{user}/disconnect", tag = "admin",
    params(("user" = inline(UserName), Path, description = "The user")),
    responses((status = 200, description = "So many of his connections.", body = Affected), Problems))]
pub(super) async fn disconnect(
    State(api): State<Api>,
    UserOf(user): UserOf,
) -> Result<Json<Affected>, Problem> {
    let before = api.hub.sessions_of(user.as_str()).await;
    api.hub.disconnect_user(user.as_str()).await?;
    Ok(Json(Affected { connections: before.found.len() as u64, nodes_missing: before.nodes_missing }))
}

/// Take back every token that a user has until now, and close his connections with 4001.
#[utoipa::path(post, path = "/v1/users/{user}/revoke", tag = "admin",
    params(("user" = inline(UserName), Path, description = "The user")),
    responses((status = 200, description = "So many of his connections.", body = Affected), Problems))]
pub(super) async fn revoke(State(api): State<Api>, UserOf(user): UserOf) -> Result<Json<Affected>, Problem> {
    let before = api.hub.sessions_of(user.as_str()).await;
    api.hub.revoke_user(user.as_str()).await?;
    Ok(Json(Affected { connections: before.found.len() as u64, nodes_missing: before.nodes_missing }))
}

/// Take one token back, by its `jti`.
#[utoipa::path(post, path = "/v1/tokens/{jti}/revoke", tag = "admin",
    params(("jti" = inline(TokenName), Path, description = "The token's id")),
    responses((status = 200, description = "It is taken back.", body = Revoked), Problems))]
pub(super) async fn revoke_token(
    State(api): State<Api>,
    TokenOf(id): TokenOf,
) -> Result<Json<Revoked>, Problem> {
    api.hub.revoke_token(&id).await?;
    Ok(Json(Revoked { revoked: true }))
}

/// The nodes that share their rooms.
#[utoipa::path(get, path = "/v1/nodes", tag = "read", responses((status = 200, description = "Every node.", body = Nodes), Problems))]
pub(super) async fn nodes(State(api): State<Api>) -> Result<Json<Nodes>, Problem> {
    let entry = |node: tidings::NodeInfo| NodeEntry {
        id: node.id,
        since: node.since_unix_ms,
        connections: node.connections,
        is_this: node.is_this,
    };
    Ok(Json(Nodes { nodes: api.hub.nodes().await?.into_iter().map(entry).collect() }))
}
