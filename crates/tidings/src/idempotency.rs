//! What was done already: idempotency ids of the last five minutes, with what they led to.
//!
//! Ids are kept in buckets of a minute, forgotten whole and never early: a user who has too many, or a node, is
//! told `rate_limited` instead. An id is stored as a keyed 128-bit hash, so that it costs the same whatever its
//! length and nobody can aim at another's.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};
use tidings_protocol::limits::{Limit, Limits};

use crate::auth::UserId;
use crate::env::Env;

const BUCKET: Duration = Duration::from_secs(60);
const STRIPES: usize = 16;

/// The ids of every user; `V` is what one led to.
pub(crate) struct IdempotencyIds<V> {
    stripes: [Mutex<Table<UserIds<V>>>; STRIPES],
    seed: [u8; 16],
    bytes: AtomicUsize,
    window: Duration,
    per_user_max: usize,
    node_bytes_max: usize,
}

/// A hash under a key of this node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyedHash([u64; 2]);

impl Hash for KeyedHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// What has been hashed under a key already needs no other hash.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Table<V> = HashMap<KeyedHash, V, BuildHasherDefault<Hashed>>;

/// One request of one user.
#[derive(Clone, Copy)]
pub(crate) struct RequestKey {
    user: KeyedHash,
    request: KeyedHash,
    /// Of what the request asks for, to tell a retry from another request under the same id.
    fingerprint: u64,
}

struct UserIds<V> {
    /// From when on each took new ids, oldest first.
    buckets: VecDeque<(Instant, Table<Entry<V>>)>,
    count: usize,
}

struct Entry<V> {
    fingerprint: u64,
    value: V,
}

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim<V> {
    /// Nothing was: it is remembered from now on.
    New,
    /// It was used for the same request and led to this.
    Known(V),
    /// It was used for another request.
    Conflict,
    /// There is no room to remember it, for this limit: refuse.
    Full(Limit),
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

    fn hash(&self, parts: &impl Hash) -> KeyedHash {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        parts.hash(&mut hasher);
        let hash = hasher.finish128();
        KeyedHash([hash.h1, hash.h2])
    }

    /// A hash of what a request asks for.
    pub(crate) fn fingerprint(&self, parts: &impl Hash) -> u64 {
        self.hash(parts).0[0]
    }

    /// Names a request by whatever names it within its user.
    pub(crate) fn key(&self, user: &UserId, request: &impl Hash, fingerprint: u64) -> RequestKey {
        RequestKey { user: self.hash(user), request: self.hash(request), fingerprint }
    }

    fn stripe(&self, key: RequestKey) -> &Mutex<Table<UserIds<V>>> {
        &self.stripes[key.user.0[1] as usize % STRIPES]
    }

    fn entry_bytes() -> usize {
        size_of::<(KeyedHash, Entry<V>)>()
    }

    /// Remembers what `key` leads to, for the window from now on, unless something is known of it: in one step, so
    /// that of two the same only one is new.
    pub(crate) fn claim(&self, key: RequestKey, value: V, now: Instant) -> Claim<V> {
        let mut stripe = self.stripe(key).lock();
        let node_full = self.bytes.load(Ordering::Relaxed) + Self::entry_bytes() > self.node_bytes_max;
        let ids = match stripe.entry(key.user) {
            MapEntry::Occupied(ids) => ids.into_mut(),
            MapEntry::Vacant(_) if node_full => return Claim::Full(Limit::IdempotencyNodeBytesMax),
            MapEntry::Vacant(none) => none.insert(UserIds { buckets: VecDeque::new(), count: 0 }),
        };
        self.forget(ids, now);
        let found = ids.buckets.iter().rev().find_map(|(_, bucket)| bucket.get(&key.request));
        match found {
            Some(entry) if entry.fingerprint == key.fingerprint => return Claim::Known(entry.value.clone()),
            Some(_) => return Claim::Conflict,
            None if node_full => return Claim::Full(Limit::IdempotencyNodeBytesMax),
            None if ids.count >= self.per_user_max => return Claim::Full(Limit::IdempotencyIdsPerUserMax),
            None => {}
        }
        let newest = match ids.buckets.back_mut() {
            Some((began, bucket)) if now.saturating_duration_since(*began) < BUCKET => bucket,
            _ => &mut ids.buckets.push_back_mut((now, Table::default())).1,
        };
        newest.insert(key.request, Entry { fingerprint: key.fingerprint, value });
        ids.count += 1;
        self.bytes.fetch_add(Self::entry_bytes(), Ordering::Relaxed);
        Claim::New
    }

    /// Forgets an id that was not used up after all.
    pub(crate) fn release(&self, key: RequestKey) {
        let mut stripe = self.stripe(key).lock();
        let Some(ids) = stripe.get_mut(&key.user) else { return };
        if ids.buckets.iter_mut().any(|(_, bucket)| bucket.remove(&key.request).is_some()) {
            ids.count -= 1;
            self.bytes.fetch_sub(Self::entry_bytes(), Ordering::Relaxed);
        }
    }

    /// Forgets whatever is past the window, of every user.
    pub(crate) fn sweep(&self, now: Instant) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            stripe.retain(|_, ids| {
                self.forget(ids, now);
                ids.count > 0
            });
            if stripe.capacity() > 4 * stripe.len() + 64 {
                stripe.shrink_to_fit();
            }
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
        let ann = ids.key(&user("ann"), &7, 1);
        assert_eq!(ids.claim(ann, 42, now), Claim::New);
        let last_moment = now + Duration::from_secs(300);
        assert_eq!(ids.claim(ann, 43, last_moment), Claim::Known(42));
        assert_eq!(ids.claim(ids.key(&user("ann"), &7, 2), 43, last_moment), Claim::Conflict);
        assert_eq!(ids.claim(ids.key(&user("bob"), &7, 2), 43, last_moment), Claim::New);
        assert_eq!(ids.claim(ann, 44, now + Duration::from_secs(361)), Claim::New);
    }

    #[test]
    fn a_full_user_is_refused_and_nothing_is_forgotten_early() {
        let (ids, now) = (ids(3), Instant::now());
        let ann = user("ann");
        for key in 0..3_u64 {
            let at = now + Duration::from_secs(key * 61);
            assert_eq!(ids.claim(ids.key(&ann, &key, 1), 1, at), Claim::New);
        }
        let later = now + Duration::from_secs(200);
        let full = Claim::Full(Limit::IdempotencyIdsPerUserMax);
        assert_eq!(ids.claim(ids.key(&ann, &9_u64, 1), 1, later), full);
        assert_eq!(ids.claim(ids.key(&ann, &0_u64, 1), 1, later), Claim::Known(1));
        assert_eq!(ids.claim(ids.key(&ann, &9_u64, 1), 1, now + Duration::from_secs(361)), Claim::New);
    }

    #[test]
    fn what_is_released_or_swept_leaves_nothing() {
        let (ids, now) = (ids(3), Instant::now());
        let ann = ids.key(&user("ann"), &1, 1);
        assert_eq!(ids.claim(ann, 1, now), Claim::New);
        ids.release(ann);
        assert_eq!(ids.claim(ids.key(&user("ann"), &1, 2), 1, now), Claim::New);
        ids.sweep(now + Duration::from_secs(361));
        assert!(ids.stripes.iter().all(|stripe| stripe.lock().is_empty()));
        assert_eq!(ids.bytes.load(Ordering::Relaxed), 0);
    }
}
