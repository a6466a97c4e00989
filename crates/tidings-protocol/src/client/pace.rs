//! How fast a client sends: no faster than the server has said that it takes it. PROTOCOL.md §7.

use std::time::{Duration, Instant};

use crate::message::ClientLimits;
use crate::token_bucket::TokenBucket;

/// The least wait for a token: a rate beyond the clock's grain moves time all the same.
const WAIT_MIN: Duration = Duration::from_nanos(1);

/// The pace of one connection. A server that tells no rate sets none.
#[derive(Default, Debug)]
pub(super) struct Pace {
    rate: Option<Rate>,
    /// When there is a token for what waits for one.
    token_at: Option<Instant>,
}

#[derive(Debug)]
struct Rate {
    per_second: u32,
    /// Half of what the server takes at once: the rest is for what is not held back.
    share: u32,
    tokens: TokenBucket,
}

impl Pace {
    /// The pace of a connection that begins with these limits.
    pub(super) fn new(limits: &ClientLimits, now: Instant) -> Self {
        let (per_second, burst) = (limits.messages_per_second, limits.messages_burst);
        let rate = (per_second > 0 && burst > 0).then(|| Rate {
            per_second,
            share: (burst / 2).max(1),
            tokens: TokenBucket::full(now),
        });
        Self { rate, token_at: None }
    }

    /// How many requests may be without an answer at a time.
    pub(super) fn unanswered_max(&self) -> usize {
        self.rate.as_ref().map_or(usize::MAX, |rate| usize::try_from(rate.share).unwrap_or(usize::MAX))
    }

    /// Takes a token for what waits until there is one. Whether it may go now; if not, the next one is waited for.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let missing = self.take_token(now).err();
        self.token_at = missing.map(|wait| now + wait.max(WAIT_MIN));
        missing.is_none()
    }

    /// Takes a token, if there is one, for what is not held back.
    pub(super) fn take_if_any(&mut self, now: Instant) {
        // Without one it goes all the same.
        let _ = self.take_token(now);
    }

    /// What waits is looked at again.
    pub(super) fn tick(&mut self, now: Instant) {
        self.token_at = self.token_at.filter(|token_at| *token_at > now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.token_at
    }

    fn take_token(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(Rate { per_second, share, tokens }) = &mut self.rate else { return Ok(()) };
        tokens.take(*per_second, *share, now)
    }
}
