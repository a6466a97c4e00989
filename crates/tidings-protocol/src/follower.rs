//! Following a room's log that a broker sequences: what a node may take into its own log, and when it has to read again.
//!
//! Publish and subscribe carry at most once, so what comes that way counts only if it is the next event of the same
//! epoch. Everything else starts a **heal**: the log is read. Only a read moves an epoch or replaces what the node has,
//! and a read counts only if it was sent after the newest connection and the newest subscription; until it is through,
//! messages are kept and nothing is accepted. PROTOCOL.md §7 has the same rules for clients; `simulation/` checks them.

use crate::event_id::{Epoch, Offset, Position};

/// While a room heals, so many bytes of messages are kept. More are dropped, and the room is read once more.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// And so many messages.
pub const KEPT_MESSAGES_MAX: usize = 1024;

/// A log as the broker had it at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogState {
    /// The life that it is in.
    pub epoch: Epoch,
    /// The newest offset.
    pub top: Offset,
    /// The first stored offset, or the one after the top if nothing is stored.
    pub oldest: Offset,
    /// Earlier lives, each with the newest offset that it shares with this one; the oldest first.
    pub parents: Vec<Position>,
}

impl LogState {
    /// The newest position.
    pub fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }
}

/// An event as the broker stores it: `R` is whatever a node makes a publication of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried<R> {
    /// Its place in the log.
    pub offset: Offset,
    /// When the broker took it, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was published.
    pub record: R,
}

/// What one read brought: the log's state, and some of what follows the offset that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<R> {
    /// The log at that moment.
    pub state: LogState,
    /// Contiguous, from the first stored offset after the one that was asked for.
    pub events: Vec<Carried<R>>,
}

/// Events that were published together, as they come by publish and subscribe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message<R> {
    /// The epoch under which they were sequenced.
    pub epoch: Epoch,
    /// Contiguous.
    pub events: Vec<Carried<R>>,
    /// What they take in memory.
    pub bytes: usize,
}

/// A read that has to be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Comes back with the answer.
    pub read: ReadNumber,
    /// The events after this offset.
    pub after: Offset,
}

/// Which read an answer is one of. Numbers grow, and a larger one was asked for later.
pub type ReadNumber = u64;

/// What becomes of the node's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step<R> {
    /// What the log takes, in this order.
    pub change: Change<R>,
    /// What to read next.
    pub ask: Option<Ask>,
    /// The log follows the broker's again, by this read.
    pub healed: Option<ReadNumber>,
}

/// A change of the node's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<R> {
    /// None.
    None,
    /// These follow what it has.
    Append(Vec<Carried<R>>),
    /// This takes the place of what it has: every reader is to be judged anew, by his own position.
    Replace(LogState, Vec<Carried<R>>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nobody here wants the room.
    Idle,
    /// The subscription is not confirmed yet.
    Subscribing,
    /// A read is on its way.
    Healing,
    /// What comes is taken as it comes.
    Following,
}

/// One room's following.
#[derive(Debug)]
pub struct Follower<R> {
    phase: Phase,
    /// The node's newest position; none while it knows nothing of the log.
    position: Option<Position>,
    /// The newest read. Answers of older ones don't count.
    read: ReadNumber,
    /// A read of at least this number is wanted.
    wanted: ReadNumber,
    /// The next read is to be of all that is stored.
    wanted_whole: bool,
    /// The read that is on its way is.
    whole: bool,
    /// What a read of all that is stored has brought so far.
    pages: Option<Page<R>>,
    kept: Vec<Message<R>>,
    kept_bytes: usize,
    /// Something was not kept.
    overflowed: bool,
}

impl<R> Default for Follower<R> {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            position: None,
            read: 0,
            wanted: 0,
            wanted_whole: false,
            whole: false,
            pages: None,
            kept: Vec::new(),
            kept_bytes: 0,
            overflowed: false,
        }
    }
}

impl<R> Follower<R> {
    /// Whether the log is the broker's, as far as the node can know.
    pub fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// Whether a subscription is to be confirmed.
    pub fn is_subscribing(&self) -> bool {
        self.phase == Phase::Subscribing
    }

