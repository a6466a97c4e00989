//! What was revoked: the tokens that a user had until then, and single tokens, until the longest-lived of them has ended.
//!
//! A user or token is kept as a keyed 128-bit hash, so that it costs the same whatever its length. Whoever looks a
//! connection up first and whoever takes one in first see each other: a revocation is on the list before live connections
//! are looked for, and a connection can be found before the list is asked about it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};
use tidings_protocol::limits::Limits;

use crate::auth::Identity;
use crate::env::Env;

/// As many users and tokens are revoked as the node remembers ([`Limits::revocations_max`]): nothing was revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRevocations;

impl fmt::Display for TooManyRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "nothing was revoked: the node remembers as many revocations as it may (revocations_max), until the oldest is revocation_age_max old",
        )
    }
}

impl std::error::Error for TooManyRevocations {}

/// The revocations of a node.
pub(crate) struct Revocations {
    seed: [u8; 16],
    age_max: Duration,
    entries_max: usize,
    revoked: Mutex<Revoked>,
}

type KeyedHash = [u64; 2];

#[derive(Default)]
struct Revoked {
    users: HashMap<KeyedHash, RevokedUser>,
    /// When each is forgotten.
    tokens: HashMap<KeyedHash, Instant>,
    /// When the first of all is forgotten.
    next_end: Option<Instant>,
}

struct RevokedUser {
    /// Tokens that were issued until then are refused.
    issued_until_unix_s: u64,
    ends_at: Instant,
}

impl Revocations {
    pub(crate) fn new(env: &dyn Env, limits: &Limits) -> Self {
        let mut seed = [0; 16];
        env.fill_random(&mut seed);
        Self {
            seed,
            age_max: limits.revocation_age_max,
            entries_max: limits.revocations_max,
            revoked: Mutex::default(),
        }
    }

    fn hash(&self, text: &str) -> KeyedHash {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        text.hash(&mut hasher);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// Refuses every token of a user that was issued until now.
    pub(crate) fn revoke_user(
        &self,
        user: &str,
        now: Instant,
        now_unix_s: u64,
    ) -> Result<(), TooManyRevocations> {
        let (user, ends_at) = (self.hash(user), now + self.age_max);
        let mut revoked = self.revoked.lock();
        if revoked.len() >= self.entries_max && !revoked.users.contains_key(&user) {
            return Err(TooManyRevocations);
        }
        revoked.users.insert(user, RevokedUser { issued_until_unix_s: now_unix_s, ends_at });
        revoked.next_end.get_or_insert(ends_at);
        Ok(())
    }

    /// Refuses one token.
    pub(crate) fn revoke_token(&self, id: &str, now: Instant) -> Result<(), TooManyRevocations> {
        let (id, ends_at) = (self.hash(id), now + self.age_max);
        let mut revoked = self.revoked.lock();
        if revoked.len() >= self.entries_max && !revoked.tokens.contains_key(&id) {
            return Err(TooManyRevocations);
        }
        revoked.tokens.insert(id, ends_at);
        revoked.next_end.get_or_insert(ends_at);
        Ok(())
    }

    /// Takes over what was revoked on another node, which has seen to the bound; whether it says anything new.
    pub(crate) fn learn_user(&self, user: &str, issued_until_unix_s: u64, ends_at: Instant) -> bool {
        let mut revoked = self.revoked.lock();
        let user = revoked.users.entry(self.hash(user));
        let mut is_new = false;
        let known = user.or_insert_with(|| {
            is_new = true;
            RevokedUser { issued_until_unix_s, ends_at }
        });
        is_new |= known.issued_until_unix_s < issued_until_unix_s;
        known.issued_until_unix_s = known.issued_until_unix_s.max(issued_until_unix_s);
        known.ends_at = known.ends_at.max(ends_at);
        revoked.end_by(ends_at);
        is_new
    }

    /// The same for one token.
    pub(crate) fn learn_token(&self, id: &str, ends_at: Instant) -> bool {
        let mut revoked = self.revoked.lock();
        let known = revoked.tokens.insert(self.hash(id), ends_at);
        revoked.end_by(ends_at);
        known.is_none()
    }

    /// Whether this token was revoked. One that does not say when it was issued is taken for an old one.
    pub(crate) fn has_revoked(&self, identity: &Identity) -> bool {
        let (users, tokens) = {
            let revoked = self.revoked.lock();
            (!revoked.users.is_empty(), !revoked.tokens.is_empty())
        };
        if users {
            let user = self.hash(identity.user().as_str());
            let until = self.revoked.lock().users.get(&user).map(|user| user.issued_until_unix_s);
            if until.is_some_and(|until| identity.issued_at_unix_s().is_none_or(|issued| issued <= until)) {
                return true;
            }
        }
        if tokens && let Some(id) = identity.token_id() {
            return self.revoked.lock().tokens.contains_key(&self.hash(&id));
        }
        false
    }

    /// Forgets what is past its time.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut revoked = self.revoked.lock();
        if revoked.next_end.is_none_or(|ends_at| ends_at > now) {
            return;
        }
        revoked.users.retain(|_, user| user.ends_at > now);
        revoked.tokens.retain(|_, ends_at| *ends_at > now);
        let ends = revoked.users.values().map(|user| user.ends_at).chain(revoked.tokens.values().copied());
        revoked.next_end = ends.min();
        revoked.users.shrink_to_fit();
        revoked.tokens.shrink_to_fit();
    }
}

