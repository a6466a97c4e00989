//! A client that keeps the list of a room's members by the rules of PROTOCOL.md §7, and nodes for it to be at.
#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

pub mod promises;
pub mod storm;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings::testing::{ConnectOptions, TestClient, TestHub, identity};
use tidings::{Access, Hub, Limits, Presence, Redis, RoomRules};

/// Everything heals within this time.
pub const HEALED_MAX: Duration = Duration::from_secs(15);

/// How a node of a test is made.
#[derive(Clone)]
pub struct Node {
    pub url: String,
    pub presence: Presence,
    pub grace: Duration,
    pub lease: Duration,
}

impl Node {
    pub fn of(url: &str) -> Self {
        let (grace, lease) = (Duration::from_secs(10), Duration::from_secs(60));
        Self { url: url.to_owned(), presence: Presence::On, grace, lease }
    }

    pub fn grace(mut self, milliseconds: u64) -> Self {
        self.grace = Duration::from_millis(milliseconds);
        self
    }

    pub async fn start(&self) -> TestHub {
        // Not those of other test files, which may share nothing but a habit.
        static NODES: AtomicU64 = AtomicU64::new(1000);
        let seed = NODES.fetch_add(1, Ordering::Relaxed);
        let mut limits = Limits::default();
        limits.presence_grace = self.grace;
        let rule = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
        let redis = Redis::new(&self.url).unwrap().presence_lease(self.lease);
        let builder = Hub::builder().rule(rule.presence(self.presence)).limits(limits).broker(redis);
        let hub = TestHub::start_seeded(builder, seed).unwrap();
        let began = Instant::now();
        while !hub.hub().is_ready() {
            assert!(began.elapsed() < HEALED_MAX, "the node is not ready");
            tokio::task::yield_now().await;
        }
        hub
    }
}

/// Users with what they show.
pub type List = BTreeMap<String, Value>;

/// Somebody who looks at who is in room `r`.
pub struct Viewer {
    pub client: TestClient,
    pub members: List,
    pub rev: u64,
    /// Every message of presence that came, and how often the list was asked for.
    pub told: Vec<Value>,
    pub asked: usize,
}

impl Viewer {
    pub async fn join(hub: &TestHub, user: &str) -> Self {
        Self::look(joined(hub, user).await).await
    }

    pub async fn look(client: TestClient) -> Self {
        let mut viewer = Self { client, members: List::new(), rev: 0, told: Vec::new(), asked: 0 };
        viewer.ask().await;
        viewer
    }

    /// Asks for the list, page by page. What was told meanwhile is kept by the client and comes after it.
    pub async fn ask(&mut self) {
        self.asked += 1;
        let (rev, members) = list(&mut self.client, 1000).await;
        assert!(rev >= self.rev, "a revision never goes back");
        (self.rev, self.members) = (rev, members);
    }

    /// The next message of presence, applied; asks again where something is missing.
    pub async fn follow(&mut self) {
        let message = self.client.next_where(is_presence).await;
        self.told.push(message.clone());
        let data = &message["data"];
        let rev = data["rev"].as_u64().unwrap();
        if data["from"].as_u64().unwrap_or(rev) > self.rev + 1 {
            self.ask().await;
        }
        if rev <= self.rev {
            return;
        }
        self.rev = rev;
        match message["event"].as_str().unwrap() {
            "presence.changes" => {
                self.put(&data["joins"]);
                self.put(&data["updates"]);
                for user in data["leaves"].as_array().into_iter().flatten() {
                    self.members.remove(user.as_str().unwrap());
                }
            }
            "presence.leave" => drop(self.members.remove(data["user"].as_str().unwrap())),
            "presence.count" => {}
            _ => self.put(&json!([data])),
        }
    }

    fn put(&mut self, members: &Value) {
        for member in members.as_array().into_iter().flatten() {
            self.members.insert(member["user"].as_str().unwrap().to_owned(), member["info"].clone());
        }
    }

    /// Follows for as long as something is under way.
    pub async fn follow_all(&mut self) {
        while tokio::time::timeout(Duration::from_millis(10), self.follow()).await.is_ok() {}
    }

    /// Whoever has left, as he was told.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for message in &self.told {
            let data = &message["data"];
            left.extend(data["leaves"].as_array().into_iter().flatten().cloned());
            if message["event"] == "presence.leave" {
                left.push(data["user"].clone());
            }
        }
        left.iter().map(|user| user.as_str().unwrap().to_owned()).collect()
    }
}

/// Follows until all have the list that is expected.
pub async fn all_have(viewers: &mut [Viewer], expected: &List) -> Duration {
    let began = Instant::now();
    loop {
        for viewer in &mut *viewers {
            viewer.follow_all().await;
        }
        if viewers.iter().all(|viewer| viewer.members == *expected) {
            return began.elapsed();
        }
        if began.elapsed() > HEALED_MAX {
            for viewer in &*viewers {
                let last = &viewer.told[viewer.told.len().saturating_sub(4)..];
                eprintln!("{} has {:?}, told {last:?}", viewer.rev, viewer.members);
            }
            panic!("not everybody has {expected:?}");
        }
    }
}

pub fn expected(users: &[&str]) -> List {
    users.iter().map(|user| ((*user).to_owned(), Value::Null)).collect()
}

/// A client in the room. While the broker is away nobody is let in, and clients try again.
pub async fn joined(hub: &TestHub, user: &str) -> TestClient {
    let began = Instant::now();
    let mut client = loop {
        match hub.connect_as(identity(user), ConnectOptions::default()).await {
            Ok(client) => break client,
            Err(refusal) => assert!(began.elapsed() < HEALED_MAX, "{refusal:?}"),
        }
        tokio::task::yield_now().await;
    };
    loop {
        let answer = client.request_in("r", "room.join", json!({})).await;
        if answer["event"] == "ack" {
            return client;
        }
        assert_eq!(answer["data"]["code"], "unavailable", "{answer}");
        assert!(began.elapsed() < HEALED_MAX, "{answer}");
    }
}

/// The whole list, in pages of so many; its revision is the first page's.
pub async fn list(client: &mut TestClient, limit: u32) -> (u64, List) {
    let (mut rev, mut members, mut data) = (None, List::new(), json!({"limit": limit}));
    loop {
        let answer = client.request_in("r", "room.members", data).await;
        let page = &answer["data"];
        rev = rev.or(page["rev"].as_u64());
        for member in page["members"].as_array().unwrap() {
            members.insert(member["user"].as_str().unwrap().to_owned(), member["info"].clone());
        }
        if page["next"].is_null() {
            return (rev.unwrap(), members);
        }
        data = json!({"limit": limit, "after": page["next"]});
    }
}

pub fn is_presence(message: &Value) -> bool {
    message["event"].as_str().is_some_and(|event| event.starts_with("presence."))
}
