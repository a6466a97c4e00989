//! `tidings serve`: what a configuration file says, and nothing that it does not say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidings::Hub;
use tracing::info;

use crate::config::Config;
use crate::failure::Failure;
use crate::{app, open_files, run, span_of_time};

/// Serve what a configuration file says
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "tidings.toml")]
    config: PathBuf,
    /// Another address than the configuration's `listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How long clients have to move to another node at the end
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span_of_time::parse)]
    drain_window: Duration,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::read(&self.config)?;
        run::block_on(async {
            let limits = config.limits(open_files::raise());
            let wrong = |error: tidings::BuildError| {
                Failure::config(format_args!("{}: {error}", self.config.display()))
            };
            let mut hub = Hub::builder().authenticate(config.verifier()?).limits(limits.clone());
            if let Some(shards) = config.shards {
                hub = hub.shards(shards.get());
            }
            for origin in &config.allowed_origins {
                hub = hub.allow_origin(origin);
            }
            for rule in config.rules() {
                hub = hub.rule(rule);
            }
            let hub = hub.build().map_err(wrong)?;
            let (listener, address) = run::bind(self.listen.unwrap_or(config.listen)).await?;
            info!(%address, rooms = config.rooms.len(), "listening");
            run::serve(&hub, &listener, app::router(&hub, &limits), &limits, self.drain_window).await
        })
    }
}
