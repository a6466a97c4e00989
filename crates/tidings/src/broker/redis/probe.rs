//! Whether what is published comes back: the only proof that a connection's subscriptions are attached to anything.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::Cmd;

use super::Shared;

/// A connection whose last probe came back longer ago is not ready.
const READY_MAX: Duration = Duration::from_secs(5);

/// The probes of one connection: a message to itself each second, on a channel of its own.
pub(super) struct Probe {
    channel: String,
    carry: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: Option<(Instant, u64)>,
    came_back: Option<Instant>,
}

impl Probe {
    /// `tag` is a hash tag of the link's master, where it has a part of the slots.
    pub(super) fn new(shared: &Shared, index: usize, tag: Option<&str>) -> Self {
        let channel = shared.keyspace.probe(shared.node, index, tag);
        Self { channel, carry: shared.channels.publish_command(), state: Mutex::default() }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The command that sends the next one.
    pub(super) fn command(&self, nonce: u64, now: Instant) -> Cmd {
        self.state.lock().sent = Some((now, nonce));
        let mut command = redis::cmd(self.carry);
        command.arg(&self.channel).arg(&nonce.to_be_bytes()[..]);
        command
    }

    /// One came back.
    pub(super) fn came_back(&self, message: &Bytes, now: Instant) {
        let mut state = self.state.lock();
        if state.sent.is_some_and(|(_, nonce)| message[..] == nonce.to_be_bytes()) {
            state.came_back = Some(now);
        }
    }

    /// The connection was lost.
    pub(super) fn lost(&self) {
        *self.state.lock() = State::default();
    }

    /// Whether what is published comes back.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let came_back = self.state.lock().came_back;
        came_back.is_some_and(|at| now.saturating_duration_since(at) < READY_MAX)
    }
}
