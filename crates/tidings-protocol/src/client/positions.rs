//! Where this client stands in each of its rooms, and what that means for a message: PROTOCOL.md §3 and §7.
//!
//! The one place that decides whether an event is applied. It never sends anything: a hole is told to its owner.

use std::collections::{BTreeMap, VecDeque};

use crate::event_id::{Cursor, EventId, Position, RoomId};
use crate::message::{Joined, MessageId, Recovery, ServerEvent, ServerMessage};

/// What a client does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The application gets it.
    Accept,
    /// The application clears what it has of the room, then takes the message's state.
    Reset,
    /// The position moved; nothing for the application.
    Move,
    /// Nothing: it was seen before, or is of a room that this client has left.
    Drop,
    /// Nothing: something before it is missing, and the room is joined again at its position.
    Hole,
    /// Nothing for the application: it was for the client itself.
    Ignore,
}

/// What a join or a resume has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaughtUp {
    /// How many events.
    pub events: u64,
    /// How it went on.
    pub recovery: Recovery,
}

/// The rooms that a client follows, each with the position that it has reached.
#[derive(Default, Debug)]
pub struct Positions {
    rooms: BTreeMap<RoomId, Followed>,
    caught_up: VecDeque<(RoomId, CaughtUp)>,
}

#[derive(Default, Debug)]
struct Followed {
    /// Or only known to have been: where a later join of it goes on.
    is_followed: bool,
    /// None until the server has said where the room starts.
    position: Option<Position>,
    /// The join or resume under way, which fills what is missing.
    awaits: Option<MessageId>,
    /// Where the replay that is under way ends, and what it has brought.
    replay: Option<(Position, CaughtUp)>,
}

impl Positions {
    /// Follows a room from now on. Without a position, the one that it has stays.
    pub fn follow(&mut self, room: RoomId, position: Option<Position>) {
        let followed = self.rooms.entry(room).or_default();
        followed.is_followed = true;
        followed.position = position.or(followed.position);
    }

    /// Follows a room no longer, and keeps where it was: nobody knows whether a join of it was served, and a later one
    /// goes on there.
    pub fn unfollow(&mut self, room: &RoomId) {
        if let Some(followed) = self.rooms.get_mut(room) {
            *followed = Followed { position: followed.position, ..Followed::default() };
        }
    }

    /// Follows a room no longer, and knows nothing of it.
    pub fn forget(&mut self, room: &RoomId) {
        self.rooms.remove(room);
    }

