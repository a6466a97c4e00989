//! A node that follows a broker's log through lost messages, lost connections, failovers and trims.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use tidings_protocol::event_id::{Epoch, Offset, Position};
use tidings_protocol::follower::{
    Ask, Carried, Change, Follower, KEPT_MESSAGES_MAX, LogState, Message, Page, ReadNumber,
};

fn epoch(number: u64) -> Epoch {
    Epoch::from_random(number)
}

fn at(number: u64, offset: Offset) -> Position {
    Position { epoch: epoch(number), offset }
}

fn event(offset: Offset, record: u64) -> Carried<u64> {
    Carried { offset, at_ms: 0, record }
}

fn message(number: u64, offsets: std::ops::RangeInclusive<Offset>) -> Message<u64> {
    let events = offsets.map(|offset| event(offset, offset)).collect();
    Message { epoch: epoch(number), events, bytes: 1 }
}

fn page(number: u64, oldest: Offset, top: Offset, after: Offset) -> Page<u64> {
    let events = (oldest.max(after + 1)..=top).map(|offset| event(offset, offset)).collect();
    Page { state: LogState { epoch: epoch(number), top, oldest, parents: Vec::new() }, events }
}

/// Follows epoch 1, which has three events.
fn following() -> Follower<u64> {
    let mut follower = Follower::default();
    follower.begin();
    let ask = follower.subscribed().unwrap();
    assert_eq!(ask, Ask { read: 1, after: 0 });
    let step = follower.answer(1, page(1, 1, 3, 0));
    assert!(matches!(step.change, Change::Replace(_, events) if events.len() == 3));
    assert_eq!((step.ask, step.healed), (None, Some(1)));
    follower
}

#[test]
fn the_next_event_is_taken_and_an_older_one_is_not() {
    let mut follower = following();
    assert_eq!(follower.message(message(1, 2..=3)).change, Change::None);
    assert_eq!(follower.message(message(1, 3..=5)).change, Change::Append(vec![event(4, 4), event(5, 5)]));
    assert_eq!(follower.position(), Some(at(1, 5)));
}

#[test]
fn a_gap_or_another_epoch_is_read_and_never_taken() {
    for strange in [message(1, 5..=5), message(2, 4..=4)] {
        let mut follower = following();
        let step = follower.message(strange.clone());
        assert_eq!((step.change, step.ask), (Change::None, Some(Ask { read: 2, after: 3 })));
        assert!(!follower.is_following());
        assert_eq!(
            follower.message(message(1, 4..=4)).change,
            Change::None,
            "nothing is taken while it heals"
        );
        let step = follower.answer(2, page(1, 1, 4, 3));
        let expected = if strange.epoch == epoch(1) { vec![4, 5] } else { vec![4] };
        let Change::Append(events) = step.change else { panic!("{:?}", step.change) };
        assert_eq!(events.iter().map(|event| event.offset).collect::<Vec<_>>(), expected);
        // The other epoch is none that the read knew: it has to be read once more.
        assert_eq!(step.ask.is_some(), strange.epoch == epoch(2));
    }
}

#[test]
fn what_does_not_begin_as_the_nodes_log_takes_its_place() {
    for strange in [page(2, 1, 4, 3), page(1, 5, 6, 3), page(1, 1, 2, 3)] {
        let mut follower = following();
        follower.disconnected();
        let ask = follower.subscribed().unwrap();
        assert_eq!(ask.after, 3);
        let step = follower.answer(ask.read, strange.clone());
        assert_eq!((step.change, step.healed), (Change::None, None));
        let whole = step.ask.unwrap();
        assert_eq!(whole.after, 0);
        let LogState { oldest, top, .. } = strange.state;
        let events = (oldest..=top).map(|offset| event(offset, offset)).collect();
        let step = follower.answer(whole.read, Page { events, ..strange });
        assert!(matches!(step.change, Change::Replace(..)));
        assert_eq!(follower.position().unwrap().offset, top);
    }
}

#[test]
fn an_answer_that_was_asked_for_too_early_does_not_count() {
    let mut follower = following();
    follower.disconnected();
    let early = follower.subscribed().unwrap();
    let late = follower.subscribed().unwrap();
    assert!(late.read > early.read);
    let step = follower.answer(early.read, page(1, 1, 9, 3));
    assert_eq!((step.change, step.ask, step.healed), (Change::None, None, None));
    assert_eq!(follower.failed(early.read), None);
    assert!(follower.failed(late.read).is_some());
}

