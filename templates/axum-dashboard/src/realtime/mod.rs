//! What is real-time, put together: the hub with its boards' rule, and its routes.

pub mod auth;
mod publish;
pub mod rooms;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tidings::auth::Jwt;
use tidings::{Access, Hub, HubBuilder, Limits, Overflow, RoomRules};

use crate::app::App;
use crate::database::Database;
use auth::Boards;
use rooms::RoomManager;

/// How far back a lost connection is made up for. Whoever was away for longer loads from the database.
const HISTORY: Duration = Duration::from_secs(300);
/// How long a viewer's socket may take nothing: nothing waits for him meanwhile, so he may be slow.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// The hub, and what goes with it. Cloning shares it.
#[derive(Clone)]
pub struct Realtime {
    pub hub: Hub,
    pub rooms: RoomManager,
    secret: Arc<str>,
}

impl Realtime {
    /// Starts the hub. The secret signs the tokens; with a Redis its rooms are those of all nodes there.
    pub fn start(
        database: &Database,
        secret: &str,
        redis_url: Option<&str>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut limits = Limits::default();
        limits.stalled_duration_max = STALLED_MAX;
        let hub = Hub::builder()
            .authenticate(Jwt::hs256(secret.as_bytes())?)
            .memberships(Boards(database.clone()))
            .rule(boards())
            .limits(limits);
        let hub = shared(hub, redis_url)?.build()?;
        let rooms = RoomManager::new(hub.clone(), database.clone());
        Ok(Self {
            hub,
            rooms,
            secret: secret.into(),
        })
    }

    pub fn router(&self) -> Router<App> {
        Router::new()
            .route("/ws", self.hub.route())
            .route("/token", get(auth::token))
            .route("/v1/rooms/{room}/events", post(publish::publish))
    }
}

/// Viewers only listen. Who comes has the newest value of each series at once; who reads too slowly gets the newest and not a
/// backlog. Nobody is told who else watches.
fn boards() -> RoomRules {
    RoomRules::new("board:*")
        .join(Access::Members)
        .publish(Access::Nobody)
        .presence(false)
        .history_age(HISTORY)
        .key("/series")
        .retain()
        .overflow(Overflow::Conflate)
}

#[cfg(feature = "redis")]
fn shared(hub: HubBuilder, redis_url: Option<&str>) -> Result<HubBuilder, Box<dyn Error>> {
    Ok(match redis_url {
        Some(url) => hub.broker(tidings::Redis::new(url)?),
        None => hub,
    })
}

#[cfg(not(feature = "redis"))]
fn shared(hub: HubBuilder, redis_url: Option<&str>) -> Result<HubBuilder, Box<dyn Error>> {
    match redis_url {
        Some(_) => Err("for REDIS_URL the program has to be built with --features redis".into()),
        None => Ok(hub),
    }
}
