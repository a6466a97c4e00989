//! The one rate limiter: so many a second, so many at once.

use std::time::{Duration, Instant};

/// A bucket that fills at a rate and holds a burst. Rate and burst are given at each call, so that a
/// connection's buckets hold nothing but their level.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TokenBucket {
    /// What has been taken and not refilled yet: a new bucket is full, with nothing taken.
    taken: f32,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(now: Instant) -> Self {
        Self { taken: 0.0, at: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until one is there, when the burst is used up; nothing is taken then.
    pub fn take(&mut self, per_second: u32, burst: u32, now: Instant) -> Result<(), Duration> {
        let rate = per_second as f32;
        let refilled = now.saturating_duration_since(self.at).as_secs_f32() * rate;
        self.taken = (self.taken - refilled).max(0.0);
        self.at = now;
        let missing = self.taken + 1.0 - burst as f32;
        // A level that was summed up from fractions may be a hair short of a whole token.
        if missing <= 1e-3 {
            self.taken += 1.0;
            return Ok(());
        }
        Err(if rate > 0.0 { Duration::from_secs_f32(missing / rate) } else { Duration::MAX })
    }

    /// Whether nothing would be missing from it at `now`, so that forgetting it changes nothing.
    pub fn is_full(&self, per_second: u32, now: Instant) -> bool {
        self.taken <= now.saturating_duration_since(self.at).as_secs_f32() * per_second as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        for _ in 0..40 {
            assert_eq!(bucket.take(20, 40, start), Ok(()));
        }
        let wait = bucket.take(20, 40, start).unwrap_err();
        assert_eq!(wait.as_millis(), 50);
        assert!(bucket.take(20, 40, start + wait).is_ok());
        assert!(bucket.take(20, 40, start + wait).is_err());
    }

    #[test]
    fn it_never_holds_more_than_its_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        let later = start + Duration::from_secs(3600);
        let granted = (0..100).filter(|_| bucket.take(20, 40, later).is_ok()).count();
        assert_eq!(granted, 40);
        assert!(!bucket.is_full(20, later));
        assert!(bucket.is_full(20, later + Duration::from_secs(2)));
    }
}
