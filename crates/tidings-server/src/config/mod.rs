//! The configuration file: what may be in it, and what the library makes of it. Faults are told with file, line and
//! column; secrets are held in a type that does not print.

mod access;
mod auth;
mod broker;
mod events;
mod fault;
mod limits;
mod webhooks;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidings::{BuildError, HubBuilder, Limits, Overflow, Presence, Redis, RoomRules};

use crate::failure::Failure;
use crate::webhook::{self, Kind, Webhooks};

use access::Who;
use auth::Verifier;

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
    /// The backend that is asked and told; none without it.
    webhooks: Option<webhooks::WebhooksSection>,
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
    pub(crate) fn rules<'a>(
        &'a self,
        webhooks: Option<&'a Webhooks>,
    ) -> impl Iterator<Item = RoomRules> + 'a {
        self.rooms.iter().map(move |room| match (&room.join, webhooks) {
            (Some(Who::Webhook), Some(webhooks)) => webhooks.asked_to_join(room.rules()),
            _ => room.rules(),
        })
    }

    /// The webhooks, if there are some.
    ///
    /// # Errors
    /// When there is no key to sign them with, or a room or an event wants one that is not sent.
    pub(crate) fn webhooks(&self) -> Result<Option<webhook::Settings>, Failure> {
        let sends = |kind| self.webhooks.as_ref().is_some_and(|section| section.asks(kind));
        let wrong = |what: &dyn std::fmt::Display, fix| {
            Err(Failure::config(format_args!("{}: {what}", self.path.display())).fix(fix))
        };
        if let Some(room) = self.rooms.iter().find(|room| matches!(room.publish, Some(Who::Webhook))) {
            let fix = "give the events that have to be asked about webhook = true in their [[events]]";
            return wrong(&format_args!("[[rooms]] {:?} has publish = \"webhook\"", room.pattern), fix);
        }
        let asks_to_join = |room: &&Room| matches!(room.join, Some(Who::Webhook));
        if let Some(room) = self.rooms.iter().find(asks_to_join).filter(|_| !sends(Kind::Join)) {
            let fix = "add \"join\" to the events of [webhooks]";
            return wrong(&format_args!("[[rooms]] {:?} has join = \"webhook\"", room.pattern), fix);
        }
        if let Some(event) = self.events.iter().find(|event| event.webhook).filter(|_| !sends(Kind::Event)) {
            let fix = "add \"event\" to the events of [webhooks]";
            return wrong(&format_args!("[[events]] {:?} has webhook = true", event.name), fix);
        }
        let Some(section) = &self.webhooks else { return Ok(None) };
        section.settings(&self.path, || self.auth.shared_secret(&self.path)).map(Some)
    }

    /// The directory of the outbox.
    ///
    /// # Errors
    /// When there are no webhooks.
    pub(crate) fn outbox(&self) -> Result<PathBuf, Failure> {
        self.webhooks.as_ref().map(|section| section.outbox(&self.path)).ok_or_else(|| {
            Failure::config(format_args!("{} has no [webhooks], and so no outbox", self.path.display()))
                .fix("name the server's configuration with --config")
        })
    }

    /// Tells the hub of the events.
    ///
    /// # Errors
    /// When one has not exactly one of a schema and `binary`, or its schema is not to be read.
    pub(crate) fn declare_events(
        &self,
        hub: HubBuilder,
        webhooks: Option<&Webhooks>,
    ) -> Result<HubBuilder, Failure> {
        self.events.iter().try_fold(hub, |hub, event| event.declare(hub, &self.path, webhooks))
    }

    /// The Redis of the file, or of the command line; none if neither names one.
    ///
    /// # Errors
    /// When it can't be addressed as it says, or a certificate's file is none.
    pub(crate) fn redis(&self, url: Option<&str>) -> Result<Option<Redis>, Failure> {
        self.broker.redis(url, &self.path)
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
            "#,
        );
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.rules(None).count(), 2);
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
        assert!(config.declare_events(tidings::Hub::builder(), None).is_ok());
        assert!(config.verifier().is_ok());
        assert!(config.redis(None).unwrap().is_some());
        let printed = format!("{config:?}");
        assert!(
            !printed.contains("0123456789abcdef") && !printed.contains("a-password"),
            "a secret does not print"
        );
    }

    #[test]
    fn what_asks_a_webhook_needs_one() {
        let webhooks = "[webhooks]\nurl = 'http://127.0.0.1:1/'\nevents = ['connect']\n";
        let auth = "[auth]\nsecret = '0123456789abcdef0123456789abcdef'\n";
        let join = "[[rooms]]\npattern = 'a'\njoin = 'webhook'\n";
        let publish = "[[rooms]]\npattern = 'a'\npublish = 'webhook'\n";
        let event = "[[events]]\nname = 'a'\nwebhook = true\n";
        assert!(parse(&format!("{auth}{webhooks}")).webhooks().unwrap().is_some());
        assert!(parse(auth).webhooks().unwrap().is_none());
        for (wrong, fix) in [
            (format!("{auth}{join}"), "add \\\"join\\\""),
            (format!("{auth}{join}{webhooks}"), "add \\\"join\\\""),
            (format!("{auth}{event}{webhooks}"), "add \\\"event\\\""),
            (format!("{auth}{publish}{webhooks}"), "webhook = true"),
            (format!("[auth]\njwks_url = 'https://a.example/'\n{webhooks}"), "secret_file"),
        ] {
            let told = format!("{:?}", parse(&wrong).webhooks().err().unwrap());
            assert!(told.contains(fix), "{wrong}: {told}");
        }
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
