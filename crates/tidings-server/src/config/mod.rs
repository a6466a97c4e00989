//! The configuration: what may be in it, and what the library makes of it. Its comments are what its schema and
//! docs/configuration.md say of each key; faults are told with their place; secrets are held in a type that does not print.

mod access;
mod api;
mod auth;
mod broker;
mod document;
mod edge;
mod environment;
mod events;
mod fault;
mod files;
mod limits;
mod load;
mod log;
mod memberships;
mod refusal;
mod rooms;
pub(crate) mod schema;
mod secret;
mod shown;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use tidings::{Hub, HubBuilder, Limits, Redis};

use crate::api::Keys;
use crate::failure::{Failure, Failures};
use crate::listen::Edge;
use crate::membership_sql::Settings;
use crate::upstream::UpstreamOptions;
use crate::user_rooms::RoomsOfUsers;
use crate::webhook::{self, Kind, Webhooks};

use access::Who;
use edge::{AddressHeader, Networks, Socket, TlsSection, UpstreamSection};
use files::Files;
use rooms::Room;

pub(crate) use document::Setting;
pub(crate) use fault::nearest;
pub(crate) use load::Sources;
pub(crate) use log::{Log, LogFormat};
pub(crate) use shown::{effective, origins, toml};

/// What `tidings serve` is told by a file, the environment and its options.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tidings")]
pub(crate) struct Config {
    /// Where to listen: an address and a port. Loopback unless it is set, so that nothing is reachable from elsewhere unasked.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// Origins of pages on other hosts that may connect, as `https://app.example`. Pages of the server's own host need no leave.
    #[serde(default)]
    #[schemars(extend("examples" = [["https://app.example"]]))]
    pub(crate) allowed_origins: Vec<String>,
    /// The proxies that are believed when they say for whom they ask: networks, or single addresses. Those on this machine,
    /// if unset.
    #[serde(default)]
    #[schemars(extend("examples" = [["127.0.0.0/8", "10.0.0.0/8"]]))]
    trusted_proxies: Networks,
    /// In which header they say it.
    #[serde(default)]
    #[schemars(extend("default" = "X-Forwarded-For"))]
    client_address_header: AddressHeader,
    /// Threads that serve sockets, each its share of the connections. As many as there are cores, if unset.
    #[schemars(extend("examples" = [4]))]
    pub(crate) shards: Option<NonZeroUsize>,
    /// How long clients have to move to another node at the end.
    #[serde(default = "default_drain_window_seconds")]
    drain_window_seconds: u64,
    /// Whose tokens are believed: one key, several for a rotation, an issuer's key set, or all of these.
    #[serde(default)]
    auth: auth::Auth,
    /// The rules of rooms; the first that fits a room is its rule. A room that none fits does not exist.
    #[serde(default)]
    pub(crate) rooms: Vec<Room>,
    /// What the data of events has to look like. Another event is refused, except where a room takes any.
    #[serde(default)]
    events: Vec<events::Event>,
    #[serde(default)]
    limits: limits::LimitsSection,
    /// What nodes share their rooms through; without it a node is alone.
    #[serde(default)]
    broker: broker::BrokerSection,
    /// What the public listener proves itself with; without it nothing is encrypted.
    tls: Option<TlsSection>,
    #[serde(default)]
    socket: Socket,
    /// The application that has every path that is not Tidings' own; there is none without it.
    upstream: Option<UpstreamSection>,
    #[serde(default)]
    pub(crate) api: api::ApiSection,
    #[serde(default)]
    user_rooms: UserRooms,
    /// Which rooms users belong to, as the application's database knows. Without it their tokens alone say so.
    memberships: Option<memberships::MembershipsSection>,
    /// The backend that is asked and told what happens; none without it.
    webhooks: Option<webhooks::WebhooksSection>,
    /// Metrics and health on a listener of their own; there is none without it.
    pub(crate) admin: Option<Admin>,
    #[serde(default)]
    pub(crate) log: Log,
    /// Where the files are that it names.
    #[serde(skip)]
    files: Files,
}

/// A room of each user's own, in which all his connections are, and which only the application publishes to.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields, default)]
struct UserRooms {
    /// Whether there are such rooms.
    enabled: bool,
    /// What their names begin with, before the user's id.
    prefix: String,
}

