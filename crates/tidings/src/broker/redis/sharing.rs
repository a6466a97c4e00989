//! A room's presence on its way to Redis and back: one call at a time for each room, as the room asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{debug, warn};

use super::error::CallError;
use super::link::{CALL_MAX, Connected, Link};
use super::presence::{Caller, Sweep, milliseconds};
use super::script::Channels;
use super::{Shared, deltas};
use crate::auth::UserId;
use crate::presence::Info;
use crate::room::{Alive, Next, PresenceTask, Room, Work, tell_changes};
use crate::roster::{AskList, SETTLED_AFTER};

/// A room's revision is compared this long after its last change, give or take a quarter.
const CHECK_INTERVAL: Duration = Duration::from_secs(8);
/// A node that drains counts as alive for so long at least: three times as long as its look at its rooms takes.
const DRAINING_LEASE_MIN: Duration = Duration::from_secs(5);
/// One call is about so many rooms.
const ALIVE_ROOMS_MAX: usize = 64;
/// Between two attempts: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often a node says that it is alive, give or take a quarter, and so how often it looks for those that are not.
fn renew_interval(lease: Duration) -> Duration {
    lease / 3
}

impl Shared {
    fn caller<'a>(&self, node: &'a str) -> Caller<'a> {
        Caller { node, fresh: self.fresh_epoch(), observes: false }
    }

    /// The same for a call that changes who is in a room.
    fn caller_in<'a>(&self, node: &'a str, room: &Room) -> Caller<'a> {
        Caller { observes: room.is_observed(), ..self.caller(node) }
    }

    fn presence_lease(&self) -> Duration {
        Duration::from_millis(self.presence_lease_ms.load(Ordering::Relaxed))
    }

    /// From now on the node counts as alive for as long as a grace, since it will end without being able to tell when
    /// those of its users end.
    pub(super) fn shorten_lease(&self) {
        let lease = self.limits.presence_grace.max(DRAINING_LEASE_MIN);
        self.presence_lease_ms.fetch_min(milliseconds(lease), Ordering::Relaxed);
    }

    /// This node, as it signs who is at it.
    fn signature(&self) -> String {
        format!("{:016x}", self.node)
    }

    fn give_or_take_a_quarter(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.75 + (self.env.random() % 500) as f64 / 1000.0)
    }

    /// Runs what a room's presence has to tell here.
    fn run(&self, room: &Arc<Room>, task: Option<PresenceTask>) {
        if task == Some(PresenceTask::Changes) {
            let (env, limits) = (Arc::clone(&self.env), Arc::clone(&self.limits));
            drop(self.runtime.spawn(tell_changes(Arc::downgrade(room), env, limits)));
        }
    }
}

impl Link {
    /// Does what a room's presence wants of Redis, unless that is being done.
    pub(super) fn share(self: &Arc<Self>, room: &Arc<Room>) {
        let link = self.carrier(room).unwrap_or_else(|| Arc::clone(self));
        if link.connected().is_some() && room.begin_work() {
            let room = Arc::clone(room);
            drop(self.shared.runtime.spawn(async move { link.work(&room).await }));
        }
    }

    /// Changes of a room's users were carried.
    pub(super) fn take_deltas(self: &Arc<Self>, room: &Arc<Room>, message: &[u8]) {
        let shared = &self.shared;
        let Some(deltas) = deltas::parse(message) else {
            return warn!(room = %room.id, "a message that is none of ours on a room's channel");
        };
        let (task, more) = room.take_deltas(deltas, &shared.limits, shared.env.now());
        shared.run(room, task);
        if more {
            self.share(room);
        }
    }