#[test]
fn whoever_comes_while_a_read_is_on_its_way_waits_for_the_next() {
    let mut follower = following();
    let (first, ask) = follower.refresh(false);
    let read = ask.unwrap().read;
    assert_eq!(first, read);
    let (second, ask) = follower.refresh(true);
    assert_eq!((second, ask), (read + 1, None));
    let step = follower.answer(read, page(1, 1, 3, 3));
    assert_eq!(step.healed, Some(first), "who asked for the first has it");
    assert_eq!(step.ask, Some(Ask { read: second, after: 0 }), "and the next is of all that is stored");
    assert_eq!(follower.answer(second, page(1, 1, 3, 0)).healed, Some(second));
}

#[test]
fn a_position_that_differs_is_read() {
    let mut follower = following();
    assert_eq!(follower.check(at(1, 3), at(1, 3)), None);
    follower.message(message(1, 4..=4));
    assert_eq!(follower.check(at(1, 3), at(1, 3)), None, "the event came while the answer was on its way");
    for broker in [at(2, 4), at(1, 5), at(1, 2)] {
        assert!(following().check(at(1, 3), broker).is_some(), "{broker}");
    }
}

#[test]
fn more_than_is_kept_while_it_heals_is_read_again() {
    let mut follower = following();
    let read = follower.message(message(1, 5..=5)).ask.unwrap().read;
    for offset in 0..KEPT_MESSAGES_MAX as u64 + 1 {
        follower.message(message(1, 6 + offset..=6 + offset));
    }
    let step = follower.answer(read, page(1, 1, 5, 3));
    assert!(step.ask.is_some() && step.healed.is_none());
}

#[test]
fn a_log_that_comes_in_pages_replaces_nothing_before_the_last_and_may_be_trimmed_between() {
    let mut follower = Follower::default();
    follower.begin();
    let read = follower.subscribed().unwrap().read;
    let part = |oldest, top, offsets: std::ops::RangeInclusive<u64>| {
        let events = offsets.map(|offset| event(offset, offset)).collect();
        Page { events, ..page(1, oldest, top, 0) }
    };
    let step = follower.answer(read, part(1, 6, 1..=2));
    assert_eq!((step.change, step.ask), (Change::None, Some(Ask { read, after: 2 })));
    let step = follower.answer(read, part(4, 6, 4..=5));
    assert_eq!(step.ask, Some(Ask { read, after: 5 }));
    let step = follower.answer(read, part(4, 6, 6..=6));
    let Change::Replace(state, events) = step.change else { panic!("{:?}", step.change) };
    assert_eq!((state.top, events[0].offset, events.len()), (6, 4, 3));
}

/// The broker and everything between it and the node.
#[derive(Default)]
struct World {
    epochs: u64,
    parents: Vec<Position>,
    log: VecDeque<Carried<u64>>,
    top: Offset,
    records: u64,
    /// What each event id names, for ever.
    names: HashMap<Position, u64>,
    /// Messages on their way, and reads, in the order in which the broker answered.
    wire: VecDeque<Wire>,
    node: Follower<u64>,
    nodes_log: Vec<(Position, u64)>,
}

enum Wire {
    Message(Message<u64>),
    Page(ReadNumber, Page<u64>),
    Subscribed,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Publish(u8),
    Deliver,
    LoseMessage,
    Reconnect,
    /// The log goes on under another epoch, as a promoted replica that has lost the last so many events.
    Failover(u8),
    Wipe,
    Trim(u8),
    Check,
    Refresh(bool),
}

impl World {
    fn epoch(&self) -> Epoch {
        epoch(self.epochs)
    }

    fn oldest(&self) -> Offset {
        self.log.front().map_or(self.top + 1, |first| first.offset)
    }

