//! How much may happen: a small world for each part of the protocol, because one of everything has too many states.

use super::rules::{Mutant, Rules};

/// How often the adversary and the users may still do what they do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Left {
    /// New events.
    pub publishes: u8,
    /// A replica becomes a master; the other one stays one too, until it is made a replica.
    pub promotions: u8,
    /// A server saves a snapshot.
    pub saves: u8,
    /// A server crashes and starts with its snapshot.
    pub restarts: u8,
    /// Keys of a master are gone: all, or one of meta, log and ids.
    pub deletions: u8,
    /// The oldest event is trimmed, at the broker or in a ring.
    pub trims: u8,
    /// The oldest idempotency id expires.
    pub expiries: u8,
    /// A live message is lost.
    pub losses: u8,
    /// A connection for commands is lost and made anew.
    pub reconnects: u8,
    /// A subscription is lost and asked for again.
    pub resubscriptions: u8,
    /// A client connects.
    pub attaches: u8,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its rules.
    pub rules: Rules,
    /// One server, or one and its replica.
    pub servers: u8,
    /// How many nodes.
    pub nodes: u8,
    /// How many clients.
    pub clients: u8,
    /// Events that are there at the start, on every server and in every ring.
    pub stored: u8,
    /// Nodes follow the room; otherwise they only publish.
    pub rings: bool,
    /// At the start every node is up to date and every client in; otherwise nothing was read yet.
    pub warm: bool,
    /// Publications may be sent again.
    pub retries: bool,
    /// What may happen.
    pub left: Left,
    /// Keep what each step led to, for the properties of reachability: more states.
    pub outcomes: bool,
    /// Count the steps, for random walks: otherwise one ends where it comes upon itself.
    pub steps: bool,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rules: Rules { mutant: None, parents_max: 8, buffer_max: 1, channel_max: 2 },
            servers: 2,
            nodes: 1,
            clients: 1,
            stored: 1,
            rings: true,
            warm: true,
            retries: false,
            left: Left::default(),
            outcomes: false,
            steps: false,
        }
    }
}

impl Scenario {
    /// The same world with one rule broken.
    pub fn with(mut self, mutant: Mutant) -> Self {
        self.rules.mutant = Some(mutant);
        self
    }

    /// The same world with more of everything that is bounded and may happen in it at all.
    pub fn deeper(mut self, by: u8) -> Self {
        let left = &mut self.left;
        for bound in [
            &mut left.publishes,
            &mut left.promotions,
            &mut left.saves,
            &mut left.restarts,
            &mut left.deletions,
            &mut left.trims,
            &mut left.expiries,
            &mut left.losses,
            &mut left.reconnects,
            &mut left.resubscriptions,
            &mut left.attaches,
        ] {
            if *bound > 0 {
                *bound += by;
            }
        }
        self
    }
}
