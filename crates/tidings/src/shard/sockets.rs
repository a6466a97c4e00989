//! The sockets of a shard: open, read, write, time, close.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::{Cursor, Position};
use tidings_protocol::limits::Limit;
use tidings_protocol::message::{ClientLimits, ServerMessage, Welcome};
use tidings_protocol::session::{Due, Session};
use tracing::{debug, info};

use super::State;
use super::rooms::Departure;
use crate::auth::Identity;
use crate::connection::{Connection, Flushed, Start};
use crate::encode;
use crate::inbox::{Guard, Opening};
use crate::node::Node;
use crate::observe::Observed;
use crate::outbound::Piece;
use crate::users::ConnectionKey;

/// One socket is read so often in one go, before the others are heard.
const READS_MAX: usize = 4;

impl State {
    pub(super) fn slot_of(&self, key: ConnectionKey) -> Option<u32> {
        self.connections.get(key.slot as usize).filter(|connection| connection.key == key).map(|_| key.slot)
    }

    pub(super) fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)
    }

    /// Takes a socket in: welcome, rooms, and what came right behind the handshake.
    pub(super) fn open(&mut self, opening: Opening) {
        let now = self.node.env.now();
        let Opening { io, early, peer, slot: user_slot, last_event_id, resume_wait, checkpoints, held } =
            opening;
        let io = match io.attach() {
            Ok(io) => io,
            Err(error) => {
                info!(session = %peer.session, %error, "the socket was lost between handshake and shard");
                self.inbox.count_connections(-1);
                return;
            }
        };
        let slot = u32::try_from(self.connections.vacant_key()).unwrap_or(u32::MAX);
        let key = ConnectionKey { shard: self.inbox.shard(), slot, generation: self.next_generation() };
        let mut session = Session::new(self.node.limits.clone(), now);
        session.expire_at(self.expiry(&peer.identity, now));
        let still_wanted = user_slot.connected(key);
        // Only now, when whoever revokes it would find the connection.
        let revoked = self.node.revocations.has_revoked(&peer.identity);
        let connection = Connection::new(key, peer, io, user_slot, session, now);
        self.connections.insert(connection);
        self.unstarted.push((slot, key.generation));
        self.node.metrics.connections.add(1);
        if !still_wanted {
            self.close(slot, CloseCode::TAKEN_OVER, "another connection took this session over");
            return;
        }
        if revoked {
            self.close(slot, CloseCode::TOKEN_INVALID, "the token was revoked");
            return;
        }
        if !self.echoes() {
            self.welcome(slot, last_event_id.as_ref(), resume_wait, checkpoints, held, now);
        }
        if !early.is_empty() {
            self.process(slot, &mut early.to_vec());
        }
        self.arm(slot);
    }

    /// When the token ends, leeway included.
    pub(super) fn expiry(&self, identity: &Identity, now: Instant) -> Option<Instant> {
        let expires = Duration::from_secs(identity.expires_at_unix_s()?) + self.node.limits.token_leeway;
        now.checked_add(expires.saturating_sub(Duration::from_millis(self.node.env.unix_ms())))
    }

    fn welcome(
        &mut self,
        slot: u32,
        cursor: Option<&Cursor>,
        resume_wait: bool,
        checkpoints: bool,
        held: Vec<Guard>,
        now: Instant,
    ) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let peer = connection.peer.clone();
        let start = |room: &str| match cursor {
            None => Start::Newest { history: 0 },
            Some(cursor) => cursor.get(room).map_or(Start::NoPosition, Start::After),
        };
        let max = self.node.limits.rooms_per_connection_max;
        let member_of = peer.member_of();
        let wanted: Vec<_> = member_of.iter().filter(|room| self.may_join_on_connect(&peer, room)).collect();
        if wanted.len() > max {
            self.node.metrics.hit(Limit::RoomsPerConnectionMax);
        }
        let wanted: Vec<_> =
            wanted.into_iter().take(max).map(|room| (room.clone(), start(room.as_str()))).collect();
        let others: Cursor = cursor
            .into_iter()
            .flat_map(Cursor::iter)
            .filter(|(room, _)| !wanted.iter().any(|(joined, _)| joined == *room))
            .map(|(room, position)| (room.clone(), position))
            .collect();
        let (mut rooms, mut positions, mut attaches) = (Vec::new(), Vec::new(), Vec::new());
        let mut unattached = Vec::new();
        for (id, start) in wanted {
            if resume_wait {
                // Fixed now, so that nothing is missed while the client makes up its mind.
                let Some(room) = self.node.rooms.open(&id) else { continue };
                let start = match start {
                    Start::Newest { .. } if room.rules.retain => {
                        let (after, top) = room.picture();
                        Start::Picture(Position { offset: after, ..top })
                    }
                    Start::Newest { .. } => Start::After(room.top()),
                    start => start,
                };
                if let Start::After(position) | Start::Picture(position) = start {
                    positions.push((id.clone(), position));
                }
                rooms.push(id.clone());
                unattached.push((id, start));
            } else if let Ok(attach) = self.prepare(slot, &id, start) {
                if let Some(position) = &attach.joined.last_event_id {
                    positions.push((id.clone(), position.position));
                }
                rooms.push(id);
                attaches.push(attach);
            }
        }
        let limits = &self.node.limits;
        let welcome = encode::message(&ServerMessage::Welcome(Welcome {
            session: peer.session.to_string().into(),
            user: peer.user().as_str().into(),
            rooms,
            last_event_id: positions.into_iter().collect(),
            heartbeat_ms: limits.heartbeat.as_millis() as u64,
            limits: ClientLimits {
                text_message_bytes: limits.text_message_bytes_max,
                binary_message_bytes: limits.binary_message_bytes_max,
                messages_per_second: limits.messages_per_second,
                messages_burst: limits.messages_burst,
                rooms: limits.rooms_per_connection_max,
                joins_per_second: limits.joins_per_second,
                silence_ms: limits.silence_max.as_millis() as u64,
            },
            features: Vec::new(),
        }));
        if let Some(connection) = self.connection(slot) {
            connection.keep_unattached(unattached, held);
            connection.keep_positions(others);
            if resume_wait {
                connection.session.wait_for_resume(now);
            }
            if checkpoints {
                connection.session.send_checkpoints(now);
            }
        }
        info!(session = %peer.session, user = %peer.user().logged(), rooms = member_of.len(), "connect");
        self.push(slot, welcome);
        if self.degraded {
            self.push(slot, degraded(true));
        }
        for attach in attaches {
            self.commit(slot, &attach);
        }
        self.send_checkpoint(slot);
    }

    /// The hub only echoes, and greets nobody.
    fn echoes(&self) -> bool {
        #[cfg(feature = "conformance")]
        return self.router.echoes();
        #[cfg(not(feature = "conformance"))]
        false
    }

    /// Queues a frame and sees to its being written.
    pub(super) fn push(&mut self, slot: u32, piece: impl Into<Piece>) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.push(piece.into());
        self.node.metrics.messages_sent.add(1);
        if connection.outbound.is_over(&self.node.limits) {
            self.overflowing.push(slot);
        }
        self.mark_dirty(slot);
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The task of one socket: it can be read, or it can be written again.
    pub(super) fn poll_socket(&mut self, slot: u32, generation: u32, cx: &mut Context<'_>) -> Poll<()> {
        let key = ConnectionKey { shard: self.inbox.shard(), slot, generation };
        if self.slot_of(key).is_none() {
            return Poll::Ready(());
        }
        if let Some(connection) = self.connection(slot) {
            connection.set_waker(cx.waker());
            if connection.is_blocked() {
                let now = self.node.env.now();
                self.flush(slot, now);
                if !self.replays.is_empty() {
                    // One of them may have waited for room in this queue.
                    self.wake_pump();
                }
            }
        }
        self.read(key, cx);
        self.arm(slot);
        self.node.ring();
        if !self.dirty.is_empty() || !self.overflowing.is_empty() {
            self.wake_pump();
        }
        if self.slot_of(key).is_some() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn read(&mut self, key: ConnectionKey, cx: &mut Context<'_>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for reads in 0.. {
            let limits = self.node.limits.clone();
            let Some(slot) = self.slot_of(key) else { break };
            let Some(connection) = self.connection(slot) else { break };
            if !connection.session.is_closing() && connection.must_wait(&limits) {
                self.pause_reading(slot);
                break;
            }
            if reads == READS_MAX {
                cx.waker().wake_by_ref();
                break;
            }
            match connection.poll_read(cx, &mut scratch) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.end(slot, "the other side ended the stream");
                    break;
                }
                Poll::Ready(Err(error)) => {
                    debug!(%error, "a socket broke");
                    self.end(slot, "the socket broke");
                    break;
                }
                Poll::Ready(Ok(read)) => self.process(slot, &mut scratch[..read]),
            }
        }
        self.scratch = scratch;
    }

    /// Takes bytes of a socket apart and serves what they say.
    pub(super) fn process(&mut self, slot: u32, bytes: &mut [u8]) {
        let now = self.node.env.now();
        let limits = self.node.limits.clone();
        let reader_limits = self.reader_limits;
        let Some(connection) = self.connection(slot) else { return };
        connection.session.heard(now);
        let mut reader = connection.take_reader();
        let mut at = 0;
        while at < bytes.len() {
            let Some(connection) = self.connection(slot) else { return };
            if connection.session.is_closing() {
                break;
            }
            if connection.must_wait(&limits) {
                connection.keep_unread(&bytes[at..]);
                self.pause_reading(slot);
                break;
            }
            let mut used = 0;
            match reader.read(&mut bytes[at..], &mut used, &reader_limits) {
                Ok(Some(inbound)) => self.receive(slot, inbound, now),
                Ok(None) => break,
                Err(fault) => {
                    debug!(%fault, "a frame was refused");
                    if let Some(limit) = fault.limit() {
                        self.node.metrics.hit(limit);
                    }
                    self.close(slot, fault.close_code(), &fault.to_string());
                }
            }
            at += used;
        }
        if let Some(connection) = self.connection(slot) {
            connection.session.set_mid_message(reader.is_mid_message(), now);
            connection.keep_reader(reader);
        }
    }

    /// Reads no more of a connection for now.
    fn pause_reading(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let waiting_calls = connection.lanes.longest();
        if !connection.session.is_paused() && waiting_calls >= self.node.limits.waiting_calls_max {
            self.node.metrics.hit(Limit::WaitingCallsMax);
        }
        connection.session.pause_reading();
    }

    /// Goes on with a connection that had to wait, if it need not any more.
    pub(super) fn resume_reading(&mut self, slot: u32) {
        let limits = self.node.limits.clone();
        let now = self.node.env.now();
        let Some(connection) = self.connection(slot) else { return };
        if connection.session.is_closing() || !connection.session.is_paused() || connection.must_wait(&limits)
        {
            return;
        }
        connection.session.resume_reading(now);
        let mut unread = connection.take_unread();
        connection.wake();
        if !unread.is_empty() {
            self.process(slot, &mut unread);
        }
    }

    /// Writes what waits, with one call for each socket where it can be.
    pub(super) fn flush_dirty(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let now = self.node.env.now();
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            self.flush(slot, now);
        }
        // What was queued meanwhile (a connection that goes on after its queue has drained) has its own turn.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        } else {
            self.wake_pump();
        }
        if !self.replays.is_empty() {
            // One of them may have waited for room in a queue.
            self.wake_pump();
        }
    }

    fn flush(&mut self, slot: u32, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.dirty = false;
        let flushed = connection.flush(&mut self.gather, now);
        let is_open = !connection.session.is_closing() && !connection.session.is_paused();
        if !self.waiting.is_empty() || !matches!(flushed, Flushed::All) {
            self.count_waiting(slot);
        }
        match flushed {
            // The common case ends here: nothing but a close or a pause changes a deadline.
            Flushed::All if is_open => return,
            Flushed::All => {
                if let Some(connection) = self.connection(slot) {
                    connection.end_write();
                }
                self.resume_reading(slot);
            }
            Flushed::Blocked => self.resume_reading(slot),
            Flushed::Broken(error) => {
                debug!(%error, "a socket broke");
                self.end(slot, "the socket broke");
            }
        }
        self.arm(slot);
    }

    /// Sets a connection's timer to its next deadline, unless an earlier one is set.
    pub(super) fn arm(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let deadline = connection.session.next_deadline();
        if connection.timer_at.is_none_or(|armed| deadline < armed) {
            let first = self.timers.peek().is_none_or(|Reverse((at, _, _))| deadline < *at);
            connection.timer_at = Some(deadline);
            self.timers.push(Reverse((deadline, slot, connection.key.generation)));
            if first {
                self.wake_pump();
            }
        }
    }

    pub(super) fn run_timers(&mut self) {
        let now = self.node.env.now();
        while let Some(Reverse((at, slot, generation))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(connection) = self.connections.get_mut(slot as usize) else { continue };
            if connection.key.generation != generation || connection.timer_at != Some(at) {
                continue;
            }
            connection.timer_at = None;
            self.tick(slot, now);
            self.arm(slot);
        }
        if now >= self.next_maintenance {
            self.next_maintenance = now + super::MAINTENANCE_INTERVAL;
            if self.inbox.shard() == 0 {
                self.node.maintain();
            }
        }
    }

    fn tick(&mut self, slot: u32, now: Instant) {
        while let Some(due) = self.connection(slot).and_then(|connection| connection.session.tick(now)) {
            match due {
                Due::Ping => {
                    let limits = &self.node.limits;
                    if let Some(connection) = self.connections.get_mut(slot as usize) {
                        connection.forget_full_rate(limits, now);
                    }
                    self.push(slot, encode::ping());
                }
                Due::Checkpoint => self.send_checkpoint(slot),
                Due::Attach => self.attach_waiting(slot),
                Due::Close(limit, code, cause) => {
                    if let Some(limit) = limit {
                        self.node.metrics.hit(limit);
                    }
                    self.close(slot, code, cause);
                }
                Due::Abort => {
                    self.node.metrics.hit(Limit::CloseDurationMax);
                    self.end(slot, "the close took too long");
                    return;
                }
            }
        }
    }

    pub(super) fn close_overflowing(&mut self) {
        while let Some(slot) = self.overflowing.pop() {
            let limits = &self.node.limits;
            if let Some(connection) = self.connections.get(slot as usize)
                && connection.outbound.is_over(limits)
                && !connection.session.is_closing()
            {
                let too_large = connection.outbound.bytes() > limits.outbound_bytes_max;
                let limit = if too_large { Limit::OutboundBytesMax } else { Limit::OutboundMessagesMax };
                self.node.metrics.hit(limit);
                self.close(slot, CloseCode::SLOW_CONSUMER, "the client reads too slowly");
            }
        }
    }

    /// Begins to close a connection: it leaves its rooms at once, and gets nothing after its close frame.
    pub(super) fn close(&mut self, slot: u32, code: CloseCode, cause: &str) {
        let now = self.node.env.now();
        let Some(connection) = self.connection(slot) else { return };
        if connection.session.is_closing() {
            return;
        }
        connection.begin_close(code, cause, now);
        let (session, user) = (connection.peer.session, connection.peer.user().clone());
        if !self.waiting.is_empty() {
            self.count_waiting(slot);
        }
        info!(%session, user = %user.logged(), %code, cause, "close");
        self.node.metrics.count_close(code);
        if let Some(connection) = self.connections.get(slot as usize) {
            observe_end(&self.node, connection, code, cause);
        }
        self.leave_all(slot, Departure::after(code));
        self.mark_dirty(slot);
        self.arm(slot);
        self.wake_pump();
    }

    /// Lets go of a socket.
    pub(super) fn end(&mut self, slot: u32, cause: &str) {
        self.leave_all(slot, Departure::Lost);
        let Some(connection) = self.connections.try_remove(slot as usize) else { return };
        if !connection.session.is_closing() {
            // The code that stands for an end without a close frame, and is never sent (RFC 6455 §7.4.1).
            let code = CloseCode(1006);
            info!(session = %connection.peer.session, user = %connection.peer.user().logged(), %code, cause, "close");
            self.node.metrics.count_close(code);
            observe_end(&self.node, &connection, code, cause);
        }
        connection.wake();
        drop(connection);
        if !self.waiting.is_empty() {
            self.count_waiting(slot);
        }
        self.inbox.count_connections(-1);
        self.node.metrics.connections.subtract(1);
        self.node.connection_ended.notify_waiters();
        if self.connections.is_empty() && self.connections.capacity() > 64 {
            self.connections.shrink_to_fit();
            self.dirty.shrink_to_fit();
            self.rooms.shrink_to_fit();
            self.room_by_id.shrink_to_fit();
            // Those of connections that are gone are all there are.
            self.timers = BinaryHeap::new();
        }
    }

    /// The hub is gone.
    pub(super) fn end_all(&mut self) {
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot as u32).collect();
        for slot in &slots {
            self.close(*slot, CloseCode::GOING_AWAY, "the server goes away");
        }
        self.flush_dirty();
        for slot in slots {
            self.end(slot, "the server goes away");
        }
    }

    /// Tells everyone to go, each at a moment of his own inside the window.
    pub(super) fn tell_degraded(&mut self, is_degraded: bool) {
        self.degraded = is_degraded;
        let frame = degraded(is_degraded);
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.push(slot, frame.clone());
        }
    }

    pub(super) fn drain(&mut self, window: Duration) {
        let now = self.node.env.now();
        let window_ms = window.as_millis() as u64;
        let frame = encode::message(&ServerMessage::Reconnect {
            after_ms: 0,
            within_ms: window_ms,
            reason: "draining".into(),
        });
        let slots: Vec<_> = self.connections.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.send_checkpoint(slot);
            self.push(slot, frame.clone());
            let after = Duration::from_millis(self.node.env.random() % (window_ms + 1));
            if let Some(connection) = self.connection(slot) {
                connection.session.leave_at(now + after);
            }
            self.arm(slot);
        }
    }
}

/// Tells whoever observes that a connection is over.
fn observe_end(node: &Node, connection: &Connection, code: CloseCode, reason: &str) {
    if let Some(observer) = &node.observer {
        let connected = node.env.now().saturating_duration_since(connection.opened_at);
        let (user, session) = (connection.peer.user(), connection.peer.session);
        observer.observe(Observed::Disconnected { user, session, code, reason, connected });
    }
}

fn degraded(degraded: bool) -> Bytes {
    encode::message(&ServerMessage::Degraded { degraded })
}
