//! `tidings serve`: what a configuration says, and nothing that it does not say.

use axum::Router;
use clap::Args;
use tidings::Limits;
use tracing::info;

use super::source_options::SourceOptions;
use crate::api::Api;
use crate::config::Parts;
use crate::failure::Failure;
use crate::{app, broker, logs, memory, open_files, run};

/// Serve what a configuration says
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    sources: SourceOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut loaded = self.sources.sources().load()?;
        logs::start(&loaded.config.log);
        run::block_on(async {
            let mut of_machine = Limits::default();
            of_machine.connections_per_node_max = open_files::raise();
            memory::share(&mut of_machine);
            let Parts { mut hub, limits, redis, keys, rooms_of_users } = loaded.parts(of_machine)?;
            if let Some(redis) = redis {
                broker::check(&redis).await?;
                hub = hub.broker(redis);
            }
            let hub = hub.build().map_err(Failure::failed)?;
            let config = &loaded.config;
            let (listener, address) = run::bind(config.listen).await?;
            info!(%address, rooms = config.rooms.len(), "listening");
            let api = if keys.len() > 0 {
                Api::new(&hub, rooms_of_users).router(keys, config.api.body_bytes_max)
            } else {
                info!("no API: there is no key of [api] and no secret to derive one from");
                Router::new()
            };
            let admin = match &config.admin {
                None => None,
                Some(admin) => {
                    let (listener, address) = run::bind(admin.listen).await?;
                    info!(%address, "listening for operators");
                    Some((listener, app::admin_router(&hub, &limits).merge(api.clone())))
                }
            };
            let mut app = app::router(&hub, &limits);
            if config.api.public {
                app = app.merge(api);
            }
            run::serve(&hub, &listener, app, admin, &limits, config.drain_window()).await
        })
    }
}
