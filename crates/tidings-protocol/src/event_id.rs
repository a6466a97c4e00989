//! Where a message stands in a room's log: room, epoch, offset, and the cursor that a client keeps.
//!
//! The text forms are `room`, `room@epoch.offset` and, for a cursor, event ids joined by `,`. A room's
//! alphabet has no `@`, `,` or space, so that each form parses in one way only.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use smol_str::SmolStr;

use crate::limits::{CURSOR_BYTES_MAX, ROOM_BYTES_MAX};

/// A room's name: 1–128 of `A-Za-z0-9_.:-`. Cloning copies a short text and shares a long one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(SmolStr);

impl RoomId {
    /// Parses a room's name.
    ///
    /// # Errors
    /// [`InvalidId::Room`] when it is empty, longer than 128 bytes or holds a byte outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=ROOM_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(is_name_byte) { Ok(Self(text.into())) } else { Err(InvalidId::Room) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The alphabet that room and event names share.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

/// Looked up, because every name of every message is checked.
const NAME_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 128 {
        let char = byte as u8;
        table[byte] = char.is_ascii_alphanumeric() || matches!(char, b'_' | b'.' | b':' | b'-');
        byte += 1;
    }
    table
};

impl Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The life of a room's log: eight of `a-z0-9`, drawn at random whenever a log begins or may have forked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch([u8; Epoch::LEN]);

impl Epoch {
    /// Characters of an epoch.
    pub const LEN: usize = 8;
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// The epoch that a 64-bit random number names (41 bits of it).
    pub fn from_random(random: u64) -> Self {
        let mut rest = random;
        Self(std::array::from_fn(|_| {
            let digit = Self::ALPHABET[(rest % 36) as usize];
            rest /= 36;
            digit
        }))
    }

    /// Parses an epoch.
    ///
    /// # Errors
    /// [`InvalidId::Epoch`] unless it is eight of `a-z0-9`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; Self::LEN] = text.as_bytes().try_into().map_err(|_| InvalidId::Epoch)?;
        let valid = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if valid { Ok(Self(bytes)) } else { Err(InvalidId::Epoch) }
    }

    /// The eight characters.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, so this never falls back.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number in a room's log: the first event is 1; 0 is the position before it.
pub type Offset = u64;

/// The largest offset: integers up to here survive every JSON parser (2^53 − 1).
pub const OFFSET_MAX: Offset = (1 << 53) - 1;

/// A place in one room's log: everything up to and with `offset` is behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The log's life.
    pub epoch: Epoch,
    /// The last offset that is behind this position; 0 for none.
    pub offset: Offset,
}

impl Position {
    /// Parses `epoch.offset`.
    ///
    /// # Errors
    /// [`InvalidId`] when a part is missing or out of its range; an offset has no sign and no leading zero.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (epoch, offset) = text.split_once('.').ok_or(InvalidId::Epoch)?;
        let canonical = offset == "0" || !offset.starts_with('0');
        if offset.is_empty() || !canonical || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidId::Offset);
        }
        let offset = offset.parse().ok().filter(|offset| *offset <= OFFSET_MAX).ok_or(InvalidId::Offset)?;
        Ok(Self { epoch: Epoch::parse(epoch)?, offset })
    }

    /// This position in `room`, as an event id.
    pub fn of(self, room: &RoomId) -> EventId {
        EventId { room: room.clone(), position: self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

/// `room@epoch.offset`: the name of one event, and the position just behind it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventId {
    /// The room whose log it is.
    pub room: RoomId,
    /// Its place there.
    pub position: Position,
}

impl EventId {
    /// Parses `room@epoch.offset`.
    ///
    /// # Errors
    /// [`InvalidId`] naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (room, position) = text.split_once('@').ok_or(InvalidId::Room)?;
        Ok(Self { room: RoomId::parse(room)?, position: Position::parse(position)? })
    }
}

impl FromStr for EventId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.room, self.position)
    }
}

/// The newest position of each room that a client follows. One event id is a cursor too.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cursor(BTreeMap<RoomId, Position>);

