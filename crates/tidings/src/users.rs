//! Which connections a user has: the limit at the handshake, and the way to him afterwards.
//!
//! A slot is taken before the upgrade and given back when its guard is dropped, wherever that happens. So a
//! handshake that comes to nothing holds nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_protocol::limits::ConnectionLimitPolicy;

use crate::auth::UserId;
use crate::session_id::SessionId;

/// Which socket of a shard. A key outlives its socket; the generation tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ConnectionKey {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Everyone who is connected.
#[derive(Default)]
pub(crate) struct Users {
    /// The slots of each, the oldest first.
    by_user: Mutex<HashMap<UserId, Vec<Taken>>>,
    by_session: Mutex<HashMap<SessionId, ConnectionKey>>,
}

/// What a user's connections may be, and what becomes of one more.
#[derive(Clone, Copy)]
pub(crate) struct ConnectionLimit {
    pub(crate) max: usize,
    pub(crate) policy: ConnectionLimitPolicy,
}

impl ConnectionLimit {
    /// Whether one more can take the place of another.
    fn has_place_for_one_more(self) -> bool {
        self.policy == ConnectionLimitPolicy::CloseOldest && self.max > 0
    }
}

/// A slot, and who has lost one by it.
pub(crate) struct Placed {
    pub(crate) slot: Slot,
    /// The connections that are to be closed with 4009.
    pub(crate) replaced: Vec<ConnectionKey>,
    /// Whether that is because the limit was reached, and not because a session was taken over.
    pub(crate) limit_reached: bool,
}

struct Taken {
    session: SessionId,
    /// None until the shard has the socket.
    connection: Option<ConnectionKey>,
}

/// A user has as many connections as he may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

/// One connection's place in its user's limit, given back on drop.
pub(crate) struct Slot {
    users: Arc<Users>,
    user: UserId,
    session: SessionId,
    /// Its place among the user's connections on all nodes, given back by being dropped.
    lease: Option<Box<dyn Send>>,
}

impl Users {
    /// Takes a slot for `session`: the slot of the session that it takes over, or one that is free, or that of the
    /// oldest, where the policy says so.
    pub(crate) fn take_slot(
        self: &Arc<Self>,
        user: &UserId,
        session: SessionId,
        takes_over: Option<SessionId>,
        limit: ConnectionLimit,
    ) -> Result<Placed, LimitReached> {
        let mut by_user = self.by_user.lock();
        let taken = by_user.entry(user.clone()).or_default();
        let old = takes_over.and_then(|old| taken.iter().position(|slot| slot.session == old));
        let limit_reached = old.is_none() && taken.len() >= limit.max;
        if limit_reached && !limit.has_place_for_one_more() {
            if taken.is_empty() {
                by_user.remove(user);
            }
            return Err(LimitReached);
        }
        let lose_theirs = match old {
            Some(old) => old..old + 1,
            // More than one, where a newer token allows fewer than there are.
            None => 0..(taken.len() + 1).saturating_sub(limit.max),
        };
        let replaced = taken.drain(lose_theirs).filter_map(|taken| taken.connection).collect();
        let slot = self.slot(taken, user, session);
        Ok(Placed { slot, replaced, limit_reached })
    }

    /// Takes a slot whatever there are: for where the broker counts them. It is there before the broker is asked, so that
    /// it can be lost again from that moment on.
    pub(crate) fn reserve(self: &Arc<Self>, user: &UserId, session: SessionId) -> Slot {
        let mut by_user = self.by_user.lock();
        self.slot(by_user.entry(user.clone()).or_default(), user, session)
    }

    fn slot(self: &Arc<Self>, taken: &mut Vec<Taken>, user: &UserId, session: SessionId) -> Slot {
        // Most users have one.
        taken.reserve_exact(1);
        taken.push(Taken { session, connection: None });
        Slot { users: Arc::clone(self), user: user.clone(), session, lease: None }
    }

    /// Takes a session's slot from it, so that it is closed once its socket is there, and gives its connection if that is
    /// the case already.
    pub(crate) fn lose_slot(&self, user: &str, session: SessionId) -> Option<ConnectionKey> {
        let mut by_user = self.by_user.lock();
        let taken = by_user.get_mut(user)?;
        let lost = taken.iter().position(|slot| slot.session == session)?;
        let lost = taken.remove(lost);
        if taken.is_empty() {
            by_user.remove(user);
        }
        lost.connection
    }

    /// Whether [`Users::take_slot`] would find one.
    pub(crate) fn has_slot(
        &self,
        user: &UserId,
        takes_over: Option<SessionId>,
        limit: ConnectionLimit,
    ) -> bool {
        let by_user = self.by_user.lock();
        let taken = by_user.get(user).map_or(&[][..], Vec::as_slice);
        taken.len() < limit.max
            || limit.has_place_for_one_more()
            || takes_over.is_some_and(|old| taken.iter().any(|slot| slot.session == old))
    }

    /// Every connection of a user.
    pub(crate) fn connections_of(&self, user: &str) -> Vec<ConnectionKey> {
        let by_user = self.by_user.lock();
        by_user.get(user).into_iter().flatten().filter_map(|taken| taken.connection).collect()
    }

    /// The sessions of a user whose sockets are there.
    pub(crate) fn sessions_of(&self, user: &str) -> Vec<SessionId> {
        let by_user = self.by_user.lock();
        let taken = by_user.get(user).into_iter().flatten();
        taken.filter(|taken| taken.connection.is_some()).map(|taken| taken.session).collect()
    }

