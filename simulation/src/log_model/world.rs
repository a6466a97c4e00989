//! The whole state, and what each action does to it.

use super::broker::{Answer, Data, Role, Server};
use super::client::{Client, Outcome, Violation};
use super::node::{Node, Read, Subscription};
use super::ring::{Message, Ring};
use super::rules::{Mutant, Rules};
use super::scenario::{Left, Scenario};
use super::shared::Shared;
use super::truth::{Place, Publication, Truth};

/// What of a room's keys is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Keys {
    /// All (FLUSHALL).
    All,
    /// The meta key (an eviction).
    Meta,
    /// The log.
    Log,
    /// The idempotency ids.
    Ids,
}

/// A step. Numbers are those of servers, nodes, clients and publications.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "their names are sentences")]
pub enum Action {
    Publish { node: u8, publication: Publication },
    Replicate { to: u8 },
    Promote { server: u8 },
    Demote { server: u8 },
    Save { server: u8 },
    Restart { server: u8 },
    Delete { server: u8, keys: Keys },
    TrimLog { server: u8 },
    ExpireId { server: u8 },
    Reconnect { node: u8, server: u8 },
    Subscribe { node: u8, server: u8 },
    Confirm { node: u8 },
    SendRead { node: u8 },
    ReceiveReply { node: u8 },
    ReceiveMessage { node: u8 },
    LoseMessage { node: u8 },
    CheckPosition { node: u8 },
    TrimRing { node: u8 },
    Attach { client: u8, node: u8 },
    Detach { client: u8 },
    Serve { client: u8 },
    Skip { client: u8 },
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// The broker.
    pub servers: Vec<Shared<Server>>,
    /// The nodes.
    pub nodes: Vec<Shared<Node>>,
    /// The clients.
    pub clients: Vec<Client>,
    /// What happened.
    pub truth: Shared<Truth>,
    /// Replids and run ids that were drawn.
    pub drawn: u8,
    /// What may still happen.
    pub left: Left,
    /// A broken promise; nothing happens after it.
    pub violation: Option<Violation>,
    /// What the last step led to, where that is kept.
    pub outcome: Option<Outcome>,
    /// How many steps, where they are counted.
    pub steps: u16,
}

impl World {
    /// The world of a scenario at its start.
    pub fn new(scenario: &Scenario) -> Self {
        let server = |number| Server {
            data: Data::default(),
            saved: None,
            role: if number == 0 { Role::Master } else { Role::Replica },
            replid: 1,
            run_id: number + 2,
        };
        let mut world = Self {
            servers: (0..scenario.servers).map(|number| server(number).into()).collect(),
            nodes: Vec::new(),
            clients: vec![Client::default(); usize::from(scenario.clients)],
            truth: Shared::default(),
            drawn: 4,
            left: Left { publishes: u8::MAX, attaches: u8::MAX, ..Left::default() },
            violation: None,
            outcome: None,
            steps: 0,
        };
        let known_replid = world.known_replid(0, &scenario.rules);
        world.nodes = vec![Node::new(0, known_replid).into(); usize::from(scenario.nodes)];
        for publication in 1..=scenario.stored {
            world.step(Action::Publish { node: 0, publication }, scenario);
        }
        for to in 1..scenario.servers {
            world.step(Action::Replicate { to }, scenario);
        }
        if scenario.warm && scenario.rings {
            for node in 0..scenario.nodes {
                world.step(Action::Confirm { node }, scenario);
                world.step(Action::SendRead { node }, scenario);
                world.step(Action::ReceiveReply { node }, scenario);
            }
            for client in 0..scenario.clients {
                world.step(Action::Attach { client, node: client % scenario.nodes }, scenario);
            }
        }
        world.left = scenario.left;
        world.outcome = None;
        world
    }

    /// Takes a step.
    pub fn step(&mut self, action: Action, scenario: &Scenario) {
        match self.act(action, &scenario.rules) {
            Ok(outcome) => self.outcome = outcome,
            Err(violation) => self.violation = Some(violation),
        }
        self.note_divergence();
        if !scenario.outcomes {
            self.outcome = None;
            self.clients.iter_mut().for_each(|client| client.was_reset = false);
        }
    }

