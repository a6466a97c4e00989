//! How many connections may be on their way: accepted, and neither upgraded nor closed. Counts, and nothing else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tidings::Limits;

/// The connections on their way, of the node and of each address.
#[derive(Debug)]
pub(crate) struct PendingConnections {
    node_max: usize,
    address_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    node: usize,
    addresses: HashMap<IpAddr, usize>,
}

/// One connection on its way; dropped when it is that no more.
#[derive(Debug)]
pub(crate) struct PendingConnection {
    of: Arc<PendingConnections>,
    address: IpAddr,
}

/// Which of the limits is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMany {
    /// [`Limits::pending_handshakes_max`].
    OnNode,
    /// [`Limits::pending_handshakes_per_ip_max`].
    FromAddress,
}

impl PendingConnections {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self::at_most(limits.pending_handshakes_max, limits.pending_handshakes_per_ip_max)
    }

    /// For another kind of connections, with limits of their own.
    pub(crate) fn at_most(node_max: usize, address_max: usize) -> Self {
        Self { node_max, address_max, counts: Mutex::default() }
    }

    /// Counts a connection that has just been accepted. Loopback has no limit of its own: there a proxy speaks for
    /// everyone.
    pub(crate) fn begin(self: &Arc<Self>, address: IpAddr) -> Result<PendingConnection, TooMany> {
        let address = address.to_canonical();
        let counts = self.counts.lock();
        if counts.node >= self.node_max {
            return Err(TooMany::OnNode);
        }
        let of_address = counts.addresses.get(&address).copied().unwrap_or_default();
        if of_address >= self.address_max && !address.is_loopback() {
            return Err(TooMany::FromAddress);
        }
        Ok(self.count(counts, address))
    }

    /// The same for a proxy elsewhere, which speaks for everyone as well.
    pub(crate) fn begin_for_many(self: &Arc<Self>, address: IpAddr) -> Result<PendingConnection, TooMany> {
        let counts = self.counts.lock();
        if counts.node >= self.node_max {
            return Err(TooMany::OnNode);
        }
        Ok(self.count(counts, address.to_canonical()))
    }

    /// Counts one that was let in before, and is on its way once more: for what comes next there is a place less.
    pub(crate) fn go_on(self: &Arc<Self>, address: IpAddr) -> PendingConnection {
        self.count(self.counts.lock(), address.to_canonical())
    }

    fn count(self: &Arc<Self>, mut counts: MutexGuard<'_, Counts>, address: IpAddr) -> PendingConnection {
        counts.node += 1;
        *counts.addresses.entry(address).or_default() += 1;
        PendingConnection { of: Arc::clone(self), address }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock();
        counts.node -= 1;
        // An address that has none left is forgotten: a scan of many addresses leaves nothing behind.
        if let Some(of_address) = counts.addresses.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Arc<PendingConnections> {
        Arc::new(PendingConnections::new(&Limits::default()))
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_has_two_hundred_and_gets_one_back_when_one_ends() {
        let pending = pending();
        let mut held: Vec<_> = (0..200).map(|_| pending.begin(address(0x0a00_0001)).unwrap()).collect();
        assert_eq!(pending.begin(address(0x0a00_0001)).unwrap_err(), TooMany::FromAddress);
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(
            pending.begin(mapped).unwrap_err(),
            TooMany::FromAddress,
            "the same address in other clothes"
        );
        assert!(pending.begin(address(0x0a00_0002)).is_ok());
        held.pop();
        assert!(pending.begin(address(0x0a00_0001)).is_ok());
    }

    #[test]
    fn a_node_has_1024_loopback_included() {
        let pending = pending();
        let loopback: Vec<_> = (0..1000).map(|_| pending.begin([127, 0, 0, 1].into()).unwrap()).collect();
        let others: Vec<_> =
            (0..24).map(|number| pending.begin(address(0x0a00_0000 + number)).unwrap()).collect();
        assert_eq!(pending.begin([127, 0, 0, 1].into()).unwrap_err(), TooMany::OnNode);
        let proxy = address(0x0a00_0000);
        assert_eq!(pending.begin_for_many(proxy).unwrap_err(), TooMany::OnNode);
        drop(loopback);
        let of_proxy: Vec<_> = (0..300).map(|_| pending.begin_for_many(proxy).unwrap()).collect();
        let beyond: Vec<_> = (0..2000).map(|_| pending.go_on(proxy)).collect();
        assert_eq!(pending.begin(proxy).unwrap_err(), TooMany::OnNode, "those that go on count too");
        drop((others, of_proxy, beyond));
        let counts = pending.counts.lock();
        assert_eq!((counts.node, counts.addresses.len()), (0, 0));
    }
}