    /// A session's connection.
    pub(crate) fn connection_of(&self, session: SessionId) -> Option<ConnectionKey> {
        self.by_session.lock().get(&session).copied()
    }
}

impl Slot {
    /// Gives what holds the place on all nodes to it.
    pub(crate) fn hold(&mut self, lease: Box<dyn Send>) {
        self.lease = Some(lease);
    }

    /// The shard has the socket under this key. If the slot was taken over in between, `false`: close it.
    pub(crate) fn connected(&self, connection: ConnectionKey) -> bool {
        let mut by_user = self.users.by_user.lock();
        let taken =
            by_user.get_mut(&self.user).into_iter().flatten().find(|taken| taken.session == self.session);
        let Some(taken) = taken else { return false };
        taken.connection = Some(connection);
        self.users.by_session.lock().insert(self.session, connection);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_user = self.users.by_user.lock();
        if let Some(taken) = by_user.get_mut(&self.user) {
            taken.retain(|taken| taken.session != self.session);
            if taken.is_empty() {
                by_user.remove(&self.user);
                give_back(&mut by_user);
            }
        }
        drop(by_user);
        let mut by_session = self.users.by_session.lock();
        by_session.remove(&self.session);
        give_back(&mut by_session);
    }
}

/// Lets go of most of a table that has become mostly empty.
fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > 8 * table.len() + 64 {
        table.shrink_to(2 * table.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    fn key(slot: u32) -> ConnectionKey {
        ConnectionKey { shard: 0, slot, generation: 0 }
    }

    fn refuse_beyond(max: usize) -> ConnectionLimit {
        ConnectionLimit { max, policy: ConnectionLimitPolicy::RefuseNewest }
    }

    #[test]
    fn the_oldest_makes_room_where_the_policy_says_so() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let ann = UserId::parse("ann").unwrap();
        let limit = |max| ConnectionLimit { max, policy: ConnectionLimitPolicy::CloseOldest };
        assert!(!users.has_slot(&ann, None, limit(0)));
        assert!(users.take_slot(&ann, SessionId::first(&env), None, limit(0)).is_err());
        let mut slots = Vec::new();
        for index in 0..4 {
            let placed = users.take_slot(&ann, SessionId::first(&env), None, limit(3)).unwrap();
            let expected = if index < 3 { vec![] } else { vec![key(0)] };
            assert_eq!((placed.replaced, placed.limit_reached), (expected, index == 3));
            placed.slot.connected(key(index));
            slots.push(placed.slot);
        }
        assert!(users.has_slot(&ann, None, limit(3)));
        let placed = users.take_slot(&ann, SessionId::first(&env), None, limit(1)).unwrap();
        assert_eq!(placed.replaced, [key(1), key(2), key(3)], "a newer token allows one");
        drop(slots);
        assert_eq!(users.by_user.lock()["ann"].len(), 1);
    }

    #[test]
    fn the_sixth_waits_for_one_of_the_five_or_takes_its_own_over() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let ann = UserId::parse("ann").unwrap();
        let mut slots: Vec<_> = (0..5)
            .map(|index| {
                let session = SessionId::first(&env);
                let Placed { slot, replaced, .. } =
                    users.take_slot(&ann, session, None, refuse_beyond(5)).unwrap();
                assert!(replaced.is_empty());
                assert!(slot.connected(key(index)));
                (session, slot)
            })
            .collect();
        let sixth = SessionId::first(&env);
        assert!(users.take_slot(&ann, sixth, None, refuse_beyond(5)).is_err());
        let unknown = users.take_slot(&ann, sixth, Some(sixth), refuse_beyond(5));
        assert!(unknown.is_err(), "an unknown session is ignored");
        let (old, old_slot) = slots.remove(2);
        let Placed { slot, replaced, limit_reached } =
            users.take_slot(&ann, old.after(&env), Some(old), refuse_beyond(5)).unwrap();
        assert_eq!((replaced, limit_reached), (vec![key(2)], false));
        assert!(!old_slot.connected(key(9)), "a slot that was taken over is gone");
        drop(old_slot);
        assert!(slot.connected(key(7)));
        assert_eq!(users.connections_of("ann").len(), 5);
        assert_eq!(users.connection_of(old), None);
        drop(slots);
        drop(slot);
        assert!(users.by_user.lock().is_empty() && users.by_session.lock().is_empty());
    }

    #[test]
    fn a_slot_can_be_lost_before_and_after_its_socket_is_there() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let ann = UserId::parse("ann").unwrap();
        let (early, late) = (SessionId::first(&env), SessionId::first(&env));
        let (slot, other) = (users.reserve(&ann, early), users.reserve(&ann, late));
        assert_eq!(users.lose_slot("ann", early), None);
        assert!(!slot.connected(key(1)), "what was lost is closed");
        assert!(other.connected(key(2)));
        assert_eq!(users.lose_slot("bob", late), None);
        assert_eq!(users.lose_slot("ann", late), Some(key(2)));
        assert_eq!(users.lose_slot("ann", late), None);
        drop((slot, other));
        assert!(users.by_user.lock().is_empty() && users.by_session.lock().is_empty());
    }

    #[test]
    fn another_users_session_is_not_taken_over() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let session = SessionId::first(&env);
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let anns = users.take_slot(&ann, session, None, refuse_beyond(1)).unwrap();
        anns.slot.connected(key(1));
        let bobs = users.take_slot(&bob, SessionId::first(&env), Some(session), refuse_beyond(1)).unwrap();
        assert!(bobs.replaced.is_empty());
        assert_eq!(users.connection_of(session), Some(key(1)));
    }
}
