//! The names under which Redis knows what holds for all nodes: users, what is to be done about them, the nodes themselves.
//!
//! No room can have one of these hash tags: `@` and `%` are in no room's name.

use std::fmt::Write as _;

use super::keys::Keyspace;
use crate::auth::UserId;

/// Two keys that a script declares together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pair(pub(super) [String; 2]);

impl Keyspace {
    /// A user's places: `tidings:1:{@ann}:connections` and `:since`.
    pub(super) fn places_of(&self, user: &UserId) -> Pair {
        let mut tag = String::with_capacity(self.head.len() + user.as_str().len() + 3);
        tag.push_str(&self.head);
        tag.push_str("{@");
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
        tag.push('}');
        Pair([format!("{tag}:connections"), format!("{tag}:since")])
    }

    /// What is to be done about users and tokens, of one list.
    pub(super) fn orders(&self, list: &str) -> Pair {
        Pair([
            format!("{}{{%control}}:{list}", self.head),
            format!("{}{{%control}}:{list}:values", self.head),
        ])
    }

    /// The nodes that there are.
    pub(super) fn nodes(&self) -> Pair {
        Pair([format!("{}{{%nodes}}:ends", self.head), format!("{}{{%nodes}}:entries", self.head)])
    }

    /// Where nodes tell each other what is no room's.
    pub(super) fn control_channel(&self) -> String {
        format!("{}control", self.head)
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
        for key in places("}").iter().chain(&keyspace.orders("revoked").0).chain(&keyspace.nodes().0) {
            assert_eq!(key.matches(['{', '}']).count(), 2, "{key}");
            let tag = key.split(['{', '}']).nth(1).unwrap();
            assert!(RoomId::parse(tag).is_err(), "{key} may be a room's");
        }
        assert_ne!(places("a%7d"), places("a}"));
    }
}
