//! `tidings serve`: what a configuration file says, and nothing that it does not say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tidings::{Hub, Limits};
use tracing::info;

use crate::config::Config;
use crate::failure::Failure;
use crate::run::Entrance;
use crate::upstream::Upstream;
use crate::{app, broker, memory, open_files, run, span_of_time};

/// Serve what a configuration file says
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "tidings.toml")]
    config: PathBuf,
    /// Another address than the configuration's `listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// What nodes share rooms through, instead of the configuration's `[broker]`: `redis://host[:port]`. A password is
    /// better in the file, since other users of this machine can read a command line
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Your application, instead of the configuration's `[upstream]`: it has every path that is not Tidings' own
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// How long clients have to move to another node at the end
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = span_of_time::parse)]
    drain_window: Duration,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::read(&self.config)?;
        run::block_on(async {
            let mut of_machine = Limits::default();
            of_machine.connections_per_node_max = open_files::raise();
            memory::share(&mut of_machine);
            let limits = config.limits(of_machine);
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
            if let Some(redis) = config.redis(self.broker.as_deref())? {
                broker::check(&redis).await?;
                hub = hub.broker(redis);
            }
            let hub = config.declare_events(hub)?.build().map_err(|error| config.failure(&error))?;
            let (mut edge, admin_edge) = (config.edge()?, config.admin_edge()?);
            let mut app = app::router(&hub, &limits, config.socket_path());
            let upstream = config.upstream(self.upstream.as_deref())?.map(|options| {
                info!(application = %options.authority, "every path that is not Tidings' own goes on");
                Arc::new(Upstream::new(options))
            });
            if let Some(upstream) = &upstream {
                edge.heads = upstream.heads();
                app = upstream.behind(app);
            }
            let (listener, address) = run::bind(self.listen.unwrap_or(config.listen)).await?;
            info!(%address, rooms = config.rooms.len(), tls = edge.tls.is_some(), "listening");
            let admin = match &config.admin {
                None => None,
                Some(admin) => {
                    let (listener, address) = run::bind(admin.listen).await?;
                    info!(%address, tls = admin_edge.tls.is_some(), "listening for operators");
                    let app = app::admin_router(&hub, &limits);
                    Some(Entrance { listener, app, edge: admin_edge, upstream: None })
                }
            };
            let public = Entrance { listener, app, edge, upstream };
            run::serve(&hub, public, admin, &limits, self.drain_window).await
        })
    }
}
