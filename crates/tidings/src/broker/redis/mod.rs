//! Many nodes through Redis: it sequences and stores what rooms publish, and carries it to every node with members.
//!
//! delivery.md §4 is the specification, docs/guarantees.md says what it promises. What Redis has of a room is written by
//! the scripts alone; what a node has of it follows by `tidings_protocol::follower`'s rules.

mod address;
mod answer;
mod carried;
mod check;
mod control;
mod deltas;
mod error;
mod keys;
mod leases;
mod link;
mod log;
mod message;
mod nodes;
mod orders;
mod places;
mod presence;
mod probe;
mod publishing;
mod script;
mod sharing;
#[cfg(test)]
mod tests;
mod user_keys;
mod user_scripts;

use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tidings_protocol::event_id::Epoch;
use tidings_protocol::follower::Ask;
use tidings_protocol::limits::Limits;
use tokio::task::JoinHandle;

use super::{
    Answer, Broker, Completion, ControlError, MembersFuture, NoPlace, NodeInfo, Order, Place, Wanted,
};
use crate::auth::UserId;
use crate::env::Env;
use crate::local_users::LocalUsers;
use crate::metrics::Metrics;
use crate::publication::{Draft, Excluded, PublishKey};
use crate::room::Room;

use address::Address;
pub use address::InvalidAddress;
pub use check::{RedisFault, RedisReport};
use control::Control;
pub use keys::InvalidPrefix;
use keys::{Keyspace, RoomKeys};
use leases::Leases;
use link::Link;
use nodes::OwnEntry;
use orders::Orders;
use publishing::Pending;
use script::{Channels, Lineage, Scripts};

/// Connections to Redis of a node, each with its share of the rooms.
const CONNECTIONS_DEFAULT: usize = 2;

/// How a hub reaches Redis.
///
/// ```no_run
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidings::{Hub, Redis};
///
/// let builder = Hub::builder().broker(Redis::new("redis://127.0.0.1:6379")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    address: Address,
    keyspace: Keyspace,
    connections: usize,
    lineage: Lineage,
    lease: Duration,
    presence_lease: Duration,
}

impl Redis {
    /// Redis at an address: `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS, or several such hosts
    /// joined by `,`, of which the one that is the master is used.
    ///
    /// # Errors
    /// [`InvalidAddress`].
    pub fn new(address: &str) -> Result<Self, InvalidAddress> {
        Ok(Self {
            address: Address::parse(address)?,
            keyspace: Keyspace::default(),
            connections: CONNECTIONS_DEFAULT,
            lineage: Lineage::ReplicationId,
            lease: leases::LEASE_DEFAULT,
            presence_lease: presence::LEASE_DEFAULT,
        })
    }

    /// How long a node counts as alive after it has said so: for tests that don't want to wait for a minute.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn presence_lease(mut self, lease: Duration) -> Self {
        self.presence_lease = lease;
        self
    }

    /// What the names of all keys and channels begin with. `tidings`.
    ///
    /// # Errors
    /// [`InvalidPrefix`].
    pub fn prefix(mut self, prefix: &str) -> Result<Self, InvalidPrefix> {
        self.keyspace = Keyspace::new(prefix)?;
        Ok(self)
    }

    /// Connections of a node, each with its share of the rooms. 2.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// How long the places of a node's connections in their users' limits outlive the node, and by how long a limit may
    /// be exceeded after Redis has lost what it held. Between a second and ten minutes, and the same on every node. 70 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.clamp(leases::LEASE_MIN, leases::LEASE_MAX);
        self
    }

    /// Doesn't ask the server which history it goes on, for servers that don't tell. Then one event id may name two
    /// events after a failover that lost some.
    #[must_use]
    pub fn without_lineage(mut self) -> Self {
        self.lineage = Lineage::None;
        self
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Redis").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// What all connections of a node to Redis share.
struct Shared {
    address: Address,
    keyspace: Keyspace,
    scripts: Scripts,
    /// This node, as it signs what it sends.
    node: u64,
    /// How long it counts as alive in a room after it has said so, in milliseconds.
    presence_lease_ms: AtomicU64,
    env: Arc<dyn Env>,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    runtime: tokio::runtime::Handle,
    local_users: Arc<LocalUsers>,
    leases: Arc<Leases>,
    orders: Orders,
    nodes: OwnEntry,
}

impl Shared {
    fn keys_of(&self, room: &Room) -> RoomKeys {
        self.keyspace.room(&room.id)
    }

    /// An epoch for one call, which begins if one has to.
    fn fresh_epoch(&self) -> Epoch {
        Epoch::from_random(self.env.random())
    }

    /// How many idempotency ids a room takes within five minutes: what it may publish in that time.
    fn ids_max(&self) -> usize {
        let window = self.limits.idempotency_window.as_secs();
        usize::try_from(u64::from(self.limits.publishes_per_second_per_room) * window).unwrap_or(usize::MAX)
    }
}

/// The broker of a node that shares its rooms with others.
pub(crate) struct RedisBroker {
    shared: Arc<Shared>,
    links: Vec<Arc<Link>>,
    tasks: Vec<JoinHandle<()>>,
}

impl RedisBroker {
    pub(crate) fn start(
        redis: Redis,
        id: u64,
        local_users: Arc<LocalUsers>,
        env: Arc<dyn Env>,
        metrics: Arc<Metrics>,
        limits: Arc<Limits>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            scripts: Scripts::new(redis.lineage, Channels::Classic),
            address: redis.address,
            keyspace: redis.keyspace,
            node: id,
            presence_lease_ms: AtomicU64::new(presence::milliseconds(redis.presence_lease)),
            local_users,
            leases: Leases::new(redis.lease, Arc::clone(&metrics)),
            orders: Orders::default(),
            nodes: OwnEntry::new(env.unix_ms(), env.now()),
            env,
            metrics,
            limits,
            runtime,
        });
        let links: Vec<_> =
            (0..redis.connections).map(|index| Link::new(Arc::clone(&shared), index)).collect();
        let mut tasks: Vec<_> =
            links.iter().map(|link| shared.runtime.spawn(Arc::clone(link).run())).collect();
        if let Some(link) = links.first() {
            tasks.push(shared.runtime.spawn(leases::keep(Arc::clone(&shared), Arc::clone(link))));
            tasks.push(shared.runtime.spawn(orders::follow(Arc::clone(&shared), Arc::clone(link))));
        }
        Self { shared, links, tasks }
    }

    /// The link of a room: always the same, so that what is published to it keeps its order.
    fn link(&self, room: &Room) -> &Arc<Link> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&room.id);
        // There is one at least.
        &self.links[hash as usize % self.links.len()]
    }

    /// The link of what is no room's, so that it keeps its order.
    fn control(&self) -> &Arc<Link> {
        // There is one at least.
        &self.links[0]
    }

    fn id(room: &Room, key: &PublishKey) -> [u8; 16] {
        let mut hash = Sha256::new();
        let request_room = key.request_room.as_ref().map_or("", |room| room.as_str());
        for part in [key.user.as_str(), room.id.as_str(), request_room, key.id.as_str()] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        hash.update(key.nth.to_be_bytes());
        beginning(&hash.finalize())
    }
}

