//! What has changed in a room's presence and is not told yet: each user once, told as he stands when it is told.
//!
//! It is told in the order of the last changes, so that a part of it ends at a revision: whoever has that revision
//! needs nothing but what comes after it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::value::RawValue;
use tidings_protocol::message::{Member, PresenceChanges};

use crate::auth::UserId;
use crate::presence::{Info, Shown, listed_bytes};

/// The changes of one room that are collected. There is none of these while nothing waits.
pub(crate) struct Changes {
    /// When they are told.
    pub(crate) due: Instant,
    /// How many users were in the room before them.
    pub(crate) members_before: usize,
    /// The first revision that is not told.
    from: u64,
    by_user: HashMap<UserId, Change>,
    by_rev: BTreeMap<u64, UserId>,
    /// Up to here revisions without a user have been seen: they changed nothing that anybody here sees.
    covered: u64,
}

struct Change {
    /// The revision of the user's last change.
    rev: u64,
    /// Whether he was in the room as it was told last.
    was_here: bool,
}

/// What is told together.
pub(crate) struct Telling {
    joins: Vec<(UserId, Info)>,
    updates: Vec<(UserId, Info)>,
    leaves: Vec<UserId>,
    from: u64,
    rev: u64,
}

impl Changes {
    /// Begins to collect with the revision `from`; everything before it was told.
    pub(crate) fn begin(from: u64, due: Instant, members_before: usize) -> Self {
        Self { due, members_before, from, by_user: HashMap::new(), by_rev: BTreeMap::new(), covered: 0 }
    }

    /// The revision `rev` is a change of `user`, who was or was not in the room before it.
    pub(crate) fn note(&mut self, user: &UserId, rev: u64, was_here: bool) {
        match self.by_user.get_mut(user) {
            Some(change) => {
                self.by_rev.remove(&change.rev);
                change.rev = rev;
            }
            None => drop(self.by_user.insert(user.clone(), Change { rev, was_here })),
        }
        self.by_rev.insert(rev, user.clone());
    }

    /// The revisions up to `rev` are known, and tell of nobody but whom is noted.
    pub(crate) fn cover(&mut self, rev: u64) {
        self.covered = self.covered.max(rev);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_rev.is_empty()
    }

    /// Takes the oldest, so many bytes at most but one user at least, with what the users show now.
    ///
    /// Who came and went is told as gone: a list that was asked for in between has him.
    pub(crate) fn take(&mut self, list: &impl Shown, bytes_max: usize) -> Telling {
        let mut telling = Telling {
            joins: Vec::new(),
            updates: Vec::new(),
            leaves: Vec::new(),
            from: self.from,
            rev: self.from,
        };
        let (mut bytes, mut taken) = (0, 0);
        while let Some(next) = self.by_rev.first_entry() {
            let shown = list.shown(next.get());
            bytes += listed_bytes(next.get(), shown.and_then(Option::as_deref));
            if taken > 0 && bytes > bytes_max {
                break;
            }
            taken += 1;
            let (rev, user) = next.remove_entry();
            let was_here = self.by_user.remove(&user).is_some_and(|change| change.was_here);
            match shown {
                None => telling.leaves.push(user),
                Some(info) if was_here => telling.updates.push((user, info.clone())),
                Some(info) => telling.joins.push((user, info.clone())),
            }
            telling.rev = rev;
        }
        if self.by_rev.is_empty() {
            telling.rev = telling.rev.max(self.covered);
        }
        self.from = telling.rev + 1;
        telling
    }
}

impl Telling {
    /// As it stands on the wire.
    pub(crate) fn message(&self) -> PresenceChanges<'_> {
        PresenceChanges {
            joins: self.joins.iter().map(member).collect(),
            updates: self.updates.iter().map(member).collect(),
            leaves: self.leaves.iter().map(|user| user.as_str().into()).collect(),
            from: self.from,
            rev: self.rev,
        }
    }
}

