//! The rooms of a shard: which of its sockets are in them, and how each gets a contiguous slice of the log.
//!
//! A member is either live, and gets what the room hands over as it comes, or replays: it reads the log at its
//! own pace, as its queue has room, until it has reached the shard's position in that room. Both see every offset
//! once, because a shard takes its inbox in order and the switch happens at one position.

use std::sync::Arc;

use bytes::Bytes;
use tidings_protocol::close::{CloseCode, Reaction};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::{Epoch, Offset, Position, RoomId};
use tidings_protocol::limits::Limit;
use tidings_protocol::message::{Joined, Recovery as JoinRecovery, ServerMessage, SkipReason};
use tidings_protocol::room_log::{Recovery, Reset};
use tracing::info;

use super::replays::{Pace, Replay, skip_frame};
use super::{State, TURN_BYTES_MAX, TURN_ENTRIES_MAX};
use crate::connection::{JoinedRoom, Start};
use crate::encode;
use crate::inbox::{LocalRoom, Unstored};
use crate::outbound::Piece;
use crate::peer::Peer;
use crate::publication::Publication;
use crate::room::Room;
use crate::rules::Overflow;

/// Frames are joined into a piece of about so many bytes. A larger one would be copied for nothing: it is written with
/// one call either way.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// A room that is handed on keeps room for so many publications of its next turn.
const COLLECTED_CAPACITY_MAX: usize = 16;

/// A room that has members in this shard.
pub(super) struct MemberRoom {
    pub(super) room: Arc<Room>,
    pub(super) generation: u32,
    pub(super) epoch: Epoch,
    /// The last offset that the shard has handed on.
    pub(super) position: Offset,
    /// Publications up to `position` that are handed on at the end of this turn.
    collected: Vec<Arc<Publication>>,
    /// Those that get what comes as it comes.
    pub(super) live: Vec<u32>,
    /// All members, those that replay included.
    members: usize,
}

/// A join that has been worked out and not yet told.
pub(super) struct Attach {
    pub(super) joined: Joined,
    room: u32,
    after: Position,
    pace: Pace,
    announcement: Option<Announcement>,
}

#[derive(Clone, Copy)]
enum Announcement {
    Moved { was: Epoch },
    Reset(Reset),
}

impl State {
    /// This shard's entry for a room, made if need be.
    fn member_room(&mut self, id: &RoomId) -> Option<u32> {
        if let Some(slot) = self.room_by_id.get(id) {
            return Some(*slot);
        }
        let room = self.node.rooms.open(id)?;
        let generation = self.next_generation();
        let slot = u32::try_from(self.rooms.vacant_key()).ok()?;
        let top = room.listen(Arc::clone(&self.inbox), LocalRoom { slot, generation });
        self.rooms.insert(MemberRoom {
            room,
            generation,
            epoch: top.epoch,
            position: top.offset,
            collected: Vec::new(),
            live: Vec::new(),
            members: 0,
        });
        self.room_by_id.insert(id.clone(), slot);
        Some(slot)
    }

    pub(super) fn joined_room(&self, slot: u32, id: &RoomId) -> Option<Arc<Room>> {
        let room = *self.room_by_id.get(id)?;
        let connection = self.connections.get(slot as usize)?;
        connection
            .rooms
            .iter()
            .any(|joined| joined.room == room)
            .then(|| Arc::clone(&self.rooms[room as usize].room))
    }

