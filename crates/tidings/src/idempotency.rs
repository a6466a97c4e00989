//! What was done already: idempotency ids of the last five minutes, with what they led to.
//!
//! Ids are kept in buckets of a minute, forgotten whole and never early: a user who has too many, or a node, is
//! told `rate_limited` instead. An id is stored as a keyed 128-bit hash, so that it costs the same whatever its
//! length and nobody can aim at another's.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};
use tidings_protocol::limits::Limits;

use crate::auth::UserId;
use crate::env::Env;

const BUCKET: Duration = Duration::from_secs(60);
const STRIPES: usize = 16;

/// A hash of (room or none, id, which publish) under a key of this node.
pub(crate) type KeyHash = u128;

/// The ids of every user; `V` is what one led to.
pub(crate) struct IdempotencyIds<V> {
    stripes: [Mutex<HashMap<UserId, UserIds<V>>>; STRIPES],
    seed: [u8; 16],
    bytes: AtomicUsize,
    window: Duration,
    per_user_max: usize,
    node_bytes_max: usize,
}

struct UserIds<V> {
    buckets: VecDeque<(Instant, HashMap<KeyHash, Entry<V>>)>,
    count: usize,
}

struct Entry<V> {
    fingerprint: u64,
    value: V,
}

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<V> {
    /// Nothing: go on.
    New,
    /// It was used for the same request and led to this.
    Known(V),
    /// It was used for another request.
    Conflict,
    /// There is no room to remember it: refuse.
    Full,
}

impl<V: Clone> IdempotencyIds<V> {
    pub(crate) fn new(env: &dyn Env, limits: &Limits) -> Self {
        let mut seed = [0; 16];
        env.fill_random(&mut seed);
        Self {
            stripes: std::array::from_fn(|_| Mutex::default()),
            seed,
            bytes: AtomicUsize::new(0),
            window: limits.idempotency_window,
            per_user_max: limits.idempotency_ids_per_user_max,
            node_bytes_max: limits.idempotency_node_bytes_max,
        }
    }

