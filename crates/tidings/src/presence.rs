//! Who is in a room: users, not sockets, with what they want the others to see.
//!
//! A user whose last connection was lost stays for a grace, so that a reconnect is no leave and join. Every change that
//! is told has a revision, so that a client that missed a delta sees the hole and asks for the list again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::auth::UserId;
use crate::members::Members;

/// What a user wants the others to see; none before he has said anything.
pub(crate) type Info = Option<Arc<RawValue>>;

/// The members of one room.
#[derive(Default)]
pub(crate) struct Presence {
    members: Members<Member>,
    /// Those who have no connection any more, by when their grace ends.
    lost: BTreeSet<(Instant, UserId)>,
    rev: u64,
}

struct Member {
    connections: u32,
    /// When the grace ends; none while there is a connection.
    lost_until: Option<Instant>,
    info: Info,
}

/// A user whose grace has ended.
pub(crate) struct Departed {
    pub(crate) user: UserId,
    pub(crate) rev: u64,
    pub(crate) info: Info,
}

/// One page of the list.
pub(crate) struct Page {
    pub(crate) members: Vec<(UserId, Info)>,
    pub(crate) rev: u64,
    /// How many users are in the room.
    pub(crate) count: usize,
    /// Whether more follow.
    pub(crate) more: bool,
}

/// A list that knows what its users show.
pub(crate) trait Shown {
    /// What the user shows, if he is here.
    fn shown(&self, user: &UserId) -> Option<&Info>;
}

impl Page {
    /// Ends a page before it has too many bytes, and not before it has one user.
    pub(crate) fn fitting(
        mut members: Vec<(UserId, Info)>,
        mut more: bool,
        rev: u64,
        count: usize,
        bytes_max: usize,
    ) -> Self {
        let mut bytes = 0;
        let fits = |(user, info): &&(UserId, Info)| {
            bytes += listed_bytes(user, info.as_deref());
            bytes <= bytes_max
        };
        let fitting = members.iter().take_while(fits).count().max(1);
        if fitting < members.len() {
            members.truncate(fitting);
            more = true;
        }
        Self { members, rev, count, more }
    }
}

/// What a user takes on the wire, in a list of members.
pub(crate) fn listed_bytes(user: &UserId, info: Option<&RawValue>) -> usize {
    const FIXED: usize = r#"{"user":"","info":null},"#.len();
    // The only characters of a user's id that are written as two.
    let escaped = user.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    FIXED + user.as_str().len() + escaped + info.map_or(0, |info| info.get().len())
}

impl Presence {
    /// A connection of `user` came; the new revision if it is the user's first and he was not in his grace.
    pub(crate) fn enter(&mut self, user: &UserId) -> Option<u64> {
        if let Some(member) = self.members.get_mut(user) {
            member.connections += 1;
            if let Some(until) = member.lost_until.take() {
                self.lost.remove(&(until, user.clone()));
            }
            return None;
        }
        self.members.insert(user.clone(), Member { connections: 1, lost_until: None, info: None });
        self.rev += 1;
        Some(self.rev)
    }

    /// A connection of `user` left for good; the new revision and the last info if it was the user's last.
    pub(crate) fn leave(&mut self, user: &UserId) -> Option<(u64, Info)> {
        self.take_connection(user)?;
        self.remove(user)
    }

    /// A connection of `user` was lost; if it was the user's last, he stays until `until`.
    pub(crate) fn lose(&mut self, user: &UserId, until: Instant) {
        if let Some(member) = self.take_connection(user) {
            member.lost_until = Some(until);
            self.lost.insert((until, user.clone()));
        }
    }

    /// Takes a connection of `user` away; the member if it was his last.
    fn take_connection(&mut self, user: &UserId) -> Option<&mut Member> {
        let member = self.members.get_mut(user)?;
        member.connections -= 1;
        (member.connections == 0).then_some(member)
    }

    fn remove(&mut self, user: &UserId) -> Option<(u64, Info)> {
        let member = self.members.remove(user)?;
        self.rev += 1;
        Some((self.rev, member.info))
    }

