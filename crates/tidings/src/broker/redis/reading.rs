//! Reading rooms over a link: what their followers ask for, and the positions of those that have heard nothing for a while.

use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::event_id::Position;
use tidings_protocol::follower::Ask;
use tracing::debug;

use super::link::{CALL_MAX, Connected, Link};
use super::script::{Channels, READ_BYTES_MAX, READ_EVENTS_MAX};
use crate::room::Room;

/// A room's position is compared with the broker's this long after its last event, give or take a quarter.
const CHECK_INTERVAL: Duration = Duration::from_secs(8);
/// So many reads are under way at once: what Redis has to hold for a connection that subscribes is bounded, and it ends one
/// that is over it (`client-output-buffer-limit pubsub`, 8 MiB for a minute).
pub(super) const READS_MAX: usize = 6;
/// One call compares so many rooms.
const CHECK_ROOMS_MAX: usize = 64;

impl Link {
    /// Sends a read that a room's follower asks for, if it does.
    pub(super) fn ask(self: &Arc<Self>, room: &Arc<Room>, ask: Option<Ask>) {
        let Some(ask) = ask else { return };
        let link = self.carrier(room).unwrap_or_else(|| Arc::clone(self));
        let (Some(connected), room) = (link.connected(), Arc::clone(room)) else { return };
        drop(self.shared.runtime.spawn(async move { link.read(&room, &connected, ask).await }));
    }

    /// The link that carries a room now, if it is another one.
    pub(super) fn carrier(self: &Arc<Self>, room: &Room) -> Option<Arc<Self>> {
        if self.shared.channels == Channels::Classic {
            return None;
        }
        self.routes.upgrade()?.link(room.id.as_str()).filter(|link| !Arc::ptr_eq(link, self))
    }

    /// Reads until the room asks for no more. A connection that is lost meanwhile makes it ask anew.
    async fn read(self: &Arc<Self>, room: &Arc<Room>, connected: &Connected, mut ask: Ask) {
        let shared = &self.shared;
        let keys = shared.keys_of(room);
        loop {
            // It is never closed.
            let Ok(_one_of_few) = self.reads.acquire().await else { return };
            let mut connection = connected.connection.clone();
            let after = (ask.after > 0).then_some(ask.after);
            let call = shared.scripts.read(
                &mut connection,
                &keys,
                shared.fresh_epoch(),
                after,
                READ_EVENTS_MAX,
                READ_BYTES_MAX,
            );
            shared.metrics.broker_reads.add(1);
            let next = match self.call(connected, call).await {
                Ok(page) => room.take_page(ask.read, page, &shared.metrics, shared.env.now()),
                Err(error) => {
                    debug!(room = %room.id, %error, "a room could not be read");
                    #[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
                    tokio::time::sleep(CALL_MAX / 4).await;
                    room.read_failed(ask.read)
                }
            };
            match next {
                Some(next) if self.carrier(room).is_some() => return self.ask(room, Some(next)),
                Some(next) if !connected.is_useless() => ask = next,
                _ => return,
            }
        }
    }

    /// Compares the positions of those rooms that have heard nothing for a while.
    pub(super) fn check_positions(self: &Arc<Self>, connected: &Connected) {
        let shared = &self.shared;
        let now = shared.env.now();
        let rooms: Vec<_> = self.rooms.lock().by_channel.values().cloned().collect();
        let due: Vec<(Arc<Room>, Position)> = rooms
            .into_iter()
            .filter_map(|room| {
                let quarter = 0.75 + (shared.env.random() % 500) as f64 / 1000.0;
                let ours = room.due_check(now, CHECK_INTERVAL.mul_f64(quarter))?;
                Some((room, ours))
            })
            .collect();
        let together = match shared.channels {
            Channels::Classic => CHECK_ROOMS_MAX,
            // They may be of different slots.
            Channels::Sharded => 1,
        };
        for due in due.chunks(together) {
            let (link, connected, due) = (Arc::clone(self), connected.clone(), due.to_vec());
            drop(shared.runtime.spawn(async move { link.compare(&connected, &due).await }));
        }
    }

    async fn compare(self: &Arc<Self>, connected: &Connected, due: &[(Arc<Room>, Position)]) {
        let shared = &self.shared;
        let keys: Vec<_> = due.iter().map(|(room, _)| shared.keys_of(room)).collect();
        let keys: Vec<_> = keys.iter().collect();
        let mut connection = connected.connection.clone();
        let call = shared.scripts.positions(&mut connection, &keys, shared.fresh_epoch());
        match self.call(connected, call).await {
            Ok(positions) => {
                for ((room, ours), theirs) in due.iter().zip(positions) {
                    self.ask(room, room.check(*ours, theirs));
                }
            }
            Err(error) => debug!(%error, "positions could not be compared"),
        }
    }
}
