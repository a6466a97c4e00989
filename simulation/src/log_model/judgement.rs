//! What a position means to a log: asked of the server's own `RoomLog::recover`, so that what is checked is what runs.
//!
//! Where a mutant bends the judgement itself or makes a log that no `RoomLog` can be, the model has its own, which is
//! the same one otherwise (`the_models_judgement_is_the_servers` in the tests).

use std::time::Duration;

use tidings_protocol::event_id::{Epoch as RealEpoch, Position};
use tidings_protocol::room_log::{LogBounds, Recovery, RoomLog};

use super::rules::{Mutant, Rules};
use super::truth::{Epoch, Offset, Place};

/// What there is of a log, apart from its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape<'a> {
    /// Its epoch.
    pub epoch: Epoch,
    /// Earlier epochs, each with its top.
    pub parents: &'a [Place],
    /// The first offset that is stored, or the one after the top.
    pub oldest: Offset,
    /// The last offset.
    pub top: Offset,
}

/// What a client is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What follows.
    Replay,
    /// That the epoch has changed, then what follows.
    Moved,
    /// That something was lost.
    Reset,
}

/// Judges a position by the rules.
pub fn judge(shape: &Shape<'_>, from: Place, rules: &Rules) -> Verdict {
    let bent = matches!(
        rules.mutant,
        Some(Mutant::NoTrimCheck | Mutant::AboveTopIgnored | Mutant::AboveParentTopIgnored)
    );
    if bent { None } else { judge_by_room_log(shape, from) }
        .unwrap_or_else(|| judge_by_the_document(shape, from, rules))
}

/// The cursor rules as delivery.md has them.
pub fn judge_by_the_document(shape: &Shape<'_>, from: Place, rules: &Rules) -> Verdict {
    let top = if from.epoch == shape.epoch {
        Some(shape.top).filter(|_| !rules.broken(Mutant::AboveTopIgnored))
    } else {
        let Some(parent) = shape.parents.iter().find(|parent| parent.epoch == from.epoch) else {
            return Verdict::Reset;
        };
        Some(parent.offset).filter(|_| !rules.broken(Mutant::AboveParentTopIgnored))
    };
    let trimmed = from.offset + 1 < shape.oldest && !rules.broken(Mutant::NoTrimCheck);
    match top {
        _ if trimmed => Verdict::Reset,
        Some(top) if from.offset > top => Verdict::Reset,
        _ if from.epoch == shape.epoch => Verdict::Replay,
        _ => Verdict::Moved,
    }
}

/// The judgement of a `RoomLog` of this shape; none where there can't be such a log.
pub fn judge_by_room_log(shape: &Shape<'_>, from: Place) -> Option<Verdict> {
    let real = |epoch: Epoch| RealEpoch::from_random(u64::from(epoch));
    let mut log = RoomLog::new(real(shape.parents.first().map_or(shape.epoch, |parent| parent.epoch)));
    let epochs = shape.parents.iter().skip(1).map(|parent| parent.epoch).chain([shape.epoch]);
    for (parent, next) in shape.parents.iter().zip(epochs) {
        fill(&mut log, parent.offset)?;
        log.begin_epoch(real(next));
    }
    fill(&mut log, shape.top)?;
    let events_max = usize::from((shape.top + 1).checked_sub(shape.oldest)?);
    log.trim(&LogBounds { age_max: Duration::MAX, events_max, bytes_max: usize::MAX }, 0);
    Some(match log.recover(Position { epoch: real(from.epoch), offset: u64::from(from.offset) }) {
        Recovery::Replay { .. } => Verdict::Replay,
        Recovery::Moved { .. } => Verdict::Moved,
        Recovery::Reset(_) => Verdict::Reset,
    })
}

fn fill(log: &mut RoomLog<()>, top: Offset) -> Option<()> {
    let missing = u64::from(top).checked_sub(log.top().offset)?;
    for _ in 0..missing {
        log.append((), 0, 0);
    }
    Some(())
}
