//! How many handshakes an address may begin, and all of them together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidings_protocol::limits::Limits;
use tidings_protocol::token_bucket::TokenBucket;

/// From so many addresses on, those that have been quiet are forgotten at once.
const ADDRESSES_KEPT: usize = 4096;

/// The buckets of the node and of all addresses that have knocked lately.
#[derive(Default)]
pub(crate) struct HandshakeRate {
    node: Mutex<Option<TokenBucket>>,
    addresses: Mutex<HashMap<IpAddr, TokenBucket>>,
}

impl HandshakeRate {
    /// Counts a handshake of an address. Loopback is exempt: there a proxy speaks for everyone.
    ///
    /// # Errors
    /// How long the address has to wait.
    pub(crate) fn take(&self, address: IpAddr, limits: &Limits, now: Instant) -> Result<(), Duration> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Ok(());
        }
        let (per_second, burst) = (limits.handshakes_per_second_per_ip, limits.handshakes_burst_per_ip);
        let mut buckets = self.addresses.lock();
        if buckets.len() >= ADDRESSES_KEPT {
            buckets.retain(|_, bucket| !bucket.is_full(per_second, now));
        }
        buckets.entry(address).or_insert_with(|| TokenBucket::full(now)).take(per_second, burst, now)
    }

    /// Counts a handshake of the node.
    ///
    /// # Errors
    /// How long everyone has to wait.
    pub(crate) fn take_of_node(&self, limits: &Limits, now: Instant) -> Result<(), Duration> {
        let per_second = limits.handshakes_per_second;
        self.node.lock().get_or_insert_with(|| TokenBucket::full(now)).take(per_second, per_second, now)
    }

    /// Forgets the addresses that have been quiet; how many are left.
    pub(crate) fn sweep(&self, limits: &Limits, now: Instant) -> usize {
        let mut buckets = self.addresses.lock();
        buckets.retain(|_, bucket| !bucket.is_full(limits.handshakes_per_second_per_ip, now));
        if buckets.capacity() > 4 * buckets.len() + 64 {
            buckets.shrink_to_fit();
        }
        buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_rate_and_loopback_none() {
        let (rate, limits, now) = (HandshakeRate::default(), Limits::default(), Instant::now());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let granted = (0..600).filter(|_| rate.take(address(1), &limits, now).is_ok()).count();
        assert_eq!(granted, 500);
        assert!(rate.take(address(2), &limits, now).is_ok());
        assert!((0..600).all(|_| rate.take([127, 0, 0, 1].into(), &limits, now).is_ok()));
        for number in 0..20_000u32 {
            let later = now + Duration::from_secs(u64::from(number));
            assert!(rate.take(IpAddr::from(number.to_be_bytes()), &limits, later).is_ok());
        }
        assert!(rate.addresses.lock().len() <= ADDRESSES_KEPT);
        assert_eq!(rate.sweep(&limits, now + Duration::from_secs(20_010)), 0);
    }
}
