//! The configuration file: what may be in it, and what the library makes of it. Faults are told with file, line and
//! column; secrets are held in a type that does not print.

mod access;
mod auth;
mod broker;
mod edge;
mod events;
mod fault;
mod limits;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidings::{BuildError, HubBuilder, Limits, Overflow, Presence, Redis, RoomRules};

use crate::failure::Failure;
use crate::listen::Edge;
use crate::upstream::UpstreamOptions;

use access::Who;
use auth::Verifier;
use edge::{AddressHeader, Networks, Socket, TlsSection, UpstreamSection};

/// A whole file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to listen. 127.0.0.1:7777, so that nothing is reachable from elsewhere unasked.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// Origins of pages on other hosts, like `https://app.example`.
    #[serde(default)]
    pub(crate) allowed_origins: Vec<String>,
    /// The proxies that are believed when they say for whom they ask. Those on this machine, if unset.
    #[serde(default)]
    trusted_proxies: Networks,
    /// In which header they say it.
    #[serde(default)]
    client_address_header: AddressHeader,
    /// How many shards, each a thread of its own. As many as there are cores, if unset.
    pub(crate) shards: Option<NonZeroUsize>,
    auth: auth::Auth,
    /// The rules of rooms; the first that fits a room is its rule. A room that none fits does not exist.
    #[serde(default)]
    pub(crate) rooms: Vec<Room>,
    /// What the data of events has to look like. Another event is refused, except where a room takes any.
    #[serde(default)]
    events: Vec<events::Event>,
    #[serde(default)]
    limits: limits::LimitsSection,
    /// What nodes share rooms through; without it a node is alone.
    #[serde(default)]
    broker: broker::BrokerSection,
    /// What the public listener proves itself with; without it nothing is encrypted.
    tls: Option<TlsSection>,
    #[serde(default)]
    socket: Socket,
    /// The application that has every path that is not Tidings' own; there is none without it.
    upstream: Option<UpstreamSection>,
    /// The listener for operators; there is none without it.
    pub(crate) admin: Option<Admin>,
    /// Where the file is: paths in it are relative to its directory.
    #[serde(skip)]
    path: PathBuf,
}

/// `[admin]`: metrics and health on a listener of their own.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Where to listen. It asks nobody who he is, so it should not be where the public comes.
    pub(crate) listen: SocketAddr,
    tls: Option<TlsSection>,
}

/// One `[[rooms]]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Room {
    pattern: String,
    join: Option<Who>,
    publish: Option<Who>,
    presence: Option<Told>,
    #[serde(default)]
    ephemeral: Vec<String>,
    #[serde(default)]
    any_event: bool,
    history_events: Option<usize>,
    history_seconds: Option<u64>,
    history_bytes: Option<usize>,
    replay_events: Option<usize>,
    overflow: Option<Slow>,
    key: Option<String>,
    #[serde(default)]
    retain: bool,
}

/// What becomes of a member that reads too slowly.
#[derive(Clone, Copy, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Slow {
    Disconnect,
    DropOldest,
    Conflate,
}

/// What members are told of each other: `true`, `false`, or `"counts"`.
#[derive(Clone, Copy, Deserialize, Debug)]
#[serde(untagged, expecting = "expected true, false or \"counts\"")]
enum Told {
    Switch(bool),
    Word(ToldWord),
}

#[derive(Clone, Copy, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum ToldWord {
    Counts,
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7777).into()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// A configuration's failure that names the place and, for a key that does not exist, the one that was meant.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::config(format_args!("{}: {error}", path.display()))
                .fix("name the file with --config, or run tidings dev, which needs none")
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| fault::failure(path, &text, &error))?;
        Ok(Self { path: path.to_owned(), ..config })
    }

    /// Who verifies the tokens.
    ///
    /// # Errors
    /// When there is no key, or one can't be read or is none.
    pub(crate) fn verifier(&self) -> Result<Verifier, Failure> {
        self.auth.verifier(&self.path)
    }

    /// The rooms' rules, in their order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = RoomRules> + '_ {
        self.rooms.iter().map(Room::rules)
    }

    /// Tells the hub of the events.
    ///
    /// # Errors
    /// When one has not exactly one of a schema and `binary`, or its schema is not to be read.
    pub(crate) fn declare_events(&self, hub: HubBuilder) -> Result<HubBuilder, Failure> {
        self.events.iter().try_fold(hub, |hub, event| event.declare(hub, &self.path))
    }

    /// The Redis of the file, or of the command line; none if neither names one.
    ///
    /// # Errors
    /// When it can't be addressed as it says, or a certificate's file is none.
    pub(crate) fn redis(&self, url: Option<&str>) -> Result<Option<Redis>, Failure> {
        self.broker.redis(url, &self.path)
    }

    /// The public listener's edge.
    ///
    /// # Errors
    /// When a file of `[tls]` is not what it is said to be.
    pub(crate) fn edge(&self) -> Result<Edge, Failure> {
        Ok(Edge {
            tls: self.tls.as_ref().map(|tls| tls.tls("[tls]", &self.path)).transpose()?,
            proxies: self.trusted_proxies.proxies(self.client_address_header),
            ..Edge::default()
        })
    }

    /// That of the listener for operators, who come by no proxy.
    ///
    /// # Errors
    /// When a file of `[admin.tls]` is not what it is said to be.
    pub(crate) fn admin_edge(&self) -> Result<Edge, Failure> {
        let tls = self.admin.as_ref().and_then(|admin| admin.tls.as_ref());
        Ok(Edge { tls: tls.map(|tls| tls.tls("[admin.tls]", &self.path)).transpose()?, ..Edge::default() })
    }

    /// Where the WebSocket is.
    pub(crate) fn socket_path(&self) -> &str {
        &self.socket.path.0
    }

    /// The application behind this port, that of the command line before the file's; none if neither names one.
    ///
    /// # Errors
    /// When its URL is none.
    pub(crate) fn upstream(&self, url: Option<&str>) -> Result<Option<UpstreamOptions>, Failure> {
        UpstreamSection::options(self.upstream.as_ref(), url)
    }

    /// Why the hub was not built: a schema's fault names its file.
    pub(crate) fn failure(&self, error: &BuildError) -> Failure {
        if let BuildError::Schema(name, fault) = error
            && let Some(event) = self.events.iter().find(|event| event.name == *name)
        {
            return event.unusable(fault, &self.path);
        }
        Failure::config(format_args!("{}: {error}", self.path.display()))
    }

    /// The limits of this machine, unless the file says otherwise.
    pub(crate) fn limits(&self, of_machine: Limits) -> Limits {
        let mut limits = of_machine;
        self.limits.apply(&mut limits);
        limits
    }
}

