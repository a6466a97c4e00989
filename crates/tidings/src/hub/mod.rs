//! The handle that an application keeps, and how it is made.

mod room_handle;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::{InvalidId, RoomId};
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::message::EventName;
use tokio::sync::Notify;

use crate::auth::Authenticate;
use crate::broker::{Broker, ControlError, MemoryBroker, NodeInfo};
#[cfg(feature = "redis")]
use crate::broker::{Redis, RedisBroker};
use crate::calls::Calls;
use crate::context::{AckError, Context};
use crate::env::{Env, SystemEnv};
use crate::handshake::{HandshakePolicy, InvalidOrigin, Origin as WebOrigin};
use crate::handshake_rate::HandshakeRate;
use crate::inbox::{Entry, Inbox};
use crate::local_users::LocalUsers;
use crate::membership::Memberships;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::node::{Answering, Body, BroadcastError, Everywhere, Node, RoomInfo, SessionInfo};
use crate::observe::Observe;
use crate::reach;
use crate::revocations::Revocations;
use crate::rooms::Rooms;
use crate::router::{Handler, Known, Router, Shape};
use crate::rules::{RoomRules, RuleBook, RuleFault};
use crate::schema::{InvalidSchema, Schema};
use crate::session_id::SessionId;
use crate::shard::Shard;
use crate::user_rates::UserRates;
use crate::users::Users;

pub use room_handle::{Broadcast, HistoryPage, MemberInfo, RoomHandle, RoomStatus, Stored};

/// A running node of Tidings: mount it on a router, and reach its rooms and users from anywhere. Cloning shares it;
/// when the last clone is gone, every connection is closed with 1001.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidings::{Access, Context, Hub, RoomRules, auth::Jwt};
///
/// let hub = Hub::builder()
///     .authenticate(Jwt::hs256(b"a secret of at least thirty-two bytes")?)
///     .rule(RoomRules::new("chat:*").join(Access::Anyone).publish(Access::Anyone))
///     .schema("message.send", &serde_json::json!({"type": "object", "required": ["content"]}))
///     .build()?;
/// let app = axum::Router::new().route("/ws", hub.route());
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// axum::serve(listener, app).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<Running>);

struct Running {
    node: Arc<Node>,
    policy: Arc<HandshakePolicy>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for inbox in &self.node.inboxes {
            inbox.close();
        }
    }
}

