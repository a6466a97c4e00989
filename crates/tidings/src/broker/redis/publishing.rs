//! Publications on their way to Redis: those of one room one after the other, as many as wait in one call.
//!
//! So a room's order is that in which they were submitted, and a busy room costs the server few calls: what comes while
//! one is on its way goes with the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_protocol::event_id::RoomId;

use super::answer::Outcome;
use super::error::CallError;
use super::link::{Connected, Link};
use super::routes::Routes;
use super::script::{RoomBounds, Submitted};
use crate::broker::Completion;
use crate::room::{PublishError, Receipt, Room};

/// One call takes so many publications at most, and about so many bytes.
const CALL_PUBLICATIONS_MAX: usize = 64;
const CALL_BYTES_MAX: usize = 256 * 1024;
/// So many wait for one room, and so many bytes. More is `unavailable`.
const WAITING_PUBLICATIONS_MAX: usize = 4096;
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of what a room's publications wait in.
#[derive(Default)]
pub(super) struct Publishing {
    /// Only rooms with a call on its way, or about to be.
    queues: Mutex<HashMap<RoomId, Queue>>,
    /// Rooms whose first publication waits for those that came together with it.
    unsent: Mutex<Vec<Arc<Room>>>,
    has_unsent: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    bytes: usize,
}

/// A publication that waits.
pub(super) struct Pending {
    pub(super) id: Option<[u8; 16]>,
    pub(super) fingerprint: u64,
    pub(super) record: Bytes,
    pub(super) completion: Completion,
}

/// What became of a publication that is to wait.
enum Pushed {
    /// Nobody sends those of its room yet.
    First,
    /// It waits behind others.
    Behind,
    /// There was no room for it.
    Full(Completion),
}

impl Publishing {
    /// Lets a publication wait, if there is room for it.
    fn push(&self, room: &RoomId, pending: Pending) -> Pushed {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(room) else {
            let queue = queues.entry(room.clone()).or_default();
            queue.push(pending);
            return Pushed::First;
        };
        if queue.waiting.len() >= WAITING_PUBLICATIONS_MAX || queue.bytes >= WAITING_BYTES_MAX {
            return Pushed::Full(pending.completion);
        }
        queue.push(pending);
        Pushed::Behind
    }

    /// What the next call takes; when nothing waits any more, nobody sends.
    fn next(&self, room: &RoomId) -> Vec<Pending> {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(room) else { return Vec::new() };
        let mut bytes = 0;
        let fitting = queue.waiting.iter().take(CALL_PUBLICATIONS_MAX).take_while(|pending| {
            let fits = bytes < CALL_BYTES_MAX;
            bytes += pending.record.len();
            fits
        });
        let count = fitting.count();
        let next: Vec<_> = queue.waiting.drain(..count).collect();
        queue.bytes -= next.iter().map(|pending| pending.record.len()).sum::<usize>();
        if next.is_empty() {
            queues.remove(room);
        }
        next
    }
}

impl Queue {
    fn push(&mut self, pending: Pending) {
        self.bytes += pending.record.len();
        self.waiting.push_back(pending);
    }
}

impl Routes {
    /// Takes a publication, behind those of the room that wait. The first one is sent with [`Routes::send_unsent`].
    pub(super) fn publish(self: &Arc<Self>, room: &Arc<Room>, pending: Pending) {
        if self.link(room.id.as_str()).is_none_or(|link| link.connected().is_none()) {
            return pending.completion.complete(Err(PublishError::Unavailable));
        }
        match self.publishing.push(&room.id, pending) {
            Pushed::Behind => {}
            Pushed::First => {
                self.publishing.unsent.lock().push(Arc::clone(room));
                self.publishing.has_unsent.store(true, Ordering::Relaxed);
            }
            Pushed::Full(completion) => completion.complete(Err(PublishError::Unavailable)),
        }
    }

    /// Sends what waits in rooms that nobody sends for yet. Whoever publishes calls this afterwards, so a flag of
    /// another's that is seen late is that one's to see.
    pub(super) fn send_unsent(self: &Arc<Self>) {
        let publishing = &self.publishing;
        if publishing.has_unsent.load(Ordering::Relaxed)
            && publishing.has_unsent.swap(false, Ordering::Relaxed)
        {
            for room in std::mem::take(&mut *publishing.unsent.lock()) {
                let routes = Arc::clone(self);
                drop(self.shared.runtime.spawn(async move { routes.send_all(&room).await }));
            }
        }
    }

    /// Sends a room's publications until none wait: one call after the other, whichever links carry the room meanwhile.
    async fn send_all(self: &Arc<Self>, room: &Arc<Room>) {
        loop {
            let pending = self.publishing.next(&room.id);
            if pending.is_empty() {
                return;
            }
            let link = self.link(room.id.as_str());
            let outcomes = match link.and_then(|link| Some((link.connected()?, link))) {
                Some((connected, link)) => link.send(&connected, room, &pending).await,
                None => Err(CallError::Late),
            };
            match outcomes {
                Ok(outcomes) => {
                    for (pending, outcome) in pending.into_iter().zip(outcomes) {
                        pending.completion.complete(self.told(outcome));
                    }
                }
                Err(error) => {
                    tracing::debug!(room = %room.id, %error, "publications may not be stored");
                    for pending in pending {
                        pending.completion.complete(Err(PublishError::Unavailable));
                    }
                }
            }
        }
    }

    fn told(&self, outcome: Outcome) -> Result<Receipt, PublishError> {
        match outcome {
            Outcome::Stored(position) => Ok(Receipt { position, duplicate: false }),
            Outcome::Duplicate(position) => {
                self.shared.metrics.duplicates.add(1);
                Ok(Receipt { position, duplicate: true })
            }
            Outcome::Conflict => Err(PublishError::Conflict),
            Outcome::Full => Err(PublishError::TooManyIds),
        }
    }
}

impl Link {
    /// One call.
    async fn send(
        &self,
        connected: &Connected,
        room: &Room,
        pending: &[Pending],
    ) -> Result<Vec<Outcome>, CallError> {
        let shared = &self.shared;
        let keys = shared.keys_of(room);
        let bounds = RoomBounds { log: room.rules.bounds, ids_max: shared.ids_max() };
        let submitted: Vec<_> = pending
            .iter()
            .map(|pending| Submitted {
                id: pending.id.as_ref(),
                fingerprint: pending.fingerprint,
                record: &pending.record,
            })
            .collect();
        let mut connection = connected.connection.clone();
        let call = shared.scripts.publish(&mut connection, &keys, shared.fresh_epoch(), &bounds, &submitted);
        Ok(self.call(connected, call).await?.outcomes)
    }
}