/// A user with what he shows, as it stands on the wire.
pub(crate) fn member((user, info): &(UserId, Info)) -> Member<'_> {
    Member {
        user: Cow::Borrowed(user.as_str()),
        info: Cow::Borrowed(info.as_deref().unwrap_or(RawValue::NULL)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use proptest::prelude::*;
    use tidings_protocol::codec::decode_server_text;
    use tidings_protocol::event_id::{Epoch, RoomId};
    use tidings_protocol::limits::{Limits, PRESENCE_CROWD_FROM};
    use tidings_protocol::message::{PresenceChange, ServerMessage};

    use super::*;
    use crate::inbox::{Entry, Inbox, LocalRoom};
    use crate::presence::Presence;
    use crate::room::Room;
    use crate::rules::{RoomRules, RuleBook};

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn info(text: &str) -> Arc<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap().into()
    }

    /// A room in which somebody is, with changes that begin after him.
    fn begun() -> (Presence, Changes) {
        let mut presence = Presence::default();
        presence.enter(&user("ann"));
        (presence, Changes::begin(2, Instant::now(), 1))
    }

    fn json(telling: &Telling) -> String {
        serde_json::to_string(&telling.message()).unwrap()
    }

    #[test]
    fn a_user_is_told_once_as_he_stands() {
        let (mut presence, mut changes) = begun();
        for (name, text) in [("bob", "1"), ("bob", "2"), ("ann", "3")] {
            if let Some(rev) = presence.enter(&user(name)) {
                changes.note(&user(name), rev, false);
            }
            let rev = presence.update(&user(name), info(text)).unwrap();
            changes.note(&user(name), rev, true);
        }
        assert_eq!(
            json(&changes.take(&presence, usize::MAX)),
            r#"{"joins":[{"user":"bob","info":2}],"updates":[{"user":"ann","info":3}],"from":2,"rev":5}"#
        );
        assert!(changes.is_empty());
    }

    #[test]
    fn who_went_and_came_is_an_update_and_who_came_and_went_is_gone() {
        let (mut presence, mut changes) = begun();
        let rev = presence.update(&user("ann"), info("7")).unwrap();
        changes.note(&user("ann"), rev, true);
        for (name, comes) in [("ann", false), ("ann", true), ("bob", true), ("bob", false)] {
            let rev = if comes {
                presence.enter(&user(name)).unwrap()
            } else {
                presence.leave(&user(name)).unwrap().0
            };
            changes.note(&user(name), rev, !comes);
        }
        assert_eq!(
            json(&changes.take(&presence, usize::MAX)),
            r#"{"updates":[{"user":"ann","info":null}],"leaves":["bob"],"from":2,"rev":6}"#
        );
    }

    #[test]
    fn what_is_too_much_is_told_in_parts_without_a_hole_the_oldest_first() {
        let (mut presence, mut changes) = begun();
        for name in ["cid", "bob", "dan", "eve"] {
            let rev = presence.enter(&user(name)).unwrap();
            changes.note(&user(name), rev, false);
        }
        let two = 2 * listed_bytes(&user("bob"), None);
        let rev = presence.update(&user("cid"), info("1")).unwrap();
        changes.note(&user("cid"), rev, true);
        let first = json(&changes.take(&presence, two));
        assert_eq!(
            first,
            r#"{"joins":[{"user":"bob","info":null},{"user":"dan","info":null}],"from":2,"rev":4}"#
        );
        // What has changed again in between is told as it is by then.
        let (rev, _) = presence.leave(&user("cid")).unwrap();
        changes.note(&user("cid"), rev, true);
        assert_eq!(
            json(&changes.take(&presence, 0)),
            r#"{"joins":[{"user":"eve","info":null}],"from":5,"rev":5}"#
        );
        assert_eq!(json(&changes.take(&presence, 0)), r#"{"leaves":["cid"],"from":6,"rev":7}"#);
        assert!(changes.is_empty());
    }

    #[test]
    fn a_crowd_is_told_less_often() {
        let limits = Limits::default();
        let interval = limits.presence_batch_interval;
        assert_eq!(limits.presence_interval(PRESENCE_CROWD_FROM - 1), interval);
        assert_eq!(limits.presence_interval(PRESENCE_CROWD_FROM), 4 * interval);
    }

    /// What can happen to a room, and to a client that looks at it.
    #[derive(Clone, Debug)]
    enum Step {
        Enter(u8),
        Leave(u8),
        Lose(u8),
        Update(u8, u8),
        /// So many milliseconds pass.
        Wait(u16),
        /// The client reads the next page of the list that it asks for, if it does.
        Page,
        /// It begins to ask anew.
        Ask,
        /// What is under way to it is lost.
        Drop,
    }

    fn step() -> impl Strategy<Value = Step> {
        let user = 0..8_u8;
        prop_oneof![
            5 => user.clone().prop_map(Step::Enter),
            5 => user.clone().prop_map(Step::Leave),
            1 => user.clone().prop_map(Step::Lose),
            2 => (user, any::<u8>()).prop_map(|(user, info)| Step::Update(user, info)),
            1 => (0..700_u16).prop_map(Step::Wait),
            4 => Just(Step::Page),
            2 => Just(Step::Ask),
            1 => Just(Step::Drop),
        ]
    }

    const LOCAL: LocalRoom = LocalRoom { slot: 0, generation: 0 };

    /// A room, and a client that follows its presence by the rules of PROTOCOL.md §7.
    struct World {
        room: Room,
        limits: Limits,
        inbox: Arc<Inbox>,
        now: Instant,
        connections: [u32; 9],
        members: BTreeMap<String, String>,
        /// None while the list is being asked for.
        rev: Option<u64>,
        /// The list that is being asked for: what has come of it, the revision of its first page, where it goes on.
        asked: BTreeMap<String, String>,
        first: Option<u64>,
        after: Option<String>,
        waiting: Vec<String>,
    }

    impl World {
        fn new() -> Self {
            let mut limits = Limits::default();
            limits.presence_batch_from = 3;
            limits.presence_grace = Duration::from_secs(1);
            // Parts of 150 bytes: three users or so.
            limits.outbound_bytes_max = 300;
            let rules = RuleBook::new(vec![RoomRules::new("a")], &Limits::default()).unwrap();
            let id = RoomId::parse("a").unwrap();
            let now = Instant::now();
            let room =
                Room::new(id, Arc::clone(rules.of("a").unwrap()), Epoch::parse("k3f9a1qz").unwrap(), now);
            let inbox = Arc::new(Inbox::new(0, &Limits::default(), Arc::default()));
            room.listen(Arc::clone(&inbox), LOCAL);
            Self {
                room,
                limits,
                inbox,
                now,
                connections: [0; 9],
                members: BTreeMap::new(),
                rev: None,
                asked: BTreeMap::new(),
                first: None,
                after: None,
                waiting: Vec::new(),
            }
        }

        fn take(&mut self, step: &Step) {
            let (room, limits, now) = (&self.room, &self.limits, self.now);
            let named = |number: u8| user(&format!("u{number}"));
            match *step {
                Step::Enter(number) => {
                    room.enter(&named(number), limits, now);
                    self.connections[usize::from(number)] += 1;
                }
                Step::Leave(number) | Step::Lose(number) if self.connections[usize::from(number)] > 0 => {
                    self.connections[usize::from(number)] -= 1;
                    if matches!(step, Step::Leave(_)) {
                        let _ = room.leave(&named(number), limits, now);
                    } else {
                        let _ = room.lose(&named(number), limits, now);
                    }
                }
                Step::Leave(_) | Step::Lose(_) => {}
                Step::Update(number, shown) => {
                    let _ = room.update_presence(&named(number), &info(&shown.to_string()), limits, now);
                }
                Step::Wait(milliseconds) => {
                    self.now += Duration::from_millis(milliseconds.into());
                    self.room.expire_members(&self.limits, self.now);
                    self.room.tell_due(&self.limits, self.now);
                }
                Step::Page => self.page(),
                Step::Ask => self.ask(),
                Step::Drop => drop(self.frames()),
            }
            for frame in self.frames() {
                self.receive(frame);
            }
        }

        /// What the room has handed over.
        fn frames(&self) -> Vec<String> {
            let mut entries = Vec::new();
            self.inbox.take(&mut entries, usize::MAX, usize::MAX, Waker::noop());
            let text = |entry| match entry {
                Entry::Unstored { frame, .. } => {
                    let header = if frame[1] < 126 { 2 } else { 4 };
                    assert!(frame.len() <= 150 + 130, "a part is bounded: {}", frame.len());
                    String::from_utf8(frame[header..].to_vec()).unwrap()
                }
                _ => panic!("only presence was expected"),
            };
            entries.into_iter().map(text).collect()
        }

        fn ask(&mut self) {
            (self.rev, self.first, self.after) = (None, None, None);
            self.asked.clear();
        }

        fn page(&mut self) {
            if self.rev.is_some() {
                return;
            }
            let page = self.room.members_page(self.after.as_deref(), 3, usize::MAX, None);
            self.first.get_or_insert(page.rev);
            for listed in &page.members {
                let Member { user, info } = member(listed);
                self.asked.insert(user.into_owned(), info.get().to_owned());
            }
            self.after = page.members.last().map(|(user, _)| user.as_str().to_owned());
            if !page.more {
                self.members = std::mem::take(&mut self.asked);
                self.rev = self.first;
                for frame in std::mem::take(&mut self.waiting) {
                    self.receive(frame);
                }
            }
        }

        fn receive(&mut self, frame: String) {
            let Some(known) = self.rev else { return self.waiting.push(frame) };
            let (joins, updates, leaves, from, rev) = match decode_server_text(&frame).unwrap() {
                ServerMessage::Presence { change: PresenceChange::Leave, member, rev, .. } => {
                    (vec![], vec![], vec![member.user], rev, rev)
                }
                ServerMessage::Presence { member, rev, .. } => (vec![member], vec![], vec![], rev, rev),
                ServerMessage::PresenceChanges { changes, .. } => {
                    (changes.joins, changes.updates, changes.leaves, changes.from, changes.rev)
                }
                other => panic!("only presence was expected: {other:?}"),
            };
            if from > known + 1 {
                self.waiting.push(frame.clone());
                return self.ask();
            }
            if rev <= known {
                return;
            }
            self.rev = Some(rev);
            for user in leaves {
                self.members.remove(&*user);
            }
            for Member { user, info } in joins.into_iter().chain(updates) {
                self.members.insert(user.into_owned(), info.get().to_owned());
            }
        }

        fn list(&self) -> BTreeMap<String, String> {
            let page = self.room.members_page(None, usize::MAX, usize::MAX, None);
            let shown = |listed| {
                let Member { user, info } = member(listed);
                (user.into_owned(), info.get().to_owned())
            };
            page.members.iter().map(shown).collect()
        }
    }

    proptest! {
        #[test]
        fn whoever_follows_the_rules_ends_with_the_rooms_own_list(
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut world = World::new();
            world.take(&Step::Enter(0));
            for step in &steps {
                world.take(step);
                if world.rev.is_none() {
                    continue;
                }
                // Once nothing waits to be told and nothing was lost, the client has the list.
                let page = world.room.members_page(None, 0, 0, None);
                if world.rev == Some(page.rev) {
                    prop_assert_eq!(&world.members, &world.list());
                }
            }
            // A change that arrives shows the client what it has missed, and time tells what waits.
            world.take(&Step::Enter(8));
            for _ in 0..200 {
                world.take(&Step::Wait(700));
                world.take(&Step::Page);
            }
            prop_assert_eq!(world.rev, Some(world.room.members_page(None, 0, 0, None).rev));
            prop_assert_eq!(&world.members, &world.list());
        }
    }
}
