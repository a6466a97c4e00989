//! The gap-free log of one room on one node: what every join, replay and live delivery is served from.
//!
//! It owns the order and the bounds, never the sending: what a position means (`recover`) and what is still there
//! (`read`). Offsets in it are contiguous by construction, so that an event's place is its index. What may be appended
//! where a broker sequences is `follower`'s to say.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event_id::{Epoch, Offset, Position};
use crate::limits::Limit;
use crate::message::{Lost, ResetReason};

/// How many earlier epochs a log remembers.
pub const PARENTS_MAX: usize = 8;

/// What a log may hold; whichever is reached first trims from the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// How long an event stays.
    pub age_max: Duration,
    /// How many stay.
    pub events_max: usize,
    /// How many bytes stay.
    pub bytes_max: usize,
}

#[derive(Debug)]
struct Stored<E> {
    at_ms: u64,
    bytes: usize,
    event: E,
}

/// The log of one room; `E` is a publication in whatever form the node sends it.
#[derive(Debug)]
pub struct RoomLog<E> {
    epoch: Epoch,
    top: Offset,
    /// Oldest first. A log seldom has any.
    parents: Box<[Position]>,
    stored: VecDeque<Stored<E>>,
    bytes: usize,
}

/// What a client's position means to this log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// Everything after `after` is here.
    Replay {
        /// The offset that the client has.
        after: Offset,
    },
    /// The same, but under a newer epoch, which the client is told first.
    Moved {
        /// The epoch of the client's position.
        was: Epoch,
        /// The offset that the client has.
        after: Offset,
    },
    /// Something was lost.
    Reset(Reset),
}

/// A loss: why, what, and where the log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// Why.
    pub reason: ResetReason,
    /// The lost offsets, where the client's epoch is this log's.
    pub lost: Option<Lost>,
    /// The last offset that is not stored any more: what is stored follows after it.
    pub after: Offset,
}

/// What was forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trimmed {
    /// How many bytes.
    pub bytes: usize,
    /// For which bound; of several, the last.
    pub by: Option<Limit>,
}

