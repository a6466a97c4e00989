//! The routes that every server has: the socket, and what a load balancer asks.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tidings::{Hub, Limits};

/// `/ws`, `/health/live` and `/health/ready`.
pub(crate) fn router(hub: &Hub, limits: &Limits) -> Router {
    let (ready, connections_max) = (hub.clone(), limits.connections_per_node_max as u64);
    Router::new().route("/ws", hub.route()).route("/health/live", get(|| async { "live\n" })).route(
        "/health/ready",
        get(move || {
            let answer = readiness(ready.is_ready(), ready.metrics().connections, connections_max);
            async move { answer }
        }),
    )
}

/// A node that is on its way out, or full, asks to be left out of the balancer's round.
fn readiness(takes_connections: bool, connections: u64, connections_max: u64) -> (StatusCode, &'static str) {
    if !takes_connections {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if connections >= connections_max {
        (StatusCode::SERVICE_UNAVAILABLE, "full\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_node_is_not_ready() {
        assert_eq!(readiness(true, 99, 100).0, StatusCode::OK);
        assert_eq!(readiness(true, 100, 100), (StatusCode::SERVICE_UNAVAILABLE, "full\n"));
        assert_eq!(readiness(false, 0, 100), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    }
}
