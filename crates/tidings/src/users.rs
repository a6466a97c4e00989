//! Which connections a user has: the limit at the handshake, and the way to him afterwards.
//!
//! A slot is taken before the upgrade and given back when its guard is dropped, wherever that happens. So a
//! handshake that comes to nothing holds nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

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
    by_user: Mutex<HashMap<UserId, Vec<Taken>>>,
    by_session: Mutex<HashMap<SessionId, ConnectionKey>>,
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
}

impl Users {
    /// Takes a slot for `session`, or the slot of the session that it takes over.
    ///
    /// The second value is the connection that lost its slot and is to be closed with 4009.
    pub(crate) fn take_slot(
        self: &Arc<Self>,
        user: &UserId,
        session: SessionId,
        takes_over: Option<SessionId>,
        max: usize,
    ) -> Result<(Slot, Option<ConnectionKey>), LimitReached> {
        let mut by_user = self.by_user.lock();
        let taken = by_user.entry(user.clone()).or_default();
        let old = takes_over.and_then(|old| taken.iter().position(|slot| slot.session == old));
        if old.is_none() && taken.len() >= max {
            if taken.is_empty() {
                by_user.remove(user);
            }
            return Err(LimitReached);
        }
        let replaced = old.and_then(|old| taken.swap_remove(old).connection);
        // Most users have one.
        taken.reserve_exact(1);
        taken.push(Taken { session, connection: None });
        Ok((Slot { users: Arc::clone(self), user: user.clone(), session }, replaced))
    }

    /// Whether [`Users::take_slot`] would find one.
    pub(crate) fn has_slot(&self, user: &UserId, takes_over: Option<SessionId>, max: usize) -> bool {
        let by_user = self.by_user.lock();
        let taken = by_user.get(user).map_or(&[][..], Vec::as_slice);
        taken.len() < max || takes_over.is_some_and(|old| taken.iter().any(|slot| slot.session == old))
    }

    /// Every connection of a user.
    pub(crate) fn connections_of(&self, user: &str) -> Vec<ConnectionKey> {
        let by_user = self.by_user.lock();
        by_user.get(user).into_iter().flatten().filter_map(|taken| taken.connection).collect()
    }

    /// A session's connection.
    pub(crate) fn connection_of(&self, session: SessionId) -> Option<ConnectionKey> {
        self.by_session.lock().get(&session).copied()
    }
}

impl Slot {
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

    #[test]
    fn the_sixth_waits_for_one_of_the_five_or_takes_its_own_over() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let ann = UserId::parse("ann").unwrap();
        let mut slots: Vec<_> = (0..5)
            .map(|index| {
                let session = SessionId::first(&env);
                let (slot, replaced) = users.take_slot(&ann, session, None, 5).unwrap();
                assert_eq!(replaced, None);
                assert!(slot.connected(key(index)));
                (session, slot)
            })
            .collect();
        let sixth = SessionId::first(&env);
        assert!(users.take_slot(&ann, sixth, None, 5).is_err());
        assert!(users.take_slot(&ann, sixth, Some(sixth), 5).is_err(), "an unknown session is ignored");
        let (old, old_slot) = slots.remove(2);
        let (slot, replaced) = users.take_slot(&ann, old.after(&env), Some(old), 5).unwrap();
        assert_eq!(replaced, Some(key(2)));
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
    fn another_users_session_is_not_taken_over() {
        let (users, env) = (Arc::new(Users::default()), SystemEnv::inline());
        let session = SessionId::first(&env);
        let (slot, _) = users.take_slot(&UserId::parse("ann").unwrap(), session, None, 1).unwrap();
        slot.connected(key(1));
        let (_bob, replaced) = users
            .take_slot(&UserId::parse("bob").unwrap(), SessionId::first(&env), Some(session), 1)
            .unwrap();
        assert_eq!(replaced, None);
        assert_eq!(users.connection_of(session), Some(key(1)));
    }
}
