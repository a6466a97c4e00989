//! Nodes that share rooms through a real Redis, and readers that hold them to their promises.
#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{Access, Hub, Redis, RoomRules};

use crate::log_capture::TestHub;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Anybody may do anything in any room.
pub fn rule() -> RoomRules {
    RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event()
}

/// One more of the nodes that share `url`, as soon as it has found its Redis.
pub async fn node(url: &str) -> TestHub {
    node_with(url, rule()).await
}

/// The same with a rule of its own.
pub async fn node_with(url: &str, rule: RoomRules) -> TestHub {
    node_of(Redis::new(url).unwrap(), rule).await
}

/// One more node at a Redis that a test has configured itself.
pub async fn node_at(redis: Redis) -> TestHub {
    node_of(redis, rule()).await
}

async fn node_of(redis: Redis, rule: RoomRules) -> TestHub {
    static NODES: AtomicU64 = AtomicU64::new(1);
    let seed = NODES.fetch_add(1, Ordering::Relaxed);
    let builder = Hub::builder().rule(rule).broker(redis);
    let hub = TestHub::start_seeded(builder, seed).unwrap();
    until("the node is ready", || hub.hub().is_ready()).await;
    hub
}

/// Waits until something is so.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        #[expect(clippy::disallowed_methods, reason = "a thing is looked at again")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The position that an event id names.
fn position(id: &Value) -> (String, u64) {
    let (_, position) = id.as_str().expect("an id").split_once('@').expect("a room");
    let (epoch, offset) = position.split_once('.').expect("an epoch");
    (epoch.to_owned(), offset.parse().expect("an offset"))
}

/// What every event id was seen to name, by any reader.
#[derive(Default)]
pub struct Names(HashMap<String, Value>);

impl Names {
    fn see(&mut self, event: &Value) {
        let id = event["id"].as_str().unwrap().to_owned();
        let known = self.0.entry(id).or_insert_with(|| event["data"].clone());
        assert_eq!(*known, event["data"], "I2: one id for two events: {event}");
    }
}

/// A client that checks what it gets of one room: I1 and I3 of docs/guarantees.md.
pub struct Reader {
    pub client: TestClient,
    pub room: String,
    pub position: Option<(String, u64)>,
    /// The data of every event, in order.
    pub events: Vec<Value>,
    pub resets: Vec<Value>,
    pub epochs: usize,
}

impl Reader {
    pub async fn join(hub: &TestHub, user: &str, room: &str) -> Self {
        let mut client = hub.connect(user).await;
        let ack = client.join(room).await;
        let position = Some(position(&ack["last_event_id"]));
        Self { client, room: room.to_owned(), position, events: Vec::new(), resets: Vec::new(), epochs: 0 }
    }

    /// Goes on at another node, where it was.
    pub async fn resume(mut self, hub: &TestHub, user: &str) -> Self {
        let (epoch, offset) = self.position.clone().unwrap();
        let cursor = format!("{}@{epoch}.{offset}", self.room);
        self.client = hub.connect_as(identity(user), ConnectOptions::default()).await.unwrap();
        let answer = self.client.request("session.resume", json!({ "last_event_id": cursor })).await;
        assert_eq!(answer["event"], "ack", "{answer}");
        assert!(answer["data"]["rooms"][&self.room].get("error").is_none(), "{answer}");
        self
    }

    /// Reads one message; what it means to the position is checked.
    pub async fn read(&mut self, names: &mut Names) {
        let next = tokio::time::timeout(PATIENCE, self.client.next_message()).await;
        let Ok(message) = next else {
            panic!("nothing came; last: {:?} {:?}", self.position, self.events.last())
        };
        if message["room"] != self.room.as_str() || message.get("id").is_none_or(|id| !id.is_string()) {
            return;
        }
        let (epoch, offset) = position(&message["id"]);
        let had = self.position.clone().unwrap();
        match message["event"].as_str().unwrap() {
            "room.reset" => {
                self.resets.push(message);
                self.position = Some((epoch, offset));
            }
            "room.epoch" => {
                assert_eq!((message["data"]["was"].as_str().unwrap(), offset), (&*had.0, had.1), "{message}");
                self.epochs += 1;
                self.position = Some((epoch, offset));
            }
            "room.skip" => {
                assert_eq!(
                    (&epoch, message["data"]["from"].as_u64().unwrap()),
                    (&had.0, had.1 + 1),
                    "{message}"
                );
                self.position = Some((epoch, offset));
            }
            _ => {
                assert_eq!(
                    (&epoch, offset),
                    (&had.0, had.1 + 1),
                    "I1: not the next: {message} after {had:?}"
                );
                names.see(&message);
                self.events.push(message["data"].clone());
                self.position = Some((epoch, offset));
            }
        }
    }

    /// Reads until an event with this data has come.
    pub async fn read_to(&mut self, data: &Value, names: &mut Names) {
        while self.events.last() != Some(data) {
            self.read(names).await;
        }
    }

    /// Reads until so many resets have come.
    pub async fn read_resets(&mut self, count: usize, names: &mut Names) {
        while self.resets.len() < count {
            self.read(names).await;
        }
    }
}

/// A client that publishes, and tries again with the same id where it is told to.
pub struct Publisher {
    pub client: TestClient,
    pub room: String,
    /// What was acked, by what it was acked as.
    pub acked: HashMap<String, Value>,
    pub refused: usize,
    count: u64,
}

impl Publisher {
    pub async fn join(hub: &TestHub, user: &str, room: &str) -> Self {
        let mut client = hub.connect(user).await;
        client.join(room).await;
        Self { client, room: room.to_owned(), acked: HashMap::new(), refused: 0, count: 0 }
    }

    /// Publishes the next number until it is acked; its data.
    pub async fn publish(&mut self) -> Value {
        self.count += 1;
        let data = json!(self.count);
        self.publish_as(&data, &format!("p-{}", self.count)).await;
        data
    }

    async fn publish_as(&mut self, data: &Value, id: &str) {
        let began = Instant::now();
        loop {
            let message = json!({"event": "number", "room": self.room, "data": data, "id": id});
            let answer = self.client.ask(message).await;
            if answer["event"] == "ack" {
                let event_id = answer["data"]["event_id"].as_str().unwrap().to_owned();
                self.acked.insert(event_id, data.clone());
                return;
            }
            let code = answer["data"]["code"].as_str().unwrap();
            assert!(matches!(code, "unavailable" | "rate_limited"), "{answer}");
            assert!(began.elapsed() < PATIENCE, "{answer}");
            self.refused += 1;
            #[expect(
                clippy::disallowed_methods,
                reason = "a client that is told to try again does so later"
            )]
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Publishes so many, and lets everybody read them.
pub async fn publish_and_read(
    publisher: &mut Publisher,
    readers: &mut [Reader],
    names: &mut Names,
    count: u64,
) {
    let mut last = Value::Null;
    for _ in 0..count {
        last = publisher.publish().await;
    }
    for reader in readers {
        reader.read_to(&last, names).await;
    }
}
