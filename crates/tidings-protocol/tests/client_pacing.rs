//! A client keeps to the rate that the welcome tells, and what was refused for now goes again alone: PROTOCOL.md §7.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_protocol::client::{Action, Client, ClientQueueLimits, GIVE_UP_AFTER, Outcome, State};
use tidings_protocol::codec::decode_server_text;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom, MessageId};
use tidings_protocol::token_bucket::TokenBucket;

const SECOND: Duration = Duration::from_secs(1);

/// A client, and a server that keeps what comes until a test has it answered.
struct World {
    client: Client,
    now: Instant,
    began: Instant,
    limits: Value,
    /// What came and has no answer yet.
    unanswered: VecDeque<Value>,
    sent: Vec<Value>,
    settled: Vec<(MessageId, Outcome)>,
    joined: Vec<RoomId>,
}

impl World {
    fn new(limits: Value) -> Self {
        let now = Instant::now();
        let client = Client::new(7, ClientQueueLimits { requests_max: 1024, ..Default::default() }, now);
        let (unanswered, sent, settled, joined) = (VecDeque::new(), vec![], vec![], vec![]);
        let mut world = Self { client, now, began: now, limits, unanswered, sent, settled, joined };
        world.act();
        world.welcome("");
        world
    }

    fn of_rate(per_second: u32, burst: u32) -> Self {
        Self::new(json!({"messages_per_second": per_second, "messages_burst": burst}))
    }

    fn act(&mut self) {
        while let Some(action) = self.client.poll_action(self.now) {
            match action {
                Action::Send(_, frame) => {
                    let message: Value = serde_json::from_slice(&frame).unwrap();
                    self.sent.push(message.clone());
                    self.unanswered.push_back(message);
                }
                Action::Settled(id, outcome) => self.settled.push((id, outcome)),
                Action::Joined(room) => self.joined.push(room),
                _ => {}
            }
        }
    }

    fn receive(&mut self, message: &Value) {
        let text = message.to_string();
        self.client.receive(&decode_server_text(&text).unwrap(), self.now);
        self.act();
    }

    fn welcome(&mut self, cursor: &str) {
        let rooms: Vec<&str> =
            cursor.split(',').filter_map(|id| id.split('@').next().filter(|room| !room.is_empty())).collect();
        self.receive(&json!({"event": "session.welcome", "data": {
            "session": "s1", "user": "me", "rooms": rooms, "last_event_id": cursor, "heartbeat_ms": 30000,
            "limits": self.limits, "features": [],
        }}));
    }

    /// The connection is lost, and another one made.
    fn reconnect(&mut self) {
        self.client.closed(None, self.now);
        self.act();
        self.unanswered.clear();
        self.next();
        self.sent.clear();
        self.welcome("");
    }

    fn request(&mut self, room: Option<&str>) -> MessageId {
        let id = self.client.request(|id| event(room, Some(id)), self.now).unwrap();
        self.act();
        id
    }

    fn join(&mut self, name: &str) -> MessageId {
        let join = |id| ClientMessage::Join { room: room(name), id, from: JoinFrom::Newest { history: 0 } };
        let id = self.client.request(join, self.now).unwrap();
        self.act();
        id
    }

    fn send(&mut self, room: &str) {
        self.client.send(&event(Some(room), None)).unwrap();
        self.act();
    }

    fn ack(&mut self, id: &str) {
        self.receive(&json!({"event": "ack", "id": id, "data": {}}));
    }

    /// The newest join is answered.
    fn ack_join(&mut self, room: &str) {
        let id = self.sent.iter().rfind(|message| message["event"] == "room.join").unwrap()["id"].clone();
        let top = format!("{room}@k3f9a1qz.3");
        let data = json!({"recovery": "complete", "last_event_id": top, "top": top, "members": 1});
        self.receive(&json!({"event": "ack", "id": id, "data": data}));
    }