/// Why a hub could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// Nobody says who may connect: call [`HubBuilder::authenticate`].
    NoAuthentication,
    /// A rule's pattern can fit no room.
    Pattern(String, InvalidId),
    /// A rule's pattern of ephemeral events can fit none.
    Ephemeral(String),
    /// A rule's key is no JSON pointer.
    Key(String),
    /// A rule's claim is not at a JSON pointer.
    Claim(String),
    /// A handler's event is reserved or not a name.
    Event(String),
    /// Two handlers for one event.
    TwoHandlers(String),
    /// An event's schema can't be used.
    Schema(String, InvalidSchema),
    /// Two schemas for one event.
    TwoSchemas(String),
    /// An event's handler takes JSON and it was said to be binary, or the other way round.
    BinaryAndJson(String),
    /// Not an origin like `https://app.example`.
    Origin(InvalidOrigin),
    /// Limits that don't fit each other.
    Limits(&'static str),
    /// No tokio runtime here: handlers run on the runtime on which the hub is built.
    NoRuntime,
    /// A shard could not be started.
    Shard(std::io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAuthentication => {
                f.write_str("nobody says who may connect: call HubBuilder::authenticate")
            }
            Self::Pattern(pattern, fault) => {
                write!(f, "the rule {pattern:?} fits no room: {fault}; it may end with *")
            }
            Self::Ephemeral(pattern) => write!(
                f,
                "{pattern:?} fits no event that can be ephemeral: an event's name, or its beginning and *, and none that is reserved"
            ),
            Self::Key(pointer) => {
                write!(f, "{pointer:?} is no JSON pointer (RFC 6901): it begins with a slash, like \"/host\"")
            }
            Self::Claim(pointer) => {
                write!(f, "{pointer:?} points to no claim: a JSON pointer begins with /, as in /role")
            }
            Self::Event(event) => write!(f, "{event:?} is no event that an application can handle"),
            Self::TwoHandlers(event) => write!(f, "{event:?} has two handlers"),
            Self::Schema(event, fault) => write!(f, "the schema of {event:?} can't be used: {fault}"),
            Self::TwoSchemas(event) => write!(f, "{event:?} has two schemas, or one and is binary"),
            Self::BinaryAndJson(event) => write!(
                f,
                "{event:?} is both binary and JSON: a binary event has on_binary and no schema, a JSON event has on"
            ),
            Self::Origin(fault) => fault.fmt(f),
            Self::Limits(fault) => f.write_str(fault),
            Self::NoRuntime => f.write_str("build the hub inside a tokio runtime: its handlers run there"),
            Self::Shard(error) => write!(f, "a shard could not be started: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<RuleFault> for BuildError {
    fn from(fault: RuleFault) -> Self {
        match fault {
            RuleFault::Room(pattern, fault) => Self::Pattern(pattern, fault),
            RuleFault::Ephemeral(pattern) => Self::Ephemeral(pattern),
            RuleFault::Key(pointer) => Self::Key(pointer),
            RuleFault::Claim(pointer) => Self::Claim(pointer),
        }
    }
}

/// Makes a [`Hub`].
pub struct HubBuilder {
    authenticate: Option<Arc<dyn Authenticate>>,
    memberships: Option<Arc<dyn Memberships>>,
    observer: Option<Arc<dyn Observe>>,
    rules: Vec<RoomRules>,
    router: Router,
    faults: Vec<BuildError>,
    policy: HandshakePolicy,
    limits: Limits,
    shards: Option<usize>,
    env: Arc<dyn Env>,
    #[cfg(feature = "redis")]
    redis: Option<Redis>,
}

impl HubBuilder {
    /// Who may connect. There has to be one.
    #[must_use]
    pub fn authenticate(mut self, authenticate: impl Authenticate) -> Self {
        self.authenticate = Some(Arc::new(authenticate));
        self
    }

    /// Who may connect if nothing else was said.
    #[cfg(feature = "testing")]
    pub(crate) fn authenticate_by_default(mut self, authenticate: impl Authenticate) -> Self {
        self.authenticate.get_or_insert_with(|| Arc::new(authenticate));
        self
    }

    /// The rooms that users belong to, as the application's database knows.
    #[must_use]
    pub fn memberships(mut self, memberships: impl Memberships) -> Self {
        self.memberships = Some(Arc::new(memberships));
        self
    }

    /// Who is told when connections end, rooms get their first member and lose their last, and users come and go.
    #[must_use]
    pub fn observe(mut self, observer: impl Observe) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Adds a rule; of several that fit a room, the first counts.
    #[must_use]
    pub fn rule(mut self, rules: RoomRules) -> Self {
        self.rules.push(rules);
        self
    }

    /// Serves an event: `data` is parsed as `T` (else the client gets `schema` with a JSON pointer), and what
    /// the handler returns is the ack.
    ///
    /// Handlers run on the runtime on which the hub is built. Those of one connection and room run one at a time,
    /// in order. A retry of a request that has an id gets the first's answer, or joins it while it runs. If the
    /// message names a room, the connection is in it; what else it may do is the handler's to decide.
    #[must_use]
    pub fn on<T, R, H, F>(self, event: &str, handler: H) -> Self
    where
        T: DeserializeOwned,
        R: Serialize,
        H: Fn(Context, T) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, AckError>> + Send + 'static,
    {
        self.handler(event, Handler::json(handler))
    }

    /// Serves an event that comes as a binary frame.
    #[must_use]
    pub fn on_binary<R, H, F>(self, event: &str, handler: H) -> Self
    where
        R: Serialize,
        H: Fn(Context, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, AckError>> + Send + 'static,
    {
        self.handler(event, Handler::binary(handler))
    }

    /// Says what an event's data has to look like: a JSON Schema of the kind that [`Schema`] takes. Without a handler, a
    /// member who may publish sends such an event to the room; with one, the handler gets only what fits.
    ///
    /// An event that has neither a handler nor a schema is `unknown_event`, unless the room's rule takes
    /// [any](RoomRules::any_event).
    ///
    /// ```
    /// # use serde_json::json;
    /// # use tidings::{Access, Hub, RoomRules};
    /// let hub = Hub::builder().rule(RoomRules::new("chat:*").publish(Access::Members)).schema(
    ///     "message.send",
    ///     &json!({"type": "object", "required": ["content"], "properties": {"content": {"type": "string"}}}),
    /// );
    /// ```
    #[must_use]
    pub fn schema(mut self, event: &str, schema: &serde_json::Value) -> Self {
        match Schema::new(schema) {
            Ok(schema) => self.shape(event, Shape::Json(schema)),
            Err(fault) => {
                self.faults.push(BuildError::Schema(event.to_owned(), fault));
                self
            }
        }
    }

    /// The same with the schema of a Rust type.
    #[cfg(feature = "schemars")]
    #[must_use]
    pub fn schema_of<T: schemars::JsonSchema>(self, event: &str) -> Self {
        self.schema(event, schemars::SchemaGenerator::default().into_root_schema_for::<T>().as_value())
    }

    /// Serves an event as [`on`](Self::on) does, after its data was checked against the schema of `T`, which says more
    /// than the type: lengths, bounds, patterns.
    #[cfg(feature = "schemars")]
    #[must_use]
    pub fn on_with_schema<T, R, H, F>(self, event: &str, handler: H) -> Self
    where
        T: DeserializeOwned + schemars::JsonSchema,
        R: Serialize,
        H: Fn(Context, T) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, AckError>> + Send + 'static,
    {
        self.schema_of::<T>(event).on(event, handler)
    }

    /// Says that an event comes as a binary frame, to which no schema can apply: without a handler, a member who may
    /// publish sends it to the room.
    #[must_use]
    pub fn binary_event(self, event: &str) -> Self {
        self.shape(event, Shape::Binary)
    }

    fn handler(mut self, event: &str, handler: Handler) -> Self {
        if let Some(known) = self.known(event)
            && known.handler.replace(handler).is_some()
        {
            self.faults.push(BuildError::TwoHandlers(event.to_owned()));
        }
        self
    }

    fn shape(mut self, event: &str, shape: Shape) -> Self {
        if let Some(known) = self.known(event)
            && known.shape.replace(shape).is_some()
        {
            self.faults.push(BuildError::TwoSchemas(event.to_owned()));
        }
        self
    }

    /// What is known of an event so far; none, and a fault, if an application has no such events.
    fn known(&mut self, event: &str) -> Option<&mut Known> {
        match EventName::parse(event) {
            Ok(name) if !name.is_reserved() || event == "presence.heartbeat" => Some(self.router.entry(name)),
            Ok(_) | Err(_) => {
                self.faults.push(BuildError::Event(event.to_owned()));
                None
            }
        }
    }

    /// Allows pages of another origin, like `https://app.example`. A page of the same host and port needs no leave.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        match WebOrigin::parse(origin) {
            Ok(origin) => self.policy.allowed_origins.push(origin),
            Err(fault) => self.faults.push(BuildError::Origin(fault)),
        }
        self
    }

    /// Serves only requests whose Host is this machine itself: for development, against DNS rebinding.
    #[must_use]
    pub fn loopback_host_only(mut self) -> Self {
        self.policy.loopback_host_only = true;
        self
    }

    /// Other limits than the default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many shards, each on a thread of its own. Until something else is said, one for each core.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards.max(1));
        self
    }

    /// Shares rooms with other nodes through Redis.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn broker(mut self, redis: Redis) -> Self {
        self.redis = Some(redis);
        self
    }

    /// Another clock, other randomness, another place for the shards: for tests and simulations.
    #[must_use]
    pub fn env(mut self, env: impl Env) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// Answers every frame with itself: for the Autobahn test suite.
    #[cfg(feature = "conformance")]
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.router.echo();
        self
    }

    /// Whether it could be built, with nothing started: for whoever wants to know all that is wrong, and not the first.
    ///
    /// # Errors
    /// Everything that [`HubBuilder::build`] would refuse.
    pub fn check(mut self) -> Result<Self, Vec<BuildError>> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.extend(self.router.contradiction().map(|event| BuildError::BinaryAndJson(event.to_string())));
        faults.extend(contradictions(&self.limits).map(BuildError::Limits));
        if self.authenticate.is_none() {
            faults.push(BuildError::NoAuthentication);
        }
        faults.extend(self.rules.iter().filter_map(|rule| rule.check().err()).map(BuildError::from));
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Starts the hub. Its handlers run on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Hub, BuildError> {
        let builder = self.check().map_err(|mut faults| faults.swap_remove(0))?;
        builder.start()
    }

    fn start(self) -> Result<Hub, BuildError> {
        let authenticate = self.authenticate.ok_or(BuildError::NoAuthentication)?;
        let rules = RuleBook::new(self.rules, &self.limits)?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let (env, limits) = (self.env, Arc::new(self.limits));
        let metrics = Arc::new(Metrics::default());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = u16::try_from(self.shards.unwrap_or(cores)).unwrap_or(u16::MAX);
        let inboxes: Vec<_> =
            (0..shards).map(|shard| Arc::new(Inbox::new(shard, &limits, Arc::clone(&metrics)))).collect();
        let (users, revocations) = (Arc::new(Users::default()), Arc::new(Revocations::new(&*env, &limits)));
        let local_users =
            Arc::new(LocalUsers::new(Arc::clone(&users), Arc::clone(&revocations), inboxes.clone()));
        let (id, since_unix_ms) = (env.random(), env.unix_ms());
        let memory = || MemoryBroker::new(Arc::clone(&env), Arc::clone(&metrics), Arc::clone(&limits));
        #[cfg(feature = "redis")]
        let broker: Arc<dyn Broker> = match self.redis {
            Some(redis) => {
                let (env, metrics, limits) = (Arc::clone(&env), Arc::clone(&metrics), Arc::clone(&limits));
                let local_users = Arc::clone(&local_users);
                Arc::new(RedisBroker::start(redis, id, local_users, env, metrics, limits, runtime.clone()))
            }
            None => Arc::new(memory()),
        };
        #[cfg(not(feature = "redis"))]
        let broker: Arc<dyn Broker> = Arc::new(memory());
        let shared = broker.is_shared();
        let rooms = Rooms::new(Arc::clone(&env), Arc::clone(&limits), rules, Arc::clone(&metrics), shared);
        let node = Arc::new(Node {
            id,
            since_unix_ms,
            rooms: rooms.observed_by(self.observer.clone()),
            users,
            user_rates: UserRates::default(),
            broker,
            authenticate,
            memberships: self.memberships,
            observer: self.observer,
            calls: Calls::new(&*env, &limits),
            handshake_rate: HandshakeRate::default(),
            revocations,
            local_users,
            inboxes,
            runtime,
            draining: AtomicBool::new(false),
            connection_ended: Notify::new(),
            metrics,
            limits,
            env,
        });
        let router = Arc::new(self.router);
        let hub = Hub(Arc::new(Running { node: Arc::clone(&node), policy: Arc::new(self.policy) }));
        for (index, inbox) in node.inboxes.iter().enumerate() {
            let shard = Shard::future(Arc::clone(&node), Arc::clone(&router), Arc::clone(inbox));
            node.env.run_shard(index, shard).map_err(BuildError::Shard)?;
        }
        if shared {
            node.broker.answer_with(Box::new(Answering(Arc::downgrade(&node))));
            node.spawn(reach::watch(Arc::downgrade(&node)));
        }
        Ok(hub)
    }
}

