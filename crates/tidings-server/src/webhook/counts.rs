//! What is counted of webhooks, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Kind;

/// Counts of one kind.
#[derive(Default, Debug)]
struct OfKind {
    /// Asked, or told and taken.
    done: AtomicU64,
    /// Without a good answer, each attempt for itself.
    failed: AtomicU64,
}

/// All counts.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    kinds: [OfKind; 7],
    refused: AtomicU64,
    waiting: AtomicU64,
    bytes: AtomicU64,
    dead: AtomicU64,
}

/// One of them, as it stands on the page.
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    done: u64,
    failed: u64,
}

impl Row {
    pub(crate) fn done(&self) -> &u64 {
        &self.done
    }

    pub(crate) fn failed(&self) -> &u64 {
        &self.failed
    }
}

impl Counts {
    fn of(&self, kind: Kind) -> &OfKind {
        &self.kinds[kind as usize]
    }

    pub(crate) fn count_done(&self, kind: Kind) {
        self.of(kind).done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self, kind: Kind) {
        self.of(kind).failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was not even stored.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_waiting(&self, waiting: u64, bytes: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_dead(&self, dead: u64) {
        self.dead.store(dead, Ordering::Relaxed);
    }

    /// The counts of these kinds.
    pub(crate) fn rows(&self, kinds: &[Kind]) -> Vec<Row> {
        let row = |kind: &Kind| {
            let OfKind { done, failed } = self.of(*kind);
            let [done, failed] = [done, failed].map(|count| count.load(Ordering::Relaxed));
            Row { kind: kind.name(), done, failed }
        };
        kinds.iter().map(row).collect()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn dead(&self) -> u64 {
        self.dead.load(Ordering::Relaxed)
    }
}
