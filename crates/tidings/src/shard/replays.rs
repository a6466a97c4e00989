//! Members that read a room's log at their own pace, until they have reached the shard's position and are live.
//!
//! Whoever joins, comes back, or is too slow for a room that has an answer to that (its overflow policy) is such a
//! reader. One mechanism for all: every offset is an event or inside a skip, whatever is left out and why.

use std::sync::Arc;

use bytes::Bytes;
use tidings_protocol::event_id::{Epoch, Offset, Position, RoomId};
use tidings_protocol::message::{Lost, ServerMessage, SkipReason};
use tidings_protocol::room_log::{Recovery, Reset};
use tracing::warn;

use super::State;
use crate::encode;
use crate::inbox::{LocalRoom, Snapshot};
use crate::outbound::Piece;
use crate::publication::Publication;
use crate::room::{Room, SnapshotRequest};
use crate::rules::Overflow;

/// A piece of a replay reads so many events at most.
const REPLAY_EVENTS_MAX: usize = 128;

/// One connection's reading of one room's log.
pub(super) struct Replay {
    pub(super) connection: u32,
    pub(super) room: u32,
    /// The position of the last event that it has.
    pub(super) after: Position,
    pub(super) pace: Pace,
    /// A reset that waits for the room's state; nothing is read before it is told.
    pub(super) reset: Option<Reset>,
}

/// What a reader gets of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Everything.
    Whole,
    /// The newest of each key up to this offset, then everything: the room's picture.
    Picture { until: Offset },
    /// What the room's overflow policy leaves to a member that was live and did not keep up.
    Slow,
}

/// How far a replay came.
#[derive(PartialEq, Eq)]
enum Step {
    /// It is live, or nobody wants it any more.
    Done,
    /// It can go on at once.
    More,
    /// Something else has to happen first.
    Waits,
}

impl Replay {
    pub(super) fn new(connection: u32, room: u32, after: Position, pace: Pace) -> Self {
        Self { connection, room, after, pace, reset: None }
    }
}

impl State {
    /// Reads a piece of the log for everyone who replays; whether somebody could go on at once.
    pub(super) fn advance_replays(&mut self) -> bool {
        let mut more = false;
        let mut replays = std::mem::take(&mut self.replays);
        replays.retain_mut(|replay| {
            let step = self.advance(replay);
            more |= step == Step::More;
            step != Step::Done
        });
        replays.append(&mut self.replays);
        self.replays = replays;
        more
    }

    fn advance(&mut self, replay: &mut Replay) -> Step {
        let limits = &self.node.limits;
        let Some(room) = self.rooms.get_mut(replay.room as usize) else { return Step::Done };
        let Some(connection) = self.connections.get_mut(replay.connection as usize) else {
            return Step::Done;
        };
        let conflates = replay.pace == Pace::Slow && room.room.rules.overflow == Overflow::Conflate;
        // Whatever waits in the queue of a reader who is to see the newest state would be older than that.
        let must_wait = if conflates {
            !connection.outbound.is_empty()
        } else {
            connection.outbound.is_half_full(limits)
        };
        if replay.reset.is_some() || must_wait {
            return Step::Waits;
        }
        if replay.after.epoch != room.epoch {
            // Another log has taken the room's place, of which this member, or this shard, is still to hear.
            return Step::Waits;
        }
        if replay.after.offset == room.position {
            let Some(joined) = connection.joined(replay.room) else { return Step::Done };
            joined.set_live(Some(room.live.len() as u32));
            room.live.push(replay.connection);
            return Step::Done;
        }
        if replay.after.offset > room.position {
            // The shard's inbox still holds what this member has: it goes live when that is through.
            return Step::Waits;
        }
        let (position, room) = (room.position, Arc::clone(&room.room));
        match replay.pace {
            Pace::Whole => self.read_whole(replay, &room, position),
            Pace::Picture { until } => {
                // The shard may not have handed on yet what the picture was taken after.
                let step = self.read_newest(replay, &room, until.min(position));
                if replay.after.offset >= until {
                    replay.pace = Pace::Whole;
                }
                step
            }
            Pace::Slow if conflates => self.read_newest(replay, &room, position),
            Pace::Slow => {
                let limits = &self.node.limits;
                let (messages, bytes) = (limits.outbound_messages_max / 2, limits.outbound_bytes_max / 2);
                let from = room.tail(position, messages, bytes);
                if replay.after.offset < from {
                    self.skip(replay, &room, from, SkipReason::Dropped);
                }
                self.read_whole(replay, &room, position)
            }
        }
    }