    /// Makes a connection a member, or a member anew, and works out what it will be told.
    pub(super) fn prepare(&mut self, slot: u32, id: &RoomId, start: Start) -> Result<Attach, ErrorCode> {
        let rooms_max = self.node.limits.rooms_per_connection_max;
        let connection = self.connections.get(slot as usize).ok_or(ErrorCode::Internal)?;
        let (user, session) = (connection.peer.user().clone(), connection.peer.session);
        let known = self.room_by_id.get(id).copied();
        let again = known.filter(|room| connection.rooms.iter().any(|joined| joined.room == *room));
        if again.is_none() && connection.rooms.len() >= rooms_max {
            self.node.metrics.hit(Limit::RoomsPerConnectionMax);
            return Err(ErrorCode::RoomLimit);
        }
        let room_slot = match again {
            Some(room) => {
                self.stop_stream(slot, room);
                room
            }
            None => self.member_room(id).ok_or(ErrorCode::UnknownRoom)?,
        };
        let member_room = &mut self.rooms[room_slot as usize];
        let room = Arc::clone(&member_room.room);
        let members = if again.is_some() {
            room.members(&user)
        } else {
            member_room.members += 1;
            if let Some(connection) = self.connections.get_mut(slot as usize) {
                connection.enter(id, JoinedRoom::new(room_slot));
                if room.rules.overflow == Overflow::Conflate {
                    connection.hold_little();
                }
            }
            info!(%session, user = %user.logged(), room = %id, "join");
            self.node.enter(&room, &user)
        };
        let mut pace = Pace::Whole;
        let (after, top, recovery, asked, announcement) = match start {
            Start::Newest { history: 0 } if room.rules.retain => {
                let (after, top) = room.picture();
                pace = Pace::Picture { until: top.offset };
                (after, top, JoinRecovery::Fresh, Some(Position { offset: after, ..top }), None)
            }
            Start::Newest { history } => {
                let (after, top) = room.newest(history);
                (after, top, JoinRecovery::Fresh, Some(Position { offset: after, ..top }), None)
            }
            Start::After(position) | Start::Picture(position) => {
                let (recovery, top) = room.recover(Some(position));
                let (mut joined, picture) = (JoinRecovery::Complete, matches!(start, Start::Picture(_)));
                if picture {
                    joined = JoinRecovery::Fresh;
                    pace = Pace::Picture { until: top.offset };
                }
                match recovery {
                    Recovery::Replay { after } => (after, top, joined, Some(position), None),
                    Recovery::Moved { was, after } => {
                        (after, top, joined, Some(position), Some(Announcement::Moved { was }))
                    }
                    // A picture needs nothing of what is not stored any more.
                    Recovery::Reset(Reset { after, .. }) if picture && position.epoch == top.epoch => {
                        (after.max(position.offset), top, joined, Some(position), None)
                    }
                    Recovery::Reset(reset) => {
                        let announcement = Some(Announcement::Reset(reset));
                        (reset.after, top, JoinRecovery::Gap, Some(position), announcement)
                    }
                }
            }
            Start::NoPosition => match room.recover(None) {
                (Recovery::Reset(reset), top) => {
                    (reset.after, top, JoinRecovery::Gap, None, Some(Announcement::Reset(reset)))
                }
                (Recovery::Replay { after } | Recovery::Moved { after, .. }, top) => {
                    (after, top, JoinRecovery::Gap, None, None)
                }
            },
        };
        let joined = Joined {
            recovery,
            last_event_id: asked.map(|position| position.of(id)),
            top: top.of(id),
            members,
        };
        Ok(Attach { joined, room: room_slot, after: Position { offset: after, ..top }, pace, announcement })
    }

    /// Tells a prepared join's `room.epoch` or `room.reset` and lets the events follow.
    pub(super) fn commit(&mut self, slot: u32, attach: &Attach) {
        let Some(member_room) = self.rooms.get(attach.room as usize) else { return };
        let room = Arc::clone(&member_room.room);
        let mut replay = Replay::new(slot, attach.room, attach.after, attach.pace);
        match attach.announcement {
            None => {}
            Some(Announcement::Moved { was }) => self.push_epoch_change(slot, &room, attach.after, was),
            Some(Announcement::Reset(reset)) => {
                self.announce_reset(&mut replay, &room, attach.after.epoch, reset);
            }
        }
        self.replays.push(replay);
        self.wake_pump();
    }

    /// Takes the next event of a room, which its live members get with the others of this turn.
    pub(super) fn collect(&mut self, local: LocalRoom, publication: Arc<Publication>) {
        let Some(room) =
            self.rooms.get_mut(local.slot as usize).filter(|room| room.generation == local.generation)
        else {
            return;
        };
        if publication.offset != room.position + 1 {
            // What a shard that was behind has read from the log already.
            return;
        }
        room.position = publication.offset;
        if room.collected.is_empty() {
            self.collecting.push(local.slot);
        }
        room.collected.push(publication);
    }

    /// Hands on what was collected, and then what follows it.
    pub(super) fn hand_on(&mut self) {
        let mut collecting = std::mem::take(&mut self.collecting);
        for slot in collecting.drain(..) {
            let mut collected = match self.rooms.get_mut(slot as usize) {
                Some(room) => std::mem::take(&mut room.collected),
                None => continue,
            };
            for run in collected.chunk_by(|one, next| one.excluded.is_none() && next.excluded.is_none()) {
                match run {
                    [publication] if publication.excluded.is_some() => {
                        self.distribute_excluding(slot, publication);
                    }
                    run => self.distribute(slot, run),
                }
            }
            collected.clear();
            if let Some(room) = self.rooms.get_mut(slot as usize)
                && collected.capacity() <= COLLECTED_CAPACITY_MAX
            {
                room.collected = collected;
            }
        }
        self.collecting = collecting;
        let mut after_events = std::mem::take(&mut self.after_events);
        for (connection, frame) in after_events.drain(..) {
            if let Some(slot) = self.slot_of(connection) {
                self.push(slot, frame);
            }
        }
        self.after_events = after_events;
    }

