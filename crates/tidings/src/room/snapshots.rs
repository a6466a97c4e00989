//! A room's state as its application knows it, for those who lost events: one question at a time for all who ask.

use std::sync::Arc;
use std::time::Instant;

use tidings_protocol::event_id::Position;
use tidings_protocol::limits::Limits;

use super::Room;
use crate::inbox::{Entry, Inbox, LocalRoom, Snapshot};

#[derive(Default)]
pub(super) struct SnapshotState {
    pub(super) latest: Option<(Instant, Snapshot)>,
    in_flight: bool,
    pub(super) waiting: Vec<(Arc<Inbox>, LocalRoom)>,
}

impl SnapshotState {
    pub(super) fn is_idle(&self) -> bool {
        self.latest.is_none() && !self.in_flight && self.waiting.is_empty()
    }
}

/// How a snapshot is come by.
pub(crate) enum SnapshotRequest {
    /// This one will do.
    Ready(Snapshot),
    /// One is on its way; the shard will be told.
    Pending,
    /// The same, and the caller has to run the handler. The state must be taken after this position.
    Run(Position),
}

impl Room {
    /// Asks for the room's state on behalf of a shard. The rule must have a snapshot handler.
    pub(crate) fn request_snapshot(
        &self,
        inbox: &Arc<Inbox>,
        room: LocalRoom,
        limits: &Limits,
        now: Instant,
    ) -> SnapshotRequest {
        let mut state = self.state.lock();
        let top = state.log.top();
        let state = &mut state.rare.get_or_insert_default().snapshot;
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < limits.snapshot_reuse;
        if let Some((_, snapshot)) = state.latest.as_ref().filter(|(at, _)| fresh(at)) {
            return SnapshotRequest::Ready(snapshot.clone());
        }
        if !state.waiting.iter().any(|(other, _)| other.shard() == inbox.shard()) {
            state.waiting.push((Arc::clone(inbox), room));
        }
        if std::mem::replace(&mut state.in_flight, true) {
            return SnapshotRequest::Pending;
        }
        SnapshotRequest::Run(top)
    }

    /// The snapshot handler has answered: tells every shard that waits.
    pub(crate) fn finish_snapshot(&self, snapshot: Option<&Snapshot>, now: Instant) {
        let mut state = self.state.lock();
        let state = &mut state.rare.get_or_insert_default().snapshot;
        state.in_flight = false;
        state.latest = snapshot.map(|snapshot| (now, snapshot.clone()));
        for (inbox, room) in state.waiting.drain(..) {
            inbox.push(Entry::Snapshot { room, snapshot: snapshot.cloned() });
        }
    }
}
