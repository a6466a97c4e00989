//! The log protocol between nodes and the broker, as steps and promises.
//!
//! It owns which steps there are in which state, and what has to hold; what a step does is the parts' own.

pub mod broker;
pub mod checking;
pub mod client;
pub mod judgement;
pub mod node;
pub mod ring;
pub mod rules;
pub mod scenario;
pub mod settling;
pub mod shared;
pub mod truth;
pub mod world;

use stateright::{Model, Property};

use broker::Role;
use client::{Outcome, Violation};
use node::Subscription;
use rules::Mutant;
use scenario::Scenario;
use world::{Action, Keys, World};

/// The model of one room's log.
#[derive(Clone, Debug)]
pub struct LogModel(pub Scenario);

impl LogModel {
    fn broker_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for (number, server) in (0u8..).zip(&world.servers) {
            let other = world.servers.get(1 - usize::from(number)).filter(|_| self.0.servers == 2);
            let master = server.role == Role::Master;
            let other_is_master = other.is_some_and(|other| other.role == Role::Master);
            if !master && other_is_master {
                actions.push(Action::Replicate { to: number });
            }
            if !master && left.promotions > 0 {
                actions.push(Action::Promote { server: number });
            }
            if master && other_is_master {
                actions.push(Action::Demote { server: number });
            }
            if master && left.saves > 0 {
                actions.push(Action::Save { server: number });
            }
            if master && left.restarts > 0 {
                actions.push(Action::Restart { server: number });
            }
            if master && left.deletions > 0 {
                let keys = [Keys::All, Keys::Meta, Keys::Log, Keys::Ids];
                actions.extend(keys.map(|keys| Action::Delete { server: number, keys }));
            }
            if master && left.trims > 0 && !server.data.log.is_empty() {
                actions.push(Action::TrimLog { server: number });
            }
            if master && left.expiries > 0 && !server.data.ids.is_empty() {
                actions.push(Action::ExpireId { server: number });
            }
        }
    }

    fn publish_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let full = world.nodes.iter().any(|node| node.channel.len() >= self.0.rules.channel_max);
        if world.left.publishes == 0 || full {
            return;
        }
        let used =
            (0..world.truth.len()).map(|event| world.truth.publication(event as u8)).max().unwrap_or(0);
        let first = if self.0.retries { 1 } else { used + 1 };
        for (number, node) in (0u8..).zip(&world.nodes) {
            if node.commands.is_some() {
                actions.extend(
                    (first..=used + 1).map(|publication| Action::Publish { node: number, publication }),
                );
            }
        }
    }

    fn node_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for (number, node) in (0u8..).zip(&world.nodes) {
            for (server, state) in (0u8..).zip(&world.servers) {
                let readable = state.role == Role::Master || self.0.rules.broken(Mutant::ReadsFromReplica);
                if readable && (node.commands.is_none() || left.reconnects > 0) {
                    actions.push(Action::Reconnect { node: number, server });
                }
                let lost = node.subscription == Subscription::None;
                if self.0.rings && (lost || left.resubscriptions > 0) {
                    actions.push(Action::Subscribe { node: number, server });
                }
            }
            if !self.0.rings {
                continue;
            }
            if matches!(node.subscription, Subscription::Asked(_)) {
                actions.push(Action::Confirm { node: number });
            }
            let waiting = world.clients.iter().any(|client| client.at == Some(number) && client.waits);
            if node.read.is_some() {
                actions.push(Action::ReceiveReply { node: number });
            } else if node.commands.is_some() && (node.healing || waiting) {
                actions.push(Action::SendRead { node: number });
            }
            if !node.channel.is_empty() {
                actions.push(Action::ReceiveMessage { node: number });
                if left.losses > 0 {
                    actions.push(Action::LoseMessage { node: number });
                }
            }
            if node.commands.is_some() && !node.healing {
                actions.push(Action::CheckPosition { node: number });
            }
            if left.trims > 0 && node.ring.as_ref().is_some_and(|ring| !ring.is_empty()) {
                actions.push(Action::TrimRing { node: number });
            }
        }
    }

    fn client_actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, client) in (0u8..).zip(&world.clients) {
            if client.at.is_some() {
                actions.push(Action::Serve { client: number });
                actions.push(Action::Skip { client: number });
                if world.left.attaches > 0 {
                    actions.push(Action::Detach { client: number });
                }
            } else if world.left.attaches > 0 {
                actions.extend((0..self.0.nodes).map(|node| Action::Attach { client: number, node }));
            }
        }
    }
}

