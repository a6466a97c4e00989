//! The log on stderr: for eyes on a terminal, JSON lines for everything else, unless the configuration says otherwise.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// The variables that say what is logged, whatever a configuration says.
const VARIABLES: [&str; 2] = ["TIDINGS_LOG", "RUST_LOG"];

/// The variable that says what is logged, and what it says; none if none is set.
pub(crate) fn variable() -> Option<(&'static str, String)> {
    VARIABLES.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)))
}

/// Starts the log. `TIDINGS_LOG`, else `RUST_LOG`, says what is in it (`debug`, `tidings=trace,warn`); else what `log` says.
pub(crate) fn start(log: &Log) {
    let wanted = variable().map_or_else(|| log.level.clone(), |(_, wanted)| wanted);
    let (filter, fault) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new("info"), Some(fault)),
    };
    let is_for_eyes = match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let has_colours = std::io::stderr().is_terminal();
    let for_eyes = is_for_eyes
        .then(|| fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(has_colours));
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