    fn state(&self) -> LogState {
        LogState { epoch: self.epoch(), top: self.top, oldest: self.oldest(), parents: self.parents.clone() }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish(count) => {
                let mut events = Vec::new();
                for _ in 0..=count % 3 {
                    self.top += 1;
                    self.records += 1;
                    let event = event(self.top, self.records);
                    let name = Position { epoch: self.epoch(), offset: self.top };
                    assert_eq!(self.names.insert(name, event.record), None, "one id for two events");
                    events.push(event.clone());
                    self.log.push_back(event);
                }
                self.wire.push_back(Wire::Message(Message { epoch: self.epoch(), events, bytes: 1 }));
            }
            Op::Deliver => self.deliver(),
            Op::LoseMessage => {
                if let Some(index) = self.wire.iter().position(|wire| matches!(wire, Wire::Message(_))) {
                    self.wire.remove(index);
                }
            }
            Op::Reconnect => {
                self.node.disconnected();
                self.wire.clear();
                self.wire.push_back(Wire::Subscribed);
            }
            Op::Failover(lost) => {
                for _ in 0..lost % 3 {
                    if self.log.pop_back().is_some() {
                        self.top -= 1;
                    }
                }
                self.parents.push(Position { epoch: self.epoch(), offset: self.top });
                self.epochs += 1;
                self.run(Op::Reconnect);
            }
            Op::Wipe => {
                self.epochs += 1;
                (self.log, self.top, self.parents) = (VecDeque::new(), 0, Vec::new());
            }
            Op::Trim(count) => drop(self.log.drain(..usize::from(count % 4).min(self.log.len()))),
            Op::Check => {
                if let Some(ours) = self.node.position() {
                    let broker = Position { epoch: self.epoch(), offset: self.top };
                    let ask = self.node.check(ours, broker);
                    self.read(ask);
                }
            }
            Op::Refresh(whole) => {
                let ask = self.node.refresh(whole).1;
                self.read(ask);
            }
        }
    }

    /// The broker answers in the order in which it is asked.
    fn read(&mut self, ask: Option<Ask>) {
        let Some(Ask { read, after }) = ask else { return };
        let events = self.log.iter().filter(|event| event.offset > after).take(2).cloned().collect();
        self.wire.push_back(Wire::Page(read, Page { state: self.state(), events }));
    }

    fn deliver(&mut self) {
        let step = match self.wire.pop_front() {
            None => return,
            Some(Wire::Subscribed) => {
                let ask = self.node.subscribed();
                return self.read(ask);
            }
            Some(Wire::Message(message)) => self.node.message(message),
            Some(Wire::Page(read, page)) => self.node.answer(read, page),
        };
        match step.change {
            Change::None => {}
            Change::Append(events) => {
                let epoch = self.nodes_log.last().map_or(self.epoch(), |(last, _)| last.epoch);
                // An empty log has a position too, of the follower's epoch.
                let epoch = self.node.position().map_or(epoch, |position| position.epoch);
                self.take(epoch, events);
            }
            Change::Replace(state, events) => {
                self.nodes_log.clear();
                self.take(state.epoch, events);
            }
        }
        self.read(step.ask);
    }

    fn take(&mut self, epoch: Epoch, events: Vec<Carried<u64>>) {
        for event in events {
            let position = Position { epoch, offset: event.offset };
            if let Some((last, _)) = self.nodes_log.last() {
                assert_eq!((position.epoch, position.offset), (last.epoch, last.offset + 1), "contiguous");
            }
            self.nodes_log.push((position, event.record));
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<u8>().prop_map(Op::Publish),
        9 => Just(Op::Deliver),
        2 => Just(Op::LoseMessage),
        1 => Just(Op::Reconnect),
        1 => any::<u8>().prop_map(Op::Failover),
        1 => Just(Op::Wipe),
        2 => any::<u8>().prop_map(Op::Trim),
        1 => Just(Op::Check),
        1 => any::<bool>().prop_map(Op::Refresh),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn whatever_happens_the_nodes_log_is_a_slice_of_the_brokers_and_a_check_finds_what_it_lacks(
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let mut world = World::default();
        world.node.begin();
        world.wire.push_back(Wire::Subscribed);
        for op in ops {
            world.run(op);
            for (position, record) in &world.nodes_log {
                // After a failover an event that both sides have has two names; each name has one event.
                if let Some(named) = world.names.get(position) {
                    prop_assert_eq!(named, record);
                }
            }
        }
        for _ in 0..200 {
            world.deliver();
        }
        world.run(Op::Check);
        for _ in 0..200 {
            world.deliver();
        }
        prop_assert!(world.node.is_following() && world.wire.is_empty());
        prop_assert_eq!(world.node.position(), Some(world.state().top()));
        let stored: Vec<_> = world.log.iter().map(|event| event.record).collect();
        let has: Vec<_> = world.nodes_log.iter().map(|(_, record)| *record).collect();
        prop_assert!(has.ends_with(&stored), "{has:?} {stored:?}");
    }
}
