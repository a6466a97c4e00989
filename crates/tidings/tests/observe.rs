//! What an application observes of its hub: connections that end, rooms that fill and empty, users who come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_servers;

use std::sync::Arc;
use std::time::Duration;

use log_capture::TestHub;
use parking_lot::Mutex;
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::json;
use tidings::protocol::limits::Limits;
use tidings::{Access, Hub, HubBuilder, Observe, Observed, Redis, RoomRules};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(40);
/// Where Redis has the users of the room `a`.
const USERS: &str = "tidings:1:{a}:users";

/// What was observed, in words.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Observe for Seen {
    fn observe(&self, what: Observed<'_>) {
        let words = match what {
            Observed::Disconnected { user, code, reason, .. } => format!("{user} ends {code}: {reason}"),
            Observed::Occupied { room } => format!("{room} occupied"),
            Observed::Vacated { room } => format!("{room} vacated"),
            Observed::Presence { room, user, change, info } => {
                format!("{room} {user} {change:?} {}", info.map_or("", |info| info.get()))
            }
            other => format!("{other:?}"),
        };
        self.0.lock().push(words);
    }
}

impl Seen {
    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    fn has(&self, words: &str) -> bool {
        self.0.lock().iter().any(|seen| seen == words)
    }
}

fn builder(seen: &Seen, grace: Duration) -> HubBuilder {
    let mut limits = Limits::default();
    limits.presence_grace = grace;
    Hub::builder().rule(RoomRules::new("*").join(Access::Anyone)).limits(limits).observe(seen.clone())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        #[expect(clippy::disallowed_methods, reason = "a thing is looked at again")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_fills_and_empties_and_a_grace_is_no_departure() {
    let seen = Seen::default();
    let hub = TestHub::start(builder(&seen, Duration::from_secs(10))).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let mut tab = hub.connect("ann").await;
    tab.join("a").await;
    assert_eq!(seen.all(), ["a occupied", "a ann Join "], "two tabs are one user");
    ann.request_in("a", "presence.update", json!({"info": 7})).await;
    ann.request_in("a", "room.leave", json!({})).await;
    assert_eq!(seen.all().last().unwrap(), "a ann Update 7");
    drop(tab);
    until("the connection is over", || seen.all().len() > 3).await;
    assert!(seen.all()[3].starts_with("ann ends 1006"), "{:?}", seen.all());
    tokio::time::advance(Duration::from_secs(9)).await;
    ann.join("a").await;
    assert_eq!(seen.all().len(), 4, "he is back within his grace");
    ann.request_in("a", "room.leave", json!({})).await;
    assert_eq!(seen.all()[4..], ["a ann Leave 7", "a vacated"]);
    ann.join("b").await;
    drop(ann);
    until("the other connection is over", || seen.all().len() > 8).await;
    until("the grace is over", || seen.has("b vacated")).await;
}

#[tokio::test]
async fn a_node_that_ends_tells_of_those_who_were_in_their_grace() {
    let seen = Seen::default();
    let hub = TestHub::start(builder(&seen, Duration::from_secs(3600))).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    drop(ann);
    hub.hub().drain(Duration::from_millis(10)).await;
    assert_eq!(seen.all()[3..], ["a ann Leave ", "a vacated"]);
}