impl<E> RoomLog<E> {
    /// An empty log; its position is `epoch.0`.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, top: 0, parents: Box::default(), stored: VecDeque::new(), bytes: 0 }
    }

    /// A log that is stored elsewhere, without its events: those after `after` are to be appended.
    pub fn restored(epoch: Epoch, after: Offset, parents: &[Position]) -> Self {
        let known = &parents[parents.len().saturating_sub(PARENTS_MAX)..];
        Self { parents: known.into(), top: after, ..Self::new(epoch) }
    }

    /// The newest position.
    pub fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// The first stored offset, or the one after the top if nothing is stored.
    pub fn oldest(&self) -> Offset {
        self.top + 1 - self.stored.len() as Offset
    }

    /// Bytes of all stored events.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events are stored.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// The position that the next [`RoomLog::append`] gives out.
    pub fn next(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top + 1 }
    }

    /// Stores an event as the next one.
    pub fn append(&mut self, event: E, bytes: usize, at_ms: u64) -> Position {
        self.top += 1;
        self.bytes += bytes;
        self.stored.push_back(Stored { at_ms, bytes, event });
        self.top()
    }

    /// Puts another event in a stored one's place; whether the position is one of this log's, and its event stored.
    pub fn replace(&mut self, at: Position, event: E) -> bool {
        let is_ours = at.epoch == self.epoch
            || self.parents.iter().any(|parent| parent.epoch == at.epoch && at.offset <= parent.offset);
        let index = at.offset.checked_sub(self.oldest()).filter(|_| is_ours);
        let stored = index.and_then(|index| self.stored.get_mut(usize::try_from(index).ok()?));
        match stored {
            Some(stored) => {
                stored.event = event;
                true
            }
            None => false,
        }
    }

    /// Forgets from the head what is over a bound.
    pub fn trim(&mut self, bounds: &LogBounds, now_ms: u64) -> Trimmed {
        let keep_from_ms = now_ms.saturating_sub(bounds.age_max.as_millis() as u64);
        let before = self.bytes;
        let mut by = None;
        while let Some(head) = self.stored.front() {
            by = Some(if self.stored.len() > bounds.events_max {
                Limit::HistoryEventsMax
            } else if self.bytes > bounds.bytes_max {
                Limit::HistoryBytesMax
            } else if head.at_ms < keep_from_ms {
                Limit::HistoryAgeMax
            } else {
                break;
            });
            self.bytes -= head.bytes;
            self.stored.pop_front();
        }
        if self.stored.is_empty() {
            self.stored = VecDeque::new();
        }
        Trimmed { bytes: before - self.bytes, by }
    }

    /// Judges a client's position. One position is judged by itself, never by what another client had.
    pub fn recover(&self, from: Position) -> Recovery {
        let oldest = self.oldest();
        let reset = |reason, lost| Recovery::Reset(Reset { reason, lost, after: oldest - 1 });
        if from.epoch == self.epoch {
            if from.offset > self.top {
                let forked = !self.parents.is_empty();
                return reset(if forked { ResetReason::Forked } else { ResetReason::TooFar }, None);
            }
            return match self.lost_after(from.offset) {
                Some(lost) => reset(ResetReason::Expired, Some(lost)),
                None => Recovery::Replay { after: from.offset },
            };
        }
        match self.parents.iter().find(|parent| parent.epoch == from.epoch) {
            None => reset(ResetReason::UnknownEpoch, None),
            Some(parent) if from.offset > parent.offset => reset(ResetReason::Forked, None),
            Some(_) => match self.lost_after(from.offset) {
                Some(lost) => reset(ResetReason::Expired, Some(lost)),
                None => Recovery::Moved { was: from.epoch, after: from.offset },
            },
        }
    }

    /// The same, where no more than `events_max` events are replayed: who would get more has lost the older ones.
    pub fn within(&self, recovery: Recovery, events_max: Offset) -> Recovery {
        let least = self.top.saturating_sub(events_max);
        match recovery {
            Recovery::Replay { after } | Recovery::Moved { after, .. } if after < least => {
                let lost = Some(Lost { from: after + 1, to: least });
                Recovery::Reset(Reset { reason: ResetReason::Expired, lost, after: least })
            }
            Recovery::Reset(reset) if reset.after < least => {
                let lost = reset.lost.map(|lost| Lost { to: least, ..lost });
                Recovery::Reset(Reset { lost, after: least, ..reset })
            }
            recovery => recovery,
        }
    }

    /// The reset of a client that told no position.
    pub fn no_position(&self) -> Reset {
        Reset { reason: ResetReason::NoPosition, lost: None, after: self.oldest() - 1 }
    }

    /// What a reader at `after` can't have any more.
    pub fn lost_after(&self, after: Offset) -> Option<Lost> {
        (after + 1 < self.oldest()).then(|| Lost { from: after + 1, to: self.oldest() - 1 })
    }

    /// The stored events after an offset, oldest first, with their offsets.
    pub fn read(&self, after: Offset) -> impl DoubleEndedIterator<Item = (Offset, &E)> {
        let oldest = self.oldest();
        let skip = (after + 1).saturating_sub(oldest).min(self.stored.len() as Offset);
        self.stored
            .range(skip as usize..)
            .enumerate()
            .map(move |(index, stored)| (oldest + skip + index as Offset, &stored.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: LogBounds =
        LogBounds { age_max: Duration::from_secs(3600), events_max: 1000, bytes_max: 1 << 20 };

    fn epoch(number: u64) -> Epoch {
        Epoch::from_random(number)
    }

    fn at(number: u64, offset: Offset) -> Position {
        Position { epoch: epoch(number), offset }
    }

    fn log_of(events: u64) -> RoomLog<u64> {
        let mut log = RoomLog::new(epoch(1));
        for event in 1..=events {
            assert_eq!(log.append(event, 10, event), at(1, event));
        }
        log
    }

    #[test]
    fn an_event_is_replaced_where_its_position_is_this_logs() {
        let mut log = RoomLog::restored(epoch(2), 3, &[at(1, 4)]);
        for event in 4..=6 {
            log.append(event, 10, event);
        }
        for (position, is_stored) in [
            (at(2, 5), true),
            (at(1, 4), true),
            (at(1, 5), false),
            (at(3, 5), false),
            (at(2, 3), false),
            (at(2, 7), false),
        ] {
            assert_eq!(log.replace(position, 0), is_stored, "{position}");
        }
        assert_eq!(log.read(0).map(|(_, event)| *event).collect::<Vec<_>>(), [0, 0, 6]);
        assert_eq!(log.bytes(), 30);
    }

    #[test]
    fn an_empty_log_has_a_position() {
        let log = log_of(0);
        assert_eq!((log.top(), log.oldest(), log.next()), (at(1, 0), 1, at(1, 1)));
        assert_eq!(log.recover(at(1, 0)), Recovery::Replay { after: 0 });
    }

    #[test]
    fn every_bound_trims_from_the_head() {
        let mut log = log_of(10);
        let trimmed = |bytes, by| Trimmed { bytes, by: Some(by) };
        let by_events = log.trim(&LogBounds { events_max: 7, ..WIDE }, 10);
        assert_eq!(by_events, trimmed(30, Limit::HistoryEventsMax));
        assert_eq!((log.oldest(), log.len(), log.bytes()), (4, 7, 70));
        let by_bytes = log.trim(&LogBounds { bytes_max: 55, ..WIDE }, 10);
        assert_eq!(by_bytes, trimmed(20, Limit::HistoryBytesMax));
        assert_eq!((log.oldest(), log.bytes()), (6, 50));
        let by_age = log.trim(&LogBounds { age_max: Duration::from_millis(2), ..WIDE }, 10);
        assert_eq!(by_age, trimmed(20, Limit::HistoryAgeMax));
        assert_eq!((log.oldest(), log.top()), (8, at(1, 10)));
        assert_eq!(log.trim(&WIDE, 10), Trimmed { bytes: 0, by: None });
        assert_eq!(log.trim(&LogBounds { age_max: Duration::ZERO, ..WIDE }, 100).bytes, 30);
        assert_eq!((log.oldest(), log.len()), (11, 0));
    }

    #[test]
    fn each_fault_of_a_position_has_its_reason() {
        let mut log = log_of(10);
        log.trim(&LogBounds { events_max: 5, ..WIDE }, 10);
        let reset = |reason, lost| Recovery::Reset(Reset { reason, lost, after: 5 });
        assert_eq!(log.recover(at(1, 5)), Recovery::Replay { after: 5 });
        assert_eq!(log.recover(at(1, 10)), Recovery::Replay { after: 10 });
        assert_eq!(log.recover(at(1, 4)), reset(ResetReason::Expired, Some(Lost { from: 5, to: 5 })));
        assert_eq!(log.recover(at(1, 11)), reset(ResetReason::TooFar, None));
        assert_eq!(log.recover(at(9, 3)), reset(ResetReason::UnknownEpoch, None));
        let mut log = RoomLog::restored(epoch(2), 5, &[log.top()]);
        for event in 6..=11 {
            log.append(event, 10, event);
        }
        assert_eq!(log.recover(at(1, 10)), Recovery::Moved { was: epoch(1), after: 10 });
        assert_eq!(log.recover(at(1, 11)), reset(ResetReason::Forked, None));
        assert_eq!(log.recover(at(1, 4)), reset(ResetReason::Expired, Some(Lost { from: 5, to: 5 })));
        assert_eq!(log.recover(at(2, 12)), reset(ResetReason::Forked, None));
    }

    #[test]
    fn a_replay_has_its_limit() {
        let mut log = log_of(10);
        log.trim(&LogBounds { events_max: 8, ..WIDE }, 10);
        let within = |from, events_max| log.within(log.recover(at(1, from)), events_max);
        let expired = |from, after| {
            let lost = Some(Lost { from, to: after });
            Recovery::Reset(Reset { reason: ResetReason::Expired, lost, after })
        };
        assert_eq!(within(7, 3), Recovery::Replay { after: 7 });
        assert_eq!(within(6, 3), expired(7, 7));
        assert_eq!(within(0, 3), expired(1, 7), "and not what the log alone has lost");
        assert_eq!(within(0, 100), expired(1, 2));
    }

    #[test]
    fn only_the_last_parents_are_remembered() {
        let parents: Vec<_> = (1..=PARENTS_MAX as u64 + 1).map(|number| at(number, 1)).collect();
        let log = RoomLog::<u64>::restored(epoch(99), 1, &parents);
        assert!(matches!(
            log.recover(at(1, 1)),
            Recovery::Reset(Reset { reason: ResetReason::UnknownEpoch, .. })
        ));
        assert_eq!(log.recover(at(2, 1)), Recovery::Moved { was: epoch(2), after: 1 });
    }

    proptest! {
        #[test]
        fn a_replay_is_a_contiguous_slice_up_to_the_top(events in 0u64..60, keep in 1usize..60, from in 0u64..70) {
            let mut log = log_of(events);
            log.trim(&LogBounds { events_max: keep, ..WIDE }, events);
            let (after, complete) = match log.recover(at(1, from)) {
                Recovery::Replay { after } => (after, true),
                Recovery::Reset(reset) => (reset.after, false),
                Recovery::Moved { .. } => unreachable!("one epoch"),
            };
            let replay: Vec<_> = log.read(after).map(|(offset, event)| (offset, *event)).collect();
            let expected: Vec<_> = (after + 1..=events).map(|offset| (offset, offset)).collect();
            prop_assert_eq!(replay, expected);
            prop_assert_eq!(complete, from <= events && from + 1 >= log.oldest());
        }
    }
}
