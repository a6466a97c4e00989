//! Bugs that are planted on purpose, each of which the simulation has to find.

use bytes::Bytes;

/// A bug. The production's code has no place for any: it is planted in what the scripts are run as, or on the wire, where
/// it does what the bug would do in a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    /// A node takes a message for the next event, whatever its offset.
    GapTaken,
    /// A node takes a message for one of its own epoch, whatever its epoch.
    EpochIgnored,
    /// A node counts a read that was sent earlier.
    OldReads,
    /// Positions are never compared.
    NoPositions,
    /// A changed lineage begins no epoch.
    NoLineage,
    /// A parent's top is one more.
    ParentTopPlusOne,
    /// A fresh meta leaves the old log.
    LogKept,
}

impl Plant {
    pub(crate) const ALL: [Self; 7] = [
        Self::GapTaken,
        Self::EpochIgnored,
        Self::OldReads,
        Self::NoPositions,
        Self::NoLineage,
        Self::ParentTopPlusOne,
        Self::LogKept,
    ];

    /// A script with the bug.
    pub(crate) fn in_script(self, script: &str) -> String {
        let (sound, planted) = match self {
            Self::NoLineage => ("elseif lineage and room.lineage ~= lineage then", "elseif false then"),
            Self::ParentTopPlusOne => (
                "with_parent(room.parents, room.epoch, room.seq)",
                "with_parent(room.parents, room.epoch, room.seq + 1)",
            ),
            Self::LogKept => ("redis.call('DEL', meta, log, ids0, ids1)", "redis.call('DEL', meta)"),
            Self::GapTaken | Self::EpochIgnored | Self::OldReads | Self::NoPositions => {
                return script.to_owned();
            }
        };
        script.replace(sound, planted)
    }

    /// A message of a room's channel as a node with the bug takes it, which by its connection's last read stands at
    /// `(epoch, offset)`.
    pub(crate) fn in_message(self, message: &Bytes, read: &mut (Bytes, u64)) -> Bytes {
        let (epoch, top) = read;
        let Some(parts) = Parts::of(message) else { return message.clone() };
        let planted = match self {
            Self::GapTaken if parts.epoch == &epoch[..] => Parts { first: *top + 1, ..parts },
            Self::EpochIgnored => Parts { epoch, ..parts },
            _ => return message.clone(),
        };
        let bytes = planted.join();
        *top = (*top).max(planted.first + planted.count - 1);
        bytes
    }
}

/// `p EPOCH FIRST_OFFSET ' ' AT_MS ' ' COUNT '\n' …`
struct Parts<'a> {
    epoch: &'a [u8],
    first: u64,
    at_ms: &'a str,
    count: u64,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(message: &'a [u8]) -> Option<Self> {
        let (epoch, rest) = message.strip_prefix(b"p")?.split_at_checked(8)?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let mut head = std::str::from_utf8(&rest[..end]).ok()?.split(' ');
        let first = head.next()?.parse().ok()?;
        let at_ms = head.next()?;
        let count = head.next()?.parse().ok()?;
        Some(Self { epoch, first, at_ms, count, rest: &rest[end..] })
    }

    fn join(&self) -> Bytes {
        let head = format!("{} {} {}", self.first, self.at_ms, self.count);
        [b"p", self.epoch, head.as_bytes(), self.rest].concat().into()
    }
}