    fn act(&mut self, action: Action, rules: &Rules) -> Result<Option<Outcome>, Violation> {
        match action {
            Action::Publish { node, publication } => return self.publish(node, publication, rules),
            Action::Replicate { to } => {
                let from = &self.servers[usize::from(1 - to)];
                let (data, replid) = (from.data.clone(), from.replid);
                let replica = &mut self.servers[usize::from(to)];
                (replica.data, replica.replid) = (data, replid);
            }
            Action::Promote { server } => {
                self.left.promotions -= 1;
                let replid = self.draw();
                let server = &mut self.servers[usize::from(server)];
                (server.role, server.replid) = (Role::Master, replid);
            }
            Action::Demote { server } => self.servers[usize::from(server)].role = Role::Replica,
            Action::Save { server } => {
                self.left.saves -= 1;
                let server = &mut self.servers[usize::from(server)];
                server.saved = Some(server.data.clone());
            }
            Action::Restart { server } => self.restart(server, rules),
            Action::Delete { server, keys } => self.delete(server, keys),
            Action::TrimLog { server } => {
                self.left.trims -= 1;
                self.servers[usize::from(server)].data.log.remove(0);
            }
            Action::ExpireId { server } => {
                self.left.expiries -= 1;
                let data = &mut self.servers[usize::from(server)].data;
                let (publication, _) = data.ids.remove(0);
                data.forgotten |= 1 << publication;
            }
            Action::Reconnect { node, server } => {
                if self.nodes[usize::from(node)].commands.is_some() {
                    self.left.reconnects -= 1;
                }
                let known_replid = self.known_replid(server, rules);
                self.nodes[usize::from(node)].connect(server, known_replid, rules);
            }
            Action::Subscribe { node, server } => {
                let node = &mut self.nodes[usize::from(node)];
                if node.subscription != Subscription::None {
                    self.left.resubscriptions -= 1;
                }
                node.subscribe(server, rules);
            }
            Action::Confirm { node } => {
                let node = &mut self.nodes[usize::from(node)];
                if let Subscription::Asked(server) = node.subscription {
                    node.confirm(server, rules);
                }
            }
            Action::SendRead { node } => self.send_read(node, rules),
            Action::ReceiveReply { node } => return self.receive_reply(node, rules),
            Action::ReceiveMessage { node } => self.nodes[usize::from(node)].receive(rules),
            Action::LoseMessage { node } => {
                self.left.losses -= 1;
                let node = &mut self.nodes[usize::from(node)];
                node.channel.remove(0);
                node.lossy = true;
            }
            Action::CheckPosition { node } => self.check_position(node, rules),
            Action::TrimRing { node } => {
                self.left.trims -= 1;
                if let Some(ring) = &mut self.nodes[usize::from(node)].ring {
                    ring.trim();
                }
            }
            Action::Attach { client, node } => {
                let ring = self.nodes[usize::from(node)].ring.as_ref();
                if self.clients[usize::from(client)].attach(node, ring) {
                    self.left.attaches -= 1;
                }
            }
            Action::Detach { client } => {
                let client_bit = 1 << client;
                let client = &mut self.clients[usize::from(client)];
                if let Some(node) = client.at {
                    // Who leaves waits no longer: should he be back before the reply, that read was sent before he came.
                    let read = self.nodes[usize::from(node)].read.as_mut();
                    read.into_iter().for_each(|read| read.waiters &= !client_bit);
                }
                client.detach();
            }
            Action::Serve { client } | Action::Skip { client } => {
                let client = &mut self.clients[usize::from(client)];
                let Some(node) = client.at else { return Ok(None) };
                let Some(ring) = &self.nodes[usize::from(node)].ring else { return Ok(None) };
                return if matches!(action, Action::Serve { .. }) {
                    client.serve(ring, &self.truth, rules).unwrap_or(Ok(None))
                } else {
                    client.skip(ring, &self.truth, rules).transpose()
                };
            }
        }
        Ok(None)
    }

