//! The log on stderr: for eyes on a terminal, JSON lines for everything else.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts the log. `TIDINGS_LOG`, else `RUST_LOG`, says what is in it (`debug`, `tidings=trace,warn`); else `info`.
pub(crate) fn start() {
    let wanted = ["TIDINGS_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let wanted = wanted.as_deref().unwrap_or("info");
    let (filter, fault) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new("info"), Some(fault)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
    if let Some(fault) = fault {
        tracing::warn!(%fault, "TIDINGS_LOG or RUST_LOG is no log filter; logging at info");
    }
}
