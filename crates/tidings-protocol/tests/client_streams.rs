//! What a client applies, whatever the network does: a log, a truthful server, and streams that are cut, doubled and
//! robbed of messages. PROTOCOL.md §7, and the promise that nothing is lost, doubled or reordered.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_protocol::client::{Action, Client, ClientQueueLimits, Decision, State};
use tidings_protocol::codec::decode_server_text;
use tidings_protocol::event_id::{Epoch, EventId, Position, RoomId};
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, MessageId, ServerMessage};

const ROOM: &str = "r";

/// One room's log. Each entry is a position and the message that moves there.
struct Log {
    entries: Vec<(Position, Value)>,
    top: Position,
    published: Vec<String>,
}

impl Log {
    fn new() -> Self {
        Self { entries: vec![], top: Position { epoch: Epoch::from_random(0), offset: 0 }, published: vec![] }
    }

    fn id(&self) -> String {
        format!("{ROOM}@{}", self.top)
    }

    fn push(&mut self, event: &str, rest: &Value) {
        let mut message = json!({"event": event, "room": ROOM, "id": self.id()});
        message.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        self.entries.push((self.top, message));
    }

    fn publish(&mut self, re: Option<&str>) -> String {
        self.top.offset += 1;
        self.push("e", &re.map_or(json!({}), |re| json!({"re": re, "from": "me"})));
        self.published.push(self.id());
        self.id()
    }

    fn skip(&mut self, count: u64) {
        let from = self.top.offset + 1;
        self.top.offset += count;
        self.push("room.skip", &json!({"data": {"from": from, "reason": "filtered"}}));
    }

    fn turn(&mut self, random: u64) {
        let was = self.top.epoch;
        self.top.epoch = Epoch::from_random(random);
        if was != self.top.epoch {
            self.push("room.epoch", &json!({"data": {"was": was}}));
        }
    }

    fn after(&self, position: Position) -> Vec<Value> {
        let known = self.entries.iter().position(|(at, _)| *at == position).map_or(0, |index| index + 1);
        self.entries[known..].iter().map(|(_, message)| message.clone()).collect()
    }
}

