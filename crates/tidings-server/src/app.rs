//! The routes that every server has: the socket, what a load balancer asks, and what an operator looks at.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tidings::{Hub, Limits};

use crate::metrics_page;

/// Where the WebSocket is, if nothing else is said.
pub(crate) const SOCKET_PATH: &str = "/ws";

/// The socket, `/health/live` and `/health/ready`.
pub(crate) fn router(hub: &Hub, limits: &Limits, socket_path: &str) -> Router {
    health(hub, limits).route(socket_path, hub.route())
}

/// `/metrics`, and the health routes once more: for a listener that the public does not reach.
pub(crate) fn admin_router(hub: &Hub, limits: &Limits) -> Router {
    health(hub, limits).merge(metrics(hub))
}

/// `/metrics`.
pub(crate) fn metrics<S: Clone + Send + Sync + 'static>(hub: &Hub) -> Router<S> {
    let hub = hub.clone();
    Router::new().route(
        "/metrics",
        get(move || {
            let answer = metrics_page::answer(&hub);
            async move { answer }
        }),
    )
}

fn health(hub: &Hub, limits: &Limits) -> Router {
    let (ready, connections_max) = (hub.clone(), limits.connections_per_node_max as u64);
    Router::new().route("/health/live", get(|| async { "live\n" })).route(
        "/health/ready",
        get(move || {
            let state = match (ready.is_draining(), ready.is_ready()) {
                (true, _) => State::Draining,
                (false, false) => State::NoBroker,
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
}

/// A node that is on its way out, cut off, or full, asks to be left out of the balancer's round.
fn readiness(state: State, connections: u64, connections_max: u64) -> (StatusCode, &'static str) {
    match state {
        State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        State::NoBroker => (StatusCode::SERVICE_UNAVAILABLE, "the broker does not deliver\n"),
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
    }
}
