//! What becomes of a world when the adversary rests: all has to come right by the rules alone.

use super::broker::Role;
use super::client::Client;
use super::node::{Node, Subscription};
use super::ring::Ring;
use super::scenario::{Left, Scenario};
use super::truth::Place;
use super::world::{Action, World};

/// After how many rounds a world is settled. One for the connections, one for a heal that is done again, one for a
/// client that the ring can't serve, one to see that nothing changes any more.
const SETTLED_AFTER: usize = 4;

impl World {
    /// Whether all comes right by itself once the adversary rests: a few rounds in which every node follows the newest
    /// master, checks its position, and reads where the rules say so.
    pub fn settles(&self, scenario: &Scenario) -> bool {
        let mut world = self.clone();
        world.left = Left { reconnects: 100, resubscriptions: 100, ..Left::default() };
        let masters = (0u8..).zip(&world.servers).filter(|(_, server)| server.role == Role::Master);
        let Some((master, _)) = masters.max_by_key(|(_, server)| server.replid) else { return true };
        for server in (0..scenario.servers).filter(|server| *server != master) {
            world.servers[usize::from(server)].role = Role::Replica;
            world.step(Action::Replicate { to: server }, scenario);
        }
        for _ in 0..SETTLED_AFTER {
            (0..scenario.nodes).for_each(|node| world.settle(node, master, scenario));
        }
        world.violation.is_none() && world.is_settled(master)
    }

    fn settle(&mut self, number: u8, master: u8, scenario: &Scenario) {
        let at = usize::from(number);
        if self.nodes[at].commands != Some(master) {
            self.step(Action::Reconnect { node: number, server: master }, scenario);
        }
        if !matches!(self.nodes[at].subscription, Subscription::Asked(to) | Subscription::Confirmed(to) if to == master)
        {
            self.step(Action::Subscribe { node: number, server: master }, scenario);
        }
        self.step(Action::Confirm { node: number }, scenario);
        while !self.nodes[at].channel.is_empty() {
            self.step(Action::ReceiveMessage { node: number }, scenario);
        }
        self.step(Action::ReceiveReply { node: number }, scenario);
        if !self.nodes[at].healing {
            self.step(Action::CheckPosition { node: number }, scenario);
        }
        let waits = self.clients.iter().any(|client| client.at == Some(number) && client.waits);
        if self.nodes[at].healing || waits {
            self.step(Action::SendRead { node: number }, scenario);
            self.step(Action::ReceiveReply { node: number }, scenario);
        }
        for client in 0..scenario.clients {
            while self.clients[usize::from(client)].at == Some(number) {
                let before = self.clients[usize::from(client)].clone();
                self.step(Action::Serve { client }, scenario);
                if self.clients[usize::from(client)] == before {
                    break;
                }
            }
        }
    }

    fn is_settled(&self, master: u8) -> bool {
        let Some(meta) = &self.servers[usize::from(master)].data.meta else { return self.nodes.is_empty() };
        let top = Some(Place { epoch: meta.epoch, offset: meta.seq });
        let settled = |node: &Node| !node.healing && node.ring.as_ref().map(Ring::top) == top;
        let served = |client: &Client| client.at.is_none() || (client.position == top && !client.waits);
        self.nodes.iter().all(|node| settled(node)) && self.clients.iter().all(served)
    }
}