    fn refuse_for_now(&mut self, id: &str, retry_after_ms: u64) {
        let refusal = json!({"code": "rate_limited", "message": "", "retry_after_ms": retry_after_ms});
        self.receive(&json!({"event": "error", "id": id, "data": refusal}));
    }

    /// Lets the clock run to the next thing that is due, and does it.
    fn next(&mut self) {
        self.now = self.client.next_deadline().unwrap().max(self.now);
        self.client.tick(self.now);
        self.act();
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.client.tick(self.now);
        self.act();
    }

    fn ids_sent(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|message| message["id"].as_str()).collect()
    }

    fn elapsed(&self) -> Duration {
        self.now - self.began
    }
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn event(name: Option<&str>, id: Option<MessageId>) -> ClientMessage<'static> {
    let event = EventName::parse("message.send").unwrap();
    ClientMessage::Event(ClientEvent { event, room: name.map(room), data: Data::Json(RawValue::NULL), id })
}

fn texts(ids: &[MessageId]) -> Vec<&str> {
    ids.iter().map(MessageId::as_str).collect()
}

#[test]
fn a_backlog_goes_at_the_servers_rate_and_none_of_it_is_refused() {
    let mut world = World::of_rate(20, 40);
    let ids: Vec<_> = (0..256).map(|_| world.request(Some("r"))).collect();
    let mut server = TokenBucket::full(world.now);
    let mut steps = 0;
    while world.settled.len() < ids.len() {
        while let Some(message) = world.unanswered.pop_front() {
            let id = message["id"].as_str().unwrap().to_owned();
            assert_eq!(server.take(20, 40, world.now), Ok(()), "{id} is too fast");
            world.ack(&id);
        }
        if world.settled.len() < ids.len() {
            world.next();
            steps += 1;
        }
    }
    let answered: Vec<_> = world.settled.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(answered, ids);
    assert_eq!(world.sent.len(), 256, "each of them once");
    assert!(world.elapsed() > 11 * SECOND && world.elapsed() < 12 * SECOND, "{:?}", world.elapsed());
    assert!(steps <= 256, "it waits for the next token, and not meanwhile: {steps}");
}

#[test]
fn what_was_refused_for_now_goes_again_alone_in_its_room() {
    for refused_room in [Some("r"), None] {
        let mut world = World::of_rate(1000, 1000);
        let first = world.request(refused_room);
        world.refuse_for_now(first.as_str(), 100);
        let later: Vec<_> = (0..3).map(|_| world.request(refused_room)).collect();
        let elsewhere = world.request(Some("q"));
        assert_eq!(world.ids_sent(), [first.as_str(), elsewhere.as_str()]);
        world.next();
        assert_eq!(world.ids_sent()[2..], [first.as_str()], "it is not answered yet: {refused_room:?}");
        let elsewhere = world.request(Some("q"));
        assert_eq!(world.ids_sent()[3..], [elsewhere.as_str()]);
        world.refuse_for_now(first.as_str(), 100);
        world.next();
        assert_eq!(world.ids_sent()[4..], [first.as_str()]);
        world.ack(first.as_str());
        assert_eq!(world.ids_sent()[5..], texts(&later));
    }
}

#[test]
fn of_several_that_were_refused_for_now_each_waits_for_the_one_before() {
    let mut world = World::of_rate(1000, 1000);
    let ids: Vec<_> = (0..4).map(|_| world.request(Some("r"))).collect();
    for id in &ids[1..] {
        world.refuse_for_now(id.as_str(), 100);
    }
    world.ack(ids[0].as_str());
    world.sent.clear();
    world.pass(SECOND);
    for (index, id) in ids[1..].iter().enumerate() {
        assert_eq!(world.ids_sent(), texts(&ids[1..index + 2]));
        world.ack(id.as_str());
    }
}

