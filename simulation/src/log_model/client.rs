//! A client: its position, and what the promises are to it.

use super::ring::{Next, Ring};
use super::rules::{Mutant, Rules};
use super::truth::{Event, Offset, Place, Truth};

/// A promise that was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Violation {
    /// I1: what a client got does not follow, in one log, what it had.
    NotNext,
    /// I2: an id names two events.
    IdNamesTwo,
    /// I3: a reset without a divergence, or a second one for the same.
    NeedlessReset,
    /// I3: a reset leaves out events that are stored.
    ResetSkips,
    /// I6: one publication is two events of one log.
    PublishedTwice,
    /// I6: a duplicate's answer is not the first's.
    WrongDuplicate,
}

/// What a step led to, for the properties that show that the model reaches what it is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A client was reset.
    Reset,
    /// A client that was reset before was reset again.
    ResetAgain,
    /// A client was told of a new epoch.
    Moved,
    /// A client got an event that was published under an earlier epoch than the one of its position.
    ReplayedFromParent,
    /// A client's position was moved by a skip.
    Skipped,
    /// A publish was answered as a duplicate.
    Duplicate,
    /// The same, across epochs.
    DuplicateOfParent,
    /// A publish was answered as a duplicate although its event was trimmed.
    DuplicateOfTrimmed,
    /// A publication whose id had expired became a second event.
    PublishedAfterExpiry,
    /// A heal found the messages in its buffer to be the next ones.
    HealedFromBuffer,
    /// A heal had to be done again, because its buffer had overflowed.
    HealedAgain,
    /// A ring went on under a new epoch and kept what it had.
    RingMoved,
    /// A ring was thrown away.
    RingReset,
    /// A client could be served by the ring once that had read.
    ServedByRing,
    /// A client was served by the read itself, because the ring had trimmed what came.
    ServedByRead,
    /// A reply came that no longer counted.
    ReplyDiscarded,
}

/// One client of the room.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Client {
    /// Its cursor; none before it was ever in.
    pub position: Option<Place>,
    /// Truth: the event at its position.
    pub last: Event,
    /// The node to which it is connected.
    pub at: Option<u8>,
    /// The ring can't serve it, and it waits for a read.
    pub waits: bool,
    /// Truth: since it is at this node and position, the log that the node reads could once not continue it.
    pub diverged: bool,
    /// Truth, kept where outcomes are: it was reset before.
    pub was_reset: bool,
}

impl Client {
    /// Connects to a node; who never was in begins at the node's top.
    pub fn attach(&mut self, node: u8, ring: Option<&Ring>) -> bool {
        if self.position.is_none() {
            let Some(ring) = ring else { return false };
            self.position = Some(ring.top());
            self.last = ring.top_event();
        }
        self.at = Some(node);
        true
    }

    /// Is cut off.
    pub fn detach(&mut self) {
        *self =
            Self { position: self.position, last: self.last, was_reset: self.was_reset, ..Self::default() };
    }

    /// Gets what the ring has next for it; none if there is nothing.
    pub fn serve(
        &mut self,
        ring: &Ring,
        truth: &Truth,
        rules: &Rules,
    ) -> Option<Result<Option<Outcome>, Violation>> {
        let position = self.position.filter(|_| !self.waits)?;
        Some(match ring.next(position, rules) {
            Next::Nothing => return None,
            Next::Event(place, event) => self
                .take(place, event, truth)
                .map(|()| (truth.place(event).epoch != place.epoch).then_some(Outcome::ReplayedFromParent)),
            Next::Moved(place) if truth.named(place) == Some(self.last) => {
                self.moved(place, self.last);
                Ok(Some(Outcome::Moved))
            }
            Next::Moved(_) => Err(Violation::NotNext),
            Next::Unserved if rules.broken(Mutant::ResetWithoutRead) => self.reset(ring).map(Some),
            Next::Unserved => {
                self.waits = true;
                Ok(None)
            }
        })
    }

    /// Gets a skip over all that the ring has for it.
    pub fn skip(&mut self, ring: &Ring, truth: &Truth, rules: &Rules) -> Option<Result<Outcome, Violation>> {
        let position = self.position.filter(|_| !self.waits)?;
        let top = ring.top();
        let two_behind = position.epoch == top.epoch && position.offset + 1 < top.offset;
        let served = two_behind && matches!(ring.next(position, rules), Next::Event(..));
        if !served && !rules.broken(Mutant::SkipNotJudged) {
            return None;
        }
        if truth.at(ring.top_event(), position.offset) != Some(self.last) {
            return Some(Err(Violation::NotNext));
        }
        self.moved(top, ring.top_event());
        Some(Ok(Outcome::Skipped))
    }

    /// A read for which it waited is there, and the ring has taken it over. What the ring has trimmed again meanwhile the
    /// client gets from the read itself: only the broker's answer can say that something is lost, and a ring smaller than
    /// what is missing would else never serve it.
    pub fn read(
        &mut self,
        ring: &Ring,
        read: &Ring,
        oldest: Offset,
        truth: &Truth,
        rules: &Rules,
    ) -> Result<Option<Outcome>, Violation> {
        let Some(position) = self.position else { return Ok(None) };
        self.waits = false;
        if ring.next(position, rules) != Next::Unserved {
            return Ok(Some(Outcome::ServedByRing));
        }
        let mut outcome = Outcome::ServedByRead;
        if rules.broken(Mutant::ResetByRing) {
            return self.reset(ring).map(Some);
        }
        if read.next(position, rules) == Next::Unserved {
            outcome = self.reset(read)?;
            if self.position.is_some_and(|position| position.offset >= oldest) {
                return Err(Violation::ResetSkips);
            }
        }
        while let Some(served) = self.serve(read, truth, rules) {
            served?;
        }
        Ok(Some(outcome))
    }

    fn take(&mut self, place: Place, event: Event, truth: &Truth) -> Result<(), Violation> {
        if truth.named(place) != Some(event) {
            return Err(Violation::IdNamesTwo);
        }
        let follows = self.position.is_some_and(|last| place == Place { offset: last.offset + 1, ..last });
        if !follows || truth.before(event) != self.last {
            return Err(Violation::NotNext);
        }
        self.moved(place, event);
        Ok(())
    }

    /// Is told that something was lost.
    pub fn reset(&mut self, ring: &Ring) -> Result<Outcome, Violation> {
        if !self.diverged {
            return Err(Violation::NeedlessReset);
        }
        let (base, event) = ring.base();
        self.moved(base, event);
        let outcome = if self.was_reset { Outcome::ResetAgain } else { Outcome::Reset };
        self.was_reset = true;
        Ok(outcome)
    }

    fn moved(&mut self, place: Place, event: Event) {
        self.position = Some(place);
        self.last = event;
        self.waits = false;
        self.diverged = false;
    }
}