#[tokio::test]
async fn of_several_nodes_the_one_that_has_changed_it_observes_it() {
    let server = RedisServer::start().await;
    let start = async |seed: u64| {
        let seen = Seen::default();
        let redis = Redis::new(&server.url()).unwrap();
        let hub =
            TestHub::start_seeded(builder(&seen, Duration::from_millis(50)).broker(redis), seed).unwrap();
        until("the node is ready", || hub.hub().is_ready()).await;
        (hub, seen)
    };
    let ((one, seen_one), (two, seen_two)) = (start(1).await, start(2).await);
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    ann.join("a").await;
    until("ann has come", || seen_one.has("a ann Join ")).await;
    bob.join("a").await;
    until("bob has come", || seen_two.has("a bob Join ")).await;
    // A tab of hers at the other node, and her first one gone: she has not moved.
    let mut tab = two.connect("ann").await;
    tab.join("a").await;
    // In Redis, behind which node somebody is at stands what he shows.
    let at_both = async {
        while server.run::<Option<String>>(&["HGET", USERS, "ann"]).await.is_none_or(|at| at.len() < 32) {}
    };
    tokio::time::timeout(PATIENCE, at_both).await.expect("Redis has her at both nodes");
    ann.request_in("a", "room.leave", json!({})).await;
    tab.request_in("a", "presence.update", json!({"info": 1})).await;
    until("she shows something", || seen_two.has("a ann Update 1")).await;
    tab.request_in("a", "room.leave", json!({})).await;
    until("ann has gone", || seen_one.has("a ann Leave 1") || seen_two.has("a ann Leave 1")).await;
    bob.request_in("a", "room.leave", json!({})).await;
    until("the room is empty", || seen_two.has("a vacated")).await;
    let all = [seen_one.all(), seen_two.all()].concat();
    let mut once = all.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), all.len(), "each by one node: {all:?}");
    assert_eq!(
        once,
        [
            "a ann Join ",
            "a ann Leave 1",
            "a ann Update 1",
            "a bob Join ",
            "a bob Leave ",
            "a occupied",
            "a vacated"
        ]
    );
}

#[tokio::test]
async fn what_a_call_without_an_answer_has_changed_is_observed_all_the_same() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let seen = Seen::default();
    let redis = Redis::new(&url_of(forwarder.address())).unwrap();
    let hub = TestHub::start_seeded(builder(&seen, Duration::from_millis(50)).broker(redis), 3).unwrap();
    until("the node is ready", || hub.hub().is_ready()).await;
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    until("ann has come", || seen.has("a ann Join ")).await;
    // Whether the call has reached Redis or not is left to chance: in both cases she is told of.
    for round in 0..5 {
        ann.request_in("a", "room.leave", json!({})).await;
        forwarder.cut();
        until("ann has gone", || seen.all().iter().filter(|seen| **seen == "a vacated").count() > round)
            .await;
        ann.join("a").await;
        let comings = || seen.all().iter().filter(|seen| **seen == "a occupied").count();
        until("ann is back", || comings() > round + 1).await;
    }
}

#[tokio::test]
async fn of_a_node_that_has_died_one_of_the_others_observes_who_was_at_it() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let start = async |url: &str, seed: u64| {
        let seen = Seen::default();
        let redis = Redis::new(url).unwrap().presence_lease(Duration::from_secs(3));
        let hub = TestHub::start_seeded(builder(&seen, Duration::from_secs(10)).broker(redis), seed).unwrap();
        until("the node is ready", || hub.hub().is_ready()).await;
        (hub, seen)
    };
    let (doomed, at_doomed) = start(&url_of(forwarder.address()), 11).await;
    let ((one, seen_one), (two, seen_two)) = (start(&server.url(), 12).await, start(&server.url(), 13).await);
    let (mut ann, mut bob, mut cid) =
        (one.connect("ann").await, two.connect("bob").await, doomed.connect("cid").await);
    cid.join("a").await;
    until("cid has come", || at_doomed.has("a cid Join ")).await;
    for (client, seen, words) in [(&mut ann, &seen_one, "a ann Join "), (&mut bob, &seen_two, "a bob Join ")]
    {
        client.join("a").await;
        until(words, || seen.has(words)).await;
    }
    forwarder.point_nowhere();
    forwarder.cut();
    std::mem::forget((doomed, cid));
    let left = || [&seen_one, &seen_two].map(|seen| usize::from(seen.has("a cid Leave ")));
    until("cid has gone", || left() != [0, 0]).await;
    for client in [&mut ann, &mut bob] {
        client.request_in("a", "room.leave", json!({})).await;
    }
    until("the room is empty", || seen_one.has("a vacated") || seen_two.has("a vacated")).await;
    assert_eq!(left().iter().sum::<usize>(), 1, "{:?} {:?}", seen_one.all(), seen_two.all());
}
