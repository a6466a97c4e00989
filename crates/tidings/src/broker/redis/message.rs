//! What is carried on a room's channel: read without copying what the publications hold.
//!
//! A message's first byte is its kind. This is the kind `p`, publications that were stored together:
//!
//! ```text
//! p EPOCH FIRST_OFFSET ' ' AT_MS ' ' COUNT '\n' then COUNT times: LENGTH '\n' RECORD
//! ```

use bytes::Bytes;
use tidings_protocol::event_id::{Epoch, OFFSET_MAX, Position};

use super::log::number;

/// The kind of a message that brings publications.
pub(crate) const PUBLICATIONS: u8 = b'p';

/// Publications that one call stored; their offsets follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Published {
    pub(crate) first: Position,
    /// The time of the server that sequenced them.
    pub(crate) at_ms: u64,
    /// At least one.
    pub(crate) records: Vec<Bytes>,
}

impl Published {
    /// Reads a message of kind [`PUBLICATIONS`], which is anybody's who can publish on that channel.
    pub(crate) fn parse(message: &Bytes) -> Option<Self> {
        let (epoch, rest) = message.strip_prefix(&[PUBLICATIONS])?.split_at_checked(Epoch::LEN)?;
        let epoch = Epoch::parse(std::str::from_utf8(epoch).ok()?).ok()?;
        let (offset, rest) = number(rest, b' ')?;
        let (at_ms, rest) = number(rest, b' ')?;
        let (count, mut rest) = number(rest, b'\n')?;
        let last = offset.checked_add(count)?.checked_sub(1)?;
        if offset == 0 || count == 0 || last > OFFSET_MAX {
            return None;
        }
        // What is claimed reserves nothing: two bytes are the least that a record takes.
        let mut records = Vec::with_capacity(usize::try_from(count).ok()?.min(rest.len() / 2));
        for _ in 0..count {
            let (length, record) = number(rest, b'\n')?;
            let (record, next) = record.split_at_checked(usize::try_from(length).ok()?)?;
            records.push(message.slice_ref(record));
            rest = next;
        }
        let complete = rest.is_empty();
        complete.then_some(Self { first: Position { epoch, offset }, at_ms, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(first: Position, at_ms: u64, records: &[Vec<u8>]) -> Bytes {
        let mut message =
            format!("p{}{} {at_ms} {}\n", first.epoch, first.offset, records.len()).into_bytes();
        for record in records {
            message.extend_from_slice(format!("{}\n", record.len()).as_bytes());
            message.extend_from_slice(record);
        }
        message.into()
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..10)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(random: u64, offset in 1..=OFFSET_MAX - 10, at_ms: u64, records in records()) {
            let first = Position { epoch: Epoch::from_random(random), offset };
            let read = Published::parse(&written(first, at_ms, &records)).unwrap();
            prop_assert_eq!((read.first, read.at_ms), (first, at_ms));
            prop_assert_eq!(read.records, records);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(mut message: Vec<u8>) {
            let _ = Published::parse(&Bytes::copy_from_slice(&message));
            message.splice(0..0, *b"pk3f9a1qz1 2 3\n");
            let _ = Published::parse(&Bytes::from(message));
        }

        #[test]
        fn a_message_that_was_cut_or_grew_is_refused(records in records(), at: proptest::sample::Index, more: u8) {
            let whole = written(Position { epoch: Epoch::from_random(7), offset: 1 }, 2, &records);
            prop_assert_eq!(Published::parse(&whole.slice(..at.index(whole.len()))), None);
            prop_assert_eq!(Published::parse(&[&whole[..], &[more]].concat().into()), None);
        }
    }

    #[test]
    fn a_claim_reserves_no_memory() {
        for message in [
            "pk3f9a1qz1 2 9007199254740990\n",
            "pk3f9a1qz1 2 1\n18446744073709551615\nx",
            "pk3f9a1qz0 2 1\n0\n",
        ] {
            assert_eq!(Published::parse(&Bytes::from_static(message.as_bytes())), None, "{message}");
        }
    }
}
