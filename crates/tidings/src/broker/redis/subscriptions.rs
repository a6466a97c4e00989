//! Subscribing and unsubscribing: many channels by one command, or in a cluster each by its own, since each may be refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use super::error::CallError;
use super::link::{Connected, Link, in_time};
use super::script::Channels;

/// One call changes the subscriptions to so many rooms.
const SUBSCRIBE_ROOMS_MAX: usize = 500;

/// What is to become of channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe,
    Unsubscribe,
}

impl Link {
    /// Brings the subscriptions in line with who is held.
    pub(super) async fn subscribe_touched(self: &Arc<Self>, connected: &Connected) -> Result<(), CallError> {
        let (mut wanted, mut unwanted, mut confirmed) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut rooms = self.rooms.lock();
            let touched: Vec<_> = rooms.touched.drain().map(|(_, room)| room).collect();
            for room in touched {
                let channel = self.shared.keys_of(&room).channel().as_bytes().into();
                match (room.is_held(), rooms.by_channel.contains_key(&channel)) {
                    (true, false) => {
                        wanted.push(room.clone());
                        rooms.by_channel.insert(channel, room);
                    }
                    (false, true) => {
                        rooms.by_channel.remove(&channel);
                        unwanted.push(room);
                    }
                    // It was let go of and taken up again: its subscription has never ended.
                    (true, true) => confirmed.push(room),
                    (false, false) => {}
                }
            }
        }
        for rooms in unwanted.chunks(SUBSCRIBE_ROOMS_MAX) {
            let channels: Vec<_> = rooms.iter().map(|room| self.shared.keys_of(room)).collect();
            let channels: Vec<_> = channels.iter().map(|keys| keys.channel()).collect();
            let leaving = channels.iter().map(|channel| channel.as_bytes().into());
            connected.health.leaving.lock().extend(leaving);
            for (index, _) in self.change(connected, Change::Unsubscribe, &channels).await? {
                // Another server has its slot, and this one no subscription.
                connected.health.leaving.lock().remove(channels[index].as_bytes());
            }
        }
        for rooms in wanted.chunks(SUBSCRIBE_ROOMS_MAX) {
            let channels: Vec<_> = rooms.iter().map(|room| self.shared.keys_of(room)).collect();
            let channels: Vec<_> = channels.iter().map(|keys| keys.channel()).collect();
            for (index, error) in self.change(connected, Change::Subscribe, &channels).await? {
                match error {
                    CallError::Unavailable(_) => self.lose(channels[index].as_bytes()),
                    error => return Err(error),
                }
            }
            for (room, channel) in rooms.iter().zip(channels) {
                let ask = {
                    // It may have been given up meanwhile: then another link's subscription counts.
                    let rooms = self.rooms.lock();
                    let Some(room) = rooms.by_channel.get(channel.as_bytes()) else { continue };
                    room.subscribed()
                };
                self.ask(room, ask);
                self.share(room);
            }
        }
        for room in confirmed.into_iter().filter(|room| room.waits_for_subscription()) {
            self.ask(&room, room.subscribed());
            self.share(&room);
        }
        Ok(())
    }

    pub(super) async fn change(
        &self,
        connected: &Connected,
        change: Change,
        channels: &[&str],
    ) -> Result<Vec<(usize, CallError)>, CallError> {
        let is_changing = &connected.health.is_changing;
        is_changing.store(true, Ordering::Relaxed);
        let changed = change_at(&connected.subscriber, self.shared.channels, change, channels).await;
        is_changing.store(false, Ordering::Relaxed);
        changed
    }

    /// A subscription has ended, or was refused: another server of the cluster has the room's slot.
    pub(super) fn lose(&self, channel: &[u8]) {
        let lost = {
            let mut rooms = self.rooms.lock();
            rooms.by_channel.remove(channel).inspect(|room| room.disconnected())
        };
        if let (Some(room), Some(routes)) = (lost, self.routes.upgrade()) {
            routes.stray(room);
        }
    }
}

/// Changes the subscriptions of a connection, and waits until the server has confirmed it; which channels' change it
/// has refused, by their place in `channels`, and why.
pub(super) async fn change_at(
    connection: &MultiplexedConnection,
    kind: Channels,
    change: Change,
    channels: &[&str],
) -> Result<Vec<(usize, CallError)>, CallError> {
    let mut connection = connection.clone();
    let command = match (kind, change) {
        (Channels::Classic, Change::Subscribe) => {
            return in_time(connection.subscribe(channels)).await.map(|()| Vec::new());
        }
        (Channels::Classic, Change::Unsubscribe) => {
            return in_time(connection.unsubscribe(channels)).await.map(|()| Vec::new());
        }
        (Channels::Sharded, Change::Subscribe) => "SSUBSCRIBE",
        (Channels::Sharded, Change::Unsubscribe) => "SUNSUBSCRIBE",
    };
    // One channel a command: they may be of different slots, and a confirmation more than there are answers would be
    // taken for the next one.
    let mut commands = redis::pipe();
    commands.ignore_errors();
    for channel in channels {
        commands.cmd(command).arg(channel);
    }
    let answers: Vec<RedisResult<Value>> = in_time(commands.query_async(&mut connection)).await?;
    let refused =
        answers.into_iter().enumerate().filter_map(|(index, answer)| Some((index, answer.err()?.into())));
    Ok(refused.collect())
}