impl Model for LogModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_none() {
            self.broker_actions(world, actions);
            self.publish_actions(world, actions);
            self.node_actions(world, actions);
            self.client_actions(world, actions);
        }
        if self.0.steps {
            // What a walk does shall be something.
            actions.retain(|action| match action {
                Action::Serve { .. } | Action::Skip { .. } | Action::CheckPosition { .. } => {
                    let mut next = world.clone();
                    next.step(*action, &self.0);
                    next != *world
                }
                _ => true,
            });
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.step(action, &self.0);
        // A walk's trace can't be told again if it holds steps that were none.
        if !self.0.steps && next == *world {
            return None;
        }
        next.steps += u16::from(self.0.steps);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("I1: what follows is the next event of one log", |_, world: &World| {
                world.violation != Some(Violation::NotNext)
            }),
            Property::always("I2: an id names one event", |_, world: &World| {
                world.violation != Some(Violation::IdNamesTwo)
            }),
            Property::always("I3: one reset a divergence", |_, world: &World| {
                world.violation != Some(Violation::NeedlessReset)
            }),
            Property::always("I3: what is still stored follows a reset", |_, world: &World| {
                world.violation != Some(Violation::ResetSkips)
            }),
            Property::always("I4: a node knows that it missed something", |_, world: &World| {
                !world.nodes.iter().any(|node| world.is_deaf(node))
            }),
            Property::always("I6: a publication is one event", |_, world: &World| {
                world.violation != Some(Violation::PublishedTwice)
            }),
            Property::always("I6: a duplicate's answer is the first's", |_, world: &World| {
                world.violation != Some(Violation::WrongDuplicate)
            }),
        ];
        if self.0.settles {
            properties
                .push(Property::always("I4: all comes right by itself", |model: &Self, world: &World| {
                    world.violation.is_some() || world.settles(&model.0)
                }));
        }
        if self.0.outcomes {
            properties.extend(REACHED.iter().map(|(name, reached)| Property::sometimes(name, *reached)));
        }
        properties
    }
}

type Reached = fn(&LogModel, &World) -> bool;

macro_rules! reached {
    ($($outcome:ident: $name:literal,)*) => {
        /// Each outcome as a property of reachability.
        pub const REACHED: &[(&str, Reached)] =
            &[$(($name, |_, world| world.outcome == Some(Outcome::$outcome)),)*];
    };
}

reached! {
    Reset: "a client is reset",
    ResetAgain: "a client is reset twice",
    Moved: "a client is told of a new epoch",
    ReplayedFromParent: "an event of a parent is replayed under a newer epoch",
    Skipped: "a client is moved by a skip",
    Duplicate: "a retry is answered",
    DuplicateOfParent: "a retry is answered across epochs",
    DuplicateOfTrimmed: "a retry is answered whose event was trimmed",
    PublishedAfterExpiry: "an id expires and is published again",
    HealedFromBuffer: "a heal takes its buffer",
    HealedAgain: "a heal is done again",
    RingMoved: "a ring goes on under a new epoch",
    RingReset: "a ring is thrown away",
    ServedByRing: "a ring reads and can serve",
    ServedByRead: "a read serves what the ring has trimmed again",
    ReplyDiscarded: "a reply comes too late to count",
}