    /// Works until the room wants nothing more. Calls of one room never overlap.
    async fn work(self: &Arc<Self>, room: &Arc<Room>) {
        let mut wait = BACKOFF.0;
        loop {
            let Some(connected) = self.connected().filter(|_| self.carrier(room).is_none()) else {
                room.stop_work();
                // Whoever could go on, here or at the link that carries the room now, has found somebody at work.
                return self.share(room);
            };
            let work = match room.next_work(self.may_sweep(&connected)) {
                Next::Do(work) => work,
                Next::Rest { let_go: true } => return self.let_go(room),
                Next::Rest { let_go: false } => return,
            };
            match self.carry_out(room, &connected, work).await {
                Ok(true) => wait = BACKOFF.0,
                Ok(false) => {}
                Err(error) => {
                    debug!(room = %room.id, %error, "the presence of a room could not be shared");
                    room.work_failed();
                    pause(wait).await;
                    wait = (wait * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Whether nodes that have not said for long that they are alive are dead. To one that has just connected it may be Redis
    /// that was away.
    fn may_sweep(&self, connected: &Connected) -> bool {
        let age = self.shared.env.now().saturating_duration_since(connected.since);
        age >= SETTLED_AFTER.min(self.shared.presence_lease())
    }

    /// Nobody holds a room any more.
    fn let_go(&self, room: &Arc<Room>) {
        if let Some(routes) = self.routes.upgrade() {
            routes.touch(room);
        }
    }

    /// Whether something came of it, or it was only put off.
    async fn carry_out(
        self: &Arc<Self>,
        room: &Arc<Room>,
        connected: &Connected,
        work: Work,
    ) -> Result<bool, CallError> {
        let (shared, keys, node) = (&self.shared, self.shared.keys_of(room), self.shared.signature());
        let mut connection = connected.connection.clone();
        match work {
            Work::Tell { users, stays, known_rev } => {
                let lease = stays.then_some(shared.presence_lease());
                let caller = shared.caller_in(&node, room);
                let call =
                    shared.scripts.tell_users(&mut connection, &keys, caller, known_rev, lease, &users);
                let told = self.call(connected, call).await?;
                let renew = shared.give_or_take_a_quarter(renew_interval(shared.presence_lease()));
                room.users_told(told.jumped, told.some_dead, &told.changed, shared.env.now() + renew);
                Ok(true)
            }
            Work::Read(ask) => {
                let call = shared.scripts.members(&mut connection, &keys, shared.caller(&node), ask);
                let read = self.call(connected, call).await?;
                let (again, task) =
                    room.take_list(ask, read.page, read.some_dead, &shared.limits, shared.env.now());
                shared.run(room, task);
                if again {
                    pause(BACKOFF.0).await;
                }
                Ok(!again)
            }
            Work::Sweep { known_rev } => {
                self.sweep(room, connected, known_rev).await?;
                Ok(true)
            }
        }
    }

    /// Takes the users of dead nodes out of a room.
    async fn sweep(&self, room: &Room, connected: &Connected, known_rev: u64) -> Result<(), CallError> {
        let (shared, keys, node) = (&self.shared, self.shared.keys_of(room), self.shared.signature());
        let mut left = Sweep::BEGIN;
        loop {
            let mut connection = connected.connection.clone();
            let caller = shared.caller_in(&node, room);
            let call = shared.scripts.sweep(&mut connection, &keys, caller, known_rev, &left);
            let changed;
            (left, changed) = self.call(connected, call).await?;
            room.observe_swept(&changed);
            if left.node.is_empty() {
                return Ok(());
            }
            debug!(room = %room.id, node = ?left.node, "a node has ended without a word: its users leave");
        }
    }

    /// Compares the revisions of those rooms that have heard nothing for a while, and says in those with users here that
    /// this node is alive.
    pub(super) fn check_presence(self: &Arc<Self>, connected: &Connected, rooms: Vec<Arc<Room>>) {
        let shared = &self.shared;
        let (now, lease) = (shared.env.now(), shared.presence_lease());
        let mut due = Vec::new();
        for room in rooms {
            let check = shared.give_or_take_a_quarter(CHECK_INTERVAL.min(renew_interval(lease)));
            let renew = shared.give_or_take_a_quarter(renew_interval(lease));
            let (alive, work) = room.due_alive(now, check, renew);
            if work {
                self.share(&room);
            }
            due.extend(alive.map(|alive| (room, alive)));
        }
        let rooms_max = match shared.channels {
            Channels::Classic => ALIVE_ROOMS_MAX,
            // In a cluster each room may be in a slot of its own.
            Channels::Sharded => 1,
        };
        for due in due.chunks(rooms_max) {
            let (link, connected, due) = (Arc::clone(self), connected.clone(), due.to_vec());
            drop(shared.runtime.spawn(async move { link.say_alive(&connected, &due).await }));
        }
    }

    async fn say_alive(self: &Arc<Self>, connected: &Connected, due: &[(Arc<Room>, Alive)]) {
        let (shared, node) = (&self.shared, self.shared.signature());
        let rooms: Vec<_> = due.iter().map(|(room, alive)| (shared.keys_of(room), *alive)).collect();
        let mut connection = connected.connection.clone();
        let call =
            shared.scripts.alive(&mut connection, shared.caller(&node), shared.presence_lease(), &rooms);
        match self.call(connected, call).await {
            Ok(told) => {
                for ((room, alive), (broker, some_dead)) in due.iter().zip(told) {
                    if room.compare_revision(alive.ours, broker, some_dead) {
                        self.share(room);
                    }
                }
            }
            Err(error) => debug!(%error, "revisions could not be compared"),
        }
    }

    /// Reads who is in a room that nobody here holds.
    pub(super) async fn read_members(self: &Arc<Self>, room: &Room) -> Option<Vec<(UserId, Info)>> {
        let read = async {
            let connected = self.connected()?;
            let mut users = BTreeMap::new();
            let mut ask = AskList { connection: 0, cursor: 0, known_rev: 0, jump: false };
            let mut swept = false;
            loop {
                let (keys, node) = (self.shared.keys_of(room), self.shared.signature());
                let mut connection = connected.connection.clone();
                let caller = self.shared.caller(&node);
                let call = self.shared.scripts.members(&mut connection, &keys, caller, ask);
                let read = self.call(&connected, call).await.ok()?;
                if read.some_dead && !self.may_sweep(&connected) {
                    // Who is there can't be said yet.
                    return None;
                }
                if read.some_dead && !std::mem::replace(&mut swept, true) {
                    self.sweep(room, &connected, 0).await.ok()?;
                    (users, ask.cursor) = (BTreeMap::new(), 0);
                    continue;
                }
                users.extend(read.page.listed.into_iter().map(|listed| (listed.user, listed.info)));
                ask.cursor = read.page.cursor;
                if ask.cursor == 0 {
                    return Some(users.into_iter().collect());
                }
            }
        };
        tokio::time::timeout(4 * CALL_MAX, read).await.ok().flatten()
    }
}

/// Before another attempt: Redis tells nobody when it would succeed.
#[expect(clippy::disallowed_methods, reason = "time itself is the thing")]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use super::super::link::CHECK_TICK;
    use super::super::presence::LEASE_DEFAULT;
    use super::*;

    #[test]
    fn the_users_of_a_dead_node_leave_within_ninety_seconds() {
        // It dies just after it has said that it is alive; the others look when they say so themselves.
        let looked = renew_interval(LEASE_DEFAULT).mul_f64(1.25) + CHECK_TICK;
        // The call, the sweep of ten thousand users, and the telling.
        let told = CALL_MAX * 2 + Duration::from_secs(2);
        assert!(LEASE_DEFAULT + looked + told <= Duration::from_secs(90));
        // And whoever lives has said so twice before it counts as dead.
        assert!(2 * looked + CALL_MAX < LEASE_DEFAULT);
    }
}
