//! The broker of a single node: the room's own log is the store, and the answer comes inside the call.

use std::sync::Arc;

use tidings_protocol::limits::Limits;

use super::{Broker, Completion};
use crate::env::Env;
use crate::idempotency::IdempotencyIds;
use crate::metrics::Metrics;
use crate::publication::Draft;
use crate::room::{PublishIds, Room};

/// One node with nothing beside it.
pub(crate) struct MemoryBroker {
    env: Arc<dyn Env>,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    ids: PublishIds,
}

impl MemoryBroker {
    pub(crate) fn new(env: Arc<dyn Env>, metrics: Arc<Metrics>, limits: Arc<Limits>) -> Self {
        let ids = IdempotencyIds::new(&*env, &limits);
        Self { env, metrics, limits, ids }
    }
}

impl Broker for MemoryBroker {
    fn submit(&self, room: &Arc<Room>, draft: Draft, completion: Completion) {
        let (now, at_ms) = (self.env.now(), self.env.unix_ms());
        let outcome = room.sequence(draft, &self.ids, &self.metrics, &self.limits, now, at_ms);
        completion.complete(outcome);
    }

    fn maintain(&self) {
        self.ids.sweep(self.env.now());
    }
}