    /// Queues events for all live members: as few shared pieces, so that a member costs the same for one as for many.
    fn distribute(&mut self, slot: u32, mut publications: &[Arc<Publication>]) {
        while !publications.is_empty() {
            let (piece, taken) = joined_frames(publications, &mut self.gather);
            let after = publications[0].offset - 1;
            publications = &publications[taken..];
            self.push_to_live(slot, after, |_| piece.clone());
        }
    }

    /// The same for an event that one session does not get: it gets a skip in its place.
    fn distribute_excluding(&mut self, slot: u32, publication: &Arc<Publication>) {
        let Some(room) = self.rooms.get(slot as usize) else { return };
        let offset = publication.offset;
        let position = Position { epoch: room.epoch, offset };
        let skip = Piece::from(skip_frame(position, offset, &room.room.id, SkipReason::Excluded));
        let frame = Piece::Event(Arc::clone(publication));
        self.push_to_live(slot, offset - 1, |peer| {
            if publication.excludes(peer.user(), peer.session) { skip.clone() } else { frame.clone() }
        });
    }

    /// Queues what follows `after` for all live members. One that does not keep up reads the log from there on, if the
    /// room has an answer to that.
    fn push_to_live(&mut self, slot: u32, after: Offset, piece_for: impl Fn(&Peer) -> Piece) {
        let Some(room) = self.rooms.get(slot as usize) else { return };
        let (limits, overflow) = (&self.node.limits, room.room.rules.overflow);
        let (room_slot, mut slow) = (slot, Vec::new());
        let mut messages = 0;
        for slot in &room.live {
            let Some(connection) = self.connections.get_mut(*slot as usize) else { continue };
            let is_slow = match overflow {
                Overflow::Disconnect => false,
                Overflow::DropOldest => connection.outbound.is_half_full(limits),
                Overflow::Conflate => connection.is_blocked(),
            };
            if is_slow {
                slow.push(*slot);
                continue;
            }
            let piece = piece_for(&connection.peer);
            messages += u64::from(piece.messages());
            connection.push(piece);
            if connection.outbound.is_over(limits) {
                self.overflowing.push(*slot);
            }
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push(*slot);
            }
        }
        self.node.metrics.messages_sent.add(messages);
        let after = Position { epoch: room.epoch, offset: after };
        for connection in slow {
            self.fall_slow(connection, room_slot, after);
        }
    }

    /// Hands a frame without a position to all members, those that replay included.
    pub(super) fn distribute_unstored(&mut self, local: LocalRoom, frame: &Bytes, what: &Unstored) {
        let Some(room) =
            self.rooms.get(local.slot as usize).filter(|room| room.generation == local.generation)
        else {
            return;
        };
        let replaying =
            self.replays.iter().filter(|replay| replay.room == local.slot).map(|replay| replay.connection);
        let members: Vec<_> = room.live.iter().copied().chain(replaying).collect();
        for slot in members {
            let Some(connection) = self.connections.get(slot as usize) else { continue };
            if !what.is_for(&connection.peer) {
                continue;
            }
            // Half of the queue is kept for what must not be lost.
            if what.is_ephemeral() && connection.outbound.is_half_full(&self.node.limits) {
                self.node.metrics.ephemeral_dropped.add(1);
                continue;
            }
            self.push(slot, frame.clone());
        }
    }

    pub(super) fn fall_behind(&mut self, local: LocalRoom) {
        if self.rooms.get(local.slot as usize).is_some_and(|room| room.generation == local.generation) {
            self.behind.push(local.slot);
        }
    }

    /// Reads on for the rooms in which this shard is behind; whether some still are.
    pub(super) fn catch_up_rooms(&mut self) -> bool {
        for slot in std::mem::take(&mut self.behind) {
            let Some(room) = self.rooms.get_mut(slot as usize) else { continue };
            let local = LocalRoom { slot, generation: room.generation };
            let shard = self.inbox.shard();
            let position = Position { epoch: room.epoch, offset: room.position };
            let (batch, caught_up) = room.room.catch_up(shard, position, TURN_ENTRIES_MAX, TURN_BYTES_MAX);
            if batch.lost.is_some() {
                // The log went on without us: each member reads for itself now and is told what is missing.
                let pace = match room.room.rules.overflow {
                    Overflow::Disconnect => Pace::Whole,
                    Overflow::DropOldest | Overflow::Conflate => Pace::Slow,
                };
                room.position = batch.top;
                self.read_on(slot, position, pace);
            } else {
                for publication in batch.publications {
                    self.collect(local, publication);
                }
            }
            if !caught_up {
                self.behind.push(slot);
            }
        }
        self.hand_on();
        !self.behind.is_empty()
    }

    /// Takes a connection out of a room's stream; it stays a member.
    pub(super) fn stop_stream(&mut self, slot: u32, room_slot: u32) {
        let Some(joined) = self.connection(slot).and_then(|connection| connection.joined(room_slot)) else {
            return;
        };
        let live = joined.take_live();
        self.replays.retain(|replay| replay.connection != slot || replay.room != room_slot);
        let (Some(live), Some(room)) = (live, self.rooms.get_mut(room_slot as usize)) else { return };
        room.live.swap_remove(live as usize);
        if let Some(moved) = room.live.get(live as usize).copied()
            && let Some(joined) =
                self.connections.get_mut(moved as usize).and_then(|connection| connection.joined(room_slot))
        {
            joined.set_live(Some(live));
        }
    }

    /// Takes a connection out of a room; `false` if it was not there.
    pub(super) fn leave(&mut self, slot: u32, id: &RoomId) -> bool {
        let Some(room_slot) = self.room_by_id.get(id).copied() else { return false };
        let Some(connection) = self.connection(slot) else { return false };
        if connection.joined(room_slot).is_none() {
            return false;
        }
        self.leave_slot(slot, room_slot, Departure::ForGood);
        true
    }

    fn leave_slot(&mut self, slot: u32, room_slot: u32, departure: Departure) {
        let now = self.node.env.now();
        self.stop_stream(slot, room_slot);
        let Some(connection) = self.connection(slot) else { return };
        connection.rooms.retain(|joined| joined.room != room_slot);
        let (user, session) = (connection.peer.user().clone(), connection.peer.session);
        let Some(member_room) = self.rooms.get_mut(room_slot as usize) else { return };
        member_room.members -= 1;
        let room = Arc::clone(&member_room.room);
        if member_room.members == 0 {
            if room.stop_listening(self.inbox.shard(), now) {
                self.node.broker.interest_changed(&room);
            }
            self.rooms.remove(room_slot as usize);
            self.room_by_id.remove(&room.id);
            self.behind.retain(|behind| *behind != room_slot);
        }
        info!(%session, user = %user.logged(), room = %room.id, "leave");
        match departure {
            Departure::ForGood => self.node.leave_for_good(&room, &user),
            Departure::Lost => self.node.lose(&room, &user),
        }
    }

    pub(super) fn leave_all(&mut self, slot: u32, departure: Departure) {
        while let Some(joined) = self.connection(slot).and_then(|connection| connection.rooms.last().copied())
        {
            self.leave_slot(slot, joined.room, departure);
        }
    }

    /// This connection's rooms, sorted.
    pub(super) fn rooms_of(&self, slot: u32) -> Vec<RoomId> {
        let connection = self.connections.get(slot as usize);
        let joined = connection.into_iter().flat_map(|connection| &connection.rooms);
        let mut rooms: Vec<_> =
            joined.map(|joined| self.rooms[joined.room as usize].room.id.clone()).collect();
        rooms.sort_unstable();
        rooms
    }

    /// Sends a cursor of all rooms to a connection that asked for checkpoints.
    pub(super) fn send_checkpoint(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if !connection.session.sends_checkpoints() {
            return;
        }
        let joined = connection.rooms.iter().map(|joined| {
            let room = &self.rooms[joined.room as usize];
            let reading =
                self.replays.iter().find(|replay| replay.connection == slot && replay.room == joined.room);
            let live = Position { epoch: room.epoch, offset: room.position };
            (room.room.id.clone(), reading.map_or(live, |replay| replay.after))
        });
        let not_yet = connection.was_at().map(|(room, position)| (room.clone(), position));
        let last_event_id = joined.chain(not_yet).collect();
        self.push(slot, encode::message(&ServerMessage::Checkpoint { last_event_id }));
    }
}

