//! `[broker]`: what nodes share their rooms through.

use std::num::NonZeroUsize;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::Redis;

use crate::failure::Failure;

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSection {
    /// `redis://[user:password@]host[:port][/db]`. Secret, because a password may be in it.
    url: Option<SecretString>,
    /// What the names of all keys and channels begin with.
    prefix: Option<String>,
    /// Connections of a node, each with its share of the rooms.
    connections: Option<NonZeroUsize>,
    #[serde(default)]
    lineage: Lineage,
}

/// By what a fork of a room's log is told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Lineage {
    /// The server's replication id.
    #[default]
    ReplicationId,
    /// Nothing: for servers that don't tell theirs. One event id may name two events after a failover that lost some.
    None,
}

impl BrokerSection {
    /// The Redis of the file, or of the command line; none if neither names one.
    ///
    /// # Errors
    /// When the address or the prefix is none.
    pub(crate) fn redis(&self, url: Option<&str>) -> Result<Option<Redis>, Failure> {
        let Some(url) = url.or(self.url.as_ref().map(SecretString::expose_secret)) else { return Ok(None) };
        let mut redis =
            Redis::new(url).map_err(|error| Failure::config(format_args!("broker.url: {error}")))?;
        if let Some(prefix) = &self.prefix {
            redis = redis
                .prefix(prefix)
                .map_err(|error| Failure::config(format_args!("broker.prefix: {error}")))?;
        }
        if let Some(connections) = self.connections {
            redis = redis.connections(connections.get());
        }
        Ok(Some(if self.lineage == Lineage::None { redis.without_lineage() } else { redis }))
    }
}