    /// Removes those whose grace has ended, in the order in which it did: each with the new revision and the last info.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Departed> {
        let mut departed = Vec::new();
        while self.next_expiry().is_some_and(|until| until <= now)
            && let Some((_, user)) = self.lost.pop_first()
        {
            if let Some((rev, info)) = self.remove(&user) {
                departed.push(Departed { user, rev, info });
            }
        }
        departed
    }

    /// When the next grace ends.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.lost.first().map(|(until, _)| *until)
    }

    /// The user's info changed; the new revision if he is here.
    pub(crate) fn update(&mut self, user: &UserId, info: Arc<RawValue>) -> Option<u64> {
        self.members.get_mut(user)?.info = Some(info);
        self.rev += 1;
        Some(self.rev)
    }

    /// How many users are here, those in their grace included.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the user is here.
    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.members.get(user).is_some()
    }

    /// Everyone who is here.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.members.page(None, usize::MAX, |user, _| user.clone()).0
    }

    /// The room's revision.
    pub(crate) fn rev(&self) -> u64 {
        self.rev
    }

    /// The users after `after` in the order of their ids, `limit` at most, and so many bytes at most but one user.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize, bytes_max: usize) -> Page {
        let (members, more) =
            self.members.page(after, limit, |user, member| (user.clone(), member.info.clone()));
        Page::fitting(members, more, self.rev, self.members.len(), bytes_max)
    }
}

impl Shown for Presence {
    fn shown(&self, user: &UserId) -> Option<&Info> {
        self.members.get(user).map(|member| &member.info)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn who_comes_back_within_the_grace_has_never_left() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        let second = |seconds| now + Duration::from_secs(seconds);
        let info: Arc<_> = RawValue::from_string("1".into()).unwrap().into();
        presence.enter(&user("ann"));
        presence.update(&user("ann"), info);
        presence.lose(&user("ann"), second(10));
        assert_eq!((presence.len(), presence.next_expiry()), (1, Some(second(10))));
        assert_eq!(presence.enter(&user("ann")), None);
        assert_eq!(presence.next_expiry(), None);
        assert!(presence.expire(second(10)).is_empty());
        let page = presence.page(None, 1, usize::MAX);
        assert_eq!((page.rev, page.members[0].1.as_ref().map(|info| info.get())), (2, Some("1")));
        // The second loss has a grace of its own, and leaving for good ends at once.
        presence.lose(&user("ann"), second(20));
        assert_eq!(presence.enter(&user("ann")), None);
        assert_eq!(presence.leave(&user("ann")).map(|(rev, _)| rev), Some(3));
        assert_eq!((presence.len(), presence.next_expiry()), (0, None));
        assert_eq!(presence.enter(&user("ann")), Some(4));
    }

    #[test]
    fn the_grace_begins_when_the_take_connection_is_lost() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        for _ in 0..3 {
            presence.enter(&user("ann"));
        }
        presence.lose(&user("ann"), now);
        assert!(presence.leave(&user("ann")).is_none());
        assert_eq!(presence.next_expiry(), None);
        presence.lose(&user("ann"), now);
        assert_eq!(presence.next_expiry(), Some(now));
    }

    #[test]
    fn graces_end_in_their_order_each_with_the_next_revision() {
        let (mut presence, now) = (Presence::default(), Instant::now());
        for (name, seconds) in [("cid", 3), ("ann", 2), ("bob", 3), ("dan", 9)] {
            presence.enter(&user(name));
            presence.lose(&user(name), now + Duration::from_secs(seconds));
        }
        assert!(presence.expire(now + Duration::from_secs(1)).is_empty());
        let departed = presence.expire(now + Duration::from_secs(3));
        let told: Vec<_> = departed.iter().map(|departed| (departed.user.as_str(), departed.rev)).collect();
        assert_eq!(told, [("ann", 5), ("bob", 6), ("cid", 7)]);
        assert_eq!((presence.len(), presence.next_expiry()), (1, Some(now + Duration::from_secs(9))));
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
        let first = presence.page(None, 2, usize::MAX);
        let names: Vec<_> =
            first.members.iter().map(|(user, info)| (user.as_str(), info.is_some())).collect();
        assert_eq!((names, first.rev, first.more), (vec![("ann", false), ("bob", true)], 4, true));
        let second = presence.page(Some("bob"), 2, usize::MAX);
        assert_eq!((second.members.len(), second.more, second.count), (1, false, 3));
    }

    #[test]
    fn a_page_ends_before_it_has_too_many_bytes_and_has_one_user_at_least() {
        let mut presence = Presence::default();
        for name in ["ann", "bob", "c\\\""] {
            presence.enter(&user(name));
        }
        let one = listed_bytes(&user("ann"), None);
        for (bytes_max, length) in
            [(0, 1), (2 * one - 1, 1), (2 * one, 2), (3 * one + 1, 2), (3 * one + 2, 3)]
        {
            let page = presence.page(None, 10, bytes_max);
            assert_eq!((page.members.len(), page.more), (length, length < 3), "{bytes_max}");
        }
        let cid = (user("c\\\""), None);
        let written = serde_json::to_string(&crate::changes::member(&cid)).unwrap();
        assert_eq!(listed_bytes(&cid.0, None), written.len() + 1);
    }
}
