//! What the configuration says of a set-up: its own faults, and the Redis that it names.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use http::Uri;
use tidings::Limits;

use super::diagnosis::Diagnosis;
use crate::config::{Config, Parts, Sources};
use crate::failure::Failure;
use crate::open_files;

/// A configuration with which a server would start.
pub(super) struct Configured {
    config: Config,
    parts: Parts,
}

impl Configured {
    /// Reads it, and asks its Redis; none if no server would start with it.
    pub(super) async fn read(file: &Path, diagnosis: &mut Diagnosis) -> Option<Self> {
        let loaded = Sources { file: Some(file.to_owned()), flags: Vec::new() }.load();
        let read = loaded.and_then(|mut loaded| {
            let mut of_machine = Limits::default();
            (of_machine.connections_per_node_max, _) = open_files::allowed();
            let parts = loaded.parts(of_machine, None)?;
            Ok(Self { config: loaded.config, parts })
        });
        match read {
            Ok(configured) => {
                diagnosis.fine("configuration", file.display().to_string());
                configured.redis(diagnosis).await;
                Some(configured)
            }
            Err(failure) => {
                told(file, &failure, diagnosis);
                None
            }
        }
    }

    async fn redis(&self, diagnosis: &mut Diagnosis) {
        let Some(redis) = &self.parts.redis else {
            return diagnosis.fine("redis", "none is named: this node is alone");
        };
        match redis.check().await {
            Err(fault) => {
                diagnosis.found(
                    "redis",
                    fault.to_string(),
                    "[broker] url, asked as a node does",
                    fault.fix(),
                );
            }
            Ok(report) if report.warnings.is_empty() => {
                diagnosis.fine("redis", format!("version {}, and it delivers", report.version));
            }
            Ok(report) => {
                for warning in report.warnings {
                    let evidence = format!("Redis {} at [broker] url says so itself", report.version);
                    let (what, fix) = warning.rsplit_once("; ").unwrap_or((&warning, "docs/redis.md"));
                    diagnosis.found("redis_settings", what, evidence, fix);
                }
            }
        }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.config.listen
    }

    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.config.admin.as_ref().map(|admin| admin.listen)
    }

    pub(super) fn socket_path(&self) -> &str {
        self.config.socket_path()
    }

    pub(super) fn has_tls(&self) -> bool {
        self.parts.edge.tls.is_some()
    }

    /// Where its webhooks go, if there are any.
    pub(super) fn webhooks_url(&self) -> Option<&Uri> {
        self.parts.webhooks.as_ref().map(|webhooks| webhooks.backend.url())
    }

    /// How many connections it lets in.
    pub(super) fn connections_max(&self) -> usize {
        self.parts.limits.connections_per_node_max
    }

    /// Whether a proxy at this address is believed when it says for whom it asks.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.parts.edge.proxies.trusts(address)
    }
}

/// Each fault on its own.
fn told(file: &Path, failure: &Failure, diagnosis: &mut Diagnosis) {
    let faults = failure.json();
    for fault in faults.as_array().into_iter().flatten() {
        let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        let place = match fault["line"].as_u64() {
            Some(line) => format!("{}:{line}, {}", text("file"), text("key")),
            None => format!("{}: {}", file.display(), text("key")),
        };
        let fix = fault["fix"].as_str().unwrap_or("docs/configuration.md has every key");
        diagnosis.found("configuration", text("message"), place.trim_end_matches([',', ':', ' ']), fix);
    }
}
