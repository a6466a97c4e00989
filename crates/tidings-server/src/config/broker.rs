//! `[broker]`: what nodes share their rooms through.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::{InvalidCertificate, Redis};

use crate::failure::Failure;

#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSection {
    /// `redis://[user:password@]host[:port][/db]`, `redis+sentinel://…/name` or `redis+cluster://…`, with TLS `rediss`.
    /// Secret, because a password may be in it.
    url: Option<SecretString>,
    /// What the names of all keys and channels begin with.
    prefix: Option<String>,
    /// Connections of a node, each with its share of the rooms; in a cluster so many to each master.
    connections: Option<NonZeroUsize>,
    /// The authority that certifies the servers, in the place of those of the system; PEM.
    ca_file: Option<PathBuf>,
    /// What this node shows servers that ask for it, and its key; PEM.
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
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
    /// The Redis of the file, or of the command line; none if neither names one. Files are relative to the directory of
    /// `configuration`.
    ///
    /// # Errors
    /// When the address or the prefix is none, or a file is not what it is said to be.
    pub(super) fn redis(&self, url: Option<&str>, configuration: &Path) -> Result<Option<Redis>, Failure> {
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
        if let Some(file) = &self.ca_file {
            let pem = read("ca_file", file, configuration)?;
            redis = redis.ca_certificate(&pem).map_err(|error| unusable("ca_file", error))?;
        }
        redis = match (&self.certificate_file, &self.key_file) {
            (None, None) => redis,
            (Some(certificate), Some(key)) => {
                let chain = read("certificate_file", certificate, configuration)?;
                let key = read("key_file", key, configuration)?;
                let certified = redis.client_certificate(&chain, &key);
                certified.map_err(|error| unusable("certificate_file", error))?
            }
            _ => {
                return Err(Failure::config("broker.certificate_file and broker.key_file go together")
                    .fix("name both, or neither"));
            }
        };
        Ok(Some(if self.lineage == Lineage::None { redis.without_lineage() } else { redis }))
    }
}

fn unusable(key: &str, error: InvalidCertificate) -> Failure {
    Failure::config(format_args!("broker.{key}: {error}"))
}

fn read(key: &str, file: &Path, configuration: &Path) -> Result<Vec<u8>, Failure> {
    let file = configuration.parent().unwrap_or(Path::new("")).join(file);
    std::fs::read(&file).map_err(|error| {
        Failure::config(format_args!("broker.{key} {}: {error}", file.display()))
            .fix("name a file that this user can read; the path is relative to the configuration")
    })
}
