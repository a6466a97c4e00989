//! `[broker]`: what nodes share their rooms through.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use tidings::{InvalidCertificate, Redis};

use super::files::Files;
use super::secret::Secret;
use crate::failure::Failure;

/// What nodes share their rooms through; without it a node is alone.
#[derive(Deserialize, JsonSchema, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSection {
    /// `redis://[user:password@]host[:port][/db]`, `redis+sentinel://…/name` or `redis+cluster://…`, with TLS `rediss`.
    /// Secret, because a password may be in it.
    #[schemars(extend("examples" = ["redis://127.0.0.1:6379"]))]
    url: Option<Secret>,
    /// What the names of all keys and channels begin with. `tidings`, if unset.
    #[schemars(extend("examples" = ["tidings"]))]
    prefix: Option<String>,
    /// Connections of a node, each with its share of the rooms; in a cluster so many to each master. 2, if unset.
    #[schemars(extend("examples" = [2]))]
    connections: Option<NonZeroUsize>,
    /// The authority that certifies the servers, in the place of those of the system; PEM.
    #[schemars(extend("examples" = ["redis-ca.pem"]))]
    ca_file: Option<PathBuf>,
    /// What this node shows servers that ask for it; PEM. It goes with `key_file`.
    #[schemars(extend("examples" = ["redis-client.pem"]))]
    certificate_file: Option<PathBuf>,
    /// The key of `certificate_file`; PEM.
    #[schemars(extend("examples" = ["redis-client.key"]))]
    key_file: Option<PathBuf>,
    /// By what a fork of a room's log is told: `replication_id`, the server's own; or `none`, for servers that don't tell
    /// theirs: then one event id may name two events after a failover that lost some.
    #[serde(default)]
    lineage: Lineage,
}

/// By what a fork of a room's log is told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
enum Lineage {
    #[default]
    ReplicationId,
    None,
}

impl BrokerSection {
    /// The Redis that is named; none if there is no address.
    ///
    /// # Errors
    /// When the address or the prefix is none, or a file is not what it is said to be.
    pub(super) fn redis(&self, files: &Files) -> Result<Option<Redis>, Failure> {
        let Some(url) = &self.url else { return Ok(None) };
        let mut redis = Redis::new(url.expose_secret()).map_err(|error| unusable("url", error))?;
        if let Some(prefix) = &self.prefix {
            redis = redis.prefix(prefix).map_err(|error| unusable("prefix", error))?;
        }
        if let Some(connections) = self.connections {
            redis = redis.connections(connections.get());
        }
        if let Some(file) = &self.ca_file {
            let pem = files.read("broker.ca_file", file)?;
            redis = redis.ca_certificate(&pem).map_err(|error| uncertified("ca_file", error))?;
        }
        redis = match (&self.certificate_file, &self.key_file) {
            (None, None) => redis,
            (Some(certificate), Some(key)) => {
                let chain = files.read("broker.certificate_file", certificate)?;
                let key = files.read("broker.key_file", key)?;
                redis
                    .client_certificate(&chain, &key)
                    .map_err(|error| uncertified("certificate_file", error))?
            }
            (certificate, _) => {
                let key = if certificate.is_some() { "certificate_file" } else { "key_file" };
                return Err(Failure::config("broker.certificate_file and broker.key_file go together")
                    .key(format_args!("broker.{key}"))
                    .fix("name both, or neither"));
            }
        };
        Ok(Some(if self.lineage == Lineage::None { redis.without_lineage() } else { redis }))
    }
}

fn unusable(key: &str, error: impl Display) -> Failure {
    Failure::config(format_args!("broker.{key}: {error}")).key(format_args!("broker.{key}"))
}

fn uncertified(key: &str, error: InvalidCertificate) -> Failure {
    unusable(key, error).fix("name a file with PEM: lines of -----BEGIN and -----END around base64")
}
