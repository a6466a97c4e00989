//! What is real-time, put together: the hub with its rooms' rules and handlers, and its routes.

pub mod auth;
mod handlers;
mod publish;
pub mod rooms;

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serde_json::json;
use tidings::auth::Jwt;
use tidings::{Access, Hub, HubBuilder, RoomId, RoomRules, SnapshotError};

use crate::app::App;
use crate::database::Database;
use auth::Channels;
use rooms::{RoomManager, channel_of};

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
        let hub = Hub::builder()
            .authenticate(Jwt::hs256(secret.as_bytes())?)
            .memberships(Channels(database.clone()))
            .rule(channels(database))
            // A room of each user's own, for what concerns him alone.
            .rule(
                RoomRules::new("user:*")
                    .join(Access::Members)
                    .presence(false),
            );
        let hub = shared(handlers::register(hub, database), redis_url)?.build()?;
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

/// The channels' rule. Members send by the handlers, which store first, and by nothing else.
fn channels(database: &Database) -> RoomRules {
    let database = database.clone();
    RoomRules::new("ch_*")
        .join(Access::Members)
        .ephemeral("typing.start")
        .snapshot(
            // For a page that was away for longer than the history goes back.
            move |room: RoomId| {
                let database = database.clone();
                async move {
                    let channel = channel_of(&room).ok_or("no channel has this room")?;
                    let messages = database.messages(channel).await?;
                    Ok::<_, SnapshotError>(json!({"messages": messages}))
                }
            },
        )
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
