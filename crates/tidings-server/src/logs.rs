//! The log on stderr: for eyes on a terminal, JSON lines for everything else.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts the log. `TIDINGS_LOG`, else `RUST_LOG`, says what is in it (`debug`, `tidings=trace,warn`); else `info`.
pub(crate) fn start() {
    let wanted = ["TIDINGS_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let wanted = wanted.as_deref().unwrap_or("info");
    let (filter, fault) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new("info"), Some(fault)),
    };
    let is_for_eyes = std::io::stderr().is_terminal();
    let for_eyes = is_for_eyes.then(|| fmt::layer().with_writer(std::io::stderr).with_target(false));
    let for_programs =
        (!is_for_eyes).then(|| fmt::layer().with_writer(std::io::stderr).json().flatten_event(true));
    let log = tracing_subscriber::registry().with(filter).with(filter_fn(shows_no_token));
    log.with(for_eyes).with(for_programs).init();
    if let Some(fault) = fault {
        tracing::warn!(%fault, "TIDINGS_LOG or RUST_LOG is no log filter; logging at info");
    }
}

/// The client's library for WebSockets traces whole requests and messages, and there are tokens in those.
fn shows_no_token(event: &Metadata<'_>) -> bool {
    *event.level() < Level::TRACE || !event.target().starts_with("tungstenite")
}
