//! What to ask of which server.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

/// The server.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the handshake's `Host` says.
    pub host: String,
}

impl Target {
    /// From `ws://host:port`; whatever path follows is the dialect's.
    ///
    /// # Errors
    /// When it is no such URL, or the host has no address.
    pub fn parse(url: &str) -> Result<Self, PlanError> {
        let wrong = |why: &str| PlanError::Url(url.to_owned(), why.to_owned());
        let rest = url.strip_prefix("ws://").ok_or_else(|| wrong("it begins with ws://"))?;
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?;
        let address = addresses.next().ok_or_else(|| wrong("the host has no address"))?;
        Ok(Self { address, host: host.to_owned() })
    }
}

/// How much, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rooms.
    pub rooms: usize,
    /// What their names begin with.
    pub room_prefix: String,
    /// Subscribers of each.
    pub subscribers: usize,
    /// Bytes of a message's data, quotes included.
    pub bytes: usize,
    /// Publishes of a room that not everyone has got yet, or requests of a client without an answer.
    pub outstanding: usize,
    /// Publishes a second in all, instead of as many as can be.
    pub rate: Option<f64>,
    /// Connections of the cases that count those.
    pub connections: usize,
    /// Of all subscribers, the share that stops to read.
    pub stopped: f64,
    /// Before anything is measured.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
    /// The server's process, to read its CPU and memory.
    pub pid: Option<u32>,
    /// Only name this thread family's busy times besides (`tidings-shard`).
    pub threads: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rooms: 1,
            room_prefix: "r".to_owned(),
            subscribers: 1000,
            bytes: 128,
            outstanding: 8,
            rate: None,
            connections: 64,
            stopped: 0.0,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(3),
            pid: None,
            threads: None,
        }
    }
}

impl Plan {
    /// A room's name.
    pub fn room(&self, index: usize) -> String {
        format!("{}{index}", self.room_prefix)
    }

    /// What every message carries: so long that with its quotes it takes [`Plan::bytes`].
    pub fn payload(&self) -> String {
        "x".repeat(self.bytes.saturating_sub(2))
    }
}

/// Why there is nothing to run.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// Not a URL that this can connect to.
    Url(String, String),
    /// No such dialect.
    NoDialect(String),
    /// The dialect needs a key for its tokens.
    NoKey,
    /// The key is none.
    Key(String),
    /// The dialect has no requests.
    NoRequests,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, why) => write!(f, "{url:?} can't be used: {why}"),
            Self::NoDialect(name) => {
                write!(
                    f,
                    "there is no dialect {name:?}: tidings, plain, socketio, centrifuge, nats, nchan, pusher"
                )
            }
            Self::NoKey => f.write_str("tokens need a key: --secret-file or --es256-key-file"),
            Self::Key(why) => write!(f, "the key can't be used: {why}"),
            Self::NoRequests => f.write_str("this dialect has no requests with answers"),
        }
    }
}

impl std::error::Error for PlanError {}
