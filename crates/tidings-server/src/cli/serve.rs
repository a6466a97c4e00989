//! `tidings serve`: what a configuration says, and nothing that it does not say.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Args;
use tidings::{Limits, Memberships};
use tracing::info;

use super::source_options::SourceOptions;
use crate::api::Api;
use crate::app::Beside;
use crate::config::Parts;
use crate::failure::Failure;
use crate::membership_sql::SqlMemberships;
use crate::run::Entrance;
use crate::upstream::Upstream;
use crate::webhook::Webhooks;
use crate::{app, broker, logs, memory, open_files, run};

/// At the end, so long goes on being sent what the backend is to be told.
const SENT_AT_END_MAX: Duration = Duration::from_secs(3);

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
            let parts = loaded.parts(of_machine.clone(), None)?;
            let Parts { mut hub, limits, redis, keys, rooms_of_users, memberships, webhooks, .. } = parts;
            let (mut edge, admin_edge) = (parts.edge, parts.admin_edge);
            let webhooks = match webhooks {
                Some(settings) => {
                    let webhooks = Webhooks::start(settings).await?;
                    // Once more, now that there is somebody to ask.
                    hub = webhooks.observe(loaded.parts(of_machine, Some(&webhooks))?.hub);
                    Some(webhooks)
                }
                None => None,
            };
            if let Some(redis) = redis {
                broker::check(&redis).await?;
                hub = hub.broker(redis);
            }
            let database = match memberships {
                Some(settings) => Some(SqlMemberships::start(settings).await?),
                None => None,
            };
            let known = database.clone().map(|database| Arc::new(database) as Arc<dyn Memberships>);
            let known = match &webhooks {
                Some(webhooks) => webhooks.memberships(known),
                None => known,
            };
            hub = match (&rooms_of_users, known) {
                (Some(rooms), known) => hub.memberships(rooms.clone().memberships(known)),
                (None, Some(known)) => hub.memberships(known),
                (None, None) => hub,
            };
            let hub = hub.build().map_err(Failure::failed)?;
            let config = &loaded.config;
            let api = if keys.len() > 0 {
                Api::new(&hub, rooms_of_users).router(keys, config.api.body_bytes_max.get())
            } else {
                info!("no API: there is no key of [api] and no secret to derive one from");
                Router::new()
            };
            let beside = Beside { memberships: database, webhooks: webhooks.as_ref().map(Webhooks::counts) };
            let mut app = app::router(&hub, &limits, config.socket_path(), &beside);
            if config.api.public {
                app = app.merge(api.clone());
            }
            let upstream = parts.upstream.map(|options| {
                info!(application = %options.authority, "every path that is not Tidings' own goes on");
                Arc::new(Upstream::new(options))
            });
            if let Some(upstream) = &upstream {
                edge.heads = upstream.heads();
                app = upstream.behind(app);
            }
            let (listener, address) = run::bind(config.listen).await?;
            info!(%address, rooms = config.rooms.len(), tls = edge.tls.is_some(), "listening");
            let admin = match &config.admin {
                None => None,
                Some(admin) => {
                    let (listener, address) = run::bind(admin.listen).await?;
                    info!(%address, tls = admin_edge.tls.is_some(), "listening for operators");
                    let app = app::admin_router(&hub, &limits, &beside).merge(api);
                    Some(Entrance { listener, app, edge: admin_edge, upstream: None })
                }
            };
            let public = Entrance { listener, app, edge, upstream };
            let ended = run::serve(&hub, public, admin, &limits, config.drain_window()).await;
            if let Some(webhooks) = webhooks {
                // A second signal wants an end at once: what is stored then is sent when the server is there again.
                webhooks.finish(if ended.is_ok() { SENT_AT_END_MAX } else { Duration::ZERO }).await;
            }
            ended
        })
    }
}