impl Room {
    /// What is not said is as the library has it: members join, nobody publishes.
    fn rules(&self) -> RoomRules {
        let mut rules = RoomRules::new(self.pattern.as_str());
        if let Some(who) = &self.join {
            rules = rules.join(who.access());
        }
        if let Some(who) = &self.publish {
            rules = rules.publish(who.access());
        }
        if let Some(told) = self.presence {
            rules = rules.presence(told);
        }
        for pattern in &self.ephemeral {
            rules = rules.ephemeral(pattern.as_str());
        }
        if self.any_event {
            rules = rules.any_event();
        }
        if let Some(events) = self.history_events {
            rules = rules.history_events(events);
        }
        if let Some(seconds) = self.history_seconds {
            rules = rules.history_age(Duration::from_secs(seconds));
        }
        if let Some(bytes) = self.history_bytes {
            rules = rules.history_bytes(bytes);
        }
        if let Some(events) = self.replay_events {
            rules = rules.replay_events(events);
        }
        if let Some(slow) = self.overflow {
            rules = rules.overflow(slow.into());
        }
        if let Some(pointer) = &self.key {
            rules = rules.key(pointer.as_str());
        }
        if self.retain {
            rules = rules.retain();
        }
        rules
    }
}

impl From<Slow> for Overflow {
    fn from(slow: Slow) -> Self {
        match slow {
            Slow::Disconnect => Self::Disconnect,
            Slow::DropOldest => Self::DropOldest,
            Slow::Conflate => Self::Conflate,
        }
    }
}

impl From<Told> for Presence {
    fn from(told: Told) -> Self {
        match told {
            Told::Switch(on) => on.into(),
            Told::Word(ToldWord::Counts) => Self::Counts,
        }
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
            [socket]
            path = "/live"
            [upstream]
            url = "http://127.0.0.1:3000"
            "#,
        );
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.rules().count(), 2);
        assert_eq!(config.shards.map(NonZeroUsize::get), Some(3));
        assert_eq!(config.admin.as_ref().map(|admin| admin.listen.port()), Some(7778));
        let mut of_machine = Limits::default();
        of_machine.connections_per_node_max = 77;
        let limits = config.limits(of_machine);
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
        assert!(config.declare_events(tidings::Hub::builder()).is_ok());
        assert!(config.verifier().is_ok());
        assert!(config.redis(None).unwrap().is_some());
        assert_eq!(config.socket_path(), "/live");
        assert!(config.upstream(None).unwrap().is_some() && config.edge().unwrap().tls.is_none());
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
            format!("{:?}", section.unwrap().redis(None, Path::new("nowhere/tidings.toml")).unwrap_err())
        };
        let missing = fault("url = \"rediss+cluster://a,b\"\nca_file = \"ca.pem\"");
        assert!(missing.contains("broker.ca_file nowhere/ca.pem"), "{missing}");
        let alone = fault("url = \"rediss://a\"\nkey_file = \"a.key\"");
        assert!(alone.contains("go together"), "{alone}");
        let none = fault("url = \"rediss://a\"\nca_file = \"/dev/null\"");
        assert!(none.contains("broker.ca_file: ") && none.contains("there is none in it"), "{none}");
    }

    #[test]
    fn presence_is_on_off_or_a_number() {
        let told = |value: &str| {
            let room: Result<Room, _> = toml::from_str(&format!("pattern = \"a\"\npresence = {value}"));
            room.map(|room| room.presence.map(Presence::from))
        };
        assert_eq!(told("true").unwrap(), Some(Presence::On));
        assert_eq!(told("false").unwrap(), Some(Presence::Off));
        assert_eq!(told("\"counts\"").unwrap(), Some(Presence::Counts));
        for wrong in ["\"count\"", "1"] {
            let error = told(wrong).unwrap_err().to_string();
            assert!(error.contains("expected true, false or \"counts\""), "{error}");
        }
    }
}
