//! What a hub counts. Counters only go up; a gauge says what is now. Never a user or a room as a label.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidings_protocol::close::CloseCode;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: Counter,)*
            closed: Mutex<BTreeMap<CloseCode, u64>>,
            refused: Mutex<BTreeMap<&'static str, u64>>,
        }

        /// A hub's counts at one moment.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Ended connections by the close code that was sent or received; 1006 where there was none.
            pub closed: BTreeMap<CloseCode, u64>,
            /// Refused handshakes by the refusal's code.
            pub refused: BTreeMap<&'static str, u64>,
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot {
                    $($name: self.$name.get(),)*
                    closed: self.closed.lock().clone(),
                    refused: self.refused.lock().clone(),
                }
            }
        }
    };
}

counters! {
    /// Connections now.
    connections,
    /// Rooms with a log or members now.
    rooms,
    /// Messages from clients.
    messages_received,
    /// Frames handed to sockets: events, acks, presence and whatever else.
    messages_sent,
    /// Events stored in rooms' logs.
    publications,
    /// Publishes that were retries of an earlier one.
    duplicates,
    /// Events sent from a room's log and not as they came.
    replayed,
    /// Live members that did not keep up with a room whose overflow policy has an answer to that.
    fell_slow,
    /// Offsets that a slow or a new member was told as conflated or dropped.
    skipped,
    /// `room.reset`s.
    resets,
    /// Messages answered with an error.
    errors,
    /// Handlers that panicked.
    panics,
    /// Times that a shard's inbox was full and it read on from a room's log.
    shards_behind,
    /// Ephemeral events that were dropped, for one connection or for a whole shard, because too much waited there.
    ephemeral_dropped,
}

impl Metrics {
    pub(crate) fn count_close(&self, code: CloseCode) {
        *self.closed.lock().entry(code).or_default() += 1;
    }

    pub(crate) fn count_refusal(&self, code: &'static str) {
        *self.refused.lock().entry(code).or_default() += 1;
    }
}

/// One number.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
