//! One node: its two connections to the broker, what is on its way to it, and how it heals its ring.

use super::broker::Reply;
use super::client::Outcome;
use super::ring::{Accepted, Adopted, Message, Ring};
use super::rules::{Mutant, Rules};

/// The connection on which messages come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Subscription {
    /// Lost.
    #[default]
    None,
    /// Asked for at this server, which does not send yet.
    Asked(u8),
    /// This server sends, and the node knows.
    Confirmed(u8),
}

/// A read whose reply is on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Read {
    /// What it will say.
    pub reply: Reply,
    /// It was sent after the newest subscription confirmation, the newest connection and the beginning of the heal.
    pub counts: bool,
    /// The clients that waited before it was sent, a bit each.
    pub waiters: u8,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// The server on which its scripts run.
    pub commands: Option<u8>,
    /// The replid that server had when the connection began; 0 but for the mutant that uses it.
    pub known_replid: u8,
    /// Where it listens.
    pub subscription: Subscription,
    /// What was sent to it and has not arrived.
    pub channel: Vec<Message>,
    /// Truth: something that was sent under this subscription was lost, and nothing has told the node yet.
    pub lossy: bool,
    /// Its ring; none before the first read.
    pub ring: Option<Ring>,
    /// Nothing is accepted until a read says where the log is.
    pub healing: bool,
    /// What came while healing.
    pub buffer: Vec<Message>,
    /// More came than the buffer holds.
    pub overflowed: bool,
    /// The read under way: one at a time.
    pub read: Option<Read>,
}

impl Node {
    /// A node that has just started: connected, with a subscription that is not confirmed.
    pub fn new(commands: u8, known_replid: u8) -> Self {
        Self {
            commands: Some(commands),
            known_replid,
            subscription: Subscription::Asked(commands),
            channel: Vec::new(),
            lossy: false,
            ring: None,
            healing: true,
            buffer: Vec::new(),
            overflowed: false,
            read: None,
        }
    }

    /// A new connection for commands; a reply on the old one never comes.
    pub fn connect(&mut self, server: u8, known_replid: u8, rules: &Rules) {
        self.lose_commands(rules);
        self.commands = Some(server);
        self.known_replid = known_replid;
    }

    /// The connection for commands is gone: cut, or dropped because a replica answered.
    pub fn lose_commands(&mut self, rules: &Rules) {
        self.commands = None;
        self.known_replid = 0;
        if !rules.broken(Mutant::EarlierConnectionCounts) {
            self.read = None;
        }
        if !rules.broken(Mutant::ReconnectNotHealed) {
            self.healing = true;
        }
    }

    /// A new subscription is asked for.
    pub fn subscribe(&mut self, server: u8, rules: &Rules) {
        self.lose_subscription(rules);
        self.subscription = Subscription::Asked(server);
    }

    /// The subscription is gone, with what was on its way.
    pub fn lose_subscription(&mut self, rules: &Rules) {
        self.subscription = Subscription::None;
        self.channel.clear();
        self.buffer.clear();
        self.overflowed = false;
        self.lossy = false;
        self.restart_heal(rules);
    }

    /// The subscription is confirmed.
    pub fn confirm(&mut self, server: u8, rules: &Rules) {
        self.subscription = Subscription::Confirmed(server);
        self.restart_heal(rules);
    }

    fn restart_heal(&mut self, rules: &Rules) {
        if !rules.broken(Mutant::ResubscriptionNotHealed) {
            self.healing = true;
        }
        if let Some(read) = self.read.as_mut().filter(|_| !rules.broken(Mutant::SubscribeAfterRead)) {
            read.counts = false;
        }
    }

    /// A gap was seen, or a position that is not the ring's: what was read before can't tell what is missing.
    pub fn begin_heal(&mut self, rules: &Rules) {
        if self.healing {
            return;
        }
        (self.healing, self.lossy) = (true, false);
        if let Some(read) = self.read.as_mut().filter(|_| !rules.broken(Mutant::EarlierThanHealCounts)) {
            read.counts = false;
        }
    }

    /// Whether a read that is sent now will count.
    pub fn read_counts(&self, rules: &Rules) -> bool {
        matches!(self.subscription, Subscription::Confirmed(_)) || rules.broken(Mutant::SubscribeAfterRead)
    }

    /// The next message of the channel arrives.
    pub fn receive(&mut self, rules: &Rules) {
        let message = self.channel.remove(0);
        if !self.healing || rules.broken(Mutant::AcceptsWhileHealing) {
            let accepted = self.ring.as_mut().map(|ring| ring.accept(message, rules));
            if accepted.is_some_and(|accepted| accepted != Accepted::Diverged) {
                return;
            }
            self.begin_heal(rules);
        }
        if self.buffer.len() < rules.buffer_max {
            self.buffer.push(message);
        } else if !rules.broken(Mutant::OverflowForgotten) {
            self.overflowed = true;
        }
    }

    /// The reply arrives. Says what it led to, and whether it counted.
    pub fn take_reply(&mut self, reply: &Reply, counts: bool, rules: &Rules) -> (bool, Option<Outcome>) {
        if !counts {
            return (false, Some(Outcome::ReplyDiscarded));
        }
        let adopted = match &mut self.ring {
            None => {
                self.ring = Some(Ring::of(reply));
                Adopted::Same
            }
            Some(ring) => ring.adopt(reply, self.healing, rules),
        };
        let mut outcome = match adopted {
            Adopted::Same => None,
            Adopted::Moved => Some(Outcome::RingMoved),
            Adopted::Replaced => Some(Outcome::RingReset),
        };
        if self.healing {
            outcome = self.drain(rules).or(outcome);
        }
        (true, outcome)
    }

    /// What came during the heal, in order. Whatever becomes of it, the buffer is empty afterwards, so that a message
    /// of an old epoch can't make a node heal for ever.
    fn drain(&mut self, rules: &Rules) -> Option<Outcome> {
        let Some(ring) = &mut self.ring else { return None };
        self.healing = std::mem::take(&mut self.overflowed);
        let mut outcome = self.healing.then_some(Outcome::HealedAgain);
        for message in std::mem::take(&mut self.buffer) {
            match ring.accept(message, rules) {
                Accepted::Appended => outcome = outcome.or(Some(Outcome::HealedFromBuffer)),
                Accepted::Stale => {}
                Accepted::Diverged => {
                    self.healing = true;
                    if rules.broken(Mutant::BufferKept) {
                        self.buffer.push(message);
                    }
                }
            }
        }
        outcome
    }
}