/// How long a drain waits for the broker to be told that everybody is gone.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// Far above any reconnect, and far below what the clock can count: a deadline made of it never overflows.
const PRESENCE_GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The same, and nobody waits longer to see who is there.
const PRESENCE_BATCH_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Longer than any token should live, and again far below what the clock can count.
const REVOCATION_AGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Limits that would make each other meaningless.
/// What does not fit each other, by the names of the fields.
fn contradictions(limits: &Limits) -> impl Iterator<Item = &'static str> {
    let message = limits.text_message_bytes_max.max(limits.binary_message_bytes_max);
    [
        (
            limits.outbound_bytes_max < message.saturating_mul(2),
            "outbound_bytes_max must be at least twice text_message_bytes_max and binary_message_bytes_max",
        ),
        (
            limits.history_bytes_max < message.saturating_mul(4),
            "history_bytes_max must be at least four times text_message_bytes_max and binary_message_bytes_max",
        ),
        (
            limits.history_bytes_max < limits.outbound_bytes_max.saturating_mul(8),
            "history_bytes_max must be at least eight times outbound_bytes_max",
        ),
        (
            limits.outbound_node_bytes_max < limits.outbound_bytes_max,
            "outbound_node_bytes_max must be at least outbound_bytes_max",
        ),
        (limits.silence_max <= limits.heartbeat, "silence_max must be longer than heartbeat"),
        (limits.presence_grace > PRESENCE_GRACE_MAX, "presence_grace must be a day at most"),
        (
            limits.presence_batch_interval > PRESENCE_BATCH_INTERVAL_MAX,
            "presence_batch_interval must be a minute at most",
        ),
        (limits.revocation_age_max > REVOCATION_AGE_MAX, "revocation_age_max must be a year at most"),
    ]
    .into_iter()
    .filter_map(|(is_one, sentence)| is_one.then_some(sentence))
}

