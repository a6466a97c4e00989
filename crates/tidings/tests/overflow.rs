//! Members that read too slowly, in rooms that have an answer to that: what they get, what they are told that they did
//! not get, and that their position is right whatever happens.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::collections::BTreeMap;
use std::time::Duration;

use log_capture::TestHub;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tidings::auth::Identity;
use tidings::protocol::event_id::{Cursor, EventId};
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{Access, Hub, Limits, Overflow, RoomId, RoomRules};

/// So large that a few dozen fill a client's pipe.
const FILLING: usize = 4000;

fn board() -> RoomRules {
    RoomRules::new("board").join(Access::Anyone).key("/host")
}

fn start(rule: RoomRules) -> TestHub {
    let mut limits = Limits::default();
    // The clock stands still here, and no bucket fills.
    (limits.joins_per_second, limits.messages_burst) = (10_000, 10_000);
    TestHub::start(Hub::builder().rule(rule).limits(limits)).unwrap()
}

fn room() -> RoomId {
    RoomId::parse("board").unwrap()
}

async fn sample(hub: &TestHub, host: u32, value: u32, bytes: usize) {
    let data = json!({"host": host, "value": value, "filling": "x".repeat(bytes)});
    hub.hub().room(&room()).broadcast("sample", &data).await.unwrap();
}

/// A client that checks every position, and remembers the newest value of each host.
struct Follower {
    client: TestClient,
    position: Option<EventId>,
    newest: BTreeMap<u64, u64>,
    events: usize,
    skipped: BTreeMap<String, u64>,
    resets: usize,
}

impl Follower {
    async fn connect(hub: &TestHub, user: &str) -> Self {
        Self::with(hub.connect(user).await)
    }

    fn with(client: TestClient) -> Self {
        Self {
            client,
            position: None,
            newest: BTreeMap::new(),
            events: 0,
            skipped: BTreeMap::new(),
            resets: 0,
        }
    }

    /// Joins, at `from` if there is one; how the server says that went.
    async fn join(&mut self, from: Option<&EventId>) -> String {
        let data = from.map_or(json!({}), |from| json!({"last_event_id": from.to_string()}));
        let ack = self.client.request_in("board", "room.join", data).await;
        self.position = ack["data"]["last_event_id"].as_str().map(|id| EventId::parse(id).unwrap());
        ack["data"]["recovery"].as_str().unwrap().to_owned()
    }

    /// Takes the next message that moves the position: an event, a skip or a reset; gives it.
    async fn step(&mut self) -> Value {
        loop {
            let message = self.client.next_message().await;
            if message["room"] != "board" || message["id"].is_null() {
                continue;
            }
            let id = EventId::parse(message["id"].as_str().unwrap()).unwrap();
            let last = self.position.as_ref().map(|position| position.position);
            match message["event"].as_str().unwrap() {
                "room.reset" => {
                    self.resets += 1;
                    self.newest.clear();
                }
                "room.skip" => {
                    let from = message["data"]["from"].as_u64().unwrap();
                    assert_eq!(Some(from), last.map(|last| last.offset + 1), "{message}");
                    assert!(id.position.offset >= from, "{message}");
                    let reason = message["data"]["reason"].as_str().unwrap().to_owned();
                    *self.skipped.entry(reason).or_default() += id.position.offset + 1 - from;
                }
                _ => {
                    let offset = id.position.offset;
                    assert_eq!(Some(offset), last.map(|last| last.offset + 1), "no hole before {message}");
                    self.events += 1;
                    let number = |name: &str| message["data"][name].as_u64().unwrap();
                    self.newest.insert(number("host"), number("value"));
                }
            }
            self.position = Some(id);
            return message;
        }
    }

    /// Reads on until it has reached this offset.
    async fn until(&mut self, offset: u64) {
        while self.position.as_ref().is_none_or(|position| position.position.offset < offset) {
            self.step().await;
        }
    }