    fn draw(&mut self) -> u8 {
        self.drawn += 1;
        self.drawn
    }

    fn known_replid(&self, server: u8, rules: &Rules) -> u8 {
        if rules.broken(Mutant::ReplidPerConnection) { self.servers[usize::from(server)].replid } else { 0 }
    }

    /// Begins a script of a node's, and says on which server; none if that refuses, for then the connection goes.
    fn begin_script(&mut self, node: u8, rules: &Rules) -> Option<usize> {
        let number = usize::from(self.nodes[usize::from(node)].commands?);
        let server = &mut self.servers[number];
        if server.role != Role::Master {
            self.nodes[usize::from(node)].lose_commands(rules);
            return None;
        }
        let lineage = match rules.mutant {
            Some(Mutant::RunIdForReplid) => server.run_id,
            Some(Mutant::ReplidPerConnection) => self.nodes[usize::from(node)].known_replid,
            _ => server.replid,
        };
        server.data.begin(lineage, &mut self.truth, rules);
        Some(number)
    }

    fn publish(
        &mut self,
        node: u8,
        publication: Publication,
        rules: &Rules,
    ) -> Result<Option<Outcome>, Violation> {
        let Some(number) = self.begin_script(node, rules) else { return Ok(None) };
        let data = &mut self.servers[number].data;
        let first = self.truth.published(data.tail, publication);
        let forgotten = data.forgotten & (1 << publication) != 0;
        match data.publish(publication, &mut self.truth, rules) {
            None => Ok(None),
            Some(Answer::NamesTwo) => Err(Violation::IdNamesTwo),
            Some(Answer::Duplicate(place)) => {
                let right = first.is_some_and(|first| self.truth.place(first) == place);
                let here = data.meta.as_ref().is_some_and(|meta| meta.epoch == place.epoch);
                let trimmed = data.oldest() > place.offset;
                match (right, trimmed, here) {
                    (false, ..) => Err(Violation::WrongDuplicate),
                    (true, true, _) => Ok(Some(Outcome::DuplicateOfTrimmed)),
                    (true, false, true) => Ok(Some(Outcome::Duplicate)),
                    (true, false, false) => Ok(Some(Outcome::DuplicateOfParent)),
                }
            }
            Some(Answer::Stored(place, event)) => {
                self.left.publishes -= 1;
                // An epoch beyond the parents that are remembered takes its ids along.
                let known = first.filter(|first| data.top_of(self.truth.place(*first).epoch).is_some());
                if known.is_some() && !forgotten {
                    return Err(Violation::PublishedTwice);
                }
                let from = Subscription::Confirmed(number as u8);
                for node in self.nodes.iter_mut().filter(|node| node.subscription == from) {
                    node.channel.push(Message { place, event });
                }
                Ok(first.map(|_| Outcome::PublishedAfterExpiry))
            }
        }
    }

    fn restart(&mut self, number: u8, rules: &Rules) {
        self.left.restarts -= 1;
        let (replid, run_id) = (self.draw(), self.draw());
        let server = &mut self.servers[usize::from(number)];
        server.data = server.saved.clone().unwrap_or_default();
        (server.replid, server.run_id) = (replid, run_id);
        for node in &mut self.nodes {
            if node.commands == Some(number) {
                node.lose_commands(rules);
            }
            if matches!(node.subscription, Subscription::Asked(at) | Subscription::Confirmed(at) if at == number)
            {
                node.lose_subscription(rules);
            }
        }
    }

    fn delete(&mut self, server: u8, keys: Keys) {
        self.left.deletions -= 1;
        let data = &mut self.servers[usize::from(server)].data;
        if matches!(keys, Keys::All | Keys::Meta) {
            data.meta = None;
        }
        if matches!(keys, Keys::All | Keys::Log) {
            data.log.clear();
        }
        if matches!(keys, Keys::All | Keys::Ids) {
            data.forgotten |= data.ids.iter().fold(0, |bits, (publication, _)| bits | 1 << publication);
            data.ids.clear();
        }
    }

