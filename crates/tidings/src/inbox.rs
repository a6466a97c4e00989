//! The hand-over to a shard: bounded, ordered, and never waited for.
//!
//! Publications beyond the bound are not queued: the room marks the shard as behind, and the shard reads on from
//! the room's log. What answers a client's own request is always taken, since those are bounded by the requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use tidings_protocol::close::CloseCode;
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::{Cursor, Position, RoomId};
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::message::{Data, EventName, JoinFrom, MessageId};
use tokio::sync::oneshot;

use crate::auth::{Identity, UserId};
use crate::io::Io;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::publication::{Excluded, Publication};
use crate::users::{ConnectionKey, Slot};

/// An idle inbox keeps room for so many entries.
const IDLE_CAPACITY_MAX: usize = 256;

/// Which room of a shard, in the shard's own table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LocalRoom {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What lives until an entry was served, and lets go of something then.
pub(crate) type Guard = Box<dyn Send>;

/// What a shard is handed.
pub(crate) enum Entry {
    /// A new socket.
    Open(Box<Opening>),
    /// The next event of a room.
    Publication { room: LocalRoom, publication: Arc<Publication> },
    /// The inbox was full: read on from the room's log.
    Behind(LocalRoom),
    /// Another log has taken the place of the room's: its top then. What follows in the inbox follows that.
    Replaced { room: LocalRoom, top: Position },
    /// A frame without a position for a room's members. It can be left out.
    Unstored { room: LocalRoom, frame: Bytes, what: Unstored },
    /// A frame for one connection.
    Direct { connection: ConnectionKey, frame: Bytes },
    /// A call has ended: its answer, and the next one of its lane may run.
    Settled { connection: ConnectionKey, lane: Option<RoomId>, answer: Option<Bytes> },
    /// A join or resume for which the application had to be asked, and as whom it was.
    Admitted {
        connection: ConnectionKey,
        peer: Arc<Peer>,
        request: Box<JoinRequest>,
        verdicts: Vec<Verdict>,
        held: Vec<Guard>,
    },
    /// A publish for which the application had to be asked.
    Permitted { connection: ConnectionKey, request: Box<PublishRequest>, verdict: Verdict },
    /// The rooms of a connection whose token was refreshed, and as whom the application was asked about them.
    Reviewed { connection: ConnectionKey, peer: Arc<Peer>, verdicts: Vec<(RoomId, Verdict)> },
    /// A token was revoked: look through the connections.
    Revoked,
    /// The token of a `session.refresh` was good.
    Refreshed { connection: ConnectionKey, identity: Box<Identity>, answer: Option<Bytes> },
    /// A room's state at a position, or none if its handler failed.
    Snapshot { room: LocalRoom, snapshot: Option<Snapshot> },
    /// Something that the application asks of one connection.
    Command { connection: ConnectionKey, command: Command },
    /// What rooms are stored in is out of reach, or within it again: tell everyone.
    Degraded(bool),
    /// Tell everyone to go within the window.
    Drain { window: Duration },
}

impl Entry {
    /// What it holds in memory beyond itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Publication { publication, .. } => publication.bytes(),
            Self::Unstored { frame, .. } | Self::Direct { frame, .. } => frame.len(),
            Self::Permitted { request, .. } => request.data.len(),
            _ => 0,
        }
    }
}

/// What a frame without a position is, and so whom it is not for.
#[derive(Clone)]
pub(crate) enum Unstored {
    /// Of a room's presence: one user's change, for everyone but himself; or without a user for everyone.
    Presence { about: Option<UserId> },
    /// The same for that user alone.
    PresenceFor(UserId),
    /// An application's event, for everyone but one session, if there is one. It gives way to everything else.
    Ephemeral { except: Option<Excluded> },
}

impl Unstored {
    pub(crate) fn is_for(&self, peer: &Peer) -> bool {
        match self {
            Self::Presence { about } => about.as_ref() != Some(peer.user()),
            Self::PresenceFor(user) => user == peer.user(),
            Self::Ephemeral { except: Some(except) } => !except.is(peer.user(), peer.session),
            Self::Ephemeral { except: None } => true,
        }
    }

