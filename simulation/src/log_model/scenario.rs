//! How much may happen: a small world for each part of the protocol, because one of everything has too many states.

use tidings_protocol::room_log::PARENTS_MAX;

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
    /// Look at each state for whether all comes right when the adversary rests.
    pub settles: bool,
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
            rules: Rules { mutant: None, parents_max: PARENTS_MAX, buffer_max: 1, channel_max: 2 },
            servers: 2,
            nodes: 1,
            clients: 1,
            stored: 1,
            rings: true,
            warm: true,
            settles: false,
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

/// The worlds in which everything is looked at.
impl Scenario {
    /// Two masters, snapshots: who gives out which id.
    pub fn forks() -> Self {
        let left = Left { publishes: 3, promotions: 2, saves: 1, restarts: 1, ..Left::default() };
        Self { rings: false, clients: 0, nodes: 2, left, ..Self::default() }
    }

    /// Retries over failovers, trims, expiries and deleted keys.
    pub fn retries() -> Self {
        let left =
            Left { publishes: 2, promotions: 2, trims: 1, expiries: 1, deletions: 1, ..Left::default() };
        Self { rings: false, clients: 0, nodes: 1, retries: true, left, ..Self::default() }
    }

    /// One server and one node that starts: lost messages, lost connections, a client that comes and goes.
    pub fn following() -> Self {
        let left = Left {
            publishes: 3,
            losses: 1,
            reconnects: 1,
            resubscriptions: 1,
            attaches: 3,
            ..Left::default()
        };
        Self { servers: 1, warm: false, settles: true, left, ..Self::default() }
    }

    /// A failover, with two masters for a while, as a client of one node sees it.
    pub fn failover() -> Self {
        let left = Left { publishes: 3, promotions: 1, reconnects: 1, ..Left::default() };
        Self { settles: true, left, ..Self::default() }
    }

    /// A node whose two connections lead to two masters.
    pub fn two_masters() -> Self {
        let left = Left { publishes: 2, promotions: 1, reconnects: 2, resubscriptions: 1, ..Left::default() };
        Self { clients: 0, settles: true, left, ..Self::default() }
    }

    /// A connection that stays open while its server is a replica for a while.
    pub fn back_and_forth() -> Self {
        let left = Left { publishes: 2, promotions: 2, ..Left::default() };
        Self { left, ..Self::default() }
    }

    /// Two clients that move between two nodes, one of which is behind.
    pub fn moving() -> Self {
        let left = Left { publishes: 2, losses: 1, attaches: 2, ..Left::default() };
        let mut scenario = Self { servers: 1, nodes: 2, clients: 2, left, ..Self::default() };
        scenario.rules.channel_max = 1;
        scenario
    }

    /// The same over a failover, with one client.
    pub fn moving_over_a_failover() -> Self {
        let left = Left { publishes: 1, promotions: 1, attaches: 2, ..Left::default() };
        let mut scenario = Self { nodes: 2, left, ..Self::default() };
        scenario.rules.channel_max = 1;
        scenario
    }

    /// A client that lags while broker and ring trim.
    pub fn trimming() -> Self {
        let left = Left { publishes: 2, promotions: 1, trims: 2, ..Left::default() };
        Self { left, stored: 2, ..Self::default() }
    }

    /// A ring that trims while it reads.
    pub fn trimming_while_reading() -> Self {
        let left = Left { publishes: 2, trims: 2, losses: 1, ..Left::default() };
        Self { servers: 1, stored: 0, settles: true, left, ..Self::default() }
    }

    /// Keys are deleted, or the server starts with an old snapshot.
    pub fn losing_data() -> Self {
        let left = Left { publishes: 2, saves: 1, restarts: 1, deletions: 1, attaches: 1, ..Left::default() };
        Self { servers: 1, left, ..Self::default() }
    }

    /// A heal while keys are deleted and messages lost.
    pub fn healing() -> Self {
        let left = Left { publishes: 2, deletions: 1, losses: 1, ..Left::default() };
        Self { servers: 1, settles: true, left, ..Self::default() }
    }

    /// More epochs than a log remembers.
    pub fn forgetting_parents() -> Self {
        let left = Left { publishes: 1, saves: 1, restarts: 3, attaches: 2, ..Left::default() };
        let mut scenario = Self { servers: 1, left, ..Self::default() };
        scenario.rules.parents_max = 1;
        scenario
    }

    /// As many epochs as a server remembers, and more, for random walks.
    pub fn many_epochs() -> Self {
        let left = Left { publishes: 6, saves: 8, restarts: 12, attaches: 8, ..Left::default() };
        let mut scenario = Self { servers: 1, nodes: 2, left, retries: true, ..Self::default() };
        scenario.rules.parents_max = PARENTS_MAX;
        scenario
    }

    /// Everything at once, for random walks.
    pub fn everything() -> Self {
        let left = Left {
            publishes: 12,
            promotions: 4,
            saves: 2,
            restarts: 2,
            deletions: 1,
            trims: 4,
            expiries: 2,
            losses: 3,
            reconnects: 4,
            resubscriptions: 3,
            attaches: 12,
        };
        let mut scenario = Self { nodes: 2, clients: 2, retries: true, left, steps: true, ..Self::default() };
        scenario.rules.parents_max = 3;
        scenario.rules.buffer_max = 2;
        scenario.rules.channel_max = 4;
        scenario
    }
}
