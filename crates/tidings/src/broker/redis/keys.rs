//! The names under which Redis knows a room. All of one room share a hash tag, and so a slot of a cluster.

use std::fmt;

use tidings_protocol::event_id::RoomId;

/// How the keys' values are laid out. Another layout is another number, so that two never meet.
const FORMAT: &str = "1";
const PREFIX_BYTES_MAX: usize = 64;

/// The keys of one installation: several may share a Redis.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    /// Up to the hash tag: `tidings:1:`.
    pub(super) head: Box<str>,
}

/// A prefix that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidPrefix;

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a prefix of keys is 1-64 of A-Z a-z 0-9 _ . : -")
    }
}

impl std::error::Error for InvalidPrefix {}

impl Default for Keyspace {
    fn default() -> Self {
        Self { head: format!("tidings:{FORMAT}:").into() }
    }
}

impl Keyspace {
    /// # Errors
    /// [`InvalidPrefix`] where a brace in it, for one, would end the hash tag early.
    pub(crate) fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        // The alphabet is that of rooms.
        match RoomId::parse(prefix) {
            Ok(_) if prefix.len() <= PREFIX_BYTES_MAX => {
                Ok(Self { head: format!("{prefix}:{FORMAT}:").into() })
            }
            _ => Err(InvalidPrefix),
        }
    }

    /// The same in one of a server's databases. They have keys of their own, and share their channels: so the names differ.
    pub(crate) fn in_database(self, database: i64) -> Self {
        if database == 0 { self } else { Self { head: format!("{}db{database}:", self.head).into() } }
    }

    pub(crate) fn room(&self, room: &RoomId) -> RoomKeys {
        RoomKeys { channel: format!("{}{{{room}}}", self.head).into() }
    }

    /// Where a node's connection probes whether what is published comes back, in the slot of `tag` if there is one. No
    /// room's channel looks like it.
    pub(crate) fn probe(&self, node: u64, connection: usize, tag: Option<&str>) -> String {
        let tag = tag.map_or_else(String::new, |tag| format!(":{{{tag}}}"));
        format!("{}probe:{node:016x}:{connection}{tag}", self.head)
    }

    /// The keys and the channel of a room that no node has, to try out what is permitted: `tag` is a [`check_tag`].
    pub(crate) fn check(&self, tag: &str) -> RoomKeys {
        RoomKeys { channel: format!("{}{{{tag}}}", self.head).into() }
    }
}

/// A hash tag for [`Keyspace::check`].
pub(crate) fn check_tag(random: u64) -> String {
    // No room's name holds a slash.
    format!("/check:{random:016x}")
}

/// The keys of one room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RoomKeys {
    channel: Box<str>,
}

impl RoomKeys {
    /// Where its publications are carried: `tidings:1:{room}`.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// What a script declares, in its order: meta, log, and the idempotency ids of every other period.
    pub(crate) fn all(&self) -> [String; 4] {
        [":meta", ":log", ":ids:0", ":ids:1"].map(|part| [&self.channel, part].concat())
    }

    /// What a script of its presence declares besides: users, and nodes.
    pub(crate) fn presence(&self) -> [String; 2] {
        [":users", ":nodes"].map(|part| [&self.channel, part].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rooms_keys_share_its_hash_tag() {
        let keyspace = Keyspace::new("shop:tidings").unwrap();
        let room = RoomId::parse("chat:lobby").unwrap();
        let keys = keyspace.room(&room);
        assert_eq!(keys.channel(), "shop:tidings:1:{chat:lobby}");
        assert_eq!(keys.all()[2], "shop:tidings:1:{chat:lobby}:ids:0");
    }

    #[test]
    fn what_is_in_another_database_has_other_channels() {
        let room = RoomId::parse("chat:lobby").unwrap();
        let channel = |database| Keyspace::default().in_database(database).room(&room).channel().to_owned();
        assert_eq!([channel(0), channel(3)], ["tidings:1:{chat:lobby}", "tidings:1:db3:{chat:lobby}"]);
        let others = Keyspace::default().in_database(3);
        assert_ne!(others.control_channel(), Keyspace::default().control_channel());
    }

    #[test]
    fn a_prefix_can_not_move_the_hash_tag() {
        assert_eq!(Keyspace::new("a{b}").unwrap_err(), InvalidPrefix);
        assert_eq!(Keyspace::new("").unwrap_err(), InvalidPrefix);
        assert_eq!(Keyspace::new(&"p".repeat(65)).unwrap_err(), InvalidPrefix);
        assert!(Keyspace::default().room(&RoomId::parse("r").unwrap()).channel().starts_with("tidings:1:"));
    }
}
