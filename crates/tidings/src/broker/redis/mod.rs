//! Many nodes through Redis: it sequences and stores what rooms publish, and carries it to every node with members.
//!
//! docs/redis.md has the rules, docs/guarantees.md what they promise. What Redis has of a room is written by
//! the scripts alone; what a node has of it follows by `tidings_protocol::follower`'s rules.

mod address;
mod answer;
mod asking;
mod carried;
mod check;
mod control;
mod deltas;
mod error;
#[cfg(feature = "testing")]
mod in_memory;
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
mod reading;
mod redacting;
mod routes;
mod script;
mod sentinels;
mod sharing;
mod slots;
mod subscriptions;
#[cfg(test)]
mod tests;
mod user_keys;
mod user_scripts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use redis::{ClientTlsConfig, TlsCertificates};
use sha2::{Digest as _, Sha256};
use tidings_protocol::event_id::{Epoch, Position};
use tidings_protocol::follower::Ask;
use tidings_protocol::limits::Limits;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{
    Answer, Answers, Broker, Completion, ControlError, MembersFuture, NoPlace, NodeInfo, Order, Place,
    Question, Replies, Wanted,
};
use crate::auth::UserId;
use crate::env::Env;
use crate::local_users::LocalUsers;
use crate::metrics::Metrics;
use crate::publication::{Draft, Excluded, PublishKey};
use crate::room::Room;

use address::{Address, Place as Whereabouts};
pub use address::{InvalidAddress, InvalidCertificate};
use asking::Asking;
pub use check::{RedisFault, RedisReport};
use control::Control;
pub use keys::InvalidPrefix;
use keys::{Keyspace, RoomKeys};
use leases::Leases;
use nodes::OwnEntry;
use orders::Orders;
use publishing::Pending;
use routes::Routes;
use script::{Channels, Lineage, Scripts};

/// Connections of a node to each master, each with its share of the rooms.
const CONNECTIONS_DEFAULT: usize = 2;
/// For so long a node that has ended gives back the places of its connections.
const GIVING_BACK_MAX: Duration = Duration::from_secs(2);

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
    certificates: TlsCertificates,
    lease: Duration,
    presence_lease: Duration,
}

