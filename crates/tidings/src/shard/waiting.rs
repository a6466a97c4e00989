//! What waits for sockets that did not take it at once: counted after each write, and bounded for the whole node.
//!
//! Most sockets take all that they are offered, and are not in this count at all.

use std::collections::HashMap;

use tidings_protocol::close::CloseCode;
use tidings_protocol::limits::Limit;

use super::State;

/// Bytes by connection, and their sum.
#[derive(Default)]
pub(super) struct WaitingBytes {
    of: HashMap<u32, usize>,
    sum: usize,
}

impl WaitingBytes {
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Sets a connection's; how many it had before.
    fn set(&mut self, slot: u32, bytes: usize) -> usize {
        let before = if bytes > 0 { self.of.insert(slot, bytes) } else { self.of.remove(&slot) };
        let before = before.unwrap_or(0);
        self.sum = self.sum + bytes - before;
        if self.of.is_empty() && self.of.capacity() > 64 {
            self.of = HashMap::new();
        }
        before
    }

    /// The connections, those with most first.
    fn largest_first(&self) -> Vec<u32> {
        let mut slots: Vec<_> = self.of.keys().copied().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(self.of.get(slot)));
        slots
    }
}

impl State {
    /// Counts anew what a socket has not taken.
    pub(super) fn count_waiting(&mut self, slot: u32) {
        let bytes = self.connections.get(slot as usize).map_or(0, |connection| connection.outbound.bytes());
        let before = self.waiting.set(slot, bytes);
        let gauge = &self.node.metrics.outbound_bytes;
        gauge.add(bytes as u64);
        gauge.subtract(before as u64);
    }

    /// Closes this shard's largest queues while the node holds more than it may and the shard more than its share: so
    /// whoever is over lets go, and no shard waits for another.
    pub(super) fn shed(&mut self) {
        if self.waiting.is_empty() || !self.holds_too_much() {
            return;
        }
        for slot in self.waiting.largest_first() {
            if !self.holds_too_much() {
                break;
            }
            if self.connection(slot).is_some_and(|connection| !connection.session.is_closing()) {
                self.node.metrics.hit(Limit::OutboundNodeBytesMax);
                let cause = "too much waits on this node, and most of it for clients like this one";
                self.close(slot, CloseCode::SLOW_CONSUMER, cause);
            }
        }
    }

    fn holds_too_much(&self) -> bool {
        let max = self.node.limits.outbound_node_bytes_max;
        self.node.metrics.outbound_bytes.get() > max as u64
            && self.waiting.sum > max / self.node.inboxes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_follows_and_nothing_is_left() {
        let mut waiting = WaitingBytes::default();
        for (slot, bytes, before) in [(1, 10, 0), (2, 30, 0), (3, 20, 0), (1, 25, 10)] {
            assert_eq!(waiting.set(slot, bytes), before);
        }
        assert_eq!((waiting.sum, waiting.largest_first()), (75, vec![2, 1, 3]));
        for slot in 1..=3 {
            waiting.set(slot, 0);
        }
        assert_eq!((waiting.sum, waiting.is_empty()), (0, true));
    }
}
