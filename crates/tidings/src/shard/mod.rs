//! A core's share of a node: a future that owns its sockets and their memberships, and alone writes to them.
//!
//! Everything of a shard is under one lock that only its own tasks take: the pump, which takes what the inbox
//! holds and flushes, and one small task for each socket, which waits until it can be read. On a shard's own
//! thread the lock is never contended. A turn of the pump: some entries, a piece of every replay, what is due,
//! then one write for each socket that has something waiting.
//!
//! Lock order: shard, then room, then inbox. So a room never calls into a shard; it hands over.

mod admission;
mod replays;
mod rooms;
mod serve;
mod sockets;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::frame::ReaderLimits;

use crate::connection::Connection;
use crate::env::ShardFuture;
use crate::inbox::{Command, Entry, Inbox};
use crate::node::Node;
use crate::router::Router;
use crate::users::ConnectionKey;

use admission::Sweep;
use replays::Replay;
use rooms::MemberRoom;
use waiting::WaitingBytes;

/// A turn takes so many entries at most, and about so many bytes.
const TURN_ENTRIES_MAX: usize = 256;
const TURN_BYTES_MAX: usize = 256 * 1024;
/// One read takes so much at most.
const READ_BYTES_MAX: usize = 64 * 1024;
/// What is past its time is forgotten this often.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// A shard, shared by its own tasks.
pub(crate) struct Shard {
    inbox: Arc<Inbox>,
    state: Mutex<State>,
}

struct State {
    node: Arc<Node>,
    router: Arc<Router>,
    inbox: Arc<Inbox>,
    reader_limits: ReaderLimits,
    connections: Slab<Connection>,
    rooms: Slab<MemberRoom>,
    room_by_id: HashMap<RoomId, u32>,
    /// Connections that read a room's log.
    replays: Vec<Replay>,
    /// Rooms in which this shard itself reads the log.
    behind: Vec<u32>,
    /// Rooms that hold publications of this turn which their members do not have yet.
    collecting: Vec<u32>,
    /// Frames for single connections that follow those.
    after_events: Vec<(ConnectionKey, Bytes)>,
    /// Connections that have something to write.
    dirty: Vec<u32>,
    /// Connections to be closed as slow consumers, once the room that filled them is through.
    overflowing: Vec<u32>,
    /// What waits for sockets that did not take it.
    waiting: WaitingBytes,
    /// Looks through the connections for tokens that were revoked.
    sweep: Option<Sweep>,
    /// Sockets whose task is not started yet.
    unstarted: Vec<(u32, u32)>,
    timers: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    next_maintenance: Instant,
    /// Counts up with each connection and room, so that a key never means another.
    generation: u32,
    /// The thread's one read buffer, and the one that small frames are gathered in.
    scratch: Vec<u8>,
    gather: Vec<u8>,
    /// What rooms are stored in is out of reach, as everyone here was told.
    degraded: bool,
    /// Wakes the pump.
    pump: Option<Waker>,
}

impl Shard {
    /// The future that is a shard. It ends when its inbox is closed.
    pub(crate) fn future(node: Arc<Node>, router: Arc<Router>, inbox: Arc<Inbox>) -> ShardFuture {
        let now = node.env.now();
        let state = State {
            reader_limits: ReaderLimits::from(&*node.limits),
            node,
            router,
            inbox: Arc::clone(&inbox),
            connections: Slab::new(),
            rooms: Slab::new(),
            room_by_id: HashMap::new(),
            replays: Vec::new(),
            behind: Vec::new(),
            collecting: Vec::new(),
            after_events: Vec::new(),
            dirty: Vec::new(),
            overflowing: Vec::new(),
            waiting: WaitingBytes::default(),
            sweep: None,
            unstarted: Vec::new(),
            timers: BinaryHeap::new(),
            next_maintenance: now + MAINTENANCE_INTERVAL,
            generation: 0,
            scratch: vec![0; READ_BYTES_MAX],
            gather: Vec::with_capacity(READ_BYTES_MAX),
            degraded: false,
            pump: None,
        };
        let shard = Arc::new(Self { inbox, state: Mutex::new(state) });
        Box::pin(async move { shard.pump().await })
    }

