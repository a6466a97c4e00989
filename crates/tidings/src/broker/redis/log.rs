//! One event as Redis keeps it.

use bytes::Bytes;
use tidings_protocol::event_id::OFFSET_MAX;
use tidings_protocol::follower::Carried;

/// Reads a member of the log, `offset at_ms record`; the record is not copied.
pub(super) fn event(member: &Bytes) -> Option<Carried<Bytes>> {
    let (offset, rest) = number(member, b' ')?;
    let (at_ms, rest) = number(rest, b' ')?;
    let offset = Some(offset).filter(|offset| (1..=OFFSET_MAX).contains(offset))?;
    Some(Carried { offset, at_ms, record: member.slice_ref(rest) })
}

/// A decimal number and what follows its end mark.
pub(super) fn number(bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    // No number that we write has more digits: a text without the mark is not searched to its end.
    let length = bytes.iter().take(21).position(|byte| *byte == end)?;
    let (digits, rest) = bytes.split_at_checked(length)?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest.get(1..)?))
}
