//! Reading a room's log: what a position means to it, and what follows one.

use std::sync::Arc;

use serde_json::value::RawValue;
use tidings_protocol::event_id::{Epoch, Offset, Position};
use tidings_protocol::limits::HISTORY_PAGE_BYTES_MAX;
use tidings_protocol::message::Lost;
use tidings_protocol::room_log::{Recovery, Reset, RoomLog};

use super::Room;
use crate::newest::Newest;
use crate::publication::Publication;

/// A slice of the log.
pub(crate) struct Batch {
    pub(crate) publications: Vec<Arc<Publication>>,
    /// What would have come first and is not stored any more; the publications follow it.
    pub(crate) lost: Option<Lost>,
    /// The log's top then.
    pub(crate) top: Offset,
}

/// A piece of what is stored.
pub(crate) struct HistoryPage {
    /// As JSON, ascending.
    pub(crate) events: Vec<Arc<RawValue>>,
    /// What older events come before; none if there are none.
    pub(crate) next: Option<Position>,
}

impl Room {
    /// The publications after `after` and up to `until`, at most so many and so many bytes, but for one that is larger alone;
    /// none of a log that another has taken the place of.
    pub(crate) fn read(
        &self,
        after: Position,
        until: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> Option<Batch> {
        let state = self.state.lock();
        let is_current = after.epoch == state.log.top().epoch;
        is_current.then(|| read(&state.log, after.offset, until, events_max, bytes_max))
    }

    /// The same up to the top, for a shard that is behind; the flag says whether it is not any more.
    pub(crate) fn catch_up(
        &self,
        shard: u16,
        after: Position,
        events_max: usize,
        bytes_max: usize,
    ) -> (Batch, bool) {
        let mut state = self.state.lock();
        let top = state.log.top();
        if after.epoch != top.epoch {
            // It will hear of the other log, and read on from there.
            return (Batch { publications: Vec::new(), lost: None, top: after.offset }, true);
        }
        let (after, top) = (after.offset, top.offset);
        let batch = read(&state.log, after, top, events_max, bytes_max);
        let reached = batch.publications.last().map_or(after, |publication| publication.offset);
        let caught_up = reached >= top || batch.lost.is_some();
        if let Some(listener) = state.listeners.iter_mut().find(|listener| listener.inbox.shard() == shard) {
            listener.behind = !caught_up;
        }
        if caught_up {
            state.tell_caught_up();
        }
        (batch, caught_up)
    }

    /// Judges a client's position; with the top as of that moment.
    pub(crate) fn recover(&self, from: Option<Position>) -> (Recovery, Position) {
        let state = self.state.lock();
        let recovery = match from {
            Some(position) => state.log.recover(position),
            None => Recovery::Reset(state.log.no_position()),
        };
        (state.log.within(recovery, self.rules.replay_events_max()), state.log.top())
    }

    /// The reset of a reader whose next event is not stored any more.
    pub(crate) fn expired(&self, after: Position) -> Option<Reset> {
        let state = self.state.lock();
        match state.log.within(state.log.recover(after), self.rules.replay_events_max()) {
            Recovery::Reset(reset) => Some(reset),
            Recovery::Replay { .. } | Recovery::Moved { .. } => None,
        }
    }

    /// The position that the last `events` events follow, and the top.
    pub(crate) fn newest(&self, events: u32) -> (Offset, Position) {
        let state = self.state.lock();
        let top = state.log.top();
        (top.offset.saturating_sub(Offset::from(events)).max(state.log.oldest() - 1), top)
    }

    /// The newest of each key that lie after `after` and not after `until`, in order, at most so many and about so many
    /// bytes; none of a log that another has taken the place of.
    pub(crate) fn read_newest(
        &self,
        after: Position,
        until: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<Arc<Publication>>> {
        let state = self.state.lock();
        if after.epoch != state.log.top().epoch {
            return None;
        }
        let newest = state.newest();
        Some(
            newest
                .map(|newest| newest.between(after.offset, until, events_max, bytes_max))
                .unwrap_or_default(),
        )
    }

    /// The offset that everything stored follows, and the top.
    pub(crate) fn stored_after(&self) -> (Offset, Position) {
        let state = self.state.lock();
        (state.log.oldest() - 1, state.log.top())
    }

    /// The offset that the picture of a room that retains begins after, and the top.
    pub(crate) fn picture(&self) -> (Offset, Position) {
        let state = self.state.lock();
        let top = state.log.top();
        let first = state.newest().and_then(Newest::first);
        (first.map_or(top.offset, |first| first - 1), top)
    }

    /// The offset that the last events up to `until` follow, as many as are stored and within `events_max` and
    /// `bytes_max`.
    pub(crate) fn tail(&self, until: Offset, events_max: usize, bytes_max: usize) -> Offset {
        let state = self.state.lock();
        let mut bytes = 0;
        let older = state.log.read(0).rev().skip_while(|(offset, _)| *offset > until);
        let fitting = older.take(events_max).take_while(|(_, publication)| {
            // One of any size is admitted.
            let fits = bytes == 0 || bytes + publication.bytes() <= bytes_max;
            bytes += publication.bytes();
            fits
        });
        fitting.last().map_or(until, |(offset, _)| offset - 1)
    }

    /// A page of the stored events before a position, or of the newest: so many at most, and 256 KiB. Whether one is left
    /// out is `excluded`'s to say.
    pub(crate) fn history(
        &self,
        before: Option<Position>,
        limit: usize,
        excluded: impl Fn(&Publication) -> bool,
    ) -> HistoryPage {
        let (epoch, newest_first) = self.scan(before.map(|before| before.offset));
        let (mut bytes, mut oldest, mut more) = (0, None, false);
        let mut events = Vec::new();
        for publication in newest_first {
            if excluded(&publication) {
                oldest = Some(publication.offset);
                continue;
            }
            let Some(event) = publication.json() else { continue };
            if events.len() == limit
                || (bytes + event.get().len() > HISTORY_PAGE_BYTES_MAX && !events.is_empty())
            {
                more = true;
                break;
            }
            bytes += event.get().len();
            oldest = Some(publication.offset);
            events.push(event);
        }
        events.reverse();
        let next = oldest.filter(|_| more).map(|offset| Position { epoch, offset });
        HistoryPage { events, next }
    }

    /// The stored events before an offset, newest first; what comes back tells how far it got.
    fn scan(&self, before: Option<Offset>) -> (Epoch, Vec<Arc<Publication>>) {
        let state = self.state.lock();
        let events = state.log.read(0).rev().map(|(_, publication)| publication);
        let older =
            events.skip_while(|publication| before.is_some_and(|before| publication.offset >= before));
        (state.log.top().epoch, older.take(HISTORY_SCAN_MAX).cloned().collect())
    }
}

/// A page of history looks at so many events at most, those that are excluded from its reader included.
const HISTORY_SCAN_MAX: usize = 2 * tidings_protocol::limits::HISTORY_PAGE_EVENTS_MAX as usize;

fn read(
    log: &RoomLog<Arc<Publication>>,
    after: Offset,
    until: Offset,
    events_max: usize,
    bytes_max: usize,
) -> Batch {
    let mut bytes = 0;
    let publications = log
        .read(after)
        .take_while(|(offset, publication)| {
            // One of any size is admitted.
            let fits = bytes == 0 || bytes + publication.bytes() <= bytes_max;
            bytes += publication.bytes();
            *offset <= until && fits
        })
        .take(events_max)
        .map(|(_, publication)| Arc::clone(publication))
        .collect();
    Batch { publications, lost: log.lost_after(after), top: log.top().offset }
}