    fn send_read(&mut self, number: u8, rules: &Rules) {
        let node = &self.nodes[usize::from(number)];
        let waiting = |client: &Client| client.at == Some(number) && client.waits;
        // Enough for the ring and for everybody who waits.
        let positions =
            self.clients.iter().filter(|client| waiting(client)).filter_map(|client| client.position);
        let positions: Vec<Place> = positions.chain(node.ring.as_ref().map(Ring::top)).collect();
        let waiters = (0u8..).zip(&self.clients).filter(|(_, client)| waiting(client));
        let waiters = waiters.fold(0, |bits, (client, _)| bits | 1 << client);
        let counts = node.read_counts(rules);
        let replica = node.commands.filter(|server| {
            rules.broken(Mutant::ReadsFromReplica) && self.servers[usize::from(*server)].role == Role::Replica
        });
        let server = match replica {
            Some(server) => Some(usize::from(server)),
            None => self.begin_script(number, rules),
        };
        let reply = server.and_then(|server| self.servers[server].data.read(&positions, &self.truth, rules));
        self.nodes[usize::from(number)].read = reply.map(|reply| Read { reply, counts, waiters });
    }

    fn receive_reply(&mut self, number: u8, rules: &Rules) -> Result<Option<Outcome>, Violation> {
        let node = &mut self.nodes[usize::from(number)];
        let Some(Read { reply, counts, waiters }) = node.read.take() else { return Ok(None) };
        let (counted, mut outcome) = node.take_reply(&reply, counts, rules);
        let Some(ring) = node.ring.as_ref().filter(|_| counted) else { return Ok(outcome) };
        let read = Ring::of(&reply);
        let everybody = rules.broken(Mutant::RingResetsEverybody) && outcome == Some(Outcome::RingReset);
        for (bit, client) in self.clients.iter_mut().enumerate() {
            if everybody && client.at == Some(number) {
                client.reset(ring)?;
            }
            let in_time = waiters & (1 << bit) != 0 || rules.broken(Mutant::SharedReadTooEarly);
            if client.at == Some(number) && client.waits && in_time {
                outcome = client.read(ring, &read, reply.oldest, &self.truth, rules)?.or(outcome);
            }
        }
        Ok(outcome)
    }

    fn check_position(&mut self, number: u8, rules: &Rules) {
        let Some(server) = self.begin_script(number, rules) else { return };
        let meta = self.servers[server].data.meta.as_ref();
        let node = &mut self.nodes[usize::from(number)];
        let top = node.ring.as_ref().map(Ring::top);
        if meta.map(|meta| (meta.epoch, meta.seq)) != top.map(|top| (top.epoch, top.offset)) {
            node.begin_heal(rules);
        } else if node.lossy {
            node.lossy = false;
        }
    }

    /// Notes for each client whether the log that its node reads could not continue it.
    fn note_divergence(&mut self) {
        for client in &mut self.clients {
            let (Some(position), Some(node)) = (client.position, client.at) else { continue };
            let Some(server) = self.nodes[usize::from(node)].commands else { continue };
            let server = &self.servers[usize::from(server)];
            // A replica is no authority.
            if server.role == Role::Master && !server.data.continues(position, client.last, &self.truth) {
                client.diverged = true;
            }
        }
    }

    /// Truth: whether a node that believes itself up to date is not, although nothing that was sent to it was lost.
    pub fn is_deaf(&self, node: &Node) -> bool {
        let (Some(commands), Subscription::Confirmed(sender)) = (node.commands, node.subscription) else {
            return false;
        };
        let server = &self.servers[usize::from(commands)];
        let (Some(meta), Some(ring)) = (&server.data.meta, &node.ring) else { return false };
        let follows = commands == sender && server.role == Role::Master && meta.lineage == server.replid;
        let quiet = !node.healing && node.channel.is_empty() && !node.lossy;
        // An epoch under which nothing was published is told by the position check alone.
        let published = meta.parents.last().map_or(0, |parent| parent.offset) < meta.seq;
        let told = published || meta.epoch == ring.top().epoch;
        follows && quiet && told && (meta.epoch, meta.seq) != (ring.top().epoch, ring.top().offset)
    }
}
