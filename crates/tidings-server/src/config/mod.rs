//! The configuration file: what may be in it, and what the library makes of it. Faults are told with file, line and
//! column; secrets are held in a type that does not print.

mod fault;
mod limits;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::auth::Jwt;
use tidings::{Access, Limits, RoomRules};

use crate::failure::Failure;

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
    auth: Auth,
    /// The rules of rooms; the first that fits a room is its rule. A room that none fits does not exist.
    #[serde(default)]
    pub(crate) rooms: Vec<Room>,
    #[serde(default)]
    limits: limits::LimitsSection,
    /// Where the file is: paths in it are relative to its directory.
    #[serde(skip)]
    path: PathBuf,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Auth {
    /// The secret itself, of at least 32 bytes. `secret_file` keeps it out of this file.
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    #[serde(default = "default_audience")]
    audience: String,
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

#[derive(Clone, Copy, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Who {
    Anyone,
    Members,
    Nobody,
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 7777).into()
}

fn default_audience() -> String {
    "tidings".to_owned()
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
    /// When there is not exactly one secret, or it can't be read or is too short.
    pub(crate) fn jwt(&self) -> Result<Jwt, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::config(format_args!("{}: [auth] {what}", self.path.display()))
        };
        let from_file;
        let secret = match (&self.auth.secret, &self.auth.secret_file) {
            (Some(secret), None) => secret,
            (None, Some(file)) => {
                from_file = self.read_secret(file)?;
                &from_file
            }
            (Some(_), Some(_)) => {
                return Err(wrong(&"has both secret and secret_file").fix("keep secret_file"));
            }
            (None, None) => {
                let fix = "openssl rand -hex 32 > tidings.secret, and secret_file = \"tidings.secret\"";
                return Err(wrong(&"has neither secret nor secret_file").fix(fix));
            }
        };
        let jwt = Jwt::hs256(secret.expose_secret().as_bytes()).map_err(|error| wrong(&error))?;
        Ok(jwt.audience(self.auth.audience.as_str()))
    }

    fn read_secret(&self, file: &Path) -> Result<SecretString, Failure> {
        let file = self.path.parent().unwrap_or(Path::new("")).join(file);
        let text = std::fs::read_to_string(&file).map(SecretString::from).map_err(|error| {
            let message = format!("{}: [auth] secret_file {}: {error}", self.path.display(), file.display());
            Failure::config(message)
                .fix("name a file that this user can read; the path is relative to the configuration")
        })?;
        // Editors and `openssl rand` end a file with a line break that no backend has in its copy of the secret.
        Ok(SecretString::from(text.expose_secret().trim_end_matches(['\r', '\n'])))
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
        if let Some(who) = self.join {
            rules = rules.join(who.into());
        }
        if let Some(who) = self.publish {
            rules = rules.publish(who.into());
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

impl From<Who> for Access {
    fn from(who: Who) -> Self {
        match who {
            Who::Anyone => Self::Anyone,
            Who::Members => Self::Members,
            Who::Nobody => Self::Nobody,
        }
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
        let limits = config.limits(77);
        assert_eq!(limits.text_message_bytes_max, 1024);
        assert_eq!(limits.heartbeat, Duration::from_secs(10));
        assert_eq!(limits.presence_grace, Duration::ZERO);
        assert_eq!(limits.connections_per_node_max, 77);
        assert_eq!(limits.silence_max, Limits::default().silence_max);
        assert!(config.jwt().is_ok());
        assert!(!format!("{config:?}").contains("0123456789abcdef"), "a secret does not print");
    }

    #[test]
    fn there_is_exactly_one_secret() {
        let both = parse("[auth]\nsecret = '0123456789abcdef0123456789abcdef'\nsecret_file = 'x'");
        assert!(both.jwt().is_err());
        assert!(parse("[auth]").jwt().is_err());
        assert!(parse("[auth]\nsecret = 'short'").jwt().is_err());
    }

    #[test]
    fn a_secret_file_is_found_beside_the_configuration_and_loses_its_line_break() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let path = directory.path().join("tidings.toml");
        std::fs::write(&path, "[auth]\nsecret_file = 'key'").unwrap();
        let config = Config::read(&path).unwrap();
        let token = tidings::auth::mint_hs256(
            b"0123456789abcdef0123456789abcdef",
            &serde_json::json!({"sub": "ada", "aud": "tidings", "exp": 100}),
        );
        assert!(config.jwt().unwrap().verify(&token.unwrap(), 50).is_ok());
    }
}