impl Redis {
    /// Redis at an address:
    ///
    /// - `redis://[user:password@]host[:port][/db]`: a server, or several hosts joined by `,`, of which the one that is
    ///   the master is used;
    /// - `redis+sentinel://[user:password@]host[:port],host[:port]/name[/db]`: the master of that name, as these
    ///   sentinels know it;
    /// - `redis+cluster://[user:password@]host[:port],host[:port]`: the cluster that these servers are of;
    /// - each with `rediss` in the place of `redis`: with TLS.
    ///
    /// # Errors
    /// [`InvalidAddress`].
    pub fn new(address: &str) -> Result<Self, InvalidAddress> {
        Ok(Self {
            address: Address::parse(address)?,
            keyspace: Keyspace::default(),
            connections: CONNECTIONS_DEFAULT,
            lineage: Lineage::ReplicationId,
            certificates: TlsCertificates { client_tls: None, root_cert: None },
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

    /// Connections of a node, each with its share of the rooms; in a cluster so many to each master. 2.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Believes servers whose certificates come from one of these authorities (PEM), and no others. Those of the system.
    ///
    /// # Errors
    /// [`InvalidCertificate`] if it is no PEM with a certificate, or the address is none of TLS.
    pub fn ca_certificate(mut self, pem: &[u8]) -> Result<Self, InvalidCertificate> {
        InvalidCertificate::unless_in(pem)?;
        self.certificates.root_cert = Some(pem.to_owned());
        self.address.certify(&self.certificates)?;
        Ok(self)
    }

    /// Shows servers this certificate with its chain, and has this key (both PEM), as Redis's `tls-auth-clients` asks.
    ///
    /// # Errors
    /// [`InvalidCertificate`] if either is no PEM, or the address is none of TLS.
    pub fn client_certificate(
        mut self,
        chain_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, InvalidCertificate> {
        InvalidCertificate::unless_in(chain_pem)?;
        let (client_cert, client_key) = (chain_pem.to_owned(), key_pem.to_owned());
        self.certificates.client_tls = Some(ClientTlsConfig { client_cert, client_key });
        self.address.certify(&self.certificates)?;
        Ok(self)
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
    /// Told when a cluster's slots may not be where they were.
    slots_moved: Notify,
    channels: Channels,
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
    asking: Asking,
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
    routes: Arc<Routes>,
    tasks: Vec<JoinHandle<()>>,
    /// Keeps the leases, and ends by itself after the broker: what it has taken to give back is never dropped half-way.
    keeper: Option<JoinHandle<()>>,
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
        let channels = match redis.address {
            Address::One(_) => Channels::Classic,
            Address::Cluster(_) => Channels::Sharded,
        };
        let shared = Arc::new(Shared {
            slots_moved: Notify::new(),
            channels,
            scripts: Scripts::new(redis.lineage, channels),
            keyspace: redis.keyspace.in_database(redis.address.database()),
            node: id,
            presence_lease_ms: AtomicU64::new(presence::milliseconds(redis.presence_lease)),
            local_users,
            leases: Leases::new(redis.lease, Arc::clone(&metrics)),
            orders: Orders::default(),
            asking: Asking::default(),
            nodes: OwnEntry::new(env.unix_ms(), env.now()),
            env,
            metrics,
            limits,
            runtime,
        });
        let mut tasks = Vec::new();
        let routes = match redis.address {
            Address::One(place) => {
                let routes = Routes::fixed(Arc::clone(&shared), redis.connections, &place);
                if let Whereabouts::Sentinels(sentinels) = place {
                    tasks.push(shared.runtime.spawn(sentinels.follow(Arc::clone(&routes))));
                }
                routes
            }
            Address::Cluster(seeds) => {
                let routes = Routes::cluster(Arc::clone(&shared), redis.connections);
                tasks.push(shared.runtime.spawn(Arc::clone(&routes).follow(seeds)));
                routes
            }
        };
        let keeper = Some(shared.runtime.spawn(leases::keep(Arc::clone(&routes))));
        tasks.push(shared.runtime.spawn(orders::follow(Arc::clone(&routes.control))));
        Self { shared, routes, tasks, keeper }
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
        self.routes.publish(room, pending);
    }

    fn ring(&self) {
        self.routes.send_unsent();
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn interest_changed(&self, room: &Arc<Room>) {
        self.routes.touch(room);
    }

    fn read(&self, room: &Arc<Room>, ask: Ask) {
        // Without a link it is read when there is one.
        if let Some(link) = self.routes.link(room.id.as_str()) {
            link.ask(room, Some(ask));
        }
    }

    fn pass_on(&self, room: &Room, frame: &Bytes, except: Option<&Excluded>) {
        let Some(link) = self.routes.link(room.id.as_str()) else { return };
        let channel = self.shared.keys_of(room).channel().to_owned();
        link.carry(channel, carried::ephemeral(self.shared.node, except, frame));
    }

    fn fingerprint(&self, event: &str, data: &[u8]) -> Option<u64> {
        let hash = Sha256::new().chain_update(event).chain_update([0]).chain_update(data).finalize();
        Some(u64::from_be_bytes(beginning(&hash)))
    }

    fn presence_changed(&self, room: &Arc<Room>) {
        // Without a link it is shared when there is one.
        if let Some(link) = self.routes.link(room.id.as_str()) {
            link.share(room);
        }
    }

    fn members<'a>(&'a self, room: &'a Arc<Room>) -> MembersFuture<'a> {
        let link = self.routes.link(room.id.as_str());
        Box::pin(async move { link?.read_members(room).await })
    }

    fn is_ready(&self) -> bool {
        self.routes.is_ready()
    }

    fn take_place<'a>(&'a self, wanted: Wanted<'a>) -> Option<Answer<'a, Result<Place, NoPlace>>> {
        Some(Box::pin(places::take(&self.routes, wanted)))
    }

    fn find_place<'a>(&'a self, wanted: Wanted<'a>) -> Option<Answer<'a, Result<(), NoPlace>>> {
        Some(Box::pin(places::find(&self.routes, wanted)))
    }

    fn order<'a>(&'a self, order: Order<'a>) -> Option<Answer<'a, Result<(), ControlError>>> {
        Some(Box::pin(orders::give(&self.routes, order)))
    }

    fn answer_with(&self, node: Box<dyn Answers>) {
        self.shared.asking.answer_with(node);
    }

    fn ask<'a>(&'a self, question: &Question) -> Option<Answer<'a, Replies>> {
        Some(Box::pin(asking::ask(&self.routes.control, question.clone())))
    }

    fn redact<'a>(
        &'a self,
        room: &'a Arc<Room>,
        event: Position,
    ) -> Option<Answer<'a, Result<bool, ControlError>>> {
        Some(Box::pin(redacting::redact(&self.routes, room, event)))
    }

    fn send_to_user(&self, user: &UserId, frame: &Bytes) {
        self.routes.control.tell(&Control::Event { user: user.clone(), frame: frame.clone() });
    }

    fn nodes(&self) -> Option<Answer<'_, Result<Vec<NodeInfo>, ControlError>>> {
        Some(Box::pin(nodes::list(&self.routes.control)))
    }

    fn leave(&self) {
        self.shared.shorten_lease();
        let link = Arc::clone(&self.routes.control);
        drop(self.shared.runtime.spawn(async move { link.shared.nodes.leave(&link).await }));
    }

    fn settle(&self) -> Option<Answer<'_, ()>> {
        Some(Box::pin(async move { while leases::send(&self.routes).await {} }))
    }

    fn maintain(&self) {}
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // Its places and its entry would end with their time. Connections may end after the broker.
        let (routes, keeper) = (Arc::clone(&self.routes), self.keeper.take());
        drop(self.shared.runtime.spawn(async move {
            routes.shared.leases.end();
            routes.shared.nodes.leave(&routes.control).await;
            if let Some(mut keeper) = keeper
                && tokio::time::timeout(GIVING_BACK_MAX, &mut keeper).await.is_err()
            {
                keeper.abort();
            }
            routes.stop();
        }));
    }
}
