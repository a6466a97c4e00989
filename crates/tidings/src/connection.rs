//! One socket: reads it, drives its session, keeps what waits for it. It knows no other socket and no room's log.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::{Cursor, Position, RoomId};
use tidings_protocol::frame::{MessageReader, Role};
use tidings_protocol::limits::Limits;
use tidings_protocol::message::JoinFrom;
use tidings_protocol::session::Session;

use crate::encode;
use crate::inbox::Guard;
use crate::io::Io;
use crate::lanes::Lanes;
use crate::outbound::{Outbound, Piece};
use crate::peer::Peer;
use crate::user_rates::{UserRate, UserRates};
use crate::users::{ConnectionKey, Slot};

/// A live socket.
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    pub(crate) peer: Arc<Peer>,
    pub(crate) session: Session,
    /// None while a new one would do.
    reader: Option<Box<MessageReader>>,
    pub(crate) outbound: Outbound,
    /// The rooms that it is in.
    pub(crate) rooms: Vec<JoinedRoom>,
    pub(crate) lanes: Lanes,
    /// A `session.resume` is asking the memberships: what comes later waits for it.
    pub(crate) resuming: bool,
    busy: Option<Box<Busy>>,
    /// It is in the shard's list of sockets to flush.
    pub(crate) dirty: bool,
    /// The earliest of its entries in the shard's timers.
    pub(crate) timer_at: Option<Instant>,
    io: Io,
    /// When it became a connection.
    pub(crate) opened_at: Instant,
    waker: Option<Waker>,
    blocked: bool,
    write_ended: bool,
    /// Gives the slot of the per-user limit back.
    _slot: Slot,
}

/// What an idle connection does not have.
#[derive(Default)]
struct Busy {
    /// The user's rate, from the first message until it is full again.
    user_rate: Option<Arc<UserRate>>,
    /// The rooms that wait for `?resume=wait` to end.
    unattached: Vec<(RoomId, Start)>,
    /// Keeps them as they are meanwhile.
    held: Vec<Guard>,
    /// Read and not yet looked at, because something has to end first.
    unread: Vec<u8>,
    /// Where it was, by its handshake, in rooms that it has not joined yet.
    was_at: Cursor,
}

impl Busy {
    fn is_over(&self) -> bool {
        self.user_rate.is_none()
            && self.unattached.is_empty()
            && self.unread.is_empty()
            && self.was_at.is_empty()
    }
}

/// One room of a connection.
#[derive(Clone, Copy)]
pub(crate) struct JoinedRoom {
    /// The room's place in the shard.
    pub(crate) room: u32,
    /// One more than the connection's place among those that get what is published as it comes; none while it reads
    /// the log.
    live: Option<NonZeroU32>,
}

impl JoinedRoom {
    /// A membership that reads the log.
    pub(crate) fn new(room: u32) -> Self {
        Self { room, live: None }
    }

    /// It is live, at this place, or reads the log.
    pub(crate) fn set_live(&mut self, place: Option<u32>) {
        self.live = place.and_then(|place| NonZeroU32::new(place.wrapping_add(1)));
    }

    /// It reads the log from now on; its place until then.
    pub(crate) fn take_live(&mut self) -> Option<u32> {
        self.live.take().map(|place| place.get() - 1)
    }
}

/// Where a room's events begin for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// With the last so many.
    Newest { history: u32 },
    /// After this position.
    After(Position),
    /// With the newest event of each key, those after this position.
    Picture(Position),
    /// The client keeps positions and told none for this room.
    NoPosition,
}

impl From<&JoinFrom> for Start {
    fn from(from: &JoinFrom) -> Self {
        match from {
            JoinFrom::Newest { history } => Self::Newest { history: *history },
            JoinFrom::Position(position) => Self::After(*position),
        }
    }
}

/// What a flush led to.
pub(crate) enum Flushed {
    /// Everything is written.
    All,
    /// The socket takes no more for now; its task will be woken.
    Blocked,
    /// The socket is broken.
    Broken(io::Error),
}

impl Connection {
    pub(crate) fn new(
        key: ConnectionKey,
        peer: Peer,
        io: Io,
        slot: Slot,
        session: Session,
        opened_at: Instant,
    ) -> Self {
        Self {
            key,
            peer: Arc::new(peer),
            session,
            reader: None,
            outbound: Outbound::default(),
            rooms: Vec::new(),
            lanes: Lanes::default(),
            resuming: false,
            busy: None,
            dirty: false,
            timer_at: None,
            io,
            opened_at,
            waker: None,
            blocked: false,
            write_ended: false,
            _slot: slot,
        }
    }