impl Revoked {
    /// Something is forgotten then.
    fn end_by(&mut self, ends_at: Instant) {
        self.next_end = Some(self.next_end.map_or(ends_at, |next| next.min(ends_at)));
    }

    fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserId;
    use crate::env::SystemEnv;

    fn revocations(max: usize) -> Revocations {
        let mut limits = Limits::default();
        limits.revocations_max = max;
        Revocations::new(&SystemEnv::inline(), &limits)
    }

    fn token(user: &str, claims: &str) -> Identity {
        Identity::new(UserId::parse(user).unwrap()).with_claims(claims)
    }

    #[test]
    fn a_user_loses_the_tokens_of_before_and_not_those_of_later() {
        let (revocations, now) = (revocations(10), Instant::now());
        revocations.revoke_user("ann", now, 1000).unwrap();
        for (claims, revoked) in [
            (r#"{"iat":999}"#, true),
            (r#"{"iat":1000}"#, true),
            (r#"{"iat":1000.9}"#, true),
            (r#"{"iat":1001}"#, false),
            ("{}", true),
        ] {
            assert_eq!(revocations.has_revoked(&token("ann", claims)), revoked, "{claims}");
        }
        assert!(!revocations.has_revoked(&token("bob", "{}")));
        revocations.revoke_user("ann", now, 2000).unwrap();
        assert!(revocations.has_revoked(&token("ann", r#"{"iat":1001}"#)));
    }

    #[test]
    fn a_token_is_known_by_its_id_however_that_is_spelled() {
        let (revocations, now) = (revocations(10), Instant::now());
        revocations.revoke_token("a/1", now).unwrap();
        assert!(revocations.has_revoked(&token("ann", r#"{"jti":"a/1"}"#)));
        assert!(revocations.has_revoked(&token("ann", r#"{"jti":"\u0061\/1","iat":5}"#)));
        for claims in [r#"{"jti":"a/2"}"#, "{}", r#"{"sub":"a/1"}"#] {
            assert!(!revocations.has_revoked(&token("a/1", claims)), "{claims}");
        }
    }

    #[test]
    fn what_another_node_revoked_is_new_once_and_never_reaches_less_far() {
        let (revocations, now) = (revocations(1), Instant::now());
        let ends_at = now + Duration::from_secs(60);
        assert!(revocations.learn_user("ann", 1000, ends_at));
        assert!(revocations.learn_user("ann", 1001, ends_at));
        assert!(!revocations.learn_user("ann", 900, ends_at));
        assert!(revocations.learn_token("t", ends_at), "whoever stored it has seen to the bound");
        assert!(!revocations.learn_token("t", ends_at));
        assert!(revocations.has_revoked(&token("ann", r#"{"iat":1001}"#)));
        assert!(revocations.has_revoked(&token("bob", r#"{"jti":"t"}"#)));
        revocations.sweep(ends_at);
        assert!(!revocations.has_revoked(&token("ann", "{}")));
    }

    #[test]
    fn the_list_is_bounded_and_forgets_by_time_alone() {
        let (revocations, now) = (revocations(2), Instant::now());
        let hour = Duration::from_secs(3600);
        revocations.revoke_user("ann", now, 1000).unwrap();
        revocations.revoke_token("t", now + hour).unwrap();
        assert_eq!(revocations.revoke_token("u", now + hour), Err(TooManyRevocations));
        assert_eq!(revocations.revoke_user("bob", now + hour, 1000), Err(TooManyRevocations));
        revocations.revoke_token("t", now + hour).unwrap();
        revocations.sweep(now + 24 * hour - Duration::from_millis(1));
        assert!(revocations.has_revoked(&token("ann", "{}")));
        revocations.sweep(now + 24 * hour);
        assert!(!revocations.has_revoked(&token("ann", "{}")));
        assert!(revocations.has_revoked(&token("ann", r#"{"jti":"t"}"#)));
        revocations.revoke_user("bob", now + 24 * hour, 1000).unwrap();
        revocations.sweep(now + 25 * hour);
        assert!(!revocations.has_revoked(&token("ann", r#"{"jti":"t"}"#)));
        assert!(revocations.has_revoked(&token("bob", "{}")), "the later one has its own time");
    }
}