impl Cursor {
    /// Parses event ids joined by `,`; the empty text is the empty cursor. Of two ids of one room the later in
    /// the text counts.
    ///
    /// # Errors
    /// [`InvalidId::Length`] above 4 KiB, else what is wrong with the first bad id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(InvalidId::Length);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',')
            .map(|id| EventId::parse(id).map(|id| (id.room, id.position)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Moves one room's position.
    pub fn set(&mut self, room: RoomId, position: Position) {
        self.0.insert(room, position);
    }

    /// Forgets a room.
    pub fn remove(&mut self, room: &str) {
        self.0.remove(room);
    }

    /// The position in `room`, if the cursor has one.
    pub fn get(&self, room: &str) -> Option<Position> {
        self.0.get(room).copied()
    }

    /// Every room with its position, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&RoomId, Position)> {
        self.0.iter().map(|(room, position)| (room, *position))
    }

    /// How many rooms it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no room.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(RoomId, Position)> for Cursor {
    fn from_iter<T: IntoIterator<Item = (RoomId, Position)>>(positions: T) -> Self {
        Self(positions.into_iter().collect())
    }
}

impl FromStr for Cursor {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (room, position)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{room}@{position}")?;
        }
        Ok(())
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;
serde_as_text!(RoomId, Epoch, EventId, Cursor);

/// Why a text is no room, event name, message id, event id or cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidId {
    /// Not a room's name.
    Room,
    /// Not an event's name.
    Event,
    /// Not a client's message id.
    Message,
    /// Not an epoch, or none where one belongs.
    Epoch,
    /// Not an offset.
    Offset,
    /// A cursor above 4 KiB.
    Length,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Room => "a room is 1-128 of A-Z a-z 0-9 _ . : -",
            Self::Event => "an event is 1-64 of A-Z a-z 0-9 _ . : -",
            Self::Message => "an id is 1-64 printable ASCII characters",
            Self::Epoch => "an event id is room@epoch.offset with an epoch of eight a-z 0-9",
            Self::Offset => "an offset is a whole number from 0 to 2^53-1 without leading zeros",
            Self::Length => "a cursor is at most 4096 bytes",
        })
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rooms_have_an_alphabet_and_a_length() {
        assert!(RoomId::parse("chat:lobby").is_ok());
        assert!(RoomId::parse(&"r".repeat(128)).is_ok());
        for bad in ["", "a b", "a@b", "a,b", "é", "a/b", &"r".repeat(129)] {
            assert_eq!(RoomId::parse(bad), Err(InvalidId::Room), "{bad}");
        }
    }

    #[test]
    fn an_event_id_parses_in_one_way_only() {
        let id = EventId::parse("chat:lobby@k3f9a1qz.1042").unwrap();
        assert_eq!(
            (id.room.as_str(), id.position.epoch.as_str(), id.position.offset),
            ("chat:lobby", "k3f9a1qz", 1042)
        );
        for bad in [
            "chat:lobby",
            "chat:lobby@",
            "@k3f9a1qz.1",
            "a@k3f9a1qz",
            "a@k3f9a1qz.",
            "a@k3f9a1qz.-1",
            "a@k3f9a1qz.+1",
            "a@k3f9a1qz.01",
            "a@k3f9a1q.1",
            "a@K3f9a1qz.1",
            "a@k3f9a1qz.9007199254740992",
            "a@k3f9a1qz.1e3",
        ] {
            assert!(EventId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_later_of_two_ids_of_a_room_counts() {
        let cursor = Cursor::parse("a@k3f9a1qz.1,a@k3f9a1qz.2").unwrap();
        assert_eq!(cursor.to_string(), "a@k3f9a1qz.2");
        assert!(Cursor::parse("a@k3f9a1qz.1,").is_err());
        assert_eq!(Cursor::parse(&"a".repeat(4097)), Err(InvalidId::Length));
    }

    proptest! {
        #[test]
        fn cursors_survive_their_text(rooms in proptest::collection::btree_map("[A-Za-z0-9_.:-]{1,20}", (any::<u64>(), 0..=OFFSET_MAX), 0..20)) {
            let cursor: Cursor = rooms.into_iter()
                .map(|(room, (random, offset))| (RoomId::parse(&room).unwrap(), Position { epoch: Epoch::from_random(random), offset }))
                .collect();
            prop_assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
        }
    }
}