    /// Queues the next events of the log; a reader that finds them gone is reset.
    fn read_whole(&mut self, replay: &mut Replay, room: &Arc<Room>, until: Offset) -> Step {
        let bytes_max = self.node.limits.outbound_bytes_max / 2;
        let Some(batch) = room.read(replay.after, until, REPLAY_EVENTS_MAX, bytes_max) else {
            return Step::Waits;
        };
        if batch.lost.is_some() && replay.pace == Pace::Slow {
            // Trimmed since its policy looked: that drops them likewise, with its next step.
            return Step::More;
        }
        if batch.lost.is_some() {
            if let Some(reset) = room.expired(replay.after) {
                self.announce_reset(replay, room, replay.after.epoch, reset);
            }
            return Step::More;
        }
        self.node.metrics.replayed.add(batch.publications.len() as u64);
        for publication in batch.publications {
            self.push_replayed(replay, room, publication);
        }
        Step::More
    }

    /// Queues the newest of each key up to an offset, and skips whatever lies between.
    fn read_newest(&mut self, replay: &mut Replay, room: &Arc<Room>, until: Offset) -> Step {
        let bytes_max = self.node.limits.outbound_bytes_max / 2;
        let Some(newest) = room.read_newest(replay.after, until, REPLAY_EVENTS_MAX, bytes_max) else {
            return Step::Waits;
        };
        for publication in newest {
            if replay.after.offset + 1 < publication.offset {
                self.skip(replay, room, publication.offset - 1, SkipReason::Conflated);
            }
            self.push_replayed(replay, room, publication);
        }
        let is_last = |newest: Vec<_>| newest.is_empty();
        if replay.after.offset < until
            && room.read_newest(replay.after, until, 1, usize::MAX).is_some_and(is_last)
        {
            self.skip(replay, room, until, SkipReason::Conflated);
        }
        Step::More
    }

    fn push_replayed(&mut self, replay: &mut Replay, room: &Room, publication: Arc<Publication>) {
        let Some(connection) = self.connections.get(replay.connection as usize) else { return };
        replay.after.offset = publication.offset;
        if publication.excludes(connection.peer.user(), connection.peer.session) {
            let offset = publication.offset;
            let skip = skip_frame(replay.after, offset, &room.id, SkipReason::Excluded);
            self.push(replay.connection, skip);
        } else {
            self.push(replay.connection, Piece::Event(publication));
        }
    }

    /// Tells a reader that it does not get what follows, up to an offset.
    fn skip(&mut self, replay: &mut Replay, room: &Room, until: Offset, reason: SkipReason) {
        let (from, to) = (replay.after.offset + 1, Position { offset: until, ..replay.after });
        self.push(replay.connection, skip_frame(to, from, &room.id, reason));
        self.node.metrics.skipped.add(to.offset + 1 - from);
        replay.after = to;
    }

    /// A live member does not keep up, and its room has an answer: it reads the log from `after` on.
    pub(super) fn fall_slow(&mut self, connection: u32, room: u32, after: Position) {
        self.stop_stream(connection, room);
        self.replays.push(Replay::new(connection, room, after, Pace::Slow));
        self.node.metrics.fell_slow.add(1);
    }

    /// Judges every member of a room anew, by the position that it has: another log, whose top was `top`, has taken the
    /// place of the room's.
    pub(super) fn judge_members(&mut self, local: LocalRoom, top: Position) {
        let Some(member_room) = self.rooms.get_mut(local.slot as usize) else { return };
        if member_room.generation != local.generation {
            return;
        }
        let room = Arc::clone(&member_room.room);
        let had = Position { epoch: member_room.epoch, offset: member_room.position };
        (member_room.epoch, member_room.position) = (top.epoch, top.offset);
        self.behind.retain(|behind| *behind != local.slot);
        if had != top {
            let pace = match room.rules.overflow {
                Overflow::Disconnect => Pace::Whole,
                Overflow::DropOldest | Overflow::Conflate => Pace::Slow,
            };
            self.read_on(local.slot, had, pace);
        }
        let mut replays = std::mem::take(&mut self.replays);
        for replay in replays.iter_mut().filter(|replay| replay.room == local.slot) {
            self.judge(replay, &room);
        }
        replays.append(&mut self.replays);
        self.replays = replays;
    }

    /// All live members of a room read its log from here on.
    pub(super) fn read_on(&mut self, slot: u32, after: Position, pace: Pace) {
        let Some(room) = self.rooms.get_mut(slot as usize) else { return };
        for connection in std::mem::take(&mut room.live) {
            let joined = self.connections.get_mut(connection as usize);
            if let Some(joined) = joined.and_then(|connection| connection.joined(slot)) {
                joined.set_live(None);
            }
            self.replays.push(Replay::new(connection, slot, after, pace));
        }
    }

    /// Tells a reader what his position means to a log that he has not read yet.
    fn judge(&mut self, replay: &mut Replay, room: &Arc<Room>) {
        let (recovery, top) = room.recover(Some(replay.after));
        if let Some(reset) = &mut replay.reset {
            // It waits to be told already, and is told where this log goes on.
            if replay.after.epoch != top.epoch {
                let (after, _) = room.stored_after();
                (reset.after, reset.lost, replay.after) = (after, None, Position { offset: after, ..top });
            }
            return;
        }
        match recovery {
            Recovery::Replay { .. } => {}
            Recovery::Moved { was, after } => {
                replay.after = Position { offset: after, ..top };
                self.push_epoch_change(replay.connection, room, replay.after, was);
            }
            Recovery::Reset(reset) => self.announce_reset(replay, room, top.epoch, reset),
        }
    }

