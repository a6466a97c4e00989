//! The broker: two servers, one of which copies the other now and then, and the scripts that run on them.
//!
//! The scripts are rules 1 to 4 of docs/redis.md, and nothing else: what a server does to its data otherwise (losing it,
//! going back to an old snapshot, being a master beside another one) is the model's adversary.

use super::rules::{Mutant, Rules};
use super::truth::{Epoch, Event, Offset, Place, Publication, Truth};

/// What stands in a room's meta key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Meta {
    /// The log's life.
    pub epoch: Epoch,
    /// The last offset that was given out.
    pub seq: Offset,
    /// Whose log it is: the `master_replid` under which the last script ran.
    pub lineage: u8,
    /// Earlier epochs, each with its top.
    pub parents: Vec<Place>,
}

/// A room's keys on one server.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Data {
    /// None if the key is gone.
    pub meta: Option<Meta>,
    /// What is stored, by offset.
    pub log: Vec<(Offset, Event)>,
    /// Idempotency ids, with what they led to.
    pub ids: Vec<(Publication, Place)>,
    /// Truth: the event at `seq`.
    pub tail: Event,
    /// Truth: the publications whose ids have expired or were deleted, a bit each.
    pub forgotten: u16,
}

/// What a server is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// It takes writes; there may be two of these.
    Master,
    /// It copies the other, and refuses scripts.
    Replica,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Server {
    /// What it holds.
    pub data: Data,
    /// A snapshot on its disk.
    pub saved: Option<Data>,
    /// What it is.
    pub role: Role,
    /// `master_replid`: drawn anew at a promotion and a restart, a replica has its master's.
    pub replid: u8,
    /// `run_id`: drawn anew at a restart only.
    pub run_id: u8,
}

/// A publish's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is a new event, with this id.
    Stored(Place, Event),
    /// It was published before, as this.
    Duplicate(Place),
    /// It was to be a new event, whose id names another one already.
    NamesTwo,
}

/// What a read says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    /// The log's life.
    pub epoch: Epoch,
    /// Earlier ones.
    pub parents: Vec<Place>,
    /// The first offset that is stored, or the one after the top.
    pub oldest: Offset,
    /// The last offset.
    pub top: Offset,
    /// The offset before the first of `events`.
    pub base: Offset,
    /// Truth: the event at `base`.
    pub base_event: Event,
    /// What follows `base`, one by one.
    pub events: Vec<Event>,
}

impl Data {
    /// How every script begins.
    pub fn begin(&mut self, lineage: u8, truth: &mut Truth, rules: &Rules) {
        let lineage = if rules.broken(Mutant::NoLineage) { 0 } else { lineage };
        match &mut self.meta {
            None => {
                let (epoch, root) = truth.begin_log();
                self.meta = Some(Meta { epoch, seq: 0, lineage, parents: Vec::new() });
                self.tail = root;
                if !rules.broken(Mutant::LogSurvivesFreshMeta) {
                    self.log.clear();
                }
                if !matches!(
                    rules.mutant,
                    Some(Mutant::IdsSurviveFreshMeta | Mutant::IdsSurviveAndAreNotChecked)
                ) {
                    self.ids.clear();
                }
                self.forgotten = 0;
            }
            Some(meta) if meta.lineage != lineage => {
                let offset = match rules.mutant {
                    Some(Mutant::ParentTopPlusOne) => meta.seq + 1,
                    Some(Mutant::ParentTopMinusOne) => meta.seq.saturating_sub(1),
                    _ => meta.seq,
                };
                meta.parents.push(Place { epoch: meta.epoch, offset });
                if meta.parents.len() > rules.parents_max {
                    meta.parents.remove(0);
                }
                meta.epoch = truth.begin_epoch(self.tail);
                meta.lineage = lineage;
            }
            Some(_) => {}
        }
    }

    /// The script that publishes, after [`Data::begin`].
    pub fn publish(&mut self, publication: Publication, truth: &mut Truth, rules: &Rules) -> Option<Answer> {
        let known = self.ids.iter().find(|(id, _)| *id == publication).map(|(_, place)| *place);
        if let Some(place) = known.filter(|place| self.id_counts(*place, rules)) {
            return Some(Answer::Duplicate(place));
        }
        let meta = self.meta.as_mut()?;
        let place = Place { epoch: meta.epoch, offset: meta.seq + 1 };
        let Some(event) = truth.append(self.tail, place, publication) else {
            return Some(Answer::NamesTwo);
        };
        meta.seq = place.offset;
        self.tail = event;
        // Sorted by offset, the older of two first, as a store by score is.
        let at = self.log.partition_point(|(offset, _)| *offset <= place.offset);
        self.log.insert(at, (place.offset, event));
        self.ids.retain(|(id, _)| *id != publication);
        self.ids.push((publication, place));
        self.forgotten &= !(1 << publication);
        Some(Answer::Stored(place, event))
    }

    /// Rule 4.
    fn id_counts(&self, place: Place, rules: &Rules) -> bool {
        if matches!(rules.mutant, Some(Mutant::IdNotChecked | Mutant::IdsSurviveAndAreNotChecked)) {
            return true;
        }
        self.top_of(place.epoch).is_some_and(|top| place.offset <= top)
    }

    /// The last offset of an epoch of this log, as the log itself remembers it.
    pub fn top_of(&self, epoch: Epoch) -> Option<Offset> {
        let meta = self.meta.as_ref()?;
        if epoch == meta.epoch {
            return Some(meta.seq);
        }
        meta.parents.iter().find(|parent| parent.epoch == epoch).map(|parent| parent.offset)
    }

    /// Rule 3.
    pub fn oldest(&self) -> Offset {
        let seq = self.meta.as_ref().map_or(0, |meta| meta.seq);
        self.log.first().map_or(seq + 1, |(offset, _)| *offset)
    }

    /// The script that reads, after [`Data::begin`]: what follows all of these positions, and everything that is stored
    /// if one of them is not in this log or there is none. Who is to be reset gets what is still stored.
    pub fn read(&self, from: &[Place], truth: &Truth, rules: &Rules) -> Option<Reply> {
        let meta = self.meta.as_ref()?;
        let is_here = |place: &Place| {
            rules.broken(Mutant::ReadsAfterAnyPosition)
                || self.top_of(place.epoch).is_some_and(|top| place.offset <= top)
        };
        let after = from.iter().map(|place| if is_here(place) { place.offset } else { 0 }).min().unwrap_or(0);
        let base = after.min(meta.seq).max(self.oldest() - 1);
        let mut events = Vec::new();
        for (offset, event) in self.log.iter().filter(|(offset, _)| *offset <= meta.seq) {
            if usize::from(*offset) == usize::from(base) + events.len() + 1 {
                events.push(*event);
            }
        }
        Some(Reply {
            epoch: meta.epoch,
            parents: meta.parents.clone(),
            oldest: self.oldest(),
            top: meta.seq,
            base,
            base_event: truth.at(self.tail, base).unwrap_or_default(),
            events,
        })
    }

    /// Truth: whether somebody at `position`, behind `last`, would lose nothing by this log.
    pub fn continues(&self, position: Place, last: Event, truth: &Truth) -> bool {
        self.meta.is_some()
            && self.top_of(position.epoch).is_some()
            && truth.holds(self.tail, last)
            && position.offset + 1 >= self.oldest()
    }
}
