//! What a position means to a log: asked of the server's own `RoomLog::recover`, so that what is checked is what runs.
//!
//! Where a mutant bends the judgement itself or makes a log that no `RoomLog` can be, the model has its own, which is
//! the same one otherwise (`the_models_judgement_is_the_servers` in the tests).

use tidings_protocol::event_id::{Epoch as RealEpoch, Position};
use tidings_protocol::room_log::{Recovery, RoomLog};

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

/// What a position means, as docs/redis.md has it.
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
    let tops: Vec<_> = shape.parents.iter().map(|parent| parent.offset).chain([shape.top]).collect();
    if !tops.is_sorted() {
        return None;
    }
    let position = |epoch, offset| Position { epoch: real(epoch), offset: u64::from(offset) };
    let parents: Vec<_> = shape.parents.iter().map(|parent| position(parent.epoch, parent.offset)).collect();
    let before = u64::from(shape.oldest.checked_sub(1)?);
    let mut log = RoomLog::restored(real(shape.epoch), before, &parents);
    fill(&mut log, shape.top)?;
    Some(match log.recover(position(from.epoch, from.offset)) {
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
