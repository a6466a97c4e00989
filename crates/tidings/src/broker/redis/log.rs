//! One event as Redis keeps it: a member of the room's sorted set, whose score is the offset. `log.lua` is the other half.
//!
//! A Stream with ids `offset-at_ms` was measured beside it (Redis 7.0.15, a log of 1,000 events, the server's CPU time,
//! the best of four and more alternating runs on a busy machine, where single runs differ by half):
//!
//! | | sorted set | Stream |
//! | --- | --- | --- |
//! | bytes an event, 200 B / 2,000 B | 310 / 2,134 | 250 / 2,302 |
//! | µs a publication, one a call, 200 B / 2,000 B | 65 / 89 | 66 / 85 |
//! | µs a publication, 16 a call, 200 B / 2,000 B | 18 / 38 | 18 / 36 |
//! | µs a read of 500 events, 200 B / 2,000 B | 499 / 2,749 | 1,102 / 4,232 |
//!
//! So the Stream is smaller for small events and slower to read, and publishing tells them apart no more than the noise
//! does: the sorted set stays. Unlike a Stream it also takes any offset, whatever was in it before.
//!
//! Of the µs of one publication a call, 6 are `INFO` and the search in its answer; without it 47 were measured where
//! with it 60 were. Two a call cost 35 each, four 24, sixteen 15.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_member_comes_back_as_it_was_written(offset in 1..=OFFSET_MAX, at_ms: u64, record: Vec<u8>) {
            let member = [format!("{offset} {at_ms} ").as_bytes(), &record].concat().into();
            prop_assert_eq!(event(&member), Some(Carried { offset, at_ms, record: record.into() }));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(member: Vec<u8>) {
            let _ = event(&member.into());
        }
    }

    #[test]
    fn a_member_that_is_none_is_refused() {
        for member in [
            "",
            "1",
            "1 ",
            "1 2",
            "0 1 x",
            "-1 1 x",
            " 1 x",
            "1  x",
            "9007199254740992 1 x",
            "1 99999999999999999999 x",
        ] {
            assert_eq!(event(&Bytes::from_static(member.as_bytes())), None, "{member}");
        }
    }
}