/// A network that a script spoils, a truthful server behind it, and what the application was given.
struct World {
    client: Client,
    now: Instant,
    log: Log,
    /// From the server to the client; none without a connection.
    stream: Option<VecDeque<Value>>,
    /// Messages of the log that the connection has been sent.
    live_from: Option<usize>,
    /// Idempotency: what each id has published.
    published: BTreeMap<String, String>,
    applied: Vec<String>,
    requests: Vec<MessageId>,
    settled: Vec<MessageId>,
    drops_acks: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(seed, ClientQueueLimits::default(), now),
            now,
            log: Log::new(),
            stream: None,
            live_from: None,
            published: BTreeMap::new(),
            applied: vec![],
            requests: vec![],
            settled: vec![],
            drops_acks: false,
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.client.poll_action(self.now) {
            match action {
                Action::Connect(url) => {
                    let start = self.log.id();
                    let attaches = !url.resume_wait;
                    self.live_from = attaches.then_some(self.log.entries.len());
                    self.stream = Some(VecDeque::from([json!({"event": "session.welcome", "data": {
                        "session": "s", "user": "me", "rooms": [ROOM], "last_event_id": start,
                        "heartbeat_ms": 30000, "limits": {}, "features": [],
                    }})]));
                }
                Action::Send(_, frame) => self.serve(&serde_json::from_slice(&frame).unwrap()),
                Action::Disconnect(_) => self.stream = None,
                Action::Settled(id, _) => self.settled.push(id),
                Action::RoomLost(room, code) => panic!("lost {room}: {code}"),
                Action::JoinedByServer(_)
                | Action::Joined(_)
                | Action::CaughtUp(..)
                | Action::StateChanged(_) => {}
            }
        }
        self.flow();
    }

    /// The server's answer to a message.
    fn serve(&mut self, message: &Value) {
        let Some(id) = message["id"].as_str() else { return };
        let attach = |cursor: &Value| {
            let position = EventId::parse(cursor.as_str().unwrap()).unwrap().position;
            (position, json!({"recovery": "complete", "last_event_id": cursor, "top": cursor, "members": 1}))
        };
        let (data, position) = match message["event"].as_str().unwrap() {
            "room.join" => {
                let (position, joined) = attach(&message["data"]["last_event_id"]);
                (joined, Some(position))
            }
            "session.resume" => {
                let (position, joined) = attach(&message["data"]["last_event_id"]);
                (json!({"rooms": {ROOM: joined}}), Some(position))
            }
            _ => {
                let event_id = match self.published.get(id) {
                    Some(event_id) => event_id.clone(),
                    None => self.log.publish(Some(id)),
                };
                self.published.insert(id.to_owned(), event_id.clone());
                (json!({"event_id": event_id}), None)
            }
        };
        self.flow();
        if let Some(stream) = &mut self.stream {
            stream.push_back(json!({"event": "ack", "id": id, "data": data}));
            if let Some(position) = position {
                stream.extend(self.log.after(position));
                self.live_from = Some(self.log.entries.len());
            }
        }
    }

    /// Whatever the log got goes to the connection, if it is attached.
    fn flow(&mut self) {
        if let (Some(stream), Some(from)) = (&mut self.stream, &mut self.live_from) {
            stream.extend(self.log.entries[*from..].iter().map(|(_, message)| message.clone()));
            *from = self.log.entries.len();
        }
    }

    fn deliver(&mut self) {
        let Some(message) = self.stream.as_mut().and_then(VecDeque::pop_front) else { return };
        let text = message.to_string();
        let message = decode_server_text(&text).unwrap();
        let decision = self.client.receive(&message, self.now);
        if let (Decision::Accept, ServerMessage::Event(event)) = (decision, &message) {
            self.applied.push(event.id.unwrap().of(event.room.as_ref().unwrap()).to_string());
        }
        self.act();
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish => drop(self.log.publish(None)),
            Step::Skip(count) => self.log.skip(*count),
            Step::Turn(random) => self.log.turn(*random),
            Step::Deliver => self.deliver(),
            Step::Request => {
                let event = EventName::parse("e").unwrap();
                let room = Some(RoomId::parse(ROOM).unwrap());
                let data = Data::Json(RawValue::NULL);
                let message = |id| ClientMessage::Event(ClientEvent { event, room, data, id: Some(id) });
                self.requests.push(self.client.request(message, self.now).unwrap());
            }
            Step::Double => {
                if let Some(stream) = &mut self.stream
                    && let Some(first) = stream.front().cloned()
                {
                    stream.push_front(first);
                }
            }
            Step::Lose(index) => {
                if let Some(stream) = &mut self.stream
                    && !stream.is_empty()
                {
                    let index = index.index(stream.len());
                    if self.drops_acks || stream[index]["event"] != "ack" {
                        stream.remove(index);
                    }
                }
            }
            Step::Swap(index) => {
                if let Some(stream) = &mut self.stream
                    && stream.len() > 1
                {
                    let index = index.index(stream.len() - 1);
                    stream.swap(index, index + 1);
                }
            }
            Step::Cut => {
                self.stream = None;
                self.client.closed(None, self.now);
            }
            Step::Wait => {
                if let Some(deadline) = self.client.next_deadline() {
                    self.now = self.now.max(deadline);
                    self.client.tick(self.now);
                }
            }
        }
        self.flow();
        self.act();
    }

    /// Without any more harm everything comes out right.
    fn settle(&mut self) {
        let end = self.now + Duration::from_secs(600);
        while self.now < end {
            while self.stream.as_ref().is_some_and(|stream| !stream.is_empty()) {
                self.deliver();
            }
            self.run(&Step::Wait);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Skip(u64),
    Turn(u64),
    Deliver,
    Request,
    Double,
    Lose(prop::sample::Index),
    Swap(prop::sample::Index),
    Cut,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Publish),
        1 => (1..4u64).prop_map(Step::Skip),
        1 => any::<u64>().prop_map(Step::Turn),
        10 => Just(Step::Deliver),
        3 => Just(Step::Request),
        2 => Just(Step::Double),
        1 => any::<prop::sample::Index>().prop_map(Step::Lose),
        1 => any::<prop::sample::Index>().prop_map(Step::Swap),
        1 => Just(Step::Cut),
        2 => Just(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_reordered_and_each_request_settles_once(
        steps in prop::collection::vec(step(), 0..150), seed: u64, drops_acks: bool,
    ) {
        let mut world = World::new(seed);
        world.drops_acks = drops_acks;
        world.act();
        world.deliver();
        prop_assert_eq!(world.client.state(), &State::Connected);
        for step in &steps {
            world.run(step);
            // At every moment: the beginning of the log, in its order.
            prop_assert_eq!(&world.applied[..], &world.log.published[..world.applied.len()]);
        }
        world.settle();
        prop_assert_eq!(&world.applied, &world.log.published);
        let mut settled = world.settled.clone();
        settled.sort();
        let mut requests = world.requests.clone();
        requests.sort();
        prop_assert_eq!(settled, requests);
    }
}
