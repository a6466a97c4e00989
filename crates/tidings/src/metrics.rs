//! What a hub counts. Counters only go up; a gauge says what is now. Never a user or a room as a label.
//!
//! Counters are striped by thread and added up when somebody asks: what is counted for each message is on a line of
//! the thread's own, and a shard has its thread.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidings_protocol::close::CloseCode;
use tidings_protocol::limits::Limit;

/// Threads beyond so many share a stripe with another.
const STRIPES: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

macro_rules! numbers {
    (
        counters { $($(#[doc = $counter_doc:literal])+ $counter:ident,)* }
        gauges { $($(#[doc = $gauge_doc:literal])+ $gauge:ident,)* }
    ) => {
        /// The counters of one stripe, on cache lines of their own.
        #[derive(Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $counter: Counter,)*
            limit_hits: LimitHits,
        }

        /// Everything that a hub counts; as [`Counters`], those of the thread that counts.
        #[derive(Default)]
        pub(crate) struct Metrics {
            stripes: [Counters; STRIPES],
            $(pub(crate) $gauge: Gauge,)*
            closed: Mutex<BTreeMap<CloseCode, u64>>,
            refused: Mutex<BTreeMap<&'static str, u64>>,
        }

        /// A hub's counts at one moment.
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[doc = $counter_doc])+ pub $counter: u64,)*
            $($(#[doc = $gauge_doc])+ pub $gauge: u64,)*
            /// How often each limit was hit, by its name.
            pub limit_hits: BTreeMap<&'static str, u64>,
            /// Ended connections by the close code that was sent or received; 1006 where there was none.
            pub closed: BTreeMap<CloseCode, u64>,
            /// Refused handshakes by the refusal's code.
            pub refused: BTreeMap<&'static str, u64>,
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                let limit_hits = |limit: &Limit| {
                    let hits = self.stripes.iter().map(|stripe| stripe.limit_hits.of(*limit).get());
                    (limit.name(), hits.sum::<u64>())
                };
                MetricsSnapshot {
                    $($counter: self.stripes.iter().map(|stripe| stripe.$counter.get()).sum(),)*
                    $($gauge: self.$gauge.get(),)*
                    limit_hits: Limit::ALL.iter().map(limit_hits).collect(),
                    closed: self.closed.lock().clone(),
                    refused: self.refused.lock().clone(),
                }
            }
        }

        impl MetricsSnapshot {
            /// The counters without a label, for whoever shows them all.
            pub fn counters(&self) -> Vec<Number> {
                vec![$(Number {
                    name: stringify!($counter),
                    help: concat!($($counter_doc),+).trim_ascii_start(),
                    value: self.$counter,
                },)*]
            }

            /// The gauges.
            pub fn gauges(&self) -> Vec<Number> {
                vec![$(Number {
                    name: stringify!($gauge),
                    help: concat!($($gauge_doc),+).trim_ascii_start(),
                    value: self.$gauge,
                },)*]
            }
        }
    };
}

numbers! {
    counters {
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
        /// Times that a room's log here was not the beginning of the broker's and another took its place.
        logs_replaced,
        /// Reads of rooms' logs from the broker.
        broker_reads,
        /// Calls of the broker that had no answer in time.
        broker_calls_late,
        /// Connections to the broker that were lost.
        broker_connections_lost,
        /// Renewals of a connection's place among its user's on all nodes that the broker did not confirm.
        lease_renewals_failed,
        /// Messages answered with an error.
        errors,
        /// Handlers that panicked.
        panics,
        /// Times that a shard's inbox was full and it read on from a room's log.
        shards_behind,
        /// Ephemeral events that were dropped, for one connection or for a whole shard, because too much waited there.
        ephemeral_dropped,
    }
    gauges {
        /// Connections now.
        connections,
        /// Connections to the broker now.
        broker_connections,
        /// Places among users' connections on all nodes that this node holds in the broker now.
        leases,
        /// Rooms with a log or members now.
        rooms,
        /// Bytes that wait for sockets which did not take them at once.
        outbound_bytes,
        /// Bytes of all rooms' histories, as counted every five seconds.
        history_bytes,
        /// Members of all rooms, those in their grace included, as counted every five seconds.
        presence_entries,
        /// Users and addresses whose rate is remembered, as counted every five seconds.
        limiter_entries,
    }
}

/// One number of a [`MetricsSnapshot`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Number {
    /// The field's name.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How many.
    pub value: u64,
}

impl Deref for Metrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.stripes[STRIPE.with(|stripe| *stripe)]
    }
}

impl Metrics {
    /// A limit was hit.
    pub(crate) fn hit(&self, limit: Limit) {
        self.limit_hits.of(limit).add(1);
    }

    pub(crate) fn count_close(&self, code: CloseCode) {
        *self.closed.lock().entry(code).or_default() += 1;
    }

    pub(crate) fn count_refusal(&self, code: &'static str) {
        *self.refused.lock().entry(code).or_default() += 1;
    }
}

struct LimitHits([Counter; Limit::ALL.len()]);

impl LimitHits {
    fn of(&self, limit: Limit) -> &Counter {
        &self.0[limit.index()]
    }
}

impl Default for LimitHits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// A number that goes up.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_count_adds_up() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    metrics.errors.add(2);
                    metrics.hit(Limit::SilenceMax);
                });
            }
        });
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.errors, snapshot.limit_hits["silence_max"]), (64, 32));
        assert_eq!(snapshot.limit_hits.len(), Limit::ALL.len());
        let errors = snapshot.counters().into_iter().find(|number| number.name == "errors").unwrap();
        assert_eq!((errors.help, errors.value), ("Messages answered with an error.", 64));
    }
}