    async fn pump(self: Arc<Self>) {
        let mut turn = Vec::new();
        let mut timer = pin!(tokio::time::sleep_until(tokio::time::Instant::now()));
        std::future::poll_fn(|cx| {
            if self.inbox.is_closed() {
                self.state.lock().end_all();
                return Poll::Ready(());
            }
            let more = self.inbox.take(&mut turn, TURN_ENTRIES_MAX, TURN_BYTES_MAX, cx.waker());
            let mut state = self.state.lock();
            state.set_pump(cx.waker());
            let more = state.turn(&mut turn) || more;
            let wake_at = state.next_timer();
            let unstarted = std::mem::take(&mut state.unstarted);
            drop(state);
            for (slot, generation) in unstarted {
                drop(tokio::spawn(SocketTask { shard: Arc::clone(&self), slot, generation }));
            }
            if more {
                // The sockets' tasks are to be heard in between.
                cx.waker().wake_by_ref();
            } else {
                timer.as_mut().reset(tokio::time::Instant::from_std(wake_at));
                if timer.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Pending
        })
        .await;
    }
}

/// Waits until one socket can be read, or written again. It holds nothing of the connection but its place.
struct SocketTask {
    shard: Arc<Shard>,
    slot: u32,
    generation: u32,
}

impl Future for SocketTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shard.state.lock().poll_socket(self.slot, self.generation, cx)
    }
}

impl State {
    /// One turn; whether another should follow at once.
    fn turn(&mut self, entries: &mut Vec<Entry>) -> bool {
        for entry in entries.drain(..) {
            self.take(entry);
        }
        self.hand_on();
        let more = self.catch_up_rooms() | self.advance_replays() | self.advance_sweep();
        self.close_overflowing();
        self.run_timers();
        self.flush_dirty();
        self.shed();
        self.node.ring();
        more
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            // Collected, so that what a turn brings to a room reaches each member as one piece.
            Entry::Publication { room, publication } => return self.collect(room, publication),
            Entry::Direct { connection, frame } => return self.after_events.push((connection, frame)),
            // Whatever else there is comes after what came before it.
            _ => self.hand_on(),
        }
        match entry {
            Entry::Open(opening) => self.open(*opening),
            Entry::Publication { .. } | Entry::Direct { .. } => {}
            Entry::Behind(room) => self.fall_behind(room),
            Entry::Replaced { room, top } => self.judge_members(room, top),
            Entry::Unstored { room, frame, what } => self.distribute_unstored(room, &frame, &what),
            Entry::Settled { connection, lane, answer } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.settle(slot, lane.as_ref(), answer);
                }
            }
            Entry::Admitted { connection, peer, request, verdicts, held: _held } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.admit(slot, &peer, *request, verdicts);
                }
            }
            Entry::Permitted { connection, request, verdict } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.permit(slot, *request, verdict);
                }
            }
            Entry::Reviewed { connection, peer, verdicts } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.finish_review(slot, &peer, &verdicts);
                }
            }
            Entry::Revoked => self.begin_sweep(),
            Entry::Refreshed { connection, identity, answer } => {
                if let Some(slot) = self.slot_of(connection) {
                    self.refresh(slot, *identity, answer);
                }
            }
            Entry::Snapshot { room, snapshot } => self.finish_snapshot(room, snapshot.as_ref()),
            Entry::Command { connection, command } => match (self.slot_of(connection), command) {
                (Some(slot), command) => self.obey(slot, command),
                (None, Command::Join { done, .. } | Command::Leave { done, .. }) => drop(done.send(false)),
                (None, Command::Rooms { .. } | Command::Close { .. }) => {}
            },
            Entry::Degraded(degraded) => self.tell_degraded(degraded),
            Entry::Drain { window } => self.drain(window),
        }
    }

    fn set_pump(&mut self, waker: &Waker) {
        if !self.pump.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.pump = Some(waker.clone());
        }
    }

    fn wake_pump(&self) {
        if let Some(pump) = &self.pump {
            pump.wake_by_ref();
        }
    }

    fn next_timer(&self) -> Instant {
        let first = self.timers.peek().map(|Reverse((at, _, _))| *at);
        first.map_or(self.next_maintenance, |first| first.min(self.next_maintenance))
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}
