//! What is counted of the memberships, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics_page::{Sample, Shape};

/// The counts of one server.
#[derive(Default)]
pub(super) struct Numbers {
    queries: AtomicU64,
    query_microseconds: AtomicU64,
    shared: AtomicU64,
    failures: AtomicU64,
    last_known: AtomicU64,
    no_rooms: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl Numbers {
    /// A query has ended, well or not.
    pub(super) fn count_query(&self, took: Duration) {
        add(&self.queries, 1);
        add(&self.query_microseconds, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// An answer was there already.
    pub(super) fn count_shared(&self) {
        add(&self.shared, 1);
    }

    /// Somebody got no answer from the database.
    pub(super) fn count_failure(&self) {
        add(&self.failures, 1);
    }

    /// And was let in by an earlier one.
    pub(super) fn count_last_known(&self) {
        add(&self.last_known, 1);
    }

    /// A name was left out that is no room's.
    pub(super) fn count_no_room(&self) {
        add(&self.no_rooms, 1);
    }

    pub(super) fn samples(&self, is_there: bool, users: usize, connections: u32, idle: usize) -> Vec<Sample> {
        let gauge = |name, help, value| Sample { name, help, shape: Shape::Gauge, value };
        let counter = |name, help, count: &AtomicU64| Sample {
            name,
            help,
            shape: Shape::Counter,
            value: count.load(Ordering::Relaxed),
        };
        vec![
            gauge(
                "memberships_database_up",
                "1 while the memberships' database can be asked.",
                is_there.into(),
            ),
            gauge("memberships_users_kept", "Users whose answers are kept.", users as u64),
            gauge(
                "memberships_pool_connections",
                "Open connections to the memberships' database.",
                connections.into(),
            ),
            gauge("memberships_pool_idle", "Those of them that nobody uses.", idle as u64),
            counter("memberships_queries", "Queries for a user's rooms.", &self.queries),
            counter(
                "memberships_query_microseconds",
                "How long they took, all together.",
                &self.query_microseconds,
            ),
            counter("memberships_cached_answers", "Answers that needed no query.", &self.shared),
            counter("memberships_failures", "Times that the database gave no answer.", &self.failures),
            counter(
                "memberships_last_known_answers",
                "Of these, those for which an earlier answer counted.",
                &self.last_known,
            ),
            counter(
                "memberships_invalid_rooms",
                "Names that the query gave and that no room can have.",
                &self.no_rooms,
            ),
        ]
    }
}