impl Hub {
    /// Begins to make a hub.
    pub fn builder() -> HubBuilder {
        HubBuilder {
            authenticate: None,
            memberships: None,
            observer: None,
            rules: Vec::new(),
            router: Router::default(),
            faults: Vec::new(),
            policy: HandshakePolicy::default(),
            limits: Limits::default(),
            shards: None,
            env: Arc::new(SystemEnv::threads()),
            #[cfg(feature = "redis")]
            redis: None,
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    pub(crate) fn policy(&self) -> &HandshakePolicy {
        &self.0.policy
    }

    /// A room, to broadcast to.
    pub fn room(&self, room: &RoomId) -> RoomHandle {
        RoomHandle::new(self.clone(), room.clone())
    }

    /// Sends an event to one connection of this node. It has no room and no position: a lost connection loses it.
    /// `false` if there is no such connection here.
    ///
    /// # Errors
    /// [`BroadcastError::Event`] and [`BroadcastError::Data`].
    pub fn send_to_connection(
        &self,
        session: SessionId,
        event: &str,
        data: &impl Serialize,
    ) -> Result<bool, BroadcastError> {
        let frame = Node::direct_frame(event, &Body::json(data)?, None)?;
        let connection = self.node().users.connection_of(session);
        if let Some(connection) = connection {
            self.node().send(connection, frame);
        }
        Ok(connection.is_some())
    }

    /// Sends an event to every connection of a user; how many there were on this node. Those on other nodes get it once
    /// or not at all. For what must reach a user, also one who is away, broadcast to a room of his own, such as `user:42`.
    ///
    /// # Errors
    /// As [`Hub::send_to_connection`].
    pub fn send_to_user(
        &self,
        user: &str,
        event: &str,
        data: &impl Serialize,
    ) -> Result<usize, BroadcastError> {
        self.node().send_to_user(user, event, &Body::json(data)?, None)
    }

    /// The rooms of a connection, sorted; none if it is gone.
    pub async fn rooms_of(&self, session: SessionId) -> Vec<RoomId> {
        self.node().rooms_of(session).await
    }

    /// The connections that a user has, on all nodes.
    pub async fn sessions_of(&self, user: &str) -> Everywhere<Vec<SessionInfo>> {
        self.node().sessions_of(user).await
    }

    /// The rooms that have members, on all nodes, in the order of their names: those whose names begin with `prefix` and
    /// come after `after`, so many at most.
    pub async fn rooms(&self, prefix: &str, after: Option<&str>, limit: usize) -> Everywhere<Vec<RoomInfo>> {
        self.node().rooms_with_members(prefix, after, limit).await
    }

    /// Joins every connection that a user has, on all nodes, to a room, whatever the room's rule says; how many are in it
    /// now. A connection that was not in it is told by a `room.joined`. One that he makes later is joined by what his token
    /// and the memberships say, as ever.
    pub async fn join_user(&self, user: &str, room: &RoomId) -> Everywhere<u64> {
        self.node().join_user(user, room).await
    }

    /// Takes every connection that a user has, on all nodes, out of a room, and tells each by a `room.left`; how many
    /// were in it.
    pub async fn leave_user(&self, user: &str, room: &RoomId) -> Everywhere<u64> {
        self.node().leave_user(user, room).await
    }

    /// Closes every connection that a user has, on every node, with 4006; how many there were on this one. A node that
    /// can't be reached now does it when it can be.
    ///
    /// # Errors
    /// [`ControlError`]: this node's are closed.
    pub async fn disconnect_user(&self, user: &str) -> Result<usize, ControlError> {
        self.node().disconnect_user(user, CloseCode::KICKED, "disconnected by the application").await
    }

    /// Takes back every token that a user has until now: his connections are closed with 4001, after which no client
    /// comes back by itself, and a token whose `iat` is not after this second, or that has none, is refused at the
    /// handshake and at `session.refresh` for [`Limits::revocation_age_max`]. How many connections there were on this node.
    ///
    /// It holds for every node, within seconds; one that can't be reached lets nobody in before it knows. If he is not to
    /// come back, stop minting tokens for him first.
    ///
    /// # Errors
    /// [`ControlError`]. Call it again: until it succeeds, the revocation may hold for this node alone, or for none.
    pub async fn revoke_user(&self, user: &str) -> Result<usize, ControlError> {
        self.node().revoke_user(user).await
    }

    /// Takes one token back, by its `jti`: the connections that were made or refreshed with it are closed with 4001 as
    /// soon as each shard has looked through its own, and it is refused like those of [`Hub::revoke_user`], on every node.
    ///
    /// # Errors
    /// As [`Hub::revoke_user`].
    pub async fn revoke_token(&self, jti: &str) -> Result<(), ControlError> {
        self.node().revoke_token(jti).await
    }

    /// The nodes that share rooms with this one, and itself unless it is being drained; alone where it shares none.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`].
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ControlError> {
        self.node().nodes().await
    }

    /// What the hub has counted.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.node().metrics.snapshot()
    }

    /// Counts a limit that the listener in front of the hub was asked to keep, so that [`Hub::metrics`] has them all.
    pub fn count_limit_hit(&self, limit: Limit) {
        self.node().metrics.hit(limit);
    }

    /// Whether new connections are taken, and what is published reaches other nodes, where there are some.
    pub fn is_ready(&self) -> bool {
        !self.node().is_draining() && self.node().broker.is_ready()
    }

    /// Whether it sends everyone away.
    pub fn is_draining(&self) -> bool {
        self.node().is_draining()
    }

    /// Sends everyone away in order: no new handshake is served, every client is told to come back (to another node)
    /// within the window, and is closed with 4200 at a random moment in it. Ends when nobody is left, at the latest
    /// a moment after the window; how many were still there then.
    ///
    /// A server's own graceful shutdown does not see upgraded sockets, so call this first.
    pub async fn drain(&self, window: Duration) -> u64 {
        let node = self.node();
        node.draining.store(true, Ordering::Relaxed);
        node.broker.leave();
        for inbox in &node.inboxes {
            inbox.push(Entry::Drain { window });
        }
        let all_gone = async {
            loop {
                let ended = node.connection_ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if node.metrics.connections.get() == 0 {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(window + 2 * node.limits.close_duration_max, all_gone).await;
        if node.observer.is_some() && !node.broker.is_shared() {
            // The node ends before their graces do, and nobody else knows that they were here.
            node.rooms.end_graces();
        }
        if let Some(settled) = node.broker.settle() {
            // What is not given back by then comes free by itself.
            let _ = tokio::time::timeout(SETTLE_MAX, settled).await;
        }
        node.metrics.connections.get()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("shards", &self.node().inboxes.len()).finish_non_exhaustive()
    }
}
