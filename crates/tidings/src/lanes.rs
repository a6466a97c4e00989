//! The order of one connection's calls: one at a time in each room, the others wait in the order they came.

use std::collections::VecDeque;

use tidings_protocol::event_id::RoomId;
use tidings_protocol::frame::Inbound;

/// A message that waits, as it came: it is decoded again when its turn has come.
pub(crate) enum Waiting {
    Text(String),
    Binary(Vec<u8>),
}

impl Waiting {
    pub(crate) fn new(inbound: Inbound<'_>) -> Option<Self> {
        match inbound {
            Inbound::Text(text) => Some(Self::Text(text.to_owned())),
            Inbound::Binary(bytes) => Some(Self::Binary(bytes.to_vec())),
            Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => None,
        }
    }
}

/// The lanes of one connection that are in use; an idle connection has none.
#[derive(Default)]
pub(crate) struct Lanes(Vec<Lane>);

struct Lane {
    room: Option<RoomId>,
    running: bool,
    waiting: VecDeque<Waiting>,
}

impl Lanes {
    /// Whether a message of this room has to wait.
    pub(crate) fn is_busy(&self, room: Option<&RoomId>) -> bool {
        self.0.iter().any(|lane| lane.room.as_ref() == room)
    }

    /// A call of this room begins.
    pub(crate) fn start(&mut self, room: Option<&RoomId>) {
        self.lane(room).running = true;
    }

    /// A message waits behind the calls of its room.
    pub(crate) fn wait(&mut self, room: Option<&RoomId>, message: Waiting) {
        self.lane(room).waiting.push_back(message);
    }

    /// The running call of this room has ended.
    pub(crate) fn finish(&mut self, room: Option<&RoomId>) {
        self.lane(room).running = false;
        self.0.retain(|lane| lane.running || !lane.waiting.is_empty());
    }

    /// The next message of this room that may be served now.
    pub(crate) fn next(&mut self, room: Option<&RoomId>) -> Option<Waiting> {
        let lane = self.0.iter_mut().find(|lane| lane.room.as_ref() == room && !lane.running)?;
        let next = lane.waiting.pop_front();
        if lane.waiting.is_empty() {
            self.0.retain(|lane| lane.running || !lane.waiting.is_empty());
        }
        next
    }

    /// The most that wait in one lane.
    pub(crate) fn longest(&self) -> usize {
        self.0.iter().map(|lane| lane.waiting.len()).max().unwrap_or(0)
    }

    fn lane(&mut self, room: Option<&RoomId>) -> &mut Lane {
        let index = self.0.iter().position(|lane| lane.room.as_ref() == room).unwrap_or_else(|| {
            self.0.push(Lane { room: room.cloned(), running: false, waiting: VecDeque::new() });
            self.0.len() - 1
        });
        &mut self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_keeps_its_order_and_leaves_nothing() {
        let room = RoomId::parse("a").unwrap();
        let mut lanes = Lanes::default();
        assert!(!lanes.is_busy(Some(&room)));
        lanes.start(Some(&room));
        assert!(lanes.is_busy(Some(&room)) && !lanes.is_busy(None));
        for text in ["1", "2"] {
            lanes.wait(Some(&room), Waiting::Text(text.into()));
        }
        assert!(lanes.next(Some(&room)).is_none(), "one at a time");
        assert_eq!(lanes.longest(), 2);
        lanes.finish(Some(&room));
        assert!(lanes.is_busy(Some(&room)), "a newcomer goes behind those who wait");
        let order: Vec<_> = std::iter::from_fn(|| lanes.next(Some(&room)))
            .map(|waiting| if let Waiting::Text(text) = waiting { text } else { String::new() })
            .collect();
        assert_eq!(order, ["1", "2"]);
        assert!(lanes.0.is_empty());
    }
}
