//! Which nodes there are: each says every few seconds that it is there, and is not if it stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::debug;

use super::link::{Connected, Link};
use super::orders::WAIT_MAX;
use crate::broker::{ControlError, NodeInfo};

/// A node says that it is there this often, and is not any more so long after the last time.
const STAY_INTERVAL: Duration = Duration::from_secs(5);
const STAY_MAX: Duration = Duration::from_secs(15);

/// This node's own entry.
pub(super) struct OwnEntry {
    since_unix_ms: u64,
    left: AtomicBool,
    next: Mutex<Instant>,
}

impl OwnEntry {
    pub(super) fn new(since_unix_ms: u64, now: Instant) -> Self {
        Self { since_unix_ms, left: AtomicBool::new(false), next: Mutex::new(now) }
    }

    /// Says that this node is there, if it is time to.
    pub(super) async fn stay(&self, link: &Link, connected: &Connected) {
        let shared = &link.shared;
        let now = shared.env.now();
        if self.left.load(Ordering::Relaxed) || now < *self.next.lock() {
            return;
        }
        let entry = format!("{} {}", self.since_unix_ms, shared.metrics.connections.get());
        let keys = shared.keyspace.nodes();
        let mut connection = connected.connection.clone();
        let call = shared.scripts.users.stay(&mut connection, &keys, shared.node, &entry, STAY_MAX);
        match link.call(connected, call).await {
            Ok(()) => *self.next.lock() = now + STAY_INTERVAL,
            Err(error) => debug!(%error, "this node could not say that it is there"),
        }
        if self.left.load(Ordering::Relaxed) {
            // It was left meanwhile, and this may have come after that.
            self.say_that_it_left(link).await;
        }
    }

    /// This node is none any more.
    pub(super) async fn leave(&self, link: &Link) {
        self.left.store(true, Ordering::Relaxed);
        self.say_that_it_left(link).await;
    }

    async fn say_that_it_left(&self, link: &Link) {
        let Some(connected) = link.connected() else { return };
        let shared = &link.shared;
        let keys = shared.keyspace.nodes();
        let mut connection = connected.connection.clone();
        let call = shared.scripts.users.leave(&mut connection, &keys, shared.node);
        if let Err(error) = link.call(&connected, call).await {
            debug!(%error, "this node's entry ends with its time");
        }
    }
}

/// All nodes that there are.
pub(super) async fn list(link: &Link) -> Result<Vec<NodeInfo>, ControlError> {
    let shared = &link.shared;
    let keys = shared.keyspace.nodes();
    let listing = async {
        let connected = link.connection_made().await;
        let mut connection = connected.connection.clone();
        link.call(&connected, shared.scripts.users.nodes(&mut connection, &keys, shared.node)).await
    };
    match tokio::time::timeout(WAIT_MAX, listing).await {
        Ok(Ok(nodes)) => Ok(nodes),
        Ok(Err(error)) => {
            debug!(%error, "the nodes could not be listed");
            Err(ControlError::Unavailable)
        }
        Err(_) => Err(ControlError::Unavailable),
    }
}