#[test]
fn what_was_refused_for_now_and_is_given_up_holds_nothing_any_more() {
    let mut world = World::of_rate(1000, 1000);
    let first = world.request(Some("r"));
    world.refuse_for_now(first.as_str(), 100);
    world.next();
    world.pass(10 * SECOND);
    let later = world.request(Some("r"));
    assert_eq!(world.ids_sent(), [first.as_str(); 2]);
    for _ in 0..11 {
        world.client.heard(world.now);
        world.pass(GIVE_UP_AFTER / 12);
    }
    assert!(matches!(&world.settled[..], [(id, Outcome::OutcomeUnknown)] if *id == first));
    assert_eq!(world.ids_sent().last(), Some(&later.as_str()));
}

#[test]
fn half_of_the_burst_at_most_is_on_its_way() {
    for (burst, share) in [(1, 1), (2, 1), (3, 1), (8, 4), (9, 4)] {
        let mut world = World::of_rate(1_000_000, burst);
        let ids: Vec<_> = (0..share + 3).map(|_| world.request(Some("r"))).collect();
        world.pass(SECOND);
        world.pass(SECOND);
        assert_eq!(world.ids_sent(), texts(&ids[..share]), "{burst}");
        world.ack(ids[0].as_str());
        world.pass(SECOND);
        assert_eq!(world.ids_sent(), texts(&ids[..=share]), "{burst}");
    }
}

#[test]
fn a_full_connection_waits_for_an_answer_and_not_for_a_timer() {
    let mut world = World::of_rate(1_000_000, 2);
    world.request(Some("r"));
    world.request(Some("r"));
    world.pass(SECOND);
    let waits = world.client.next_deadline().unwrap() - world.now;
    assert!(waits > 10 * SECOND, "{waits:?}");
}

#[test]
fn what_nobody_waits_for_is_not_held_back_and_takes_its_share() {
    let mut world = World::of_rate(20, 40);
    for _ in 0..15 {
        world.send("r");
    }
    for _ in 0..10 {
        world.request(Some("r"));
    }
    assert_eq!((world.sent.len(), world.ids_sent().len()), (20, 5));
    for _ in 0..30 {
        world.send("r");
    }
    assert_eq!((world.sent.len(), world.ids_sent().len()), (50, 5), "no debt is made by them");
    world.pass(Duration::from_millis(50));
    assert_eq!(world.ids_sent().len(), 6);
    world.pass(Duration::from_millis(49));
    assert_eq!(world.ids_sent().len(), 6);
}

#[test]
fn joins_and_leaves_wait_for_their_turn_too() {
    let mut world = World::of_rate(1, 4);
    for name in ["a", "b", "c"] {
        let join = |id| ClientMessage::Join { room: room(name), id, from: JoinFrom::Newest { history: 0 } };
        world.client.request(join, world.now).unwrap();
        world.act();
    }
    assert_eq!(world.sent.len(), 2);
    let leave = |id| ClientMessage::Leave { room: room("b"), id: Some(id) };
    world.client.request(leave, world.now).unwrap();
    for index in 0..2 {
        let id = world.ids_sent()[index].to_owned();
        world.ack(&id);
    }
    world.next();
    world.next();
    let seen: Vec<_> = world.sent.iter().map(|message| (&message["event"], &message["room"])).collect();
    let expected = [("room.join", "a"), ("room.join", "b"), ("room.join", "c"), ("room.leave", "b")]
        .map(|(event, room)| (json!(event), json!(room)));
    assert_eq!(seen, expected.each_ref().map(|(event, room)| (event, room)));
    assert_eq!(world.elapsed(), 2 * SECOND);
}

