//! The nodes: real hubs, which die without a word and are followed by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings::testing::TestHub;
use tidings::{Access, Context, Hub, Redis as Broker, RoomRules};

use crate::judge::{SMALL, SMALL_EVENTS};
use crate::redis::Redis;

/// All that live.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<Mutex<State>>);

struct State {
    redis: Redis,
    seed: u64,
    started: usize,
    living: Vec<(usize, TestHub, Arc<AtomicBool>)>,
}

impl Nodes {
    pub(crate) fn new(redis: Redis, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { redis, seed, started: 0, living: Vec::new() })))
    }

    /// Starts one more.
    pub(crate) fn start(&self, connections: usize) {
        let mut state = self.0.lock();
        state.started += 1;
        let (node, redis) = (state.started, state.redis.clone());
        let lives = Arc::new(AtomicBool::new(true));
        let its_life = Arc::clone(&lives);
        let broker = Broker::in_memory(move || {
            let dialled = its_life.load(Ordering::Relaxed).then(|| redis.clone().dial(node));
            async { dialled.ok_or(std::io::ErrorKind::ConnectionRefused)?.await }
        });
        let anybody = |rule: RoomRules| rule.join(Access::Anyone).publish(Access::Anyone).any_event();
        let builder = Hub::builder()
            .rule(anybody(RoomRules::new(format!("{SMALL}*")).history_events(SMALL_EVENTS)))
            .rule(anybody(RoomRules::new("*")))
            .on("tell", |ctx: Context, data: Value| async move {
                let Some(room) = ctx.room().cloned() else { return Ok(Value::Null) };
                let id = ctx.broadcast_to_others(&room, "told", &data).await?;
                Ok(json!({ "event_id": id.to_string() }))
            })
            .broker(broker.connections(connections));
        let seed = state.seed.wrapping_mul(1000).wrapping_add(node as u64);
        let hub = TestHub::start_seeded(builder, seed).expect("a hub starts");
        state.living.push((node, hub, lives));
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().living.len()
    }

    /// A node, by where somebody wants to go.
    pub(crate) fn pick(&self, wish: usize) -> Option<(usize, TestHub)> {
        let state = self.0.lock();
        let (node, hub, _) = state.living.get(wish % state.living.len().max(1))?;
        Some((*node, hub.clone()))
    }

    pub(crate) fn lives(&self, node: usize) -> bool {
        self.0.lock().living.iter().any(|(living, ..)| *living == node)
    }

    /// One dies; which is told to whoever has its lines.
    pub(crate) fn kill(&self, which: usize) -> usize {
        let (node, hub, redis) = {
            let mut state = self.0.lock();
            let which = which % state.living.len();
            let (node, hub, lives) = state.living.remove(which);
            lives.store(false, Ordering::Relaxed);
            (node, hub, state.redis.clone())
        };
        redis.cut_node(node);
        drop(hub);
        node
    }
}