    pub(crate) fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Ephemeral { .. })
    }
}

/// A room's state, with the position that it is at least at.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) state: Arc<RawValue>,
}

/// What the application asks of one connection; whether it was still there goes to `done`.
pub(crate) enum Command {
    /// Join it to a room, whatever the room's rule says.
    Join { room: RoomId, done: oneshot::Sender<bool>, held: Vec<Guard> },
    /// Take it out of a room.
    Leave { room: RoomId, done: oneshot::Sender<bool> },
    /// List its rooms.
    Rooms { done: oneshot::Sender<Vec<RoomId>> },
    /// Close it.
    Close { code: CloseCode, reason: &'static str },
}

/// A `room.join` or `session.resume`, kept while the application is asked.
pub(crate) enum JoinRequest {
    Join { room: RoomId, id: MessageId, from: JoinFrom },
    Resume { id: MessageId, cursor: Cursor },
}

/// An event for a room, kept while the application is asked.
pub(crate) struct PublishRequest {
    pub(crate) event: EventName,
    pub(crate) room: RoomId,
    pub(crate) id: Option<MessageId>,
    pub(crate) data: OwnedData,
}

/// What an event carries, kept.
pub(crate) enum OwnedData {
    Json(Box<RawValue>),
    Binary(Vec<u8>),
}

impl OwnedData {
    pub(crate) fn data(&self) -> Data<'_> {
        match self {
            Self::Json(data) => Data::Json(data),
            Self::Binary(payload) => Data::Binary(payload),
        }
    }

    fn len(&self) -> usize {
        self.data().as_bytes().len()
    }
}

impl From<Data<'_>> for OwnedData {
    fn from(data: Data<'_>) -> Self {
        match data {
            Data::Json(data) => Self::Json(data.to_owned()),
            Data::Binary(payload) => Self::Binary(payload.to_vec()),
        }
    }
}

/// May this room be joined, or published to?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Yes,
    No(ErrorCode),
}

/// A socket that has just been upgraded, and what its handshake said.
pub(crate) struct Opening {
    pub(crate) io: Io,
    /// What was read behind the handshake.
    pub(crate) early: Bytes,
    pub(crate) peer: Peer,
    pub(crate) slot: Slot,
    pub(crate) last_event_id: Option<Cursor>,
    pub(crate) resume_wait: bool,
    pub(crate) checkpoints: bool,
    /// Keeps the user's rooms as they are, until the socket is in them.
    pub(crate) held: Vec<Guard>,
}

/// A shard's inbox.
pub(crate) struct Inbox {
    shard: u16,
    entries_max: usize,
    bytes_max: usize,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    unrung: AtomicBool,
    connections: AtomicIsize,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    waker: Option<Waker>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(shard: u16, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let (entries_max, bytes_max) = (limits.inbox_entries_max, limits.inbox_bytes_max);
        Self {
            shard,
            entries_max,
            bytes_max,
            metrics,
            queue: Mutex::default(),
            unrung: AtomicBool::new(false),
            connections: AtomicIsize::new(0),
        }
    }

    /// Which shard's it is.
    pub(crate) fn shard(&self) -> u16 {
        self.shard
    }