impl Default for UserRooms {
    fn default() -> Self {
        Self { enabled: false, prefix: "user:".to_owned() }
    }
}

/// Metrics and health on a listener of their own.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Where to listen. It asks nobody who he is, so it should not be where the public comes.
    #[schemars(extend("examples" = ["127.0.0.1:7778"]))]
    pub(crate) listen: SocketAddr,
    /// What it proves itself with; without it nothing is encrypted.
    tls: Option<TlsSection>,
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7777).into()
}

fn default_drain_window_seconds() -> u64 {
    30
}

/// What a configuration comes to.
pub(crate) struct Parts {
    /// Without a broker.
    pub(crate) hub: HubBuilder,
    pub(crate) limits: Limits,
    /// What the nodes share, if they share anything.
    pub(crate) redis: Option<Redis>,
    /// Those of the API.
    pub(crate) keys: Keys,
    /// If users have rooms of their own.
    pub(crate) rooms_of_users: Option<RoomsOfUsers>,
    /// What the memberships are made of; none if no database knows them.
    pub(crate) memberships: Option<Settings>,
    /// The backend that is asked and told, if there is one.
    pub(crate) webhooks: Option<webhook::Settings>,
    /// What is between a client's bytes and the routes.
    pub(crate) edge: Edge,
    /// The same of the listener for operators, who come by no proxy.
    pub(crate) admin_edge: Edge,
    /// The application behind this port, if there is one.
    pub(crate) upstream: Option<UpstreamOptions>,
}

