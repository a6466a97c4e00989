//! `tidings serve`: what a configuration file says, and nothing that it does not say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidings::{Hub, Limits};
use tracing::info;

use crate::config::Config;
use crate::failure::Failure;
use crate::webhook::Webhooks;
use crate::{app, broker, memory, open_files, run, span_of_time};

/// At the end, so long goes on being sent what the backend is to be told.
const SENT_AT_END_MAX: Duration = Duration::from_secs(3);

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
            let webhooks = match config.webhooks()? {
                Some(settings) => Some(Webhooks::start(settings).await?),
                None => None,
            };
            for rule in config.rules(webhooks.as_ref()) {
                hub = hub.rule(rule);
            }
            if let Some(webhooks) = &webhooks {
                hub = webhooks.attach(hub, None);
            }
            if let Some(redis) = config.redis(self.broker.as_deref())? {
                broker::check(&redis).await?;
                hub = hub.broker(redis);
            }
            let hub = config
                .declare_events(hub, webhooks.as_ref())?
                .build()
                .map_err(|error| config.failure(&error))?;
            let (listener, address) = run::bind(self.listen.unwrap_or(config.listen)).await?;
            info!(%address, rooms = config.rooms.len(), "listening");
            let admin = match &config.admin {
                None => None,
                Some(admin) => {
                    let (listener, address) = run::bind(admin.listen).await?;
                    info!(%address, "listening for operators");
                    let counts = webhooks.as_ref().map(Webhooks::counts);
                    Some((listener, app::admin_router(&hub, &limits, counts)))
                }
            };
            let app = app::router(&hub, &limits);
            let ended = run::serve(&hub, &listener, app, admin, &limits, self.drain_window).await;
            if let Some(webhooks) = webhooks {
                // A second signal wants an end at once: what is stored then is sent when the server is there again.
                webhooks.finish(if ended.is_ok() { SENT_AT_END_MAX } else { Duration::ZERO }).await;
            }
            ended
        })
    }
}