#[test]
fn a_resume_is_not_held_back_and_each_welcome_begins_with_a_full_share() {
    let mut world = World::of_rate(1, 2);
    world.welcome("");
    world.receive(&json!({"event": "room.joined", "room": "r", "data": {
        "recovery": "fresh", "last_event_id": "r@k3f9a1qz.7", "top": "r@k3f9a1qz.7", "members": 1,
    }}));
    let ids: Vec<_> = (0..2).map(|_| world.request(Some("q"))).collect();
    assert_eq!(world.ids_sent(), texts(&ids[..1]));
    world.reconnect();
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.sent[0]["event"], "session.resume");
    let resume = world.ids_sent()[0].to_owned();
    world.ack(&resume);
    assert_eq!(world.sent.len(), 1, "the resume took the one token that there was");
    world.next();
    assert_eq!(world.ids_sent()[1..], texts(&ids[..1]));
}

#[test]
fn a_server_that_tells_no_rate_gets_all_at_once() {
    for limits in [
        json!({}),
        json!({"messages_per_second": 0, "messages_burst": 40}),
        json!({"messages_per_second": 20, "messages_burst": 0}),
        json!({"messages_per_second": u32::MAX, "messages_burst": u32::MAX}),
        json!({"messages_per_second": 2000, "messages_burst": 2000}),
    ] {
        let mut world = World::new(limits.clone());
        let ids: Vec<_> = (0..1000).map(|_| world.request(Some("r"))).collect();
        assert_eq!(world.client.state(), &State::Connected);
        assert_eq!(world.ids_sent(), texts(&ids), "{limits}");
    }
}

#[test]
fn a_rate_beyond_the_clocks_grain_still_moves_time() {
    let mut world = World::of_rate(u32::MAX, 2);
    for _ in 0..100 {
        let id = world.request(Some("r"));
        while world.ids_sent().last() != Some(&id.as_str()) {
            let before = world.now;
            world.next();
            assert!(world.now > before);
        }
        world.ack(id.as_str());
    }
    assert!(world.elapsed() < SECOND);
}

#[test]
fn what_is_said_in_a_room_waits_for_its_join() {
    let mut world = World::of_rate(1000, 1000);
    let first = world.join("a");
    let said = world.request(Some("a"));
    assert_eq!(world.ids_sent(), [first.as_str()]);
    // Refused for now: whatever was sent behind it would be refused for good.
    world.refuse_for_now(first.as_str(), 100);
    world.next();
    assert_eq!(world.ids_sent()[1..], [first.as_str()]);
    world.ack_join("a");
    assert_eq!(world.ids_sent()[2..], [said.as_str()]);

    world.client.closed(None, world.now);
    let elsewhere = world.request(Some("b"));
    let again = world.join("a");
    let later = world.request(Some("a"));
    world.reconnect();
    // No resume asks for the room: the join does.
    assert_eq!(world.ids_sent(), [elsewhere.as_str(), again.as_str()]);
    world.ack_join("a");
    assert_eq!(world.ids_sent()[2..], [said.as_str(), later.as_str()]);
}

#[test]
fn of_two_joins_the_one_that_is_given_up_takes_nothing_from_the_other() {
    let mut world = World::of_rate(1000, 1000);
    world.client.closed(None, world.now);
    let first = world.join("a");
    world.pass(60 * SECOND);
    let second = world.join("a");
    world.pass(GIVE_UP_AFTER - 59 * SECOND);
    assert!(
        world.settled.iter().any(|(id, outcome)| *id == first && matches!(outcome, Outcome::OutcomeUnknown))
    );
    world.reconnect();
    assert_eq!(world.ids_sent(), [second.as_str()]);
    world.ack_join("a");
    assert!(world.joined.contains(&room("a")));
}

#[test]
fn a_room_that_is_being_left_is_none_that_a_welcome_joins() {
    let mut world = World::of_rate(1000, 1000);
    world.join("a");
    world.ack_join("a");
    let leave =
        world.client.request(|id| ClientMessage::Leave { room: room("a"), id: Some(id) }, world.now).unwrap();
    world.act();
    world.joined.clear();
    world.client.closed(None, world.now);
    world.next();
    world.welcome("a@k3f9a1qz.3");
    world.ack(leave.as_str());
    assert_eq!(world.joined, []);
}