    /// Remembers the connection's task, which is woken when the socket can be read or written again.
    pub(crate) fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// Lets the connection's task look again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Reads what is there.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read(cx, buffer)
    }

    /// The reader of its frames, to be given back by [`Connection::keep_reader`].
    pub(crate) fn take_reader(&mut self) -> MessageReader {
        self.reader.take().map_or_else(|| MessageReader::new(Role::Server), |reader| *reader)
    }

    /// Keeps the reader where it is, which takes nothing between messages.
    pub(crate) fn keep_reader(&mut self, reader: MessageReader) {
        self.reader = (!reader.is_as_new()).then(|| Box::new(reader));
    }

    /// Whether something of this connection must end before more of what it sent is looked at.
    pub(crate) fn must_wait(&self, limits: &Limits) -> bool {
        self.resuming
            || self.lanes.longest() >= limits.waiting_calls_max
            || self.outbound.is_half_full(limits)
    }

    /// Keeps rooms back until `?resume=wait` ends, and what they need until then.
    pub(crate) fn keep_unattached(&mut self, rooms: Vec<(RoomId, Start)>, held: Vec<Guard>) {
        if !rooms.is_empty() {
            let busy = self.busy.get_or_insert_default();
            (busy.unattached, busy.held) = (rooms, held);
        }
    }

    /// The rooms that were kept back; none are any more.
    pub(crate) fn take_unattached(&mut self) -> (Vec<(RoomId, Start)>, Vec<Guard>) {
        let kept =
            |busy: &mut Box<Busy>| (std::mem::take(&mut busy.unattached), std::mem::take(&mut busy.held));
        self.busy.as_mut().map(kept).unwrap_or_default()
    }

    /// Keeps where it was in rooms that it may join yet.
    pub(crate) fn keep_positions(&mut self, positions: Cursor) {
        if !positions.is_empty() {
            self.busy.get_or_insert_default().was_at = positions;
        }
    }

    /// Where it was before, in rooms that it has not joined yet.
    pub(crate) fn was_at(&self) -> impl Iterator<Item = (&RoomId, Position)> {
        self.busy.iter().flat_map(|busy| busy.was_at.iter())
    }

    /// It is in a room from now on, and where it was before counts no more.
    pub(crate) fn enter(&mut self, room: &RoomId, joined: JoinedRoom) {
        // Rooms are kept for long and come seldom.
        self.rooms.reserve_exact(1);
        self.rooms.push(joined);
        if let Some(busy) = &mut self.busy {
            busy.was_at.remove(room.as_str());
        }
        self.busy.take_if(|busy| busy.is_over());
    }

    /// Keeps what was read until the connection need not wait.
    pub(crate) fn keep_unread(&mut self, bytes: &[u8]) {
        self.busy.get_or_insert_default().unread = bytes.to_vec();
    }

    /// What was read and kept.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.busy.as_mut().map(|busy| std::mem::take(&mut busy.unread));
        self.busy.take_if(|busy| busy.is_over());
        unread.unwrap_or_default()
    }

    /// Takes one message of the user's rate.
    pub(crate) fn take_of_user(
        &mut self,
        rates: &UserRates,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Duration> {
        let rate = &mut self.busy.get_or_insert_default().user_rate;
        rate.get_or_insert_with(|| rates.of(self.peer.user(), now)).take(limits, now)
    }

    /// Lets go of the user's rate if that is full.
    pub(crate) fn forget_full_rate(&mut self, limits: &Limits, now: Instant) {
        if let Some(busy) = &mut self.busy {
            busy.user_rate.take_if(|rate| rate.is_full(limits, now));
        }
        self.busy.take_if(|busy| busy.is_over());
    }

    /// Whether the socket takes nothing for now.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, gather: &mut Vec<u8>, now: Instant) -> Flushed {
        // Taken out and put back, which is cheaper than a clone; it is not looked at meanwhile.
        let waker = self.waker.take();
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        let before = self.outbound.bytes();
        let result = loop {
            match self.outbound.flush(gather, |slices| self.io.write(&mut cx, slices)) {
                Ok(true) => break self.io.poll_flush(&mut cx).map(|flushed| flushed.map(|()| true)),
                Ok(false) => match self.io.poll_write_ready(&mut cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                    Poll::Pending => break Poll::Ready(Ok(false)),
                },
                Err(error) => break Poll::Ready(Err(error)),
            }
        };
        self.waker = waker;
        let progressed = self.outbound.bytes() < before;
        match result {
            Poll::Ready(Err(error)) => Flushed::Broken(error),
            Poll::Ready(Ok(true)) => {
                if std::mem::take(&mut self.blocked) {
                    self.session.set_stalled(false, now);
                }
                Flushed::All
            }
            Poll::Ready(Ok(false)) | Poll::Pending => {
                self.blocked = true;
                if progressed {
                    self.session.set_stalled(false, now);
                }
                self.session.set_stalled(true, now);
                Flushed::Blocked
            }
        }
    }

    /// Begins to close: nothing is queued after the close frame. With a slow consumer's code, what waits is dropped.
    pub(crate) fn begin_close(&mut self, code: CloseCode, cause: &str, now: Instant) {
        if code == CloseCode::SLOW_CONSUMER {
            self.outbound.drop_unbegun();
        }
        self.outbound.push(encode::close(code, cause).into());
        self.session.close(now);
        self.busy = None;
        self.lanes = Lanes::default();
    }

    /// Ends our side of the stream once the close frame is written; the other side is read to its end, since data
    /// that nobody read would turn the end into a reset that eats the close frame.
    pub(crate) fn end_write(&mut self) {
        if !self.write_ended && self.session.is_closing() && self.outbound.is_empty() {
            self.write_ended = true;
            let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
            // Whether it worked shows when the other side is read.
            let _ = self.io.poll_shutdown(&mut Context::from_waker(&waker));
        }
    }

    /// It is to see the newest state, and so nothing old is to wait in the kernel.
    pub(crate) fn hold_little(&self) {
        self.io.hold_little();
    }

    /// Queues frames, unless a close has begun.
    pub(crate) fn push(&mut self, piece: Piece) {
        if !self.session.is_closing() {
            self.outbound.push(piece);
        }
    }

    /// This connection's membership in a room of its shard.
    pub(crate) fn joined(&mut self, room: u32) -> Option<&mut JoinedRoom> {
        self.rooms.iter_mut().find(|joined| joined.room == room)
    }
}