    /// The node's newest position; none while it knows nothing of the log.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Somebody here wants the room: a subscription has to be asked for.
    pub fn begin(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Subscribing;
        }
    }

    /// Nobody here wants the room any more. What comes is ignored.
    pub fn end(&mut self) {
        self.phase = Phase::Idle;
        self.forget_kept();
        self.pages = None;
    }

    /// The connection to the broker was lost, and the subscription with it.
    pub fn disconnected(&mut self) {
        if self.phase != Phase::Idle {
            self.end();
            self.phase = Phase::Subscribing;
        }
    }

    /// The subscription was confirmed.
    pub fn subscribed(&mut self) -> Option<Ask> {
        // After a second confirmation too, an older read does not count.
        (self.phase != Phase::Idle).then(|| self.heal())
    }

    /// Somebody has a position that the node's log can't serve: it is read, and all that is stored of it if `whole`.
    /// What was asked already may be older than the position, so another read follows it. Wait for the number that comes
    /// back, or a larger one.
    pub fn refresh(&mut self, whole: bool) -> (ReadNumber, Option<Ask>) {
        self.wanted_whole |= whole;
        self.wanted = self.read + 1;
        let ask = (self.phase == Phase::Following).then(|| self.heal());
        (self.wanted, ask)
    }

    /// The broker was asked for the position, when the node's was `ours`.
    pub fn check(&mut self, ours: Position, broker: Position) -> Option<Ask> {
        let position = self.position?;
        // What was published meanwhile is on its way, and what has come meanwhile is not in the answer.
        let agrees = broker.epoch == position.epoch
            && position.epoch == ours.epoch
            && (ours.offset..=position.offset).contains(&broker.offset);
        (self.phase == Phase::Following && !agrees).then(|| self.heal())
    }

    /// A read has failed: another has to be sent, if it is not one that counts no more.
    pub fn failed(&mut self, read: ReadNumber) -> Option<Ask> {
        (self.phase == Phase::Healing && read == self.read).then(|| self.heal())
    }

    /// Events that were published.
    pub fn message(&mut self, message: Message<R>) -> Step<R> {
        let none = Step { change: Change::None, ask: None, healed: None };
        match self.phase {
            Phase::Idle | Phase::Subscribing => none,
            Phase::Healing => {
                self.keep(message);
                none
            }
            Phase::Following => match self.fresh(message) {
                Ok(events) if events.is_empty() => none,
                Ok(events) => Step { change: Change::Append(events), ..none },
                Err(message) => {
                    let ask = Some(self.heal());
                    self.keep(message);
                    Step { ask, ..none }
                }
            },
        }
    }

    /// The answer to a read.
    pub fn answer(&mut self, read: ReadNumber, page: Page<R>) -> Step<R> {
        if self.phase != Phase::Healing || read != self.read {
            return Step { change: Change::None, ask: None, healed: None };
        }
        if self.whole { self.whole_page(page) } else { self.next_page(page) }
    }

    /// Starts a read that makes all before it count no more.
    fn heal(&mut self) -> Ask {
        self.phase = Phase::Healing;
        self.read += 1;
        // One that was on its way and is given up counts again.
        self.whole |= std::mem::take(&mut self.wanted_whole) || self.position.is_none();
        self.pages = None;
        self.forget_kept();
        self.ask()
    }

    fn ask(&self) -> Ask {
        let after = match &self.pages {
            Some(pages) => pages.events.last().map_or(pages.state.oldest - 1, |last| last.offset),
            None if self.whole => 0,
            None => self.position.map_or(0, |position| position.offset),
        };
        Ask { read: self.read, after }
    }

    /// A page of what follows the node's newest position.
    fn next_page(&mut self, page: Page<R>) -> Step<R> {
        let Some(position) = self.position.filter(|position| position.epoch == page.state.epoch) else {
            return self.read_all_instead();
        };
        let follows = page.events.first().is_none_or(|first| first.offset == position.offset + 1);
        let is_behind = page.events.is_empty() && page.state.top > position.offset;
        if !follows || is_behind || page.state.top < position.offset {
            return self.read_all_instead();
        }
        let reached = self.advance(&page.events);
        if reached < page.state.top {
            return Step { change: Change::Append(page.events), ask: Some(self.ask()), healed: None };
        }
        self.finish(&page.state, page.events, Change::Append)
    }

    /// What the node has is not what the broker's log begins with.
    fn read_all_instead(&mut self) -> Step<R> {
        self.whole = true;
        Step { change: Change::None, ask: Some(self.ask()), healed: None }
    }

    /// A page of all that is stored. Nothing is replaced before the last one is here.
    fn whole_page(&mut self, page: Page<R>) -> Step<R> {
        let expected = self.ask().after + 1;
        let whole = match self.pages.take() {
            Some(pages) if pages.state.epoch != page.state.epoch => {
                return Step { change: Change::None, ask: Some(self.ask()), healed: None };
            }
            Some(mut pages) if page.state.oldest <= expected => {
                pages.events.extend(page.events);
                Page { state: LogState { oldest: pages.state.oldest, ..page.state }, events: pages.events }
            }
            // The first one; or what was read before has been trimmed meanwhile.
            _ => page,
        };
        let reached = whole.events.last().map_or(whole.state.oldest - 1, |last| last.offset);
        if reached < whole.state.top {
            self.pages = Some(whole);
            return Step { change: Change::None, ask: Some(self.ask()), healed: None };
        }
        self.whole = false;
        self.position = Some(whole.state.top());
        let Page { state, events } = whole;
        self.finish(&state, events, |events| Change::Replace(state.clone(), events))
    }

    /// The last page is here: what was kept follows it, and the room is healed or has to be read once more.
    fn finish(
        &mut self,
        state: &LogState,
        mut events: Vec<Carried<R>>,
        change: impl FnOnce(Vec<Carried<R>>) -> Change<R>,
    ) -> Step<R> {
        self.phase = Phase::Following;
        let mut diverged = self.overflowed;
        for message in std::mem::take(&mut self.kept) {
            // Published before an epoch began, and in the log that was read.
            let parent = state.parents.iter().find(|parent| parent.epoch == message.epoch);
            let last = message.events.last().map_or(0, |last| last.offset);
            if parent.is_some_and(|parent| last <= parent.offset) {
                continue;
            }
            match self.fresh(message) {
                Ok(fresh) => events.extend(fresh),
                Err(_) => diverged = true,
            }
        }
        self.forget_kept();
        let healed = (!diverged).then_some(self.read);
        let ask = (diverged || self.wanted > self.read).then(|| self.heal());
        Step { change: change(events), ask, healed }
    }

    /// Those of a message that follow the newest position, which moves; the message again if something is missing before
    /// them.
    fn fresh(&mut self, mut message: Message<R>) -> Result<Vec<Carried<R>>, Message<R>> {
        let Some(position) = self.position.filter(|position| position.epoch == message.epoch) else {
            return Err(message);
        };
        if message.events.first().is_some_and(|first| first.offset > position.offset + 1) {
            return Err(message);
        }
        message.events.retain(|event| event.offset > position.offset);
        self.advance(&message.events);
        Ok(message.events)
    }

    fn advance(&mut self, events: &[Carried<R>]) -> Offset {
        let Some(position) = &mut self.position else { return 0 };
        if let Some(last) = events.last() {
            position.offset = last.offset;
        }
        position.offset
    }

    fn keep(&mut self, message: Message<R>) {
        let fits = self.kept.len() < KEPT_MESSAGES_MAX && self.kept_bytes + message.bytes <= KEPT_BYTES_MAX;
        if fits && !self.overflowed {
            self.kept_bytes += message.bytes;
            self.kept.push(message);
        } else {
            self.overflowed = true;
        }
    }

    fn forget_kept(&mut self) {
        self.kept = Vec::new();
        self.kept_bytes = 0;
        self.overflowed = false;
    }
}
