//! The configuration file: what may be in it, and what the library makes of it. Faults are told with file, line and
//! column; secrets are held in a type that does not print.

mod access;
mod auth;
mod fault;
mod limits;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidings::{Limits, RoomRules};

use crate::failure::Failure;

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
    #[serde(default)]
    limits: limits::LimitsSection,
    /// Where the file is: paths in it are relative to its directory.
    #[serde(skip)]
    path: PathBuf,
}

/// One `[[rooms]]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Room {
    pattern: String,
    join: Option<Who>,
    publish: Option<Who>,
    presence: Option<bool>,
    #[serde(default)]
    ephemeral: Vec<String>,
    history_events: Option<usize>,
    history_seconds: Option<u64>,
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

    /// The limits, with room for so many connections unless the file says otherwise.
    pub(crate) fn limits(&self, connections_per_node_max: usize) -> Limits {
        let mut limits = Limits::default();
        limits.connections_per_node_max = connections_per_node_max;
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
        if let Some(on) = self.presence {
            rules = rules.presence(on);
        }
        for pattern in &self.ephemeral {
            rules = rules.ephemeral(pattern.as_str());
        }
        if let Some(events) = self.history_events {
            rules = rules.history_events(events);
        }
        if let Some(seconds) = self.history_seconds {
            rules = rules.history_age(Duration::from_secs(seconds));
        }
        rules
    }
}

#[cfg(test)]
mod tests {
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
            history_events = 100
            history_seconds = 60
            [[rooms]]
            pattern = "news"
            publish = "nobody"
            [limits]
            text_message_bytes_max = 1024
            heartbeat_seconds = 10
            presence_grace_seconds = 0
            "#,
        );
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.rules().count(), 2);
        assert_eq!(config.shards.map(NonZeroUsize::get), Some(3));
        let limits = config.limits(77);
        assert_eq!(limits.text_message_bytes_max, 1024);
        assert_eq!(limits.heartbeat, Duration::from_secs(10));
        assert_eq!(limits.presence_grace, Duration::ZERO);
        assert_eq!(limits.connections_per_node_max, 77);
        assert_eq!(limits.silence_max, Limits::default().silence_max);
        assert!(config.verifier().is_ok());
        assert!(!format!("{config:?}").contains("0123456789abcdef"), "a secret does not print");
    }
}
