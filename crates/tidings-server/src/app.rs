//! The routes that every server has: the socket, what a load balancer asks, and what an operator looks at.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tidings::{Hub, Limits};

use crate::membership_sql::SqlMemberships;
use crate::{metrics_page, webhook};

/// What a server has beside its hub, and an operator wants to know of.
#[derive(Clone, Default)]
pub(crate) struct Beside {
    pub(crate) memberships: Option<SqlMemberships>,
    pub(crate) webhooks: Option<Arc<webhook::Counts>>,
}

/// Where the WebSocket is, if nothing else is said.
pub(crate) const SOCKET_PATH: &str = "/ws";

/// The socket, `/health/live` and `/health/ready`.
pub(crate) fn router(hub: &Hub, limits: &Limits, socket_path: &str, beside: &Beside) -> Router {
    health(hub, limits, beside).route(socket_path, hub.route())
}

/// `/metrics`, and the health routes once more: for a listener that the public does not reach.
pub(crate) fn admin_router(hub: &Hub, limits: &Limits, beside: &Beside) -> Router {
    health(hub, limits, beside).merge(metrics(hub, beside))
}

/// `/metrics`.
pub(crate) fn metrics<S: Clone + Send + Sync + 'static>(hub: &Hub, beside: &Beside) -> Router<S> {
    let (hub, beside) = (hub.clone(), beside.clone());
    Router::new().route(
        "/metrics",
        get(move || {
            let others = beside.memberships.as_ref().map(SqlMemberships::samples).unwrap_or_default();
            let answer = metrics_page::answer(&hub, &others, beside.webhooks.as_deref());
            async move { answer }
        }),
    )
}

fn health(hub: &Hub, limits: &Limits, beside: &Beside) -> Router {
    let memberships = beside.memberships.clone();
    let (ready, connections_max) = (hub.clone(), limits.connections_per_node_max as u64);
    Router::new().route("/health/live", get(|| async { "live\n" })).route(
        "/health/ready",
        get(move || {
            let state = match (ready.is_draining(), ready.is_ready()) {
                (true, _) => State::Draining,
                (false, false) => State::NoBroker,
                (false, true) if memberships.as_ref().is_some_and(|known| !known.is_ready()) => {
                    State::NoMemberships
                }
                (false, true) => State::Taking,
            };
            let answer = readiness(state, ready.metrics().connections, connections_max);
            async move { answer }
        }),
    )
}

/// What a node can do for who comes.
#[derive(Clone, Copy)]
enum State {
    Taking,
    Draining,
    /// What is published does not come back from the broker.
    NoBroker,
    /// Nobody's rooms can be read.
    NoMemberships,
}

/// A node that is on its way out, cut off, or full, asks to be left out of the balancer's round.
fn readiness(state: State, connections: u64, connections_max: u64) -> (StatusCode, &'static str) {
    match state {
        State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        State::NoBroker => (StatusCode::SERVICE_UNAVAILABLE, "the broker does not deliver\n"),
        State::NoMemberships => {
            (StatusCode::SERVICE_UNAVAILABLE, "the memberships' database can't be used\n")
        }
        State::Taking if connections >= connections_max => (StatusCode::SERVICE_UNAVAILABLE, "full\n"),
        State::Taking => (StatusCode::OK, "ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_node_is_not_ready() {
        assert_eq!(readiness(State::Taking, 99, 100).0, StatusCode::OK);
        assert_eq!(readiness(State::Taking, 100, 100), (StatusCode::SERVICE_UNAVAILABLE, "full\n"));
        assert_eq!(readiness(State::Draining, 0, 100), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
        assert_eq!(readiness(State::NoBroker, 0, 100).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness(State::NoMemberships, 0, 100).0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
