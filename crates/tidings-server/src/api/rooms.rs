//! Rooms, as the API shows them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Asked, RoomName, RoomOf};
use super::problem::{Problem, Problems};

/// Without a `limit`.
const ROOMS_DEFAULT: usize = 100;
/// One page has so many at most, of rooms and of members.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomsQuery {
    /// Only rooms whose names begin with it.
    prefix: Option<String>,
    /// Only rooms whose names come after this one: what `next` said.
    after: Option<String>,
    /// How many at most. 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// Only users whose ids come after this one: what `next` said.
    after: Option<String>,
    /// How many at most. 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Rooms that have members, in the order of their names.
#[derive(Serialize, ToSchema)]
pub(super) struct Rooms {
    rooms: Vec<RoomEntry>,
    /// What to ask for by `after` to have those after them; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
    /// How many nodes did not answer, so that rooms of theirs may be missing.
    nodes_missing: usize,
}

/// A room that has members.
#[derive(Serialize, ToSchema)]
struct RoomEntry {
    room: String,
    /// How many users are in it.
    members: u64,
}

/// How a room stands.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomStatus {
    room: String,
    /// How many users are in it, on all nodes.
    members: u64,
    /// The newest position of its log.
    last_event_id: String,
}

/// Who is in a room, in the order of their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct Members {
    members: Vec<Member>,
    /// What to ask for by `after` to have those after them; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// One user in a room.
#[derive(Serialize, ToSchema)]
struct Member {
    user: String,
    /// What he shows; null before his first `presence.update`.
    #[schema(value_type = serde_json::Value)]
    info: Arc<RawValue>,
}

fn page_size(limit: Option<usize>, default: usize) -> Result<usize, Problem> {
    match limit {
        Some(0) => Err(Problem::invalid("limit is 0", "ask for 1 to 1,000")),
        limit => Ok(limit.unwrap_or(default).min(PAGE_MAX)),
    }
}

/// The rooms that have members.
#[utoipa::path(get, path = "/v1/rooms", tag = "read", params(RoomsQuery),
    responses((status = 200, description = "Rooms with members.", body = Rooms), Problems))]
pub(super) async fn rooms(
    State(api): State<Api>,
    Asked(query): Asked<RoomsQuery>,
) -> Result<Json<Rooms>, Problem> {
    let limit = page_size(query.limit, ROOMS_DEFAULT)?;
    // One more tells whether there are more.
    let prefix = query.prefix.unwrap_or_default();
    let all = api.hub.rooms(&prefix, query.after.as_deref(), limit + 1).await;
    let more = all.found.len() > limit;
    let rooms: Vec<_> = all.found.into_iter().take(limit).collect();
    let next = rooms.last().filter(|_| more).map(|last| last.room.to_string());
    let entry = |info: tidings::RoomInfo| RoomEntry { room: info.room.to_string(), members: info.members };
    Ok(Json(Rooms { rooms: rooms.into_iter().map(entry).collect(), next, nodes_missing: all.nodes_missing }))
}

/// How a room stands.
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "read",
    params(("room" = inline(RoomName), Path, description = "The room")),
    responses((status = 200, description = "How it stands.", body = RoomStatus), Problems))]
pub(super) async fn room(State(api): State<Api>, RoomOf(room): RoomOf) -> Result<Json<RoomStatus>, Problem> {
    let status = api.hub.room(&room).status().await?;
    let last_event_id = status.last_event_id.to_string();
    Ok(Json(RoomStatus { room: room.to_string(), members: status.members, last_event_id }))
}

/// Who is in a room.
#[utoipa::path(get, path = "/v1/rooms/{room}/members", tag = "read",
    params(("room" = inline(RoomName), Path, description = "The room"), MembersQuery),
    responses((status = 200, description = "Who is in it.", body = Members), Problems))]
pub(super) async fn members(
    State(api): State<Api>,
    RoomOf(room): RoomOf,
    Asked(query): Asked<MembersQuery>,
) -> Result<Json<Members>, Problem> {
    let limit = page_size(query.limit, PAGE_MAX)?;
    let mut all = api.hub.room(&room).members().await?;
    if let Some(after) = &query.after {
        all.retain(|member| member.user > *after);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|last| last.user.clone());
    let member = |info: tidings::MemberInfo| Member { user: info.user, info: info.info };
    Ok(Json(Members { members: all.into_iter().map(member).collect(), next }))
}
