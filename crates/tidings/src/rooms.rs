//! The rooms of this node: found by name, made when first needed, gone when nobody needs them any more.

use std::collections::HashMap;
use std::hash::{Hash, Hasher as _};
use std::sync::Arc;

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use tidings_protocol::event_id::{Epoch, RoomId};
use tidings_protocol::limits::{Limit, Limits};

use crate::env::Env;
use crate::metrics::Metrics;
use crate::observe::Observe;
use crate::room::Room;
use crate::rules::RuleBook;

/// Every room that has members, a history, or had either a moment ago.
pub(crate) struct Rooms {
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    rules: RuleBook,
    metrics: Arc<Metrics>,
    /// A broker sequences them.
    shared: bool,
    observer: Option<Arc<dyn Observe>>,
    table: Mutex<Table>,
}

struct Table {
    by_id: HashMap<RoomId, Arc<Room>>,
    epochs: Epochs,
}

/// How many groups of names share a count of lives.
const LIVES: usize = 4096;

/// Which epoch a room begins with.
///
/// A room in which nothing was ever published is at `epoch.0`, and is so again when it was dropped and comes back: its
/// epoch is made of its name. So an empty room need not be kept for those who may come back to it. When a room that
/// had events is dropped, its name's group begins another life, under which the same name has another epoch.
struct Epochs {
    seed: [u8; 16],
    lives: Box<[u32; LIVES]>,
}

impl Epochs {
    fn new(env: &dyn Env) -> Self {
        let mut seed = [0; 16];
        env.fill_random(&mut seed);
        Self { seed, lives: Box::new([0; LIVES]) }
    }

    fn hash(&self, parts: &impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        parts.hash(&mut hasher);
        hasher.finish()
    }

    fn of(&self, id: &RoomId) -> Epoch {
        let life = self.lives[self.hash(id) as usize % LIVES];
        Epoch::from_random(self.hash(&(id, life)))
    }

    /// A room with this name and with events is gone.
    fn end_life(&mut self, id: &RoomId) {
        let group = self.hash(id) as usize % LIVES;
        self.lives[group] = self.lives[group].wrapping_add(1);
    }
}

impl Rooms {
    pub(crate) fn new(
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        rules: RuleBook,
        metrics: Arc<Metrics>,
        shared: bool,
    ) -> Self {
        let table = Mutex::new(Table { by_id: HashMap::new(), epochs: Epochs::new(&*env) });
        Self { env, limits, rules, metrics, shared, observer: None, table }
    }

    /// The same with somebody who is told what becomes of them.
    pub(crate) fn observed_by(self, observer: Option<Arc<dyn Observe>>) -> Self {
        Self { observer, ..self }
    }

    /// The room of this name, made if need be; `None` if no rule covers it.
    pub(crate) fn open(&self, id: &RoomId) -> Option<Arc<Room>> {
        let mut table = self.table.lock();
        if let Some(room) = table.by_id.get(id) {
            return Some(Arc::clone(room));
        }
        let rules = self.rules.of(id.as_str())?;
        let epoch = table.epochs.of(id);
        let make = if self.shared { Room::following } else { Room::new };
        let room = make(id.clone(), Arc::clone(rules), epoch, self.env.now());
        let room = Arc::new(room.observed_by(self.observer.clone()));
        table.by_id.insert(id.clone(), Arc::clone(&room));
        self.metrics.rooms.add(1);
        Some(room)
    }

    /// The room of this name if there is one.
    pub(crate) fn get(&self, id: &RoomId) -> Option<Arc<Room>> {
        self.table.lock().by_id.get(id).map(Arc::clone)
    }

