//! How long to wait before the next connection. It draws nothing itself: the random number is passed in.

use std::time::Duration;

const FIRST_BOUND: Duration = Duration::from_secs(1);
const LAST_BOUND: Duration = Duration::from_secs(30);

/// Backoff 1, 2, 4 … 30 s with full jitter: a uniform draw from zero to the bound. PROTOCOL.md §7.
#[derive(Clone, Default, Debug)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt, and one failure more. `random` is uniform over all of u64.
    pub fn next(&mut self, random: u64) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        part_of(bound, random)
    }

    /// The most that [`next`](Self::next) would wait.
    pub fn bound(&self) -> Duration {
        // Five doublings pass the last bound already.
        FIRST_BOUND.saturating_mul(1 << self.failures.min(5)).min(LAST_BOUND)
    }

    /// Forgets the failures, after a connection that held.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A uniform draw from zero to `whole`, in milliseconds.
pub(super) fn part_of(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bound_doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..8)
            .map(|_| {
                let bound = backoff.bound();
                backoff.next(0);
                bound.as_secs()
            })
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.bound(), FIRST_BOUND);
    }

    #[test]
    fn jitter_is_full() {
        let mean = |part: fn(u64) -> u64| {
            (0..64).map(|i| part_of(LAST_BOUND, part(i)).as_secs_f64()).sum::<f64>() / 64.0
        };
        assert!((mean(|i| i << 58) - 15.0).abs() < 0.5);
        assert_eq!(part_of(LAST_BOUND, 0), Duration::ZERO);
        assert!(part_of(LAST_BOUND, u64::MAX) > LAST_BOUND - Duration::from_micros(1));
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bound(randoms in prop::collection::vec(any::<u64>(), 1..100)) {
            let mut backoff = Backoff::default();
            for random in randoms {
                let bound = backoff.bound();
                prop_assert!(bound <= LAST_BOUND && backoff.next(random) <= bound);
            }
        }
    }
}
