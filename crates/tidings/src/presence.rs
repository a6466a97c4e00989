//! Who is in a room: users, not sockets, with what they want the others to see.
//!
//! Every change has a revision, so that a client that missed a delta sees the hole and asks for the list again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::auth::UserId;

/// The members of one room.
#[derive(Default)]
pub(crate) struct Presence {
    members: BTreeMap<UserId, Member>,
    rev: u64,
}

struct Member {
    connections: u32,
    info: Option<Arc<RawValue>>,
}

/// One page of the list.
pub(crate) struct Page {
    pub(crate) members: Vec<(UserId, Option<Arc<RawValue>>)>,
    pub(crate) rev: u64,
    /// Whether more follow.
    pub(crate) more: bool,
}

impl Presence {
    /// A connection of `user` came; the new revision if it is the user's first.
    pub(crate) fn enter(&mut self, user: &UserId) -> Option<u64> {
        if let Some(member) = self.members.get_mut(user) {
            member.connections += 1;
            return None;
        }
        self.members.insert(user.clone(), Member { connections: 1, info: None });
        self.rev += 1;
        Some(self.rev)
    }

    /// A connection of `user` left; the new revision and the last info if it was the user's last.
    pub(crate) fn leave(&mut self, user: &UserId) -> Option<(u64, Option<Arc<RawValue>>)> {
        let member = self.members.get_mut(user)?;
        member.connections -= 1;
        if member.connections > 0 {
            return None;
        }
        let member = self.members.remove(user)?;
        self.rev += 1;
        Some((self.rev, member.info))
    }

    /// The user's info changed; the new revision if he is here.
    pub(crate) fn update(&mut self, user: &UserId, info: Arc<RawValue>) -> Option<u64> {
        self.members.get_mut(user)?.info = Some(info);
        self.rev += 1;
        Some(self.rev)
    }

    /// How many users are here.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The users after `after` in the order of their ids, `limit` at most.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> Page {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.members.range::<str, _>((from, Bound::Unbounded));
        let members =
            rest.by_ref().take(limit).map(|(user, member)| (user.clone(), member.info.clone())).collect();
        Page { members, rev: self.rev, more: rest.next().is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn two_tabs_are_one_member() {
        let mut presence = Presence::default();
        assert_eq!(presence.enter(&user("ann")), Some(1));
        assert_eq!(presence.enter(&user("ann")), None);
        assert_eq!(presence.len(), 1);
        assert!(presence.leave(&user("ann")).is_none());
        assert_eq!(presence.leave(&user("ann")).map(|(rev, _)| rev), Some(2));
        assert!(presence.leave(&user("ann")).is_none());
        assert_eq!(presence.len(), 0);
    }

    #[test]
    fn pages_are_sorted_and_say_whether_more_follow() {
        let mut presence = Presence::default();
        for name in ["cid", "ann", "bob"] {
            presence.enter(&user(name));
        }
        let info = RawValue::from_string("{\"away\":true}".into()).unwrap();
        assert_eq!(presence.update(&user("bob"), info.into()), Some(4));
        assert_eq!(presence.update(&user("nobody"), Arc::from(RawValue::NULL.to_owned())), None);
        let first = presence.page(None, 2);
        let names: Vec<_> =
            first.members.iter().map(|(user, info)| (user.as_str(), info.is_some())).collect();
        assert_eq!((names, first.rev, first.more), (vec![("ann", false), ("bob", true)], 4, true));
        let second = presence.page(Some("bob"), 2);
        assert_eq!((second.members.len(), second.more), (1, false));
    }
}