    /// Tells a member that its position goes on under another epoch.
    pub(super) fn push_epoch_change(&mut self, connection: u32, room: &Room, to: Position, was: Epoch) {
        self.push(connection, encode::message(&ServerMessage::EpochChange { id: to.of(&room.id), was }));
    }

    /// Tells a reset by a log of this epoch, at once or when the room's state is there.
    pub(super) fn announce_reset(
        &mut self,
        replay: &mut Replay,
        room: &Arc<Room>,
        epoch: Epoch,
        reset: Reset,
    ) {
        self.node.metrics.resets.add(1);
        replay.after = Position { epoch, offset: reset.after };
        if room.rules.snapshot.is_none() {
            if room.rules.retain {
                let (after, top) = room.picture();
                (replay.after, replay.pace) =
                    (Position { offset: after, ..top }, Pace::Picture { until: top.offset });
                self.push_reset(replay, room, Reset { after, ..reset }, None);
            } else {
                replay.pace = Pace::Whole;
                self.push_reset(replay, room, reset, None);
            }
            return;
        }
        let local = self.local(replay.room);
        match room.request_snapshot(&self.inbox, local, &self.node.limits, self.node.env.now()) {
            SnapshotRequest::Ready(snapshot) => self.push_reset(replay, room, reset, Some(&snapshot)),
            SnapshotRequest::Pending => replay.reset = Some(reset),
            SnapshotRequest::Run(position) => {
                replay.reset = Some(reset);
                self.run_snapshot(room, position);
            }
        }
    }

    fn local(&self, room: u32) -> LocalRoom {
        LocalRoom { slot: room, generation: self.rooms.get(room as usize).map_or(0, |room| room.generation) }
    }

    fn run_snapshot(&self, room: &Arc<Room>, position: Position) {
        let Some(handler) = room.rules.snapshot.clone() else { return };
        let (node, room) = (Arc::clone(&self.node), Arc::clone(room));
        self.node.spawn(async move {
            // A task of its own, so that a panic in the application's code is an answer too.
            let state = tokio::spawn(handler(room.id.clone())).await;
            let snapshot = match state {
                Ok(Ok(state)) => Some(Snapshot { position, state: state.into() }),
                Ok(Err(error)) => {
                    warn!(room = %room.id, error = error.message(), "the snapshot handler failed");
                    None
                }
                Err(error) => {
                    warn!(room = %room.id, %error, "the snapshot handler panicked");
                    None
                }
            };
            room.finish_snapshot(snapshot.as_ref(), node.env.now());
        });
    }

    pub(super) fn finish_snapshot(&mut self, local: LocalRoom, snapshot: Option<&Snapshot>) {
        let Some(room) =
            self.rooms.get(local.slot as usize).filter(|room| room.generation == local.generation)
        else {
            return;
        };
        let room = Arc::clone(&room.room);
        let mut replays = std::mem::take(&mut self.replays);
        for replay in replays.iter_mut().filter(|replay| replay.room == local.slot) {
            if let Some(reset) = replay.reset.take() {
                self.push_reset(replay, &room, reset, snapshot);
            }
        }
        replays.append(&mut self.replays);
        self.replays = replays;
    }

    fn push_reset(&mut self, replay: &mut Replay, room: &Room, reset: Reset, snapshot: Option<&Snapshot>) {
        // A state of a log that has forked since may hold what is lost now.
        let known = snapshot.and_then(|snapshot| match room.recover(Some(snapshot.position)) {
            (Recovery::Replay { .. }, _) => Some((snapshot.position, &*snapshot.state)),
            (Recovery::Moved { after, .. }, top) => {
                Some((Position { offset: after, ..top }, &*snapshot.state))
            }
            (Recovery::Reset(_), _) => None,
        });
        let (position, state) = match known {
            Some((position, state)) => (position, Some(state)),
            None => (Position { offset: reset.after, ..replay.after }, None),
        };
        replay.after = position;
        // With a state, nothing up to its position follows: all of that counts as lost.
        let lost = match state {
            Some(_) => reset.lost.map(|lost| Lost { to: position.offset.max(lost.to), ..lost }),
            None => reset.lost,
        };
        let message = ServerMessage::Reset { id: position.of(&room.id), reason: reset.reason, lost, state };
        self.push(replay.connection, encode::message(&message));
    }
}

/// A `room.skip` of the offsets from `from` to the position.
pub(super) fn skip_frame(to: Position, from: Offset, room: &RoomId, reason: SkipReason) -> Bytes {
    encode::message(&ServerMessage::Skip { id: to.of(room), from, reason })
}