impl Config {
    /// All that a server is made of: keys, schemas and certificates read, rules and limits checked, nothing started.
    ///
    /// With the webhooks that were started from it, once they are: rooms and events that have to be asked about are no
    /// one's until then.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn parts(&self, of_machine: Limits, started: Option<&Webhooks>) -> Result<Parts, Failure> {
        let mut failures = Failures::default();
        let limits = self.limits(of_machine);
        let verifier = failures.take(self.auth.verifier(&self.files));
        let has_verifier = verifier.is_some();
        let mut hub = Hub::builder().limits(limits.clone());
        hub = verifier.into_iter().fold(hub, |hub, verifier| hub.authenticate(verifier));
        hub = self.shards.into_iter().fold(hub, |hub, shards| hub.shards(shards.get()));
        hub = self.allowed_origins.iter().fold(hub, |hub, origin| hub.allow_origin(origin));
        let rooms_of_users = failures.take(self.rooms_of_users()).flatten();
        if let Some(rooms) = &rooms_of_users {
            // Before the others, so that no wider pattern lets anybody else in.
            hub = hub.rule(rooms.rule());
        }
        hub = self.rooms.iter().map(|room| room.rules_with(started)).fold(hub, HubBuilder::rule);
        for (index, event) in self.events.iter().enumerate() {
            if let Some(declaration) = failures.take(event.declaration(index, &self.files)) {
                hub = declaration.declare(hub, &event.name);
                hub = match started.filter(|_| event.webhook) {
                    Some(webhooks) => webhooks.serve_event(hub, &event.name),
                    None => hub,
                };
            }
        }
        // Where `[auth]` is wrong, what comes of its secret would only be told the same.
        let secret = has_verifier.then(|| failures.take(self.secret()).flatten());
        let keys = secret.and_then(|secret| failures.take(self.api.keys(secret.as_ref(), &self.files)));
        let memberships = self.memberships.as_ref().map(|section| section.settings(&self.files));
        let memberships = failures.take(memberships.transpose()).flatten();
        let certified = |section: Option<&TlsSection>, name| {
            section.map(|section| section.tls(name, &self.files)).transpose()
        };
        let tls = failures.take(certified(self.tls.as_ref(), "tls")).flatten();
        let of_admin = self.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        let admin_tls = failures.take(certified(of_admin, "admin.tls")).flatten();
        let proxies = self.trusted_proxies.proxies(self.client_address_header);
        let edge = Edge { tls, proxies, ..Edge::default() };
        let admin_edge = Edge { tls: admin_tls, ..Edge::default() };
        let upstream = self.upstream.as_ref().map(UpstreamSection::options).transpose();
        let upstream = failures.take(upstream).flatten();
        rooms::check_reached(&self.rooms, &mut failures);
        self.check_asked(&mut failures);
        self.check_listeners(&mut failures);
        let webhooks = self.webhooks.as_ref().filter(|_| has_verifier);
        let webhooks = webhooks.map(|section| section.settings(&self.files, || self.secret()));
        let webhooks = failures.take(webhooks.transpose()).flatten();
        let redis = failures.take(self.broker.redis(&self.files)).flatten();
        if let Some(fault) = self.log.fault() {
            failures.add(
                Failure::config(fault)
                    .key("log.level")
                    .fix("error, warn, info, debug or trace; or parts, as tidings=debug,warn"),
            );
        }
        let hub = match hub.check() {
            Ok(hub) => Some(hub),
            Err(refusals) => {
                for refusal in &refusals {
                    // Who could not be asked for is told already.
                    if has_verifier || !matches!(refusal, tidings::BuildError::NoAuthentication) {
                        failures.add(self.refused(refusal, &limits));
                    }
                }
                None
            }
        };
        match (failures.into_failure(), hub, keys) {
            (None, Some(hub), Some(keys)) => Ok(Parts {
                hub,
                limits,
                redis,
                keys,
                rooms_of_users,
                memberships,
                webhooks,
                edge,
                admin_edge,
                upstream,
            }),
            (Some(failure), ..) => Err(failure),
            (None, ..) => Err(Failure::config("the hub can't be built")),
        }
    }

    /// For whom its tokens are.
    pub(crate) fn audience(&self) -> &str {
        self.auth.audience()
    }

    /// The secret that signs the tokens, where there is one.
    ///
    /// # Errors
    /// When its file can't be read.
    pub(crate) fn secret(&self) -> Result<Option<SecretString>, Failure> {
        self.auth.shared_secret(&self.files)
    }

    /// Whether the backend is asked for whatever a room or an event wants it to be asked.
    fn check_asked(&self, failures: &mut Failures) {
        let sends = |kind| self.webhooks.as_ref().is_some_and(|section| section.asks(kind));
        for (index, room) in self.rooms.iter().enumerate() {
            let mut wrong = |key: &str, fix: &str| {
                failures.add(
                    Failure::config(format_args!("[[rooms]] {:?} has {key} = \"webhook\"", room.pattern))
                        .key(format_args!("rooms[{index}].{key}"))
                        .fix(fix),
                );
            };
            if matches!(room.publish, Some(Who::Webhook)) {
                wrong(
                    "publish",
                    "give the events that have to be asked about webhook = true in their [[events]]",
                );
            }
            if matches!(room.join, Some(Who::Webhook)) && !sends(Kind::Join) {
                wrong("join", "add \"join\" to the events of [webhooks]");
            }
        }
        for (index, event) in self.events.iter().enumerate() {
            if event.webhook && !sends(Kind::Event) {
                failures.add(
                    Failure::config(format_args!("[[events]] {:?} has webhook = true", event.name))
                        .key(format_args!("events[{index}].webhook"))
                        .fix("add \"event\" to the events of [webhooks]"),
                );
            }
        }
    }

    /// Whether both listeners can be at once.
    fn check_listeners(&self, failures: &mut Failures) {
        let Some(admin) = self.admin.as_ref().map(|admin| admin.listen) else { return };
        let (ours, theirs) = (self.listen.ip(), admin.ip());
        let is_all_of = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let meet = ours == theirs || is_all_of(ours, theirs) || is_all_of(theirs, ours);
        if admin.port() != 0 && admin.port() == self.listen.port() && meet {
            failures.add(
                Failure::config(format_args!("[admin] listens at {admin}, where the public listener is"))
                    .key("admin.listen")
                    .fix("give it a port of its own: listen = \"127.0.0.1:7778\""),
            );
        }
    }

    /// The directory of the outbox.
    ///
    /// # Errors
    /// When there are no webhooks.
    pub(crate) fn outbox(&self) -> Result<PathBuf, Failure> {
        self.webhooks.as_ref().map(|section| section.outbox(&self.files)).ok_or_else(|| {
            Failure::config("there is no [webhooks], and so no outbox")
                .fix("name the server's configuration with --config")
        })
    }

    /// The rooms of users, where they are on.
    fn rooms_of_users(&self) -> Result<Option<RoomsOfUsers>, Failure> {
        if !self.user_rooms.enabled {
            return Ok(None);
        }
        let prefix = &self.user_rooms.prefix;
        RoomsOfUsers::named(prefix).map(Some).ok_or_else(|| {
            Failure::config(format_args!("[user_rooms] no room's name begins with {prefix:?}"))
                .key("user_rooms.prefix")
                .fix("prefix = \"user:\", or other letters, digits and _ . : -")
        })
    }

    /// The limits of this machine, unless the configuration says otherwise.
    pub(crate) fn limits(&self, of_machine: Limits) -> Limits {
        let mut limits = of_machine;
        self.limits.apply(&mut limits);
        limits
    }

    /// Where the WebSocket is.
    pub(crate) fn socket_path(&self) -> &str {
        &self.socket.path.0
    }

    /// How long clients have to move to another node at the end.
    pub(crate) fn drain_window(&self) -> Duration {
        Duration::from_secs(self.drain_window_seconds)
    }
}

