//! How many messages a user may send, over all his connections on this node.
//!
//! A connection asks for its user's rate at its first message and keeps it, so that no message takes a lock that others
//! want. The rate outlives the connections until its bucket is full again: coming back is no way to fill it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidings_protocol::limits::Limits;
use tidings_protocol::token_bucket::TokenBucket;

use crate::auth::UserId;

/// The rates of those who sent something lately.
#[derive(Default)]
pub(crate) struct UserRates(Mutex<HashMap<UserId, Arc<UserRate>>>);

/// One user's rate, shared by his connections.
pub(crate) struct UserRate(Mutex<TokenBucket>);

impl UserRate {
    /// Takes one message.
    ///
    /// # Errors
    /// How long the user has to wait.
    pub(crate) fn take(&self, limits: &Limits, now: Instant) -> Result<(), Duration> {
        let per_second = limits.messages_per_second_per_user;
        self.0.lock().take(per_second, per_second, now)
    }

    /// Whether forgetting it changes nothing.
    pub(crate) fn is_full(&self, limits: &Limits, now: Instant) -> bool {
        self.0.lock().is_full(limits.messages_per_second_per_user, now)
    }
}

impl UserRates {
    /// The rate of a user, for one of his connections to keep.
    pub(crate) fn of(&self, user: &UserId, now: Instant) -> Arc<UserRate> {
        let mut rates = self.0.lock();
        if let Some(rate) = rates.get(user) {
            return Arc::clone(rate);
        }
        let rate = Arc::new(UserRate(Mutex::new(TokenBucket::full(now))));
        rates.insert(user.clone(), Arc::clone(&rate));
        rate
    }

    /// Forgets those that no connection keeps and that are full; how many are left.
    pub(crate) fn sweep(&self, limits: &Limits, now: Instant) -> usize {
        let mut rates = self.0.lock();
        rates.retain(|_, rate| Arc::strong_count(rate) > 1 || !rate.is_full(limits, now));
        if rates.capacity() > 4 * rates.len() + 64 {
            rates.shrink_to_fit();
        }
        rates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_connections_share_a_rate_and_coming_back_does_not_fill_it() {
        let (rates, limits, now) = (UserRates::default(), Limits::default(), Instant::now());
        let ann = UserId::parse("ann").unwrap();
        let (one, two) = (rates.of(&ann, now), rates.of(&ann, now));
        for _ in 0..25 {
            assert!(one.take(&limits, now).is_ok() && two.take(&limits, now).is_ok());
        }
        assert_eq!(two.take(&limits, now).unwrap_err().as_millis(), 20);
        drop((one, two));
        let half_full = now + Duration::from_millis(500);
        assert_eq!(rates.sweep(&limits, half_full), 1);
        let again = rates.of(&ann, half_full);
        assert_eq!((0..50).filter(|_| again.take(&limits, half_full).is_ok()).count(), 25);
        let full = half_full + Duration::from_secs(1);
        assert_eq!(rates.sweep(&limits, full), 1, "a connection keeps it");
        drop(again);
        assert_eq!(rates.sweep(&limits, full), 0);
    }

    #[test]
    fn a_hundred_thousand_users_leave_nothing_behind() {
        let (rates, limits, now) = (UserRates::default(), Limits::default(), Instant::now());
        for number in 0..100_000 {
            let user = UserId::parse(&format!("user-{number}")).unwrap();
            rates.of(&user, now).take(&limits, now).unwrap();
        }
        assert_eq!(rates.sweep(&limits, now + Duration::from_secs(1)), 0);
        assert!(rates.0.lock().capacity() < 100);
    }
}
