//! The names under which Redis knows what holds for all nodes: users, what is to be done about them, the nodes themselves.
//!
//! No room can have one of these hash tags: `@` and `%` are in no room's name.

use std::fmt::Write as _;

use super::keys::Keyspace;
use crate::auth::UserId;

/// The hash tag of what is no single user's: in a cluster one slot has all of it.
pub(super) const CONTROL_TAG: &str = "%control";

/// Two keys that a script declares together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pair(pub(super) [String; 2]);

/// The hash tag of a user's own keys: `@ann`.
pub(super) fn tag_of(user: &UserId) -> String {
    let mut tag = String::with_capacity(user.as_str().len() + 1);
    tag.push('@');
    for byte in user.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'-' | b'@' => {
                tag.push(char::from(byte));
            }
            // A brace would end the tag early, and a space is hard to read.
            _ => {
                // A string takes everything.
                let _ = write!(tag, "%{byte:02x}");
            }
        }
    }
    tag
}

impl Keyspace {
    /// A user's places: `tidings:1:{@ann}:connections` and `:since`.
    pub(super) fn places_of(&self, user: &UserId) -> Pair {
        let tag = tag_of(user);
        Pair(["connections", "since"].map(|part| format!("{}{{{tag}}}:{part}", self.head)))
    }

    /// What is to be done about users and tokens, of one list.
    pub(super) fn orders(&self, list: &str) -> Pair {
        Pair([self.control(list), self.control(&format!("{list}:values"))])
    }

    /// The nodes that there are.
    pub(super) fn nodes(&self) -> Pair {
        Pair([self.control("nodes"), self.control("nodes:entries")])
    }

    /// Where nodes tell each other what is no room's.
    pub(super) fn control_channel(&self) -> String {
        self.control("channel")
    }

    fn control(&self, part: &str) -> String {
        format!("{}{{{CONTROL_TAG}}}:{part}", self.head)
    }
}

#[cfg(test)]
mod tests {
    use tidings_protocol::event_id::RoomId;

    use super::*;

    #[test]
    fn a_users_keys_share_a_tag_that_no_name_can_end() {
        let keyspace = Keyspace::default();
        let places = |user: &str| keyspace.places_of(&UserId::parse(user).unwrap()).0;
        assert_eq!(places("ann"), ["tidings:1:{@ann}:connections", "tidings:1:{@ann}:since"]);
        assert_eq!(places("a}{ b%é")[1], "tidings:1:{@a%7d%7b%20b%25%c3%a9}:since");
        let control = [&keyspace.orders("revoked").0[..], &keyspace.nodes().0, &[keyspace.control_channel()]];
        for key in places("}").iter().chain(control.concat().iter()) {
            assert_eq!(key.matches(['{', '}']).count(), 2, "{key}");
            let tag = key.split(['{', '}']).nth(1).unwrap();
            assert!(RoomId::parse(tag).is_err(), "{key} may be a room's");
        }
        assert_ne!(places("a%7d"), places("a}"));
    }
}
