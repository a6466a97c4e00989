//! What the scripts answer, as types.

use bytes::Bytes;
use redis::Value;
use tidings_protocol::event_id::{Epoch, OFFSET_MAX, Position};
use tidings_protocol::follower::{LogState, Page};

use super::error::CallError;
use super::log;

/// What became of one publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Stored(Position),
    /// Its id had been used for the same: the position of the first.
    Duplicate(Position),
    /// Its id had been used for something else.
    Conflict,
    /// The room remembers as many ids as it may.
    Full,
}

/// What became of the publications of one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Receipts {
    /// The time of what was stored.
    pub(crate) at_ms: u64,
    /// In the order of the publications.
    pub(crate) outcomes: Vec<Outcome>,
}

type Parsed<T> = Result<T, CallError>;

impl Receipts {
    pub(super) fn parse(answer: Value, publications: usize) -> Parsed<Self> {
        let malformed = || CallError::Malformed("what became of the publications");
        let mut texts = texts(answer).ok_or_else(malformed)?;
        let at_ms = texts.next().and_then(|text| whole_number(&text)).ok_or_else(malformed)?;
        let outcomes: Option<Vec<_>> = texts.map(|text| Outcome::parse(&text)).collect();
        match outcomes {
            Some(outcomes) if outcomes.len() == publications => Ok(Self { at_ms, outcomes }),
            _ => Err(malformed()),
        }
    }
}

impl Outcome {
    fn parse(text: &[u8]) -> Option<Self> {
        match text.split_first()? {
            (b's', rest) => position(rest).map(Self::Stored),
            (b'd', rest) => position(rest).map(Self::Duplicate),
            (b'c', []) => Some(Self::Conflict),
            (b'f', []) => Some(Self::Full),
            _ => None,
        }
    }
}

/// What a read brought: oldest first, and not up to the top if a bound was reached.
pub(super) fn page(answer: Value) -> Parsed<Page<Bytes>> {
    page_of(answer).ok_or(CallError::Malformed("a room's log"))
}

fn page_of(answer: Value) -> Option<Page<Bytes>> {
    let mut texts = texts(answer)?;
    let epoch = Epoch::parse(std::str::from_utf8(&texts.next()?).ok()?).ok()?;
    let top = whole_number(&texts.next()?)?;
    let mut oldest = whole_number(&texts.next()?)?;
    let parents = texts.next()?;
    let parents = parents.split(|byte| *byte == b',').filter(|parent| !parent.is_empty());
    let parents = parents.map(position).collect::<Option<_>>()?;
    if top > OFFSET_MAX || oldest == 0 || oldest > top + 1 {
        return None;
    }
    let mut events: Vec<_> = texts.map(|member| log::event(&member)).collect::<Option<_>>()?;
    // Somebody has taken events out of the middle: what stands before them is no beginning of what follows.
    if let Some(hole) = events.windows(2).rposition(|pair| pair[0].offset + 1 != pair[1].offset) {
        events.drain(..=hole);
        oldest = events.first().map_or(oldest, |first| first.offset);
    }
    let fits = events.last().is_none_or(|last| last.offset <= top);
    fits.then_some(Page { state: LogState { epoch, top, oldest, parents }, events })
}

pub(super) fn positions(answer: Value, rooms: usize) -> Parsed<Vec<Position>> {
    let positions =
        texts(answer).and_then(|texts| texts.map(|text| position(&text)).collect::<Option<Vec<_>>>());
    positions.filter(|positions| positions.len() == rooms).ok_or(CallError::Malformed("each room's position"))
}

/// An array of nothing but texts.
pub(super) fn texts(answer: Value) -> Option<impl Iterator<Item = Bytes>> {
    let Value::Array(values) = answer else { return None };
    let texts: Option<Vec<_>> = values
        .into_iter()
        .map(|value| match value {
            Value::BulkString(text) => Some(Bytes::from(text)),
            _ => None,
        })
        .collect();
    Some(texts?.into_iter())
}

fn position(text: &[u8]) -> Option<Position> {
    Position::parse(std::str::from_utf8(text).ok()?).ok()
}

fn whole_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