    /// Whether the room is followed.
    pub fn contains(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|followed| followed.is_followed)
    }

    /// The position in `room`; none if nothing is known of it or the server has yet to say.
    pub fn get(&self, room: &RoomId) -> Option<Position> {
        self.rooms.get(room).and_then(|followed| followed.position)
    }

    /// Every room that is followed, with its position if it has one.
    pub fn iter(&self) -> impl Iterator<Item = (&RoomId, Option<Position>)> {
        let followed = self.rooms.iter().filter(|(_, followed)| followed.is_followed);
        followed.map(|(room, followed)| (room, followed.position))
    }

    /// Every room that is followed and has a position.
    pub fn cursor(&self) -> Cursor {
        self.iter().filter_map(|(room, position)| Some((room.clone(), position?))).collect()
    }

    /// Notes that the room is being joined by a request with this id: until [`attached`](Self::attached), what does not
    /// fit is dropped and no further hole.
    pub fn await_join(&mut self, room: &RoomId, id: &MessageId) {
        if let Some(followed) = self.rooms.get_mut(room) {
            followed.awaits = Some(id.clone());
        }
    }

    /// Whether a join or a resume of the room is under way.
    pub fn is_awaiting(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|followed| followed.awaits.is_some())
    }

    /// The rooms that await the request with this id.
    pub fn awaiting(&self, id: &MessageId) -> Vec<RoomId> {
        let awaiting = self.rooms.iter().filter(|(_, followed)| followed.awaits.as_ref() == Some(id));
        awaiting.map(|(room, _)| room.clone()).collect()
    }

    /// Takes over a join's result, unless the room awaits another one by now. What follows it starts at
    /// `joined.last_event_id`; a client that is further drops the beginning, and after a gap a `room.reset` moves it.
    /// Whether it did.
    pub fn attached(&mut self, room: &RoomId, id: &MessageId, joined: &Joined) -> bool {
        let Some(followed) = self.rooms.get_mut(room).filter(|followed| followed.awaits.as_ref() == Some(id))
        else {
            return false;
        };
        followed.awaits = None;
        let start = joined.last_event_id.as_ref().map(|id| id.position);
        followed.position = match (joined.recovery, followed.position) {
            (Recovery::Fresh, last) => {
                let start = start.unwrap_or(joined.top.position);
                // Older events that were asked for are not applied a second time.
                last.filter(|last| last.epoch == start.epoch && last.offset >= start.offset).or(Some(start))
            }
            (Recovery::Complete, last) => last.or(start),
            (Recovery::Gap, last) => last,
        };
        followed.replay = Some((joined.top.position, CaughtUp { events: 0, recovery: joined.recovery }));
        self.check_replay(room);
        true
    }

    /// The next room that has caught up.
    pub fn next_caught_up(&mut self) -> Option<(RoomId, CaughtUp)> {
        self.caught_up.pop_front()
    }

    /// Notes the end of a room's replay, if this is it.
    fn check_replay(&mut self, room: &RoomId) {
        let Some(followed) = self.rooms.get_mut(room).filter(|followed| followed.awaits.is_none()) else {
            return;
        };
        let (Some((until, caught_up)), Some(last)) = (followed.replay, followed.position) else { return };
        if last.epoch == until.epoch && last.offset >= until.offset {
            followed.replay = None;
            self.caught_up.push_back((room.clone(), caught_up));
        }
    }

    /// Takes over a welcome's cursor, for the rooms that are not known yet: the others are resumed where they are.
    pub fn welcomed(&mut self, rooms: &[RoomId], cursor: &Cursor) {
        for room in rooms {
            self.follow(room.clone(), None);
            if let Some(followed) = self.rooms.get_mut(room) {
                followed.position = followed.position.or(cursor.get(room.as_str()));
            }
        }
    }

    /// Decides about a message, and moves the position that it moves.
    pub fn judge(&mut self, message: &ServerMessage<'_>) -> Decision {
        let decision = self.decide(message);
        let room = match message {
            ServerMessage::Event(ServerEvent { room: Some(room), id: Some(_), .. }) => {
                let followed = self.rooms.get_mut(room).filter(|_| decision == Decision::Accept);
                if let Some((_, caught_up)) = followed.and_then(|followed| followed.replay.as_mut()) {
                    caught_up.events += 1;
                }
                room
            }
            ServerMessage::Skip { id, .. }
            | ServerMessage::EpochChange { id, .. }
            | ServerMessage::Reset { id, .. } => &id.room,
            _ => return decision,
        };
        if decision != Decision::Drop {
            self.check_replay(room);
        }
        decision
    }

    fn decide(&mut self, message: &ServerMessage<'_>) -> Decision {
        match message {
            ServerMessage::Event(ServerEvent { room: None, .. }) => Decision::Accept,
            ServerMessage::Event(ServerEvent { room: Some(room), id, .. }) => {
                match (self.followed(room), id) {
                    (None, _) => Decision::Drop,
                    (Some(_), None) => Decision::Accept,
                    (Some(followed), Some(position)) => {
                        followed.advance(position.offset, *position, Decision::Accept)
                    }
                }
            }
            ServerMessage::Presence { room, .. }
            | ServerMessage::PresenceChanges { room, .. }
            | ServerMessage::PresenceCount { room, .. } => {
                if self.contains(room) {
                    Decision::Accept
                } else {
                    Decision::Drop
                }
            }
            ServerMessage::Skip { id, from, .. } => {
                self.with(id, |followed| followed.advance(*from, id.position, Decision::Move))
            }
            ServerMessage::EpochChange { id, was } => self.with(id, |followed| match followed.position {
                Some(last) if last.epoch == id.position.epoch => Decision::Drop,
                // The new log goes on exactly where the old one ended for this client.
                Some(last) if last.epoch == *was && last.offset == id.position.offset => {
                    followed.position = Some(id.position);
                    Decision::Move
                }
                _ => followed.hole(),
            }),
            ServerMessage::Reset { id, .. } => self.with(id, |followed| {
                followed.position = Some(id.position);
                Decision::Reset
            }),
            ServerMessage::Error { id: None, .. } => Decision::Accept,
            ServerMessage::Ack { .. }
            | ServerMessage::Error { .. }
            | ServerMessage::Welcome(_)
            | ServerMessage::RoomJoined { .. }
            | ServerMessage::RoomLeft { .. }
            | ServerMessage::Checkpoint { .. }
            | ServerMessage::Reconnect { .. }
            | ServerMessage::Degraded { .. }
            | ServerMessage::Unknown { .. } => Decision::Ignore,
        }
    }

    fn with(&mut self, id: &EventId, decide: impl FnOnce(&mut Followed) -> Decision) -> Decision {
        self.followed(&id.room).map_or(Decision::Drop, decide)
    }

    fn followed(&mut self, room: &RoomId) -> Option<&mut Followed> {
        self.rooms.get_mut(room).filter(|followed| followed.is_followed)
    }
}

impl Followed {
    /// Moves to `to` if the offsets from `from` on follow without a hole.
    fn advance(&mut self, from: u64, to: Position, decision: Decision) -> Decision {
        match self.position {
            Some(last) if last.epoch == to.epoch && to.offset <= last.offset => Decision::Drop,
            Some(last) if last.epoch == to.epoch && from <= last.offset + 1 => {
                self.position = Some(to);
                decision
            }
            _ => self.hole(),
        }
    }

    /// Something is missing; with a join under way that is known, and what does not fit is only dropped.
    fn hole(&self) -> Decision {
        if self.awaits.is_some() { Decision::Drop } else { Decision::Hole }
    }
}
