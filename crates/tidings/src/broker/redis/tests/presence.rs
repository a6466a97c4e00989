//! Who is in a room, as the scripts keep it: said again it changes nothing, and a revision never goes back.

use std::collections::BTreeMap;

use redis_servers::RedisServer;

use super::super::presence::{Caller, Sweep, Told};
use super::*;
use crate::auth::UserId;
use crate::room::{Alive, Stand};
use crate::roster::{AskList, Change, Changed, Revision};

const ONE: &str = "0000000000000001";
const TWO: &str = "0000000000000002";
const LEASE: Option<Duration> = Some(Duration::from_secs(60));
/// One that has ended when it is over.
const BLINK: Option<Duration> = Some(Duration::from_micros(BLINK_US));
const BLINK_US: u64 = 1000;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn here(name: &str) -> (UserId, Stand) {
    (user(name), Stand::Here(None))
}

fn shows(name: &str, info: &str) -> (UserId, Stand) {
    (user(name), Stand::Shows(info.into()))
}

fn gone(name: &str) -> (UserId, Stand) {
    (user(name), Stand::Gone)
}

/// What a call has changed, behind how many there were before it.
fn words(Changed { members_before, changes }: &Changed) -> Vec<String> {
    let change = |Change { kind, user, info }: &Change| {
        let info = info.as_ref().map_or("", |info| info.get());
        format!("{members_before}: {kind:?} {} {info}", user.as_str())
    };
    changes.iter().map(change).collect()
}

impl Desk {
    async fn tell(&mut self, node: &str, lease: Option<Duration>, users: &[(UserId, Stand)]) -> Told {
        let (caller, known) = (Caller { node, fresh: fresh(), observes: true }, 0);
        let Self { connection, scripts, keys, .. } = self;
        scripts.tell_users(connection, keys, caller, known, lease, users).await.unwrap()
    }

    /// Lets a node say that it is alive for a blink, and waits by the server's clock until that is over.
    async fn tell_and_end(&mut self, node: &str, users: &[(UserId, Stand)]) {
        self.tell(node, BLINK, users).await;
        let told = self.clock_us().await;
        while self.clock_us().await < told + 2 * BLINK_US {}
    }

    async fn clock_us(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = self.run(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }

    async fn look(&mut self, node: &str, known_rev: u64) -> (Revision, BTreeMap<String, (String, bool)>) {
        let mut ask = AskList { connection: 0, cursor: 0, known_rev, jump: false };
        let (mut listed, mut first) = (BTreeMap::new(), None);
        loop {
            let Self { connection, scripts, keys, .. } = self;
            let caller = Caller { node, fresh: fresh(), observes: true };
            let page = scripts.members(connection, keys, caller, ask).await.unwrap().page;
            first.get_or_insert(page.at);
            for one in page.listed {
                let info = one.info.map_or(String::new(), |info| info.get().to_owned());
                listed.insert(one.user.as_str().to_owned(), (info, one.here));
            }
            ask.cursor = page.cursor;
            if page.cursor == 0 {
                return (first.unwrap(), listed);
            }
        }
    }

    /// What this node sees, each user as `name info here`.
    async fn list(&mut self, node: &str) -> Vec<String> {
        let all = self.look(node, 0).await.1;
        all.into_iter().map(|(user, (info, here))| format!("{user} {info} {here}")).collect()
    }

    async fn rev(&mut self) -> u64 {
        self.look(ONE, 0).await.0.rev
    }

    /// Who has left by it.
    async fn sweep_all(&mut self, node: &str) -> Vec<String> {
        let (mut left, mut gone) = (Sweep::BEGIN, Vec::new());
        loop {
            let Self { connection, scripts, keys, .. } = self;
            let caller = Caller { node, fresh: fresh(), observes: true };
            let changed;
            (left, changed) = scripts.sweep(connection, keys, caller, 0, &left).await.unwrap();
            gone.extend(words(&changed));
            if left.node.is_empty() {
                return gone;
            }
        }
    }
}

#[tokio::test]
async fn a_user_is_one_at_however_many_nodes_and_saying_it_again_changes_nothing() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let begun = desk.rev().await;
    for _ in 0..2 {
        desk.tell(ONE, LEASE, &[here("ann"), shows("bob", "{\"a\":\"\\n\"}")]).await;
        desk.tell(TWO, LEASE, &[here("bob")]).await;
    }
    // An update counts each time, a coming once.
    assert_eq!(desk.rev().await, begun + 3);
    assert_eq!(desk.list(TWO).await, ["ann  false", "bob {\"a\":\"\\n\"} true"]);
    desk.tell(ONE, LEASE, &[gone("bob"), gone("bob"), gone("nobody")]).await;
    assert_eq!(desk.rev().await, begun + 3);
    desk.tell(TWO, None, &[gone("bob")]).await;
    assert_eq!((desk.rev().await, desk.list(ONE).await), (begun + 4, vec!["ann  true".to_owned()]));
    // Who comes again shows nothing yet; who is put back shows what he did.
    let back = (user("cid"), Stand::Here(Some("7".into())));
    desk.tell(ONE, LEASE, &[gone("ann"), here("ann"), back.clone()]).await;
    desk.tell(TWO, LEASE, &[shows("cid", "8"), back]).await;
    assert_eq!(desk.list(ONE).await, ["ann  true", "cid 8 true"]);
}