    fn offset(&self) -> u64 {
        self.position.as_ref().unwrap().position.offset
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_conflated_room_gets_the_newest_of_each_key_and_the_others_get_everything() {
    let hub = start(board().overflow(Overflow::Conflate));
    let (mut quick, mut slow) =
        (Follower::connect(&hub, "quick").await, Follower::connect(&hub, "slow").await);
    quick.join(None).await;
    slow.join(None).await;
    for value in 1..=500 {
        sample(&hub, value % 5, value, FILLING).await;
        quick.until(u64::from(value)).await;
    }
    assert_eq!((quick.events, quick.skipped.len()), (500, 0));
    slow.until(500).await;
    let newest = (496..=500).map(|value| (value % 5, value)).collect();
    assert_eq!(slow.newest, newest, "the newest of each");
    assert!(slow.events < 100, "what its pipe held and one event a key, not {}", slow.events);
    assert_eq!(slow.skipped.keys().collect::<Vec<_>>(), ["conflated"]);
    assert_eq!(slow.skipped["conflated"] + slow.events as u64, 500);
    let metrics = hub.hub().metrics();
    assert_eq!((metrics.fell_slow > 0, metrics.skipped), (true, slow.skipped["conflated"]));
    // It reads again, and so it is live again.
    for value in 501..=520 {
        sample(&hub, 1, value, FILLING).await;
        slow.until(u64::from(value)).await;
    }
    assert_eq!(slow.skipped["conflated"] + slow.events as u64, 520);
    assert_eq!(hub.hub().metrics().skipped, slow.skipped["conflated"], "nothing since");
}

#[tokio::test(start_paused = true)]
async fn where_the_oldest_are_dropped_a_slow_reader_gets_half_a_queue_of_the_newest() {
    let hub = start(board().overflow(Overflow::DropOldest));
    let mut slow = Follower::connect(&hub, "slow").await;
    slow.join(None).await;
    for value in 1..=1000 {
        sample(&hub, value, value, FILLING).await;
        tokio::task::yield_now().await;
    }
    slow.until(1000).await;
    assert_eq!(slow.skipped.keys().collect::<Vec<_>>(), ["dropped"]);
    assert_eq!(slow.skipped["dropped"] + slow.events as u64, 1000);
    let newest: Vec<_> = slow.newest.keys().rev().take(100).copied().collect();
    assert_eq!(newest, (901..=1000).rev().collect::<Vec<u64>>(), "the newest are whole");
    assert!((100..400).contains(&slow.events), "{}", slow.events);
}

#[tokio::test(start_paused = true)]
async fn who_never_reads_is_closed_whatever_the_policy() {
    let hub = start(board().overflow(Overflow::Conflate));
    let mut slow = Follower::connect(&hub, "slow").await;
    slow.join(None).await;
    for value in 1..=100 {
        sample(&hub, 1, value, FILLING).await;
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    slow.client.closed().await;
    assert_eq!(hub.hub().metrics().closed[&tidings::protocol::close::CloseCode::SLOW_CONSUMER], 1);
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_has_the_whole_picture_at_once() {
    let hub = start(board().retain().history_events(4));
    for value in 1..=40 {
        sample(&hub, value % 8, value, 0).await;
    }
    let mut late = Follower::connect(&hub, "late").await;
    assert_eq!(late.join(None).await, "fresh");
    late.until(40).await;
    assert_eq!(late.newest, (33..=40).map(|value| (value % 8, value)).collect());
    assert_eq!((late.events, late.resets), (8, 0), "the history alone would have given four");
    // From here on it is a member like any other.
    sample(&hub, 3, 41, 0).await;
    late.until(41).await;
    assert_eq!((late.newest[&3], late.events), (41, 9));
    // An empty room's picture is empty.
    let empty = start(board().retain());
    let mut early = Follower::connect(&empty, "early").await;
    early.join(None).await;
    assert_eq!(early.offset(), 0);
    sample(&empty, 1, 1, 0).await;
    early.until(1).await;
}

#[tokio::test(start_paused = true)]
async fn an_automatic_join_has_the_picture_too_and_waits_for_a_resume_with_it() {
    let hub = start(board().join(Access::Members).retain());
    for value in 1..=9 {
        sample(&hub, value % 3, value, 0).await;
    }
    for resume_wait in [false, true] {
        let who: Identity = identity("ann").with_rooms(vec![room()]);
        let options = ConnectOptions { resume_wait, ..ConnectOptions::default() };
        let mut ann = Follower::with(hub.connect_as(who, options).await.unwrap());
        let cursor = Cursor::parse(ann.client.welcome()["last_event_id"].as_str().unwrap()).unwrap();
        ann.position = Some(cursor.get("board").unwrap().of(&room()));
        if resume_wait {
            // Any other first message ends the wait.
            ann.client.request("room.list", json!({})).await;
        }
        ann.until(9).await;
        assert_eq!(ann.newest, BTreeMap::from([(0, 9), (1, 7), (2, 8)]), "resume_wait: {resume_wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_too_late_is_reset_to_the_picture_and_who_comes_in_time_is_not() {
    let hub = start(board().retain().history_events(10));
    let mut ann = Follower::connect(&hub, "ann").await;
    ann.join(None).await;
    sample(&hub, 1, 1, 0).await;
    ann.until(1).await;
    for value in 2..=8 {
        sample(&hub, value % 4, value, 0).await;
    }
    let mut in_time = Follower::connect(&hub, "ann").await;
    assert_eq!(in_time.join(ann.position.as_ref()).await, "complete");
    in_time.until(8).await;
    assert_eq!((in_time.events, in_time.resets, in_time.skipped.len()), (7, 0, 0), "all that it missed");
    for value in 9..=30 {
        sample(&hub, value % 4, value, 0).await;
    }
    let mut too_late = Follower::connect(&hub, "ann").await;
    assert_eq!(too_late.join(ann.position.as_ref()).await, "gap");
    let reset = too_late.step().await;
    assert_eq!((&reset["event"], &reset["data"]["reason"]), (&json!("room.reset"), &json!("expired")));
    too_late.until(30).await;
    assert_eq!((too_late.resets, too_late.events), (1, 4));
    assert_eq!(too_late.newest, (27..=30).map(|value| (value % 4, value)).collect());
}

#[tokio::test(start_paused = true)]
async fn more_than_the_replay_limit_is_a_reset_with_the_newest_so_many() {
    let hub = start(board().replay_events(5));
    let mut ann = Follower::connect(&hub, "ann").await;
    ann.join(None).await;
    sample(&hub, 1, 1, 0).await;
    ann.until(1).await;
    for value in 2..=20 {
        sample(&hub, value, value, 0).await;
    }
    let mut back = Follower::connect(&hub, "ann").await;
    assert_eq!(back.join(ann.position.as_ref()).await, "gap");
    let reset = back.step().await;
    assert_eq!(reset["data"]["lost"], json!({"from": 2, "to": 15}));
    back.until(20).await;
    assert_eq!((back.events, back.resets), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn viewers_only_listen() {
    let hub = start(board());
    let mut viewer = hub.connect("viewer").await;
    viewer.join("board").await;
    let refused = viewer.request_in("board", "sample", json!({"host": 1, "value": 1})).await;
    assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("error"), &json!("forbidden")));
}

#[tokio::test(start_paused = true)]
async fn an_excluded_senders_position_moves_and_a_resume_does_not_give_the_event_back() {
    let rule = board().overflow(Overflow::Conflate).retain();
    let hub =
        TestHub::start(Hub::builder().rule(rule).on("tell", |ctx: tidings::Context, host: u32| async move {
            let data = json!({"host": host, "value": 1});
            Ok(ctx.broadcast_to_others(&room(), "sample", &data).await?)
        }))
        .unwrap();
    let (mut ann, mut bob) = (Follower::connect(&hub, "ann").await, Follower::connect(&hub, "bob").await);
    ann.join(None).await;
    bob.join(None).await;
    let before = ann.position.clone();
    ann.client.request("tell", json!(7)).await;
    let skip = ann.step().await;
    assert_eq!((&skip["event"], &skip["data"]["reason"]), (&json!("room.skip"), &json!("excluded")));
    bob.until(1).await;
    assert_eq!(bob.newest, BTreeMap::from([(7, 1)]));
    // The same client, back at its position from before, as a replay and as a picture.
    for from in [before.as_ref(), None] {
        let session = Some(ann.client.session().to_string());
        let options = ConnectOptions { session, ..ConnectOptions::default() };
        ann = Follower::with(hub.connect_as(identity("ann"), options).await.unwrap());
        ann.join(from).await;
        ann.until(1).await;
        assert_eq!((ann.events, ann.skipped.get("excluded")), (0, Some(&1)), "from {from:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Publish {
        host: u32,
        bytes: usize,
    },
    /// Published so that the follower is left out.
    Exclude {
        host: u32,
    },
    Read(usize),
    /// Joins again at the position that it has.
    Rejoin,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..6u32, prop_oneof![Just(0), Just(FILLING), Just(20_000usize)])
            .prop_map(|(host, bytes)| Op::Publish { host, bytes }),
        1 => (0..6u32).prop_map(|host| Op::Exclude { host }),
        3 => (1..12usize).prop_map(Op::Read),
        1 => Just(Op::Rejoin),
    ]
}

/// Runs `ops` and then reads to the end. [`Follower::step`] checks every position on the way.
async fn follow(rule: RoomRules, ops: &[Op]) -> (Follower, BTreeMap<u64, u64>) {
    let hub = start(rule);
    let mut follower = Follower::connect(&hub, "ann").await;
    follower.join(None).await;
    let (session, mut model) = (follower.client.session(), BTreeMap::new());
    let mut published = 0;
    for op in ops {
        match op {
            Op::Publish { host, bytes } => {
                published += 1;
                sample(&hub, *host, published, *bytes).await;
                model.insert(u64::from(*host), u64::from(published));
            }
            Op::Exclude { host } => {
                published += 1;
                let data = json!({"host": host + 100, "value": published});
                let handle = hub.hub().room(&room());
                handle.broadcast_excluding("ann", session, "sample", &data).await.unwrap();
            }
            Op::Read(count) => {
                for _ in 0..*count {
                    // Nothing more may be there, which the moved clock tells at once.
                    if tokio::time::timeout(Duration::from_millis(1), follower.step()).await.is_err() {
                        break;
                    }
                }
            }
            Op::Rejoin => {
                let from = follower.position.clone();
                // What is on its way belongs to the membership before; the ack is behind it.
                let asked = json!({"last_event_id": from.as_ref().unwrap().to_string()});
                let message = json!({"event": "room.join", "room": "board", "data": asked, "id": published.to_string()});
                follower.client.send(message).await;
                loop {
                    let message = follower.client.next_message().await;
                    if message["event"] == "ack" {
                        break;
                    }
                }
            }
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    follower.until(u64::from(published)).await;
    (follower, model)
}

#[test]
fn whatever_the_policy_every_offset_is_an_event_or_in_a_skip() {
    let mut runner = TestRunner::new(Config::with_cases(48));
    let policies = prop_oneof![Just(Overflow::DropOldest), Just(Overflow::Conflate)];
    let strategy = (policies, any::<bool>(), prop::collection::vec(op(), 1..160));
    let checked = runner.run(&strategy, |(overflow, retains, ops)| {
        let rule = board().overflow(overflow);
        let rule = if retains { rule.retain() } else { rule };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (follower, model) = runtime.unwrap().block_on(follow(rule, &ops));
        prop_assert_eq!(follower.resets, 0, "nothing is lost that is not told as a skip");
        prop_assert!(follower.newest.keys().all(|host| *host < 100), "an excluded event came");
        if overflow == Overflow::Conflate {
            prop_assert_eq!(follower.newest, model, "the newest of each key");
        }
        Ok(())
    });
    checked.unwrap();
}