    /// Rooms with members whose names begin with `prefix` and come after `after`, sorted, so many at most; with how many
    /// users are in each, on all nodes.
    pub(crate) fn with_members(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(RoomId, u64)> {
        let mut fitting: Vec<_> = {
            let table = self.table.lock();
            let fits = |room: &&Arc<Room>| {
                let name = room.id.as_str();
                name.starts_with(prefix) && after.is_none_or(|after| name > after)
            };
            table.by_id.values().filter(fits).map(Arc::clone).collect()
        };
        fitting.sort_unstable_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        let counted = fitting.into_iter().map(|room| (room.id.clone(), room.members_everywhere()));
        counted.filter(|(_, members)| *members > 0).take(limit).collect()
    }

    /// Ends the graces of all users who have no connection any more.
    pub(crate) fn end_graces(&self) {
        let rooms: Vec<_> = self.table.lock().by_id.values().map(Arc::clone).collect();
        for room in rooms {
            // Nobody is left who would have to be told.
            let _ = room.expire_members(&self.limits, self.env.now() + self.limits.presence_grace);
        }
    }

    /// The rules of the rooms.
    pub(crate) fn rules(&self) -> &RuleBook {
        &self.rules
    }

    /// Trims every room, drops those that nobody needs, and keeps all histories under the node's bound.
    pub(crate) fn maintain(&self) {
        let (now, now_ms) = (self.env.now(), self.env.unix_ms());
        let rooms: Vec<_> = self.table.lock().by_id.values().map(Arc::clone).collect();
        let (mut bytes, mut members) = (0, 0);
        let mut weights = Vec::new();
        for room in &rooms {
            if room.maintain(&self.limits, &self.metrics, now, now_ms) {
                let weight = room.weight();
                bytes += weight.bytes;
                members += weight.members;
                weights.push((weight.quiet_since, room));
            }
        }
        self.metrics.presence_entries.set(members as u64);
        if bytes > self.limits.history_node_bytes_max {
            weights.sort_by_key(|(quiet_since, _)| *quiet_since);
            for (_, room) in weights {
                if bytes <= self.limits.history_node_bytes_max {
                    break;
                }
                bytes -= room.forget_log(now_ms);
                self.metrics.hit(Limit::HistoryNodeBytesMax);
            }
        }
        self.metrics.history_bytes.set(bytes as u64);
        drop(rooms);
        let mut table = self.table.lock();
        let Table { by_id, epochs } = &mut *table;
        let before = by_id.len();
        by_id.retain(|id, room| {
            // Whoever else holds the room may be about to use it. Nobody can begin to while the table is locked.
            let keep = Arc::strong_count(room) > 1 || room.maintain(&self.limits, &self.metrics, now, now_ms);
            if !keep && room.top().offset > 0 {
                epochs.end_life(id);
            }
            keep
        });
        self.metrics.rooms.subtract((before - by_id.len()) as u64);
        if by_id.capacity() > 4 * by_id.len() + 64 {
            by_id.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use tidings_protocol::event_id::Position;
    use tidings_protocol::message::EventName;

    use super::*;
    use crate::auth::UserId;
    use crate::env::SystemEnv;
    use crate::idempotency::IdempotencyIds;
    use crate::publication::{Draft, Payload};
    use crate::room::{PresenceTask, tell_departures};
    use crate::rules::RoomRules;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_thousand_names_leave_nothing_behind() {
        let limits = Arc::new(Limits::default());
        let rules = RuleBook::new(vec![RoomRules::new("r*")], &Limits::default()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let rooms = Rooms::new(
            Arc::new(SystemEnv::inline()),
            Arc::clone(&limits),
            rules,
            Arc::clone(&metrics),
            false,
        );
        for number in 0..100_000 {
            assert!(rooms.open(&RoomId::parse(&format!("r{number}")).unwrap()).is_some());
        }
        assert!(rooms.open(&RoomId::parse("other").unwrap()).is_none());
        assert_eq!(metrics.rooms.get(), 100_000);
        let held = rooms.get(&RoomId::parse("r5").unwrap());
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 1);
        drop(held);
        rooms.maintain();
        assert_eq!((metrics.rooms.get(), rooms.table.lock().by_id.capacity() < 100), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_room_comes_back_as_it_was_and_one_that_had_events_does_not() {
        let limits = Arc::new(Limits::default());
        let rules = || RuleBook::new(vec![RoomRules::new("*")], &Limits::default()).unwrap();
        let (env, metrics) = (Arc::new(SystemEnv::inline()), Arc::new(Metrics::default()));
        let rooms =
            Rooms::new(Arc::clone(&env) as _, Arc::clone(&limits), rules(), Arc::clone(&metrics), false);
        let id = RoomId::parse("a").unwrap();
        let empty = rooms.open(&id).unwrap().top();
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 0);
        assert_eq!(rooms.open(&id).unwrap().top(), empty, "nothing was lost, so nobody needs a reset");
        let event = EventName::parse("e").unwrap();
        let draft = Draft::new(&event, &id, Payload::Json(RawValue::NULL), None, None);
        let ids = IdempotencyIds::new(&*env, &limits);
        rooms.open(&id).unwrap().sequence(draft, &ids, &metrics, &limits, env.now(), 0).unwrap();
        rooms.maintain();
        assert_eq!(
            rooms.open(&id).unwrap().top(),
            Position { offset: 1, ..empty },
            "its log's epoch is kept"
        );
        tokio::time::advance(limits.history_age_max).await;
        rooms.maintain();
        let anew = rooms.open(&id).unwrap().top();
        assert_eq!(anew.offset, 0);
        assert_ne!(anew.epoch, empty.epoch, "offset 1 would be another event");
        let elsewhere = Rooms::new(env, limits, rules(), metrics, false);
        assert_ne!(elsewhere.open(&id).unwrap().top(), empty, "another node is another life");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_in_his_grace_keeps_the_room_and_the_task_that_waits_for_him_does_not() {
        let limits = Arc::new(Limits::default());
        let grace = limits.presence_grace;
        let rules = RuleBook::new(vec![RoomRules::new("*")], &Limits::default()).unwrap();
        let (env, metrics) = (Arc::new(SystemEnv::inline()), Arc::new(Metrics::default()));
        let rooms =
            Rooms::new(Arc::clone(&env) as _, Arc::clone(&limits), rules, Arc::clone(&metrics), false);
        let room = rooms.open(&RoomId::parse("a").unwrap()).unwrap();
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        room.enter(&ann, &limits, env.now());
        room.enter(&bob, &limits, env.now());
        assert_eq!(room.lose(&ann, &limits, env.now()), Some(PresenceTask::Departures));
        assert_eq!(room.lose(&bob, &limits, env.now()), None, "one task tells all departures of a room");
        let departures =
            tokio::spawn(tell_departures(Arc::downgrade(&room), Arc::clone(&env) as _, limits, |_| {}));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&room), 2, "the table's and this one");
        drop(room);
        tokio::time::advance(grace / 2).await;
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 1);
        departures.await.unwrap();
        rooms.maintain();
        assert_eq!(metrics.rooms.get(), 0);
    }
}