#[tokio::test]
async fn only_the_call_that_changes_who_is_in_the_room_is_told_so() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.rev().await;
    let mut tell =
        async |node: &str, users: &[(UserId, Stand)]| words(&desk.tell(node, LEASE, users).await.changed);
    assert_eq!(tell(ONE, &[here("ann"), shows("bob", "1")]).await, ["0: Join ann ", "0: Join bob 1"]);
    assert!(tell(TWO, &[here("ann")]).await.is_empty(), "he is in the room already");
    assert_eq!(tell(TWO, &[shows("ann", "2")]).await, ["2: Update ann 2"]);
    assert!(tell(ONE, &[gone("ann")]).await.is_empty(), "he is at the other node");
    assert_eq!(tell(TWO, &[gone("ann"), here("ann")]).await, ["2: Leave ann 2", "2: Join ann "]);
    assert_eq!(tell(ONE, &[gone("bob"), gone("bob")]).await, ["2: Leave bob 1"]);
}

#[tokio::test]
async fn whatever_was_lost_the_revision_goes_on_and_never_back() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.tell(ONE, LEASE, &[here("ann")]).await;
    let told = desk.tell(ONE, LEASE, &[here("ann")]).await;
    assert!(!told.jumped && !told.some_dead);
    let mut known = desk.rev().await;
    for (what, is_kept) in [("meta", false), ("users", false), ("nodes", false), ("behind", true)] {
        match what {
            // Two of the same count: only what a node has seen tells them apart.
            "behind" => known += 50_000_000_000,
            part => {
                let key = desk.key(part);
                let () = desk.run(&["DEL", &key]).await;
            }
        }
        let (at, listed) = desk.look(ONE, known).await;
        assert!(at.rev > known, "{what}");
        assert_eq!(listed.len(), usize::from(is_kept), "{what}");
        assert!(desk.look(ONE, at.rev).await.0 == at, "{what}: once");
        known = at.rev;
        desk.tell(ONE, LEASE, &[here("ann")]).await;
        known = known.max(desk.rev().await);
    }
    // A call that finds it lost changes nothing, so that its node reads first.
    let () = desk.run(&["FLUSHALL"]).await;
    assert!(desk.tell(ONE, LEASE, &[here("ann")]).await.jumped);
    assert_eq!(desk.list(ONE).await, Vec::<String>::new());
}

#[tokio::test]
async fn another_history_is_another_revision_and_a_replica_is_asked_nothing() {
    let (a, b) = (RedisServer::start().await, RedisServer::start().await);
    let mut desk = Desk::at(&a).await;
    desk.rev().await;
    desk.tell(ONE, LEASE, &[here("ann")]).await;
    let before = desk.look(ONE, 0).await.0;
    b.follow(&a).await;
    let mut replica = Desk::at(&b).await;
    let caller = Caller { node: ONE, fresh: fresh(), observes: true };
    let Desk { connection, scripts, keys, .. } = &mut replica;
    let told = scripts.tell_users(connection, keys, caller, 0, LEASE, &[here("bob")]).await;
    assert!(is_not_master(&told), "{told:?}");
    b.promote().await;
    let mut replica = Desk::at(&b).await;
    let (at, listed) = replica.look(ONE, before.rev).await;
    assert!(at.epoch != before.epoch && at.rev > before.rev && listed.contains_key("ann"), "{at:?}");
}

#[tokio::test]
async fn a_dead_nodes_users_leave_in_parts_and_those_who_are_elsewhere_stay() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let many: Vec<_> = (0..2000).map(|number| here(&format!("user{number:04}"))).collect();
    desk.rev().await;
    for some in many.chunks(250) {
        desk.tell_and_end(ONE, some).await;
    }
    let at_two = desk.tell(TWO, LEASE, &[here("user0007"), here("ann")]).await;
    assert!(at_two.some_dead, "a node that ended is seen by the others");
    let before = desk.rev().await;
    assert_eq!(desk.list(TWO).await.len(), 2001, "nobody is taken out by looking");
    assert_eq!(desk.sweep_all(TWO).await.len(), 1999, "and the node that has taken them out is told whom");
    assert_eq!(desk.list(TWO).await, ["ann  true", "user0007  true"]);
    assert_eq!(desk.rev().await, before + 1999);
    let nodes = desk.key("nodes");
    assert_eq!(desk.run::<Vec<String>>(&["ZRANGE", &nodes, "0", "-1"]).await, [TWO]);
    assert_eq!(desk.meta().await["users"], "2");
}

#[tokio::test]
async fn a_node_that_says_it_is_alive_is_swept_by_nobody_and_sweeps_not_itself() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.rev().await;
    desk.tell_and_end(ONE, &[here("ann")]).await;
    desk.sweep_all(ONE).await;
    assert_eq!(desk.list(ONE).await.len(), 1);
    let ours = desk.look(ONE, 0).await.0;
    let keys = Keyspace::default().room(&RoomId::parse("chat:lobby").unwrap());
    let other = Keyspace::default().room(&RoomId::parse("other").unwrap());
    for (renew, is_dead) in [(false, true), (true, false)] {
        let rooms = [
            (keys.clone(), Alive { ours, renew }),
            (other.clone(), Alive { ours: Revision { rev: 0, ..ours }, renew: false }),
        ];
        let Desk { connection, scripts, .. } = &mut desk;
        let caller = Caller { node: ONE, fresh: fresh(), observes: true };
        let told = scripts.alive(connection, caller, LEASE.unwrap(), &rooms).await.unwrap();
        assert_eq!((told[0], told[1].1), ((ours, false), false));
        let caller = Caller { node: TWO, fresh: fresh(), observes: true };
        let Desk { connection, scripts, .. } = &mut desk;
        let told = scripts.alive(connection, caller, LEASE.unwrap(), &rooms[..1]).await.unwrap();
        // The first time nobody has said so, and the second time the first room's node has.
        assert_eq!(told[0].1, is_dead && !renew);
    }
    desk.sweep_all(TWO).await;
    assert_eq!(desk.list(ONE).await, ["ann  true"]);
}
