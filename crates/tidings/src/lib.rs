//! WebSocket rooms for an axum application: authentication at the handshake, presence, acks, replay, limits.
//!
//! A [`Hub`] is made once, mounted on a router, and kept: handlers answer clients ([`Context`]), and the rest
//! of the application reaches rooms and users through the hub. The wire is described in PROTOCOL.md.
#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, reason = "what only a broker of several nodes asks of a hub's parts")
)]

mod access;
pub mod auth;
mod broker;
mod calls;
mod changes;
#[cfg(feature = "conformance")]
mod conformance;
mod connection;
mod context;
mod encode;
pub mod env;
mod handshake;
mod handshake_rate;
mod hub;
mod idempotency;
mod inbox;
mod io;
mod lanes;
mod local_users;
mod logged;
mod members;
mod membership;
mod metrics;
mod newest;
mod node;
mod observe;
mod outbound;
mod peer;
mod presence;
mod publication;
mod reach;
mod revocations;
mod room;
mod rooms;
mod roster;
mod router;
mod rules;
mod schema;
mod session_id;
mod shard;
#[cfg(feature = "testing")]
pub mod testing;
mod upgrade;
mod user_rates;
mod users;

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

pub use access::{Access, AccessError, ClaimRule};
pub use broker::{ControlError, NodeInfo};
#[cfg(feature = "redis")]
pub use broker::{InvalidAddress, InvalidCertificate, InvalidPrefix, Redis, RedisFault, RedisReport};
pub use context::{AckError, Context};
pub use handshake::{HandshakeRefusal, InvalidOrigin, Origin};
pub use hub::{
    Broadcast, BuildError, HistoryPage, Hub, HubBuilder, MemberInfo, RoomHandle, RoomStatus, Stored,
};
pub use membership::{MembershipError, MembershipFuture, Memberships};
pub use metrics::{MetricsSnapshot, Number};
pub use node::{BroadcastError, Everywhere, RoomError, RoomInfo, SessionInfo};
pub use observe::{Observe, Observed};
pub use revocations::TooManyRevocations;
pub use room::PublishError;
pub use rules::{Overflow, Presence, RoomRules, SnapshotError, SnapshotResult};
pub use schema::{InvalidSchema, Schema};
pub use session_id::SessionId;
pub use tidings_protocol as protocol;
pub use tidings_protocol::error::{ErrorCode, Refusal};
pub use tidings_protocol::event_id::{EventId, Position, RoomId};
pub use tidings_protocol::limits::Limits;
pub use tidings_protocol::message::MessageId;
