//! `tidings echo`: frames in, the same frames out, for the Autobahn test suite. No release has it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use clap::Args;
use tidings::auth::{AuthFuture, Authenticate, Identity, UserId};
use tidings::{Hub, Limits};

use crate::failure::Failure;
use crate::listen::Edge;
use crate::run;

/// The suite sends no token, and a handshake needs one: this is it.
const TOKEN: &str = "conformance";
const MIB: usize = 1024 * 1024;
/// The suite closes what it opens, so nobody has to be asked to move.
const DRAIN_WINDOW: Duration = Duration::from_secs(1);

/// Echo every frame, for the Autobahn test suite
#[derive(Args, Debug)]
pub(crate) struct Echo {
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The limits of production, but for the rate of messages
    #[arg(long)]
    production_limits: bool,
}

impl Echo {
    pub(super) fn run(self) -> Result<(), Failure> {
        run::block_on(async {
            let limits = if self.production_limits { production() } else { as_the_suite_needs() };
            let hub = Hub::builder()
                .authenticate(Anyone(UserId::parse("suite").map_err(Failure::failed)?))
                .limits(limits.clone())
                .echo()
                .build()
                .map_err(Failure::failed)?;
            let (listener, address) = run::bind(self.listen).await?;
            let upgrade = hub.clone();
            let app = Router::new().fallback(move |request: Request| {
                let hub = upgrade.clone();
                async move { hub.upgrade(with_token(request)).await }
            });
            // Scripts read the address from here; one that reads nothing is served all the same.
            let _ = writeln!(std::io::stdout(), "listening on ws://{address}/");
            let public = run::Entrance { listener, app, edge: Edge::default(), upstream: None };
            run::serve(&hub, public, None, &limits, DRAIN_WINDOW).await
        })
    }
}

/// Takes the one token.
struct Anyone(UserId);

impl Authenticate for Anyone {
    fn authenticate<'a>(&'a self, _token: &'a str, _now_unix_s: u64) -> AuthFuture<'a> {
        let identity = Identity::new(self.0.clone()).with_max_connections(usize::MAX);
        Box::pin(std::future::ready(Ok(identity)))
    }
}

/// The request as if it had come with the token. Of the path and query that the suite asks for, nothing is kept.
fn with_token(mut request: Request) -> Request {
    if let Ok(uri) = Uri::try_from(format!("/?token={TOKEN}")) {
        *request.uri_mut() = uri;
    }
    request
}

fn production() -> Limits {
    let mut limits = Limits::default();
    limits.messages_per_second = u32::MAX;
    limits.messages_burst = u32::MAX;
    limits
}

/// The suite's largest message has 16 MiB, its longest case half a million frames, and none of them is an attack.
fn as_the_suite_needs() -> Limits {
    let mut limits = production();
    limits.text_message_bytes_max = 16 * MIB;
    limits.binary_message_bytes_max = 16 * MIB;
    // 4 MiB in pieces of 64 bytes, and an empty last one.
    limits.fragments_max = 65_537;
    limits.message_duration_max = Duration::from_secs(120);
    limits.control_frames_per_second = u32::MAX;
    limits.control_frames_burst = u32::MAX;
    limits.outbound_bytes_max = 64 * MIB;
    limits.outbound_messages_max = 65_536;
    limits.history_bytes_max = 8 * limits.outbound_bytes_max;
    limits
}
