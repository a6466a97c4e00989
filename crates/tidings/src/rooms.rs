//! The rooms of this node: found by name, made when first needed, gone when nobody needs them any more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_protocol::event_id::{Epoch, RoomId};
use tidings_protocol::limits::Limits;

use crate::env::Env;
use crate::metrics::Metrics;
use crate::room::Room;
use crate::rules::RuleBook;

/// Every room that has members, a history, or had either a moment ago.
pub(crate) struct Rooms {
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    rules: RuleBook,
    metrics: Arc<Metrics>,
    by_id: Mutex<HashMap<RoomId, Arc<Room>>>,
}

impl Rooms {
    pub(crate) fn new(
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        rules: RuleBook,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { env, limits, rules, metrics, by_id: Mutex::default() }
    }

    /// The room of this name, made if need be; `None` if no rule covers it.
    pub(crate) fn open(&self, id: &RoomId) -> Option<Arc<Room>> {
        let mut by_id = self.by_id.lock();
        if let Some(room) = by_id.get(id) {
            return Some(Arc::clone(room));
        }
        let rules = self.rules.of(id.as_str())?;
        let epoch = by_id.epochs.of(id);
        let room = Arc::new(Room::new(id.clone(), Arc::clone(rules), &self.limits, epoch, self.env.now()));
        by_id.insert(id.clone(), Arc::clone(&room));
        self.metrics.rooms.add(1);
        Some(room)
    }

    /// The room of this name if there is one.
    pub(crate) fn get(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.by_id.lock().get(id).map(Arc::clone)
    }

    /// The rules of the rooms.
    pub(crate) fn rules(&self) -> &RuleBook {
        &self.rules
    }

    /// Trims every room, drops those that nobody needs, and keeps all histories under the node's bound.
    pub(crate) fn maintain(&self) {
        let (now, now_ms) = (self.env.now(), self.env.unix_ms());
        let rooms: Vec<_> = self.by_id.lock().values().map(Arc::clone).collect();
        let mut bytes = 0;
        let mut weights = Vec::new();
        for room in &rooms {
            if room.maintain(&self.limits, now, now_ms) {
                let (room_bytes, quiet_since) = room.weight();
                bytes += room_bytes;
                weights.push((quiet_since, room));
            }
        }
        if bytes > self.limits.history_node_bytes_max {
            weights.sort_by_key(|(quiet_since, _)| *quiet_since);
            for (_, room) in weights {
                if bytes <= self.limits.history_node_bytes_max {
                    break;
                }
                bytes -= room.forget_log(now_ms);
            }
        }
        drop(rooms);
        let mut by_id = self.by_id.lock();
        let before = by_id.len();
        // Whoever else holds the room may be about to use it. Nobody can begin to while the table is locked.
        by_id.retain(|_, room| Arc::strong_count(room) > 1 || room.maintain(&self.limits, now, now_ms));
        self.metrics.rooms.subtract((before - by_id.len()) as u64);
        if by_id.capacity() > 4 * by_id.len() + 64 {
            by_id.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserId;
    use crate::env::SystemEnv;
    use crate::room::tell_departures;
    use crate::rules::RoomRules;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_thousand_names_leave_nothing_behind() {
        let limits = Arc::new(Limits::default());
        let rules = RuleBook::new(vec![RoomRules::new("r*")]).unwrap();
        let metrics = Arc::new(Metrics::default());
        let rooms =
            Rooms::new(Arc::new(SystemEnv::inline()), Arc::clone(&limits), rules, Arc::clone(&metrics));
        for number in 0..100_000 {
            assert!(rooms.open(&RoomId::parse(&format!("r{number}")).unwrap()).is_some());
        }
        assert!(rooms.open(&RoomId::parse("other").unwrap()).is_none());
        assert_eq!(metrics.rooms.get(), 100_000);
        let held = rooms.get(&RoomId::parse("r5").unwrap());
        tokio::time::advance(limits.empty_room_duration_max).await;
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 1);
        drop(held);
        rooms.maintain();
        assert_eq!((metrics.rooms.get(), rooms.by_id.lock().capacity() < 100), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_in_his_grace_keeps_the_room_and_the_task_that_waits_for_him_does_not() {
        let limits = Arc::new(Limits::default());
        let (grace, empty) = (2 * limits.empty_room_duration_max, limits.empty_room_duration_max);
        let rules = RuleBook::new(vec![RoomRules::new("*")]).unwrap();
        let (env, metrics) = (Arc::new(SystemEnv::inline()), Arc::new(Metrics::default()));
        let rooms = Rooms::new(Arc::clone(&env) as _, limits, rules, Arc::clone(&metrics));
        let room = rooms.open(&RoomId::parse("a").unwrap()).unwrap();
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        room.enter(&ann, env.now());
        room.enter(&bob, env.now());
        assert!(room.lose(&ann, env.now(), grace));
        assert!(!room.lose(&bob, env.now(), grace), "one task tells all departures of a room");
        let departures = tokio::spawn(tell_departures(Arc::downgrade(&room), Arc::clone(&env) as _));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&room), 2, "the table's and this one");
        drop(room);
        tokio::time::advance(empty).await;
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 1);
        departures.await.unwrap();
        tokio::time::advance(empty).await;
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 0);
    }
}
