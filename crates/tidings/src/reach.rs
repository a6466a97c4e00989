//! Whether the broker is within reach, as far as clients are told: once when it has been out of it for a while, and
//! once when it is back.
//!
//! A failover that is over in a moment is told to nobody.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::inbox::Entry;
use crate::node::Node;

/// Out of reach for so long is worth telling.
const TELL_AFTER: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What was seen, and told.
#[derive(Default)]
struct Reach {
    lost_at: Option<Instant>,
    told_lost: bool,
}

impl Reach {
    /// Takes what is seen now; what there is to tell, if there is something: whether it is out of reach.
    fn see(&mut self, within: bool, now: Instant) -> Option<bool> {
        if within {
            self.lost_at = None;
            return std::mem::take(&mut self.told_lost).then_some(false);
        }
        let lost_at = *self.lost_at.get_or_insert(now);
        if self.told_lost || now < lost_at + TELL_AFTER {
            return None;
        }
        self.told_lost = true;
        Some(true)
    }
}

/// Looks at the broker for as long as there is a node, and has every shard tell its clients.
pub(crate) async fn watch(node: Weak<Node>) {
    let mut reach = Reach::default();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(node) = node.upgrade() else { return };
        let Some(degraded) = reach.see(node.broker.is_ready(), node.env.now()) else { continue };
        if degraded {
            warn!("what rooms are stored in is out of reach: clients are told");
        } else {
            info!("what rooms are stored in is within reach again: clients are told");
        }
        for inbox in &node.inboxes {
            inbox.push(Entry::Degraded(degraded));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_once_and_a_short_one_never() {
        let start = Instant::now();
        let mut reach = Reach::default();
        let mut told = Vec::new();
        let outages_ms = [1_000..1_900, 5_000..7_000, 10_000..20_000];
        for ms in (0..25_000).step_by(250) {
            let within = !outages_ms.iter().any(|outage| outage.contains(&ms));
            told.extend(reach.see(within, start + Duration::from_millis(ms)).map(|degraded| (ms, degraded)));
        }
        assert_eq!(told, [(12_000, true), (20_000, false)]);
    }
}
