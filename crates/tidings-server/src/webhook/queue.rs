//! What is to be told and not on disk yet: written where it happens, and kept in memory for the few milliseconds until it is stored.
//!
//! Whoever puts something in never waits. Where the disk takes nothing for long the queue fills, and the newest is refused, counted and logged.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings::protocol::message::PresenceChange;
use tidings::{Observe, Observed};
use tokio::sync::Notify;
use tracing::{error, info};

use super::Kind;
use super::cloud_event::{self, Written};
use super::counts::Counts;

/// What may wait in memory for the disk.
const QUEUE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What one takes beside its body: its row, its place in two indexes.
pub(super) const OVERHEAD_BYTES: u64 = 256;

/// One thing to tell.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// What it is told in order with.
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
}

impl Telling {
    /// What it takes of the outbox, in bytes.
    pub(super) fn weight(&self) -> u64 {
        (self.body.len() + self.key.len()) as u64 + OVERHEAD_BYTES
    }
}

/// What waits for the disk.
pub(crate) struct Queue {
    kinds: Vec<Kind>,
    state: Mutex<State>,
    filled: Notify,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Telling>,
    bytes: u64,
    /// Something was refused since the queue was last emptied.
    refuses: bool,
}

/// Puts into the queue what a hub observes.
pub(crate) struct Watcher(pub(crate) Arc<Queue>);

#[derive(Serialize)]
struct Disconnect<'a> {
    user: &'a str,
    session: String,
    code: u16,
    reason: &'a str,
    connected_ms: u64,
}

#[derive(Serialize)]
struct OfRoom<'a> {
    room: &'a str,
}

#[derive(Serialize)]
struct Presence<'a> {
    room: &'a str,
    user: &'a str,
    change: &'static str,
    info: Option<&'a RawValue>,
}

impl Queue {
    pub(crate) fn new(kinds: Vec<Kind>, counts: Arc<Counts>) -> Self {
        Self { kinds, state: Mutex::default(), filled: Notify::new(), counts }
    }

    /// Puts something in, unless that would be too much.
    fn put(&self, kind: Kind, key: String, subject: &str, data: &impl Serialize) {
        let Written { id, body } = match cloud_event::write(kind, subject, data) {
            Ok(written) => written,
            Err(error) => {
                error!(%error, kind = kind.name(), "a webhook could not be written, and is lost");
                return self.counts.count_refused();
            }
        };
        let telling = Telling { id, kind, key, body };
        let bytes = telling.weight();
        let mut state = self.state.lock();
        if state.bytes + bytes > QUEUE_BYTES_MAX {
            self.counts.count_refused();
            if !std::mem::replace(&mut state.refuses, true) {
                error!(
                    bytes_max = QUEUE_BYTES_MAX,
                    "webhooks come faster than they can be stored: the newest are lost, and counted"
                );
            }
            return;
        }
        state.bytes += bytes;
        state.waiting.push_back(telling);
        drop(state);
        self.filled.notify_one();
    }

    /// Takes all that waits.
    pub(crate) fn take(&self) -> VecDeque<Telling> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.refuses) {
            info!("webhooks are stored again");
        }
        state.bytes = 0;
        std::mem::take(&mut state.waiting)
    }

    /// Returns when something may be there to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}

impl Observe for Watcher {
    fn observe(&self, what: Observed<'_>) {
        let Self(queue) = self;
        let wants = |kind: Kind| queue.kinds.contains(&kind);
        match what {
            Observed::Disconnected { user, session, code, reason, connected } if wants(Kind::Disconnect) => {
                let (user, session) = (user.as_str(), session.to_string());
                let connected_ms = u64::try_from(connected.as_millis()).unwrap_or(u64::MAX);
                let key = format!("session:{session}");
                let data = Disconnect { user, session, code: code.0, reason, connected_ms };
                queue.put(Kind::Disconnect, key, user, &data);
            }
            Observed::Occupied { room } if wants(Kind::Occupied) => {
                queue.put(
                    Kind::Occupied,
                    key_of(room.as_str()),
                    room.as_str(),
                    &OfRoom { room: room.as_str() },
                );
            }
            Observed::Vacated { room } if wants(Kind::Vacated) => {
                queue.put(
                    Kind::Vacated,
                    key_of(room.as_str()),
                    room.as_str(),
                    &OfRoom { room: room.as_str() },
                );
            }
            Observed::Presence { room, user, change, info } if wants(Kind::Presence) => {
                let change = match change {
                    PresenceChange::Join => "join",
                    PresenceChange::Update => "update",
                    PresenceChange::Leave => "leave",
                };
                let data = Presence { room: room.as_str(), user: user.as_str(), change, info };
                queue.put(Kind::Presence, key_of(room.as_str()), room.as_str(), &data);
            }
            _ => {}
        }
    }
}

fn key_of(room: &str) -> String {
    format!("room:{room}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::RoomId;

    #[test]
    fn what_is_wanted_is_kept_in_order_and_what_is_too_much_is_counted() {
        let counts = Arc::new(Counts::default());
        let queue = Arc::new(Queue::new(vec![Kind::Occupied], Arc::clone(&counts)));
        let watcher = Watcher(Arc::clone(&queue));
        let room = RoomId::parse("chat:lobby").unwrap();
        watcher.observe(Observed::Vacated { room: &room });
        assert!(queue.take().is_empty(), "nobody wants to be told that");
        watcher.observe(Observed::Occupied { room: &room });
        watcher.observe(Observed::Occupied { room: &room });
        let taken = queue.take();
        assert_eq!(
            taken.iter().map(|telling| telling.key.as_str()).collect::<Vec<_>>(),
            ["room:chat:lobby"; 2]
        );
        assert_ne!(taken[0].id, taken[1].id);
        let fits = QUEUE_BYTES_MAX / taken[0].weight();
        for _ in 0..fits + 3 {
            watcher.observe(Observed::Occupied { room: &room });
        }
        assert_eq!(counts.refused(), 3);
        assert_eq!(queue.take().len() as u64, fits);
        watcher.observe(Observed::Occupied { room: &room });
        assert_eq!(queue.take().len(), 1);
    }
}
