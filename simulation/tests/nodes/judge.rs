//! Holds what one client sees to the promises of docs/guarantees.md, by its own count of positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_protocol::client::{Decision, Positions};
use tidings_protocol::event_id::{EventId, Position};
use tidings_protocol::message::{Data, ResetReason, ServerEvent, ServerMessage};

use crate::truth::{Place, Truth};

/// Rooms whose names begin so keep few events.
pub(crate) const SMALL: &str = "small:";
/// And this is how many.
pub(crate) const SMALL_EVENTS: usize = 12;

/// Watches one client.
pub(crate) struct Judge {
    /// What it publishes to others than itself begins so.
    unseen: String,
    truth: Arc<Mutex<Truth>>,
    rooms: BTreeMap<String, Followed>,
    pub(crate) events: u64,
    pub(crate) resets_seen: u64,
    pub(crate) epochs_seen: u64,
    pub(crate) skips_seen: u64,
}

#[derive(Default)]
struct Followed {
    at: Option<Place>,
    /// What has come since the last reset.
    seen: BTreeSet<String>,
}

impl Judge {
    pub(crate) fn new(client: usize, truth: Arc<Mutex<Truth>>) -> Self {
        Self {
            unseen: format!("t{client}-"),
            truth,
            rooms: BTreeMap::new(),
            events: 0,
            resets_seen: 0,
            epochs_seen: 0,
            skips_seen: 0,
        }
    }

    /// What comes from now on is another membership's.
    pub(crate) fn begins_anew(&mut self, room: &str) {
        self.rooms.remove(room);
    }

    /// Looks at a message and at what the client made of it.
    ///
    /// # Errors
    /// What was broken.
    pub(crate) fn see(
        &mut self,
        message: &ServerMessage<'_>,
        decision: Decision,
        positions: &Positions,
    ) -> Result<(), String> {
        match (message, decision) {
            (ServerMessage::Event(event), Decision::Accept) => self.event(event)?,
            (ServerMessage::Skip { id, from, .. }, Decision::Move) => self.skip(id, *from)?,
            (ServerMessage::EpochChange { id, was }, Decision::Move) => {
                let had = self.at(id)?;
                let was = (was.as_str().to_owned(), id.position.offset);
                let (room, epoch) = (id.room.as_str(), id.position.epoch.as_str());
                if had != was || !self.truth.lock().holds(room, epoch, &had) {
                    return Err(format!("I3: {had:?} is not in {id}, and nobody says so"));
                }
                self.epochs_seen += 1;
                self.moved(id);
            }
            (ServerMessage::Reset { id, reason, .. }, Decision::Reset) => self.reset(id, *reason)?,
            _ => {}
        }
        self.compare(positions)
    }

    fn event(&mut self, event: &ServerEvent<'_>) -> Result<(), String> {
        let (Some(room), Some(position), Data::Json(data)) = (&event.room, event.id, event.data) else {
            return Ok(());
        };
        let id = position.of(room);
        let had = self.at(&id)?;
        let place = place(position);
        if had.0 != place.0 || had.1 + 1 != place.1 {
            return Err(format!("I1: {id} after {had:?}"));
        }
        let data = data.get().trim_matches('"').to_owned();
        let truth = self.truth.lock();
        let known = truth.event(room.as_str(), &place);
        if known != Some(&*data) {
            return Err(format!("I2: {id} names {known:?}, and a client sees {data}"));
        }
        let has_lost_ids = truth.has_lost_ids(room.as_str());
        drop(truth);
        self.events += 1;
        self.moved(&id);
        let followed = self.rooms.entry(room.as_str().to_owned()).or_default();
        if !followed.seen.insert(data.clone()) && !has_lost_ids {
            return Err(format!("I6: {data} comes a second time, as {id}"));
        }
        Ok(())
    }

    fn skip(&mut self, id: &EventId, from: u64) -> Result<(), String> {
        let had = self.at(id)?;
        if had.0 != id.position.epoch.as_str() || from > had.1 + 1 {
            return Err(format!("I1: a skip from {from} to {id} after {had:?}"));
        }
        for offset in had.1 + 1..=id.position.offset {
            let place = (had.0.clone(), offset);
            let truth = self.truth.lock();
            let skipped = truth.event(id.room.as_str(), &place);
            // An event of an epoch before is known under that epoch's name.
            if skipped.is_some_and(|data| !data.starts_with(&self.unseen)) {
                return Err(format!("I1: {id} skips {skipped:?}"));
            }
        }
        self.skips_seen += 1;
        self.moved(id);
        Ok(())
    }

    fn reset(&mut self, id: &EventId, reason: ResetReason) -> Result<(), String> {
        self.resets_seen += 1;
        let room = id.room.as_str();
        let had = self.rooms.get(room).and_then(|followed| followed.at.clone());
        let truth = self.truth.lock();
        let losses = truth.losses(room);
        if let Some(had) = &had {
            let is_trimmed = truth.has_lost_log(room)
                || room.starts_with(SMALL) && truth.top(room) >= had.1 + SMALL_EVENTS as u64;
            let is_expired = reason == ResetReason::Expired && is_trimmed;
            let goes_on = truth.holds(room, id.position.epoch.as_str(), had);
            if !is_expired && (goes_on || losses == 0) {
                return Err(format!(
                    "I3: a needless reset ({reason:?}) to {id} from {had:?}, {losses} losses"
                ));
            }
        }
        drop(truth);
        let followed = self.rooms.entry(room.to_owned()).or_default();
        followed.seen.clear();
        self.moved(id);
        Ok(())
    }

    /// The client's own positions are what this one counts.
    fn compare(&mut self, positions: &Positions) -> Result<(), String> {
        for (room, position) in positions.iter() {
            let followed = self.rooms.entry(room.as_str().to_owned()).or_default();
            let is_at = position.map(place);
            if followed.at.is_none() {
                // A join has begun.
                followed.at = is_at;
            } else if followed.at != is_at {
                return Err(format!("I1: a client moves in {room} from {:?} to {is_at:?}", followed.at));
            }
        }
        Ok(())
    }

    fn at(&self, id: &EventId) -> Result<Place, String> {
        let followed = self.rooms.get(id.room.as_str());
        followed
            .and_then(|followed| followed.at.clone())
            .ok_or_else(|| format!("I1: {id} before any position"))
    }

    fn moved(&mut self, id: &EventId) {
        self.rooms.entry(id.room.as_str().to_owned()).or_default().at = Some(place(id.position));
    }
}

pub(crate) fn place(position: Position) -> Place {
    (position.epoch.as_str().to_owned(), position.offset)
}