#[cfg(test)]
mod tests {
    use tidings::protocol::limits::ConnectionLimitPolicy;

    use super::*;

    fn parse(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_whole_file() {
        let config = parse(
            r#"
            listen = "0.0.0.0:8080"
            allowed_origins = ["https://app.example"]
            shards = 3
            drain_window_seconds = 7
            [auth]
            secret = "0123456789abcdef0123456789abcdef"
            audience = "app"
            [[rooms]]
            pattern = "chat:*"
            join = "anyone"
            publish = "members"
            presence = false
            ephemeral = ["typing.*", "cursor"]
            any_event = true
            history_events = 100
            history_seconds = 60
            [[rooms]]
            pattern = "news"
            publish = "nobody"
            overflow = "conflate"
            key = "/host"
            retain = true
            replay_events = 50
            presence = "counts"
            [[events]]
            name = "image"
            binary = true
            [limits]
            text_message_bytes_max = 1024
            heartbeat_seconds = 10
            presence_grace_seconds = 0
            presence_batch_from = 7
            presence_batch_interval_milliseconds = 500
            connections_per_user_policy = "close_oldest"
            [broker]
            url = "redis://ann:a-password-of-redis@127.0.0.1:6380"
            prefix = "shop"
            connections = 3
            lineage = "none"
            [admin]
            listen = "127.0.0.1:7778"
            [log]
            format = "human"
            level = "tidings=debug,warn"
            "#,
        );
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.rooms.len(), 2);
        assert_eq!(config.shards.map(NonZeroUsize::get), Some(3));
        assert_eq!(config.admin.as_ref().map(|admin| admin.listen.port()), Some(7778));
        assert_eq!(config.drain_window(), Duration::from_secs(7));
        assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Human, "tidings=debug,warn"));
        let mut of_machine = Limits::default();
        of_machine.connections_per_node_max = 77;
        let Parts { limits, redis, .. } = config.parts(of_machine, None).unwrap();
        assert_eq!(limits.connections_per_user_policy, ConnectionLimitPolicy::CloseOldest);
        assert_eq!(limits.text_message_bytes_max, 1024);
        assert_eq!(limits.heartbeat, Duration::from_secs(10));
        assert_eq!(limits.presence_grace, Duration::ZERO);
        assert_eq!(
            (limits.presence_batch_from, limits.presence_batch_interval),
            (7, Duration::from_millis(500))
        );
        assert_eq!(limits.connections_per_node_max, 77);
        assert_eq!(limits.silence_max, Limits::default().silence_max);
        assert!(redis.is_some());
        let printed = format!("{config:?}");
        assert!(
            !printed.contains("0123456789abcdef") && !printed.contains("a-password"),
            "a secret does not print"
        );
    }

    #[test]
    fn a_brokers_certificates_are_read_from_their_files() {
        let fault = |section: &str| {
            let section: Result<broker::BrokerSection, _> = toml::from_str(section);
            let files = Files::of(Some(std::path::Path::new("nowhere/tidings.toml")), None);
            section.unwrap().redis(&files).unwrap_err().texts().concat()
        };
        let missing = fault("url = \"rediss+cluster://a,b\"\nca_file = \"ca.pem\"");
        assert!(missing.contains("broker.ca_file nowhere/ca.pem"), "{missing}");
        let alone = fault("url = \"rediss://a\"\nkey_file = \"a.key\"");
        assert!(alone.contains("go together"), "{alone}");
        let none = fault("url = \"rediss://a\"\nca_file = \"/dev/null\"");
        assert!(none.contains("broker.ca_file: ") && none.contains("there is none in it"), "{none}");
    }
}