/// How a connection goes out of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Departure {
    /// On purpose: the others are told at once that the user is gone, if it was his last connection here.
    ForGood,
    /// It was lost, and the user may be back in a moment: PROTOCOL.md §3.
    Lost,
}

impl Departure {
    /// What a close means for the rooms: a client that is not to come back by itself has left them.
    pub(super) fn after(code: CloseCode) -> Self {
        match (code, CloseCode::reaction(Some(code))) {
            // The user's other connection has come already, and takes this one's rooms over.
            (CloseCode::TAKEN_OVER, _) => Self::Lost,
            (_, Reaction::Stop) => Self::ForGood,
            _ => Self::Lost,
        }
    }
}

/// The frames of the first publications in one piece, and how many those are.
fn joined_frames(publications: &[Arc<Publication>], joined: &mut Vec<u8>) -> (Piece, usize) {
    joined.clear();
    let mut count = 0;
    for publication in publications {
        if count > 0 && joined.len() + publication.frame().len() > PIECE_BYTES_MAX {
            break;
        }
        if publications.len() > 1 {
            joined.extend_from_slice(publication.frame());
        }
        count += 1;
    }
    match publications {
        [first, ..] if count == 1 => (Piece::Event(Arc::clone(first)), 1),
        _ => (Piece::Events(joined.as_slice().into(), count as u32), count),
    }
}