fn beginning<const N: usize>(hash: &[u8]) -> [u8; N] {
    std::array::from_fn(|index| hash.get(index).copied().unwrap_or_default())
}

impl Broker for RedisBroker {
    fn submit(&self, room: &Arc<Room>, draft: Draft, completion: Completion) {
        let (shared, now) = (&self.shared, self.shared.env.now());
        if let Err(error) = room.take_publish(&shared.metrics, &shared.limits, now) {
            return completion.complete(Err(error));
        }
        let key = draft.key.as_ref();
        let pending = Pending {
            id: key.map(|key| Self::id(room, key)),
            fingerprint: key.map_or(0, |key| key.fingerprint),
            record: Bytes::from(draft.record()),
            completion,
        };
        self.link(room).publish(room, pending);
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn interest_changed(&self, room: &Arc<Room>) {
        self.link(room).touch(room);
    }

    fn read(&self, room: &Arc<Room>, ask: Ask) {
        self.link(room).ask(room, Some(ask));
    }

    fn pass_on(&self, room: &Room, frame: &Bytes, except: Option<&Excluded>) {
        let channel = self.shared.keys_of(room).channel().to_owned();
        let message = carried::ephemeral(self.shared.node, except, frame);
        self.link(room).carry(channel, message);
    }

    fn fingerprint(&self, event: &str, data: &[u8]) -> Option<u64> {
        let hash = Sha256::new().chain_update(event).chain_update([0]).chain_update(data).finalize();
        Some(u64::from_be_bytes(beginning(&hash)))
    }

    fn presence_changed(&self, room: &Arc<Room>) {
        self.link(room).share(room);
    }

    fn members<'a>(&'a self, room: &'a Arc<Room>) -> MembersFuture<'a> {
        Box::pin(self.link(room).read_members(room))
    }

    fn is_ready(&self) -> bool {
        let now = self.shared.env.now();
        self.links.iter().all(|link| link.probe.is_ready(now))
    }

    fn take_place<'a>(&'a self, wanted: Wanted<'a>) -> Option<Answer<'a, Result<Place, NoPlace>>> {
        Some(Box::pin(places::take(&self.shared, self.control(), wanted)))
    }

    fn find_place<'a>(&'a self, wanted: Wanted<'a>) -> Option<Answer<'a, Result<(), NoPlace>>> {
        Some(Box::pin(places::find(&self.shared, self.control(), wanted)))
    }

    fn order<'a>(&'a self, order: Order<'a>) -> Option<Answer<'a, Result<(), ControlError>>> {
        Some(Box::pin(orders::give(self.control(), order)))
    }

    fn send_to_user(&self, user: &UserId, frame: &Bytes) {
        self.control().tell(&Control::Event { user: user.clone(), frame: frame.clone() });
    }

    fn nodes(&self) -> Option<Answer<'_, Result<Vec<NodeInfo>, ControlError>>> {
        Some(Box::pin(nodes::list(&self.shared, self.control())))
    }

    fn leave(&self) {
        self.shared.shorten_lease();
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(self.control()));
        drop(self.shared.runtime.spawn(async move { shared.nodes.leave(&link).await }));
    }

    fn settle(&self) -> Option<Answer<'_, ()>> {
        Some(Box::pin(async { while leases::send(&self.shared, self.control()).await {} }))
    }

    fn maintain(&self) {}
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // Its places and its entry would end with their time.
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(self.control()));
        drop(self.shared.runtime.spawn(async move {
            shared.nodes.leave(&link).await;
            while leases::send(&shared, &link).await {}
        }));
    }
}