    /// The hash of whatever names a request within its user.
    pub(crate) fn hash(&self, parts: &impl Hash) -> KeyHash {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        parts.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    fn stripe(&self, user: &UserId) -> &Mutex<HashMap<UserId, UserIds<V>>> {
        &self.stripes[(self.hash(user) % STRIPES as u128) as usize]
    }

    fn entry_bytes() -> usize {
        size_of::<(KeyHash, Entry<V>)>()
    }

    /// What is known of `key`. `Full` only if it is new and could not be remembered.
    pub(crate) fn look_up(&self, user: &UserId, key: KeyHash, fingerprint: u64, now: Instant) -> Lookup<V> {
        self.look_up_in(&mut self.stripe(user).lock(), user, key, fingerprint, now)
    }

    /// Remembers what `key` led to, for the window from now on. A key that is there gets the new value and keeps its time.
    pub(crate) fn remember(&self, user: &UserId, key: KeyHash, fingerprint: u64, value: V, now: Instant) {
        self.remember_in(&mut self.stripe(user).lock(), user, key, Entry { fingerprint, value }, now);
    }

    /// Looks up and, if the key is new, remembers `value` for it in the same step.
    pub(crate) fn claim(
        &self,
        user: &UserId,
        key: KeyHash,
        fingerprint: u64,
        value: &V,
        now: Instant,
    ) -> Lookup<V> {
        let mut stripe = self.stripe(user).lock();
        let lookup = self.look_up_in(&mut stripe, user, key, fingerprint, now);
        if matches!(lookup, Lookup::New) {
            self.remember_in(&mut stripe, user, key, Entry { fingerprint, value: value.clone() }, now);
        }
        lookup
    }

    fn look_up_in(
        &self,
        stripe: &mut HashMap<UserId, UserIds<V>>,
        user: &UserId,
        key: KeyHash,
        fingerprint: u64,
        now: Instant,
    ) -> Lookup<V> {
        let node_full = self.bytes.load(Ordering::Relaxed) + Self::entry_bytes() > self.node_bytes_max;
        let Some(ids) = stripe.get_mut(user) else {
            return if node_full { Lookup::Full } else { Lookup::New };
        };
        self.forget(ids, now);
        match ids.buckets.iter().rev().find_map(|(_, bucket)| bucket.get(&key)) {
            Some(entry) if entry.fingerprint == fingerprint => Lookup::Known(entry.value.clone()),
            Some(_) => Lookup::Conflict,
            None if node_full || ids.count >= self.per_user_max => Lookup::Full,
            None => Lookup::New,
        }
    }

    fn remember_in(
        &self,
        stripe: &mut HashMap<UserId, UserIds<V>>,
        user: &UserId,
        key: KeyHash,
        entry: Entry<V>,
        now: Instant,
    ) {
        let ids =
            stripe.entry(user.clone()).or_insert_with(|| UserIds { buckets: VecDeque::new(), count: 0 });
        if let Some(known) = ids.buckets.iter_mut().find_map(|(_, bucket)| bucket.get_mut(&key)) {
            *known = entry;
            return;
        }
        let needs_bucket =
            ids.buckets.back().is_none_or(|(began, _)| now.saturating_duration_since(*began) >= BUCKET);
        if needs_bucket {
            ids.buckets.push_back((now, HashMap::new()));
        }
        if let Some((_, bucket)) = ids.buckets.back_mut() {
            bucket.insert(key, entry);
            ids.count += 1;
            self.bytes.fetch_add(Self::entry_bytes(), Ordering::Relaxed);
        }
    }

    /// Forgets an id that was not used up after all.
    pub(crate) fn release(&self, user: &UserId, key: KeyHash) {
        let mut stripe = self.stripe(user).lock();
        let Some(ids) = stripe.get_mut(user) else { return };
        if ids.buckets.iter_mut().any(|(_, bucket)| bucket.remove(&key).is_some()) {
            ids.count -= 1;
            self.bytes.fetch_sub(Self::entry_bytes(), Ordering::Relaxed);
        }
    }

    /// Forgets whatever is past the window, of every user.
    pub(crate) fn sweep(&self, now: Instant) {
        for stripe in &self.stripes {
            stripe.lock().retain(|_, ids| {
                self.forget(ids, now);
                ids.count > 0
            });
        }
    }

    fn forget(&self, ids: &mut UserIds<V>, now: Instant) {
        // A bucket goes when the last id that it could have taken is past the window.
        let keep = self.window + BUCKET;
        while let Some((began, bucket)) = ids.buckets.front() {
            if now.saturating_duration_since(*began) < keep {
                break;
            }
            ids.count -= bucket.len();
            self.bytes.fetch_sub(bucket.len() * Self::entry_bytes(), Ordering::Relaxed);
            ids.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    fn ids(per_user_max: usize) -> IdempotencyIds<u64> {
        let mut limits = Limits::default();
        limits.idempotency_ids_per_user_max = per_user_max;
        IdempotencyIds::new(&SystemEnv::inline(), &limits)
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn an_id_is_remembered_for_five_minutes_and_not_for_ever() {
        let (ids, now) = (ids(10), Instant::now());
        let (ann, key) = (user("ann"), 7);
        assert_eq!(ids.look_up(&ann, key, 1, now), Lookup::New);
        ids.remember(&ann, key, 1, 42, now);
        let last_moment = now + Duration::from_secs(300);
        assert_eq!(ids.look_up(&ann, key, 1, last_moment), Lookup::Known(42));
        assert_eq!(ids.look_up(&ann, key, 2, last_moment), Lookup::Conflict);
        assert_eq!(ids.look_up(&user("bob"), key, 2, last_moment), Lookup::New);
        assert_eq!(ids.look_up(&ann, key, 1, now + Duration::from_secs(361)), Lookup::New);
    }

    #[test]
    fn a_full_user_is_refused_and_nothing_is_forgotten_early() {
        let (ids, now) = (ids(3), Instant::now());
        let ann = user("ann");
        for key in 0..3 {
            ids.remember(&ann, key, 1, 1, now + Duration::from_secs(key as u64 * 61));
        }
        let later = now + Duration::from_secs(200);
        assert_eq!(ids.look_up(&ann, 9, 1, later), Lookup::Full);
        assert_eq!(ids.look_up(&ann, 0, 1, later), Lookup::Known(1));
        assert_eq!(ids.look_up(&ann, 9, 1, now + Duration::from_secs(361)), Lookup::New);
    }

    #[test]
    fn what_is_released_or_swept_leaves_nothing() {
        let (ids, now) = (ids(3), Instant::now());
        let ann = user("ann");
        ids.remember(&ann, 1, 1, 1, now);
        ids.release(&ann, 1);
        assert_eq!(ids.look_up(&ann, 1, 2, now), Lookup::New);
        ids.remember(&ann, 2, 1, 1, now);
        ids.sweep(now + Duration::from_secs(361));
        assert!(ids.stripes.iter().all(|stripe| stripe.lock().is_empty()));
        assert_eq!(ids.bytes.load(Ordering::Relaxed), 0);
    }
}