    /// Hands over what must not be left out. After the shard's end it goes nowhere.
    pub(crate) fn push(&self, entry: Entry) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.bytes += entry.bytes();
            queue.entries.push_back(entry);
            wake(queue);
        }
    }

    /// Hands over what can be left out; whether there was room.
    pub(crate) fn try_push(&self, entry: Entry) -> bool {
        let taken = self.try_push_quietly(entry);
        self.ring();
        taken
    }

    /// The same, and the shard sleeps on until somebody calls [`Inbox::ring`]: so that a shard that waits is woken
    /// once for all that one read brings it, and finds it together.
    pub(crate) fn try_push_quietly(&self, entry: Entry) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return true;
        }
        let full = (queue.entries.len() >= self.entries_max)
            .then_some(Limit::InboxEntriesMax)
            .or((queue.bytes >= self.bytes_max).then_some(Limit::InboxBytesMax));
        if let Some(limit) = full {
            drop(queue);
            self.metrics.hit(limit);
            return false;
        }
        queue.bytes += entry.bytes();
        queue.entries.push_back(entry);
        self.unrung.store(true, Ordering::Relaxed);
        true
    }

    /// Wakes the shard if something was handed over quietly.
    pub(crate) fn ring(&self) {
        // Whoever pushed rings afterwards, so a flag of another's push that is seen late is that one's to see.
        if self.unrung.load(Ordering::Relaxed) && self.unrung.swap(false, Ordering::Relaxed) {
            wake(self.queue.lock());
        }
    }

    /// Counts a connection that is on its way to this shard, or gone from it.
    pub(crate) fn count_connections(&self, change: isize) {
        self.connections.fetch_add(change, Ordering::Relaxed);
    }

    /// How many connections the shard has, those on their way included.
    pub(crate) fn connections(&self) -> isize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends the shard.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        wake(queue);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Takes entries into `turn`, so many or about so many bytes at most; whether more are waiting. Registers
    /// `waker` if none are.
    pub(crate) fn take(
        &self,
        turn: &mut Vec<Entry>,
        entries_max: usize,
        bytes_max: usize,
        waker: &Waker,
    ) -> bool {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        while bytes < bytes_max && turn.len() < entries_max {
            let Some(entry) = queue.entries.pop_front() else { break };
            bytes += entry.bytes();
            turn.push(entry);
        }
        queue.bytes -= bytes;
        if queue.entries.is_empty() {
            if queue.entries.capacity() > IDLE_CAPACITY_MAX {
                queue.entries = VecDeque::new();
            }
            queue.waker = Some(waker.clone());
            return false;
        }
        true
    }
}

/// Wakes the shard if it waits, after the lock is given back.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: LocalRoom = LocalRoom { slot: 0, generation: 0 };

    #[test]
    fn what_can_be_left_out_is_bounded_and_answers_are_not() {
        let mut limits = Limits::default();
        limits.inbox_entries_max = 2;
        let metrics = Arc::new(Metrics::default());
        let inbox = Inbox::new(0, &limits, Arc::clone(&metrics));
        let connection = ConnectionKey { shard: 0, slot: 0, generation: 0 };
        assert!(inbox.try_push(Entry::Behind(ROOM)));
        inbox.push(Entry::Direct { connection, frame: Bytes::new() });
        assert!(!inbox.try_push(Entry::Behind(ROOM)));
        assert_eq!(metrics.snapshot().limit_hits["inbox_entries_max"], 1);
        inbox.push(Entry::Direct { connection, frame: Bytes::new() });
        let mut turn = Vec::new();
        assert!(inbox.take(&mut turn, 2, 1, Waker::noop()));
        assert_eq!(turn.len(), 2);
        assert!(!inbox.take(&mut turn, 8, 1, Waker::noop()));
        assert_eq!(turn.len(), 3);
        inbox.close();
        assert!(inbox.try_push(Entry::Behind(ROOM)));
        turn.clear();
        inbox.take(&mut turn, 2, 1, Waker::noop());
        assert!(turn.is_empty());
    }

    #[test]
    fn a_quiet_push_wakes_nobody_until_the_bell_rings() {
        struct Woken(AtomicIsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let inbox = Inbox::new(0, &Limits::default(), Arc::default());
        let woken = Arc::new(Woken(AtomicIsize::new(0)));
        let mut turn = Vec::new();
        assert!(!inbox.take(&mut turn, 8, 1, &Waker::from(Arc::clone(&woken))));
        inbox.try_push_quietly(Entry::Behind(ROOM));
        inbox.try_push_quietly(Entry::Behind(ROOM));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        inbox.ring();
        inbox.ring();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(!inbox.take(&mut turn, 8, 1, &Waker::from(Arc::clone(&woken))));
        assert_eq!(turn.len(), 2);
        inbox.try_push(Entry::Behind(ROOM));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }
}
