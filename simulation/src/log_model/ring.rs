//! One node's ring of the room: what it takes from reads, what from live messages, and what it judges by.

use super::broker::Reply;
use super::judgement::{Shape, Verdict, judge};
use super::rules::{Mutant, Rules};
use super::truth::{Epoch, Event, Offset, Place, Truth};

/// A live message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// Its id.
    pub place: Place,
    /// The event.
    pub event: Event,
}

/// A gap-free piece of the log, up to its top.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ring {
    epoch: Epoch,
    parents: Vec<Place>,
    /// The offset before the first event.
    base: Offset,
    /// Truth: the event at `base`.
    base_event: Event,
    events: Vec<Event>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It is the next one.
    Appended,
    /// It is here already.
    Stale,
    /// It is of another epoch, or others are missing before it.
    Diverged,
}

/// What a read was to a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adopted {
    /// More of the same epoch, or nothing.
    Same,
    /// A newer epoch of the same log.
    Moved,
    /// Another log, or so much later in this one that nothing joins them.
    Replaced,
}

/// What a client at some position is to be sent next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing: it has everything.
    Nothing,
    /// An event.
    Event(Place, Event),
    /// A `room.epoch`, which moves it here.
    Moved(Place),
    /// The ring can't serve it.
    Unserved,
}

impl Ring {
    /// A ring of what was read.
    pub fn of(reply: &Reply) -> Self {
        let Reply { epoch, parents, base, base_event, events, .. } = reply.clone();
        Self { epoch, parents, base, base_event, events }
    }

    /// The newest position.
    pub fn top(&self) -> Place {
        Place { epoch: self.epoch, offset: self.base + self.events.len() as Offset }
    }

    /// The position before the first event, and truth: the event there.
    pub fn base(&self) -> (Place, Event) {
        (Place { epoch: self.epoch, offset: self.base }, self.base_event)
    }

    /// Truth: the event at the top.
    pub fn top_event(&self) -> Event {
        self.events.last().copied().unwrap_or(self.base_event)
    }

    /// Whether anything could be trimmed.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Forgets the oldest event.
    pub fn trim(&mut self) {
        self.base += 1;
        self.base_event = self.events.remove(0);
    }

    /// A live message, while nothing is being healed.
    pub fn accept(&mut self, message: Message, rules: &Rules) -> Accepted {
        let Message { place, event } = message;
        if rules.broken(Mutant::MessageMovesEpoch) && place.offset == self.top().offset + 1 {
            self.epoch = place.epoch;
        }
        if place.epoch != self.epoch && !rules.broken(Mutant::OffsetOnly) {
            return Accepted::Diverged;
        }
        if place.offset <= self.top().offset {
            return Accepted::Stale;
        }
        if place.offset != self.top().offset + 1 {
            return Accepted::Diverged;
        }
        self.events.push(event);
        Accepted::Appended
    }

    /// Takes over what a read says, and says what that was. While healing nothing was accepted, so that a read can't be
    /// behind the ring; otherwise one that is behind has only older events to add.
    pub fn adopt(&mut self, reply: &Reply, healing: bool, rules: &Rules) -> Adopted {
        let top = self.top();
        let behind = top.epoch == reply.epoch && reply.top < top.offset && !healing;
        // Whether the ring's own end is in the log that was read; trimmed or not is another question.
        let log = Shape { epoch: reply.epoch, parents: &reply.parents, oldest: 1, top: reply.top };
        let related = behind || judge(&log, top, rules) != Verdict::Reset;
        let read_to = reply.base + reply.events.len() as Offset;
        let overlaps = reply.base <= top.offset && read_to >= self.base;
        if !related || (reply.base > top.offset) {
            *self = Self::of(reply);
            return Adopted::Replaced;
        }
        let adopted = if top.epoch == reply.epoch { Adopted::Same } else { Adopted::Moved };
        if !behind {
            self.epoch = reply.epoch;
            self.parents.clone_from(&reply.parents);
        }
        if !overlaps {
            return adopted;
        }
        if read_to > top.offset {
            self.events.extend_from_slice(&reply.events[usize::from(top.offset - reply.base)..]);
        }
        if reply.base < self.base {
            let older = &reply.events[..usize::from(self.base - reply.base)];
            self.events = [older, &self.events].concat();
            self.base = reply.base;
            self.base_event = reply.base_event;
        }
        adopted
    }

    /// What somebody at `position` is told.
    pub fn judge(&self, position: Place, rules: &Rules) -> Verdict {
        let top = self.top().offset;
        judge(
            &Shape { epoch: self.epoch, parents: &self.parents, oldest: self.base + 1, top },
            position,
            rules,
        )
    }

    /// The same, as what it is sent next.
    pub fn next(&self, position: Place, rules: &Rules) -> Next {
        match self.judge(position, rules) {
            Verdict::Reset => Next::Unserved,
            Verdict::Moved => Next::Moved(Place { epoch: self.epoch, ..position }),
            Verdict::Replay => {
                let from = position.offset.max(self.base);
                match self.events.get(usize::from(from - self.base)) {
                    None => Next::Nothing,
                    Some(event) => Next::Event(Place { epoch: self.epoch, offset: from + 1 }, *event),
                }
            }
        }
    }

    /// Truth: whether the whole ring is what its epoch's ids name.
    pub fn is_true(&self, truth: &Truth) -> bool {
        (self.base + 1..)
            .zip(&self.events)
            .all(|(offset, event)| truth.named(Place { epoch: self.epoch, offset }) == Some(*event))
    }
}
