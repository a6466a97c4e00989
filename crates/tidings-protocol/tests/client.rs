//! The client's state machine, behaviour by behaviour: PROTOCOL.md §5–§7. Time is a value here.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_protocol::client::{
    Action, CaughtUp, Client, ClientQueueLimits, ConnectUrl, Decision, GIVE_UP_AFTER, HandshakeRefusal,
    NotAccepted, Outcome, RoomLoss, State,
};
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec::decode_server_text;
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::{Position, RoomId};
use tidings_protocol::message::{
    ClientEvent, ClientMessage, Data, EventName, JoinFrom, LeftReason, MessageId, Recovery,
};

/// A client and the shell round it: what it sent, which rooms it lost, what settled.
struct Shell {
    client: Client,
    now: Instant,
    connects: Vec<ConnectUrl>,
    disconnects: Vec<CloseCode>,
    sent: Vec<Value>,
    settled: Vec<(MessageId, Outcome)>,
    lost: Vec<(RoomId, RoomLoss)>,
    joined: Vec<RoomId>,
    joined_by_server: Vec<RoomId>,
    caught_up: Vec<(RoomId, CaughtUp)>,
    states: Vec<State>,
}

impl Shell {
    fn new() -> Self {
        Self::with(7, ClientQueueLimits::default())
    }

    fn with(seed: u64, limits: ClientQueueLimits) -> Self {
        let now = Instant::now();
        let client = Client::new(seed, limits, now);
        let mut shell = Self {
            client,
            now,
            connects: vec![],
            disconnects: vec![],
            sent: vec![],
            settled: vec![],
            lost: vec![],
            joined: vec![],
            joined_by_server: vec![],
            caught_up: vec![],
            states: vec![],
        };
        shell.act();
        shell
    }

    fn connected() -> Self {
        let mut shell = Self::new();
        shell.welcome("");
        shell
    }

    fn act(&mut self) {
        while let Some(action) = self.client.poll_action(self.now) {
            match action {
                Action::Connect(url) => self.connects.push(url),
                Action::Send(_, frame) => self.sent.push(serde_json::from_slice(&frame).unwrap()),
                Action::Disconnect(code) => self.disconnects.push(code),
                Action::Settled(id, outcome) => self.settled.push((id, outcome)),
                Action::RoomLost(room, why) => self.lost.push((room, why)),
                Action::JoinedByServer(room) => self.joined_by_server.push(room),
                Action::Joined(room) => self.joined.push(room),
                Action::CaughtUp(room, caught_up) => self.caught_up.push((room, caught_up)),
                Action::StateChanged(state) => self.states.push(state),
            }
        }
    }

    fn receive(&mut self, message: &Value) -> Decision {
        let text = message.to_string();
        let decision = self.client.receive(&decode_server_text(&text).unwrap(), self.now);
        self.act();
        decision
    }

    fn welcome(&mut self, cursor: &str) {
        let rooms: Vec<&str> =
            cursor.split(',').filter_map(|id| id.split('@').next().filter(|room| !room.is_empty())).collect();
        self.receive(&json!({"event": "session.welcome", "data": {
            "session": "s1", "user": "me", "rooms": rooms, "last_event_id": cursor, "heartbeat_ms": 30000, "limits": {}, "features": [],
        }}));
    }

    fn event(&mut self, id: &str) -> Decision {
        let room = id.split('@').next().unwrap();
        self.receive(&json!({"event": "e", "room": room, "id": id}))
    }

    fn ack(&mut self, id: &str, data: &Value) {
        self.receive(&json!({"event": "ack", "id": id, "data": data}));
    }

    fn request(&mut self, room: &str) -> MessageId {
        let id = self.client.request(|id| event(room, Some(id)), self.now).unwrap();
        self.act();
        id
    }

    fn join(&mut self, name: &str) {
        let message =
            |id| ClientMessage::Join { room: room(name), id, from: JoinFrom::Newest { history: 0 } };
        let id = self.client.request(message, self.now).unwrap();
        self.act();
        let position = format!("{name}@k3f9a1qz.0");
        self.ack(
            id.as_str(),
            &json!({"recovery": "fresh", "last_event_id": position, "top": position, "members": 1}),
        );
    }

    fn close(&mut self, code: Option<u16>) {
        self.client.closed(code.map(CloseCode), self.now);
        self.act();
    }

    /// Lets the clock run to the next thing that is due, and does it. How long that was.
    fn next(&mut self) -> Duration {
        let deadline = self.client.next_deadline().unwrap().max(self.now);
        let waited = deadline - self.now;
        self.now = deadline;
        self.client.tick(self.now);
        self.act();
        waited
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.client.tick(self.now);
        self.act();
    }

    fn ids_sent(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|message| message["id"].as_str()).collect()
    }
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn event(name: &str, id: Option<MessageId>) -> ClientMessage<'static> {
    let event = EventName::parse("message.send").unwrap();
    ClientMessage::Event(ClientEvent { event, room: Some(room(name)), data: Data::Json(RawValue::NULL), id })
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_connects_at_once_and_says_how_it_goes() {
    let mut shell = Shell::new();
    assert_eq!(
        (shell.connects.as_slice(), shell.client.state()),
        (&[ConnectUrl::default()][..], &State::Connecting)
    );
    shell.welcome("");
    shell.close(None);
    shell.next();
    shell.welcome("");
    assert_eq!(shell.states, [State::Connected, State::Reconnecting, State::Connected]);
    assert_eq!(shell.connects[1].session.as_deref(), Some("s1"));
}

#[test]
fn requests_wait_for_the_welcome_and_go_again_with_their_ids_after_a_loss() {
    let mut shell = Shell::new();
    let (first, second) = (shell.request("r"), shell.request("q"));
    assert_eq!(shell.sent, [] as [Value; 0]);
    shell.welcome("");
    assert_eq!(shell.ids_sent(), [first.as_str(), second.as_str()]);
    shell.ack(first.as_str(), &json!({"n": 1}));
    shell.close(None);
    let third = shell.request("r");
    shell.next();
    shell.sent.clear();
    shell.welcome("");
    assert_eq!(shell.ids_sent(), [second.as_str(), third.as_str()]);
    shell.ack(first.as_str(), &json!({}));
    assert_eq!(shell.settled.len(), 1);
    assert!(
        matches!(&shell.settled[0], (id, Outcome::Acked(data)) if *id == first && data.get() == r#"{"n":1}"#)
    );
}

#[test]
fn ids_of_two_clients_differ() {
    let (mut one, mut other) =
        (Shell::with(1, ClientQueueLimits::default()), Shell::with(2, ClientQueueLimits::default()));
    assert_ne!(one.request("r"), other.request("r"));
}

#[test]
fn an_own_event_answers_its_request_if_no_ack_can_and_nobody_elses_does() {
    let mut shell = Shell::connected();
    shell.join("r");
    let id = shell.request("r");
    let published = |from: &str, offset: u64| json!({"event": "message.send", "room": "r", "id": format!("r@k3f9a1qz.{offset}"), "from": from, "re": id.as_str()});
    assert_eq!(shell.receive(&published("you", 1)), Decision::Accept);
    assert_eq!(shell.settled.len(), 1, "only the join");
    assert_eq!(shell.receive(&published("me", 2)), Decision::Accept);
    assert_eq!(shell.settled.len(), 1, "its ack may say more");
    shell.close(None);
    assert_eq!(shell.settled.len(), 2);
    assert!(
        matches!(&shell.settled[1], (settled, Outcome::Published(event)) if *settled == id && event.position.offset == 2)
    );
}

#[test]
fn an_ack_behind_the_own_event_says_what_it_has_to_say() {
    let mut shell = Shell::connected();
    shell.join("r");
    let id = shell.request("r");
    shell.receive(
        &json!({"event": "message.send", "room": "r", "id": "r@k3f9a1qz.1", "from": "me", "re": id.as_str()}),
    );
    shell.ack(id.as_str(), &json!({"stored": 7}));
    assert!(matches!(&shell.settled[1], (_, Outcome::Acked(data)) if data.get() == r#"{"stored":7}"#));
}

#[test]
fn a_room_is_told_to_be_joined_and_then_to_have_caught_up() {
    let mut shell = Shell::new();
    shell.welcome("auto@k3f9a1qz.3");
    shell.join("r");
    assert_eq!(shell.joined, [room("auto"), room("r")]);
    assert_eq!(shell.caught_up, [(room("r"), CaughtUp { events: 0, recovery: Recovery::Fresh })]);
    shell.event("r@k3f9a1qz.1");
    shell.close(None);
    shell.next();
    shell.sent.clear();
    shell.welcome("");
    let resume = shell.sent[0]["id"].as_str().unwrap().to_owned();
    let joined =
        |id: &str, top: &str| json!({"recovery": "complete", "last_event_id": id, "top": top, "members": 1});
    shell.ack(
        &resume,
        &json!({"rooms": {
            "r": joined("r@k3f9a1qz.1", "r@k3f9a1qz.3"), "auto": joined("auto@k3f9a1qz.3", "auto@k3f9a1qz.3"),
        }}),
    );
    assert_eq!(shell.joined.len(), 4);
    assert_eq!(shell.caught_up.last().unwrap().0, room("auto"));
    shell.event("r@k3f9a1qz.2");
    assert_eq!(shell.caught_up.len(), 2);
    shell.event("r@k3f9a1qz.3");
    assert_eq!(shell.caught_up[2], (room("r"), CaughtUp { events: 2, recovery: Recovery::Complete }));
    shell.event("r@k3f9a1qz.4");
    assert_eq!(shell.caught_up.len(), 3);
}

#[test]
fn what_was_not_received_is_asked_for_once_there_is_a_place_for_it() {
    let mut shell = Shell::connected();
    shell.join("r");
    shell.event("r@k3f9a1qz.1");
    shell.sent.clear();
    shell.client.rejoin(&room("r"), shell.now);
    shell.client.rejoin(&room("r"), shell.now);
    shell.client.rejoin(&room("unknown"), shell.now);
    shell.act();
    assert_eq!(shell.sent.len(), 1);
    assert_eq!(shell.sent[0]["data"], json!({"last_event_id": "r@k3f9a1qz.1"}));
}

#[test]
fn a_room_whose_join_had_no_answer_is_not_followed_and_goes_on_where_it_was() {
    let mut shell = Shell::connected();
    shell.join("r");
    shell.event("r@k3f9a1qz.1");
    let join = |id| ClientMessage::Join { room: room("r"), id, from: JoinFrom::Newest { history: 0 } };
    shell.client.request(join, shell.now).unwrap();
    shell.act();
    for _ in 0..12 {
        shell.pass(10 * SECOND);
        shell.client.heard(shell.now);
    }
    assert!(matches!(shell.settled.last(), Some((_, Outcome::OutcomeUnknown))));
    assert_eq!(shell.event("r@k3f9a1qz.2"), Decision::Drop);
    assert_eq!(shell.client.positions().cursor().to_string(), "");
    let position = shell.client.positions().get(&room("r"));
    assert_eq!(position.map(|position| position.offset), Some(1), "where the next join goes on");
}

#[test]
fn a_network_that_is_back_ends_the_backoff() {
    let mut shell = Shell::connected();
    shell.close(None);
    let connects = shell.connects.len();
    shell.client.reconnect(shell.now);
    shell.act();
    assert_eq!(shell.connects.len(), connects + 1);
    assert!(!shell.connects[connects].fresh_token);
    // One that is being made is let be.
    shell.client.reconnect(shell.now);
    shell.act();
    assert_eq!(shell.connects.len(), connects + 1);
}

#[test]
fn a_request_without_an_answer_is_given_up_after_two_minutes() {
    let mut shell = Shell::connected();
    let id = shell.request("r");
    shell.pass(GIVE_UP_AFTER - SECOND);
    assert!(shell.settled.is_empty());
    shell.pass(SECOND);
    assert!(matches!(&shell.settled[..], [(settled, Outcome::OutcomeUnknown)] if *settled == id));
}

#[test]
fn a_refusal_for_now_holds_what_comes_later_to_that_room() {
    let mut shell = Shell::connected();
    let first = shell.request("r");
    let refusal = json!({"code": "rate_limited", "message": "", "retry_after_ms": 350});
    shell.receive(&json!({"event": "error", "id": first.as_str(), "data": refusal}));
    let (held, other) = (shell.request("r"), shell.request("q"));
    assert_eq!(shell.ids_sent(), [first.as_str(), other.as_str()]);
    assert_eq!(shell.next(), Duration::from_millis(350));
    assert_eq!(shell.ids_sent()[2..], [first.as_str()]);
    shell.ack(first.as_str(), &json!({}));
    assert_eq!(shell.ids_sent()[3..], [held.as_str()]);
}

#[test]
fn a_leave_that_is_tried_again_does_not_undo_a_later_join() {
    let mut shell = Shell::connected();
    shell.join("r");
    let leave = |id| ClientMessage::Leave { room: room("r"), id: Some(id) };
    let left = shell.client.request(leave, shell.now).unwrap();
    let join = |id| ClientMessage::Join { room: room("r"), id, from: JoinFrom::Newest { history: 0 } };
    let joined = shell.client.request(join, shell.now).unwrap();
    shell.sent.clear();
    shell.act();
    assert_eq!(shell.ids_sent(), [left.as_str()], "the join waits for what the leave comes to");
    let refusal = json!({"code": "rate_limited", "message": "", "retry_after_ms": 350});
    shell.receive(&json!({"event": "error", "id": left.as_str(), "data": refusal}));
    shell.pass(Duration::from_millis(350));
    assert_eq!(shell.ids_sent(), [left.as_str(), left.as_str()]);
    shell.ack(left.as_str(), &json!({}));
    assert_eq!(shell.ids_sent(), [left.as_str(), left.as_str(), joined.as_str()]);
}

#[test]
fn a_retry_that_is_told_to_wait_for_ever_is_given_up() {
    let mut shell = Shell::connected();
    let id = shell.request("r");
    let refusal = json!({"code": "unavailable", "message": "", "retry_after_ms": u64::MAX});
    shell.receive(&json!({"event": "error", "id": id.as_str(), "data": refusal}));
    shell.pass(GIVE_UP_AFTER);
    assert!(matches!(shell.settled[..], [(_, Outcome::OutcomeUnknown)]));
}

#[test]
fn a_final_refusal_settles() {
    let mut shell = Shell::connected();
    let id = shell.request("r");
    shell.receive(
        &json!({"event": "error", "id": id.as_str(), "data": {"code": "forbidden", "message": "no"}}),
    );
    assert!(
        matches!(&shell.settled[..], [(_, Outcome::Refused(refusal))] if refusal.code == ErrorCode::Forbidden)
    );
}

#[test]
fn what_waits_is_bounded() {
    let limits = ClientQueueLimits { requests_max: 2, request_bytes_max: 1000, sends_max: 1 };
    let mut shell = Shell::with(7, limits);
    assert_eq!(shell.client.send(&event("r", None)), Err(NotAccepted::NotConnected));
    shell.request("r");
    shell.request("r");
    assert_eq!(shell.client.request(|id| event("r", Some(id)), shell.now), Err(NotAccepted::Full));
    shell.welcome("");
    assert_eq!(shell.client.send(&event("r", None)), Ok(()));
    assert_eq!(shell.client.send(&event("r", None)), Err(NotAccepted::Full));

    let mut shell = Shell::with(7, ClientQueueLimits { request_bytes_max: 10, ..limits });
    assert_eq!(shell.client.request(|id| event("r", Some(id)), shell.now), Err(NotAccepted::Full));
    shell.client.close();
    assert_eq!(shell.client.request(|id| event("r", Some(id)), shell.now), Err(NotAccepted::Closed));
}

#[test]
fn a_heartbeat_goes_out_after_25_seconds_of_sending_nothing() {
    let mut shell = Shell::connected();
    shell.pass(20 * SECOND);
    shell.request("r");
    assert_eq!(shell.next(), 25 * SECOND);
    assert_eq!(shell.sent[1], json!({"event": "presence.heartbeat"}));
    assert_eq!(shell.next(), 25 * SECOND);
}

#[test]
fn silence_for_75_seconds_is_a_dead_connection() {
    let mut shell = Shell::connected();
    shell.pass(70 * SECOND);
    shell.client.heard(shell.now);
    shell.pass(74 * SECOND);
    assert_eq!(shell.disconnects, []);
    shell.pass(SECOND);
    assert_eq!(
        (shell.disconnects.as_slice(), shell.client.state()),
        (&[CloseCode::HEARTBEAT_TIMEOUT][..], &State::Reconnecting)
    );
    shell.next();
    assert_eq!(shell.connects.len(), 2);
}

#[test]
fn a_connection_that_never_welcomes_is_given_up() {
    let mut shell = Shell::new();
    assert_eq!(shell.next(), 20 * SECOND);
    assert_eq!(shell.disconnects, [CloseCode::HEARTBEAT_TIMEOUT]);
    shell.next();
    assert_eq!(shell.connects.len(), 2);
}

#[test]
fn each_close_code_has_its_reaction() {
    for code in [1000, 1008, 4000, 4006, 4009, 4050] {
        let mut shell = Shell::connected();
        shell.request("r");
        shell.close(Some(code));
        assert_eq!((shell.client.state(), shell.client.next_deadline()), (&State::Closed, None), "{code}");
        assert!(matches!(shell.settled[..], [(_, Outcome::OutcomeUnknown)]), "{code}");
    }
    for (code, least) in
        [(None, 0), (Some(1012), 0), (Some(4109), 1), (Some(4150), 1), (Some(4200), 0), (Some(4300), 0)]
    {
        let mut shell = Shell::connected();
        shell.close(code);
        let waited = shell.next();
        assert!(waited >= least * SECOND && waited <= (least + 1) * SECOND, "{code:?}: {waited:?}");
        assert_eq!(shell.connects[1].fresh_token, code == Some(4300));
    }
    let mut shell = Shell::connected();
    shell.close(Some(1002));
    shell.next();
    shell.welcome("");
    shell.close(Some(1009));
    assert_eq!(shell.client.state(), &State::Closed);
}

#[test]
fn the_backoff_grows_until_a_connection_has_held_for_a_minute() {
    let waits = |seed| {
        let mut shell = Shell::with(seed, ClientQueueLimits::default());
        let mut next_after = |held: u32| {
            shell.welcome("");
            shell.pass(held * SECOND);
            shell.client.heard(shell.now);
            shell.close(None);
            shell.next()
        };
        [0, 0, 0, 0, 0, 59, 60].map(&mut next_after)
    };
    let mut longest = [Duration::ZERO; 7];
    for seed in 0..200 {
        longest = std::array::from_fn(|index| longest[index].max(waits(seed)[index]));
    }
    let bounds = [1, 2, 4, 8, 16, 30, 1].map(|seconds| seconds * SECOND);
    for (longest, bound) in longest.into_iter().zip(bounds) {
        assert!(longest <= bound && longest > bound * 9 / 10, "{longest:?} of {bound:?}");
    }
}

#[test]
fn a_told_window_decides_when_to_move() {
    let told = json!({"event": "session.reconnect", "data": {"after_ms": 1000, "within_ms": 11000, "reason": "draining"}});
    let mut moments = Vec::new();
    for seed in 0..100 {
        let mut shell = Shell::with(seed, ClientQueueLimits::default());
        shell.welcome("");
        shell.receive(&told);
        let moment = shell.next();
        assert_eq!(shell.disconnects, [CloseCode::DRAINING]);
        shell.next();
        assert_eq!(shell.connects.len(), 2);

        // The same moment, though the server closes earlier.
        let mut closed = Shell::with(seed, ClientQueueLimits::default());
        closed.welcome("");
        closed.receive(&told);
        closed.close(Some(4200));
        assert_eq!((closed.next(), closed.connects.len()), (moment, 2));
        moments.push(moment);
    }
    let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
    assert!(
        *first >= SECOND && *first < 2 * SECOND && *last <= 11 * SECOND && *last > 10 * SECOND,
        "{first:?} {last:?}"
    );
}

#[test]
fn a_refused_handshake_fetches_a_token_waits_or_stops() {
    let refusal = |status, retry_after: Option<u64>| HandshakeRefusal {
        status,
        message: None,
        code: None,
        retry_after: retry_after.map(Duration::from_secs),
    };
    let mut shell = Shell::new();
    for fresh_token in [true, false] {
        shell.client.refused(&refusal(Some(401), None), shell.now);
        shell.act();
        if fresh_token {
            shell.next();
            assert!(shell.connects[1].fresh_token);
        }
    }
    assert_eq!(shell.client.state(), &State::Refused(refusal(Some(401), None)));
    shell.client.reconnect(shell.now);
    shell.act();
    assert_eq!((shell.connects.len(), shell.connects[2].fresh_token), (3, true));

    for status in [400, 403, 409] {
        let mut shell = Shell::new();
        shell.client.refused(&refusal(Some(status), None), shell.now);
        assert_eq!(shell.client.next_deadline(), None, "{status}");
    }
    for (status, retry_after) in [(None, 0), (Some(426), 0), (Some(500), 0), (Some(429), 7), (Some(503), 3)] {
        let mut shell = Shell::new();
        shell.client.refused(&refusal(status, Some(retry_after)), shell.now);
        let waited = shell.next();
        assert!(waited >= Duration::from_secs(retry_after) && waited <= Duration::from_secs(retry_after + 1));
        assert_eq!(shell.connects.len(), 2);
    }
}

#[test]
fn known_rooms_are_resumed_before_anything_else_is_sent() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    assert_eq!(shell.event("r@k3f9a1qz.8"), Decision::Accept);
    shell.close(None);
    let request = shell.request("r");
    shell.next();
    assert!(shell.connects[1].resume_wait);
    shell.sent.clear();
    shell.welcome("r@k3f9a1qz.20,new@k3f9a1qz.4");
    shell.client.send(&event("r", None)).unwrap();
    shell.act();
    assert_eq!(shell.sent.len(), 1);
    assert_eq!(
        (&shell.sent[0]["event"], &shell.sent[0]["data"]["last_event_id"]),
        (&json!("session.resume"), &json!("r@k3f9a1qz.8"))
    );
    let joined = json!({"recovery": "complete", "last_event_id": "r@k3f9a1qz.8", "top": "r@k3f9a1qz.20", "members": 1});
    let id = shell.sent[0]["id"].as_str().unwrap().to_owned();
    shell.ack(&id, &json!({"rooms": {"r": joined}}));
    assert_eq!((shell.sent.len(), shell.sent[1]["id"].as_str()), (3, Some(request.as_str())));
    assert_eq!([shell.event("r@k3f9a1qz.9"), shell.event("new@k3f9a1qz.5")], [Decision::Accept; 2]);
}

#[test]
fn rooms_that_a_resume_refuses_or_forgets_are_lost() {
    let mut shell = Shell::new();
    shell.welcome("a@k3f9a1qz.1,b@k3f9a1qz.1,c@k3f9a1qz.1");
    shell.close(None);
    shell.next();
    shell.welcome("");
    let id = shell.ids_sent()[0].to_owned();
    shell.ack(&id, &json!({"rooms": {"a": {"error": "forbidden"}, "b": {"error": "unavailable"}}}));
    assert_eq!(
        shell.lost,
        [
            (room("a"), RoomLoss::Refused(ErrorCode::Forbidden)),
            (room("c"), RoomLoss::Refused(ErrorCode::Other))
        ]
    );
    assert_eq!((&shell.sent[1]["event"], &shell.sent[1]["room"]), (&json!("room.join"), &json!("b")));
    let rejoin = shell.ids_sent()[1].to_owned();
    shell.receive(&json!({"event": "error", "id": rejoin, "data": {"code": "unknown_room", "message": ""}}));
    assert_eq!(shell.lost[2], (room("b"), RoomLoss::Refused(ErrorCode::UnknownRoom)));
    assert_eq!(shell.event("a@k3f9a1qz.2"), Decision::Drop);
}

#[test]
fn rooms_beyond_one_cursor_are_joined_one_by_one() {
    let mut shell = Shell::new();
    let ids: Vec<String> = (0..50).map(|index| format!("{index:0>100}@k3f9a1qz.5")).collect();
    for part in ids.chunks(10) {
        for id in part {
            shell.join(id.split('@').next().unwrap());
        }
    }
    shell.close(None);
    let request = shell.request("r");
    shell.next();
    shell.sent.clear();
    shell.welcome("");
    let cursor = shell.sent[0]["data"]["last_event_id"].as_str().unwrap().to_owned();
    assert!(cursor.len() <= 4096 && shell.sent.len() == 1);
    let joined = |id: &str| json!({"recovery": "complete", "last_event_id": id, "top": id, "members": 1});
    let rooms = cursor.split(',').map(|id| (id.split('@').next().unwrap().to_owned(), joined(id))).collect();
    let id = shell.ids_sent()[0].to_owned();
    shell.ack(&id, &json!({"rooms": Value::Object(rooms)}));
    let last = shell.sent.pop().unwrap();
    assert_eq!(last["id"], request.as_str(), "a room is joined before it is written to");
    assert_eq!(shell.sent.len() - 1, 50 - cursor.split(',').count());
    assert!(
        shell.sent[1..]
            .iter()
            .all(|message| message["event"] == "room.join" && message["data"]["last_event_id"].is_string())
    );
}

#[test]
fn one_hole_makes_one_join_and_a_resume_takes_its_place() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    let decisions = [9, 10, 8, 11].map(|offset| shell.event(&format!("r@k3f9a1qz.{offset}")));
    assert_eq!(decisions, [Decision::Hole, Decision::Drop, Decision::Accept, Decision::Drop]);
    assert_eq!(shell.sent.len(), 1);
    assert_eq!(
        (&shell.sent[0]["event"], &shell.sent[0]["data"]),
        (&json!("room.join"), &json!({"last_event_id": "r@k3f9a1qz.7"}))
    );
    shell.close(None);
    shell.next();
    shell.welcome("");
    let events: Vec<&Value> = shell.sent.iter().map(|message| &message["event"]).collect();
    assert_eq!(events, ["room.join", "session.resume"]);
    assert_eq!(shell.sent[1]["data"], json!({"last_event_id": "r@k3f9a1qz.8"}));
    assert!(shell.settled.is_empty(), "the application did not ask for it");
}

#[test]
fn a_history_that_was_asked_for_is_not_applied_a_second_time() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    let message = |id| ClientMessage::Join { room: room("r"), id, from: JoinFrom::Newest { history: 5 } };
    let id = shell.client.request(message, shell.now).unwrap();
    shell.act();
    let joined =
        json!({"recovery": "fresh", "last_event_id": "r@k3f9a1qz.4", "top": "r@k3f9a1qz.9", "members": 1});
    shell.ack(id.as_str(), &joined);
    let decisions = [5, 7, 8, 9].map(|offset| shell.event(&format!("r@k3f9a1qz.{offset}")));
    assert_eq!(decisions, [Decision::Drop, Decision::Drop, Decision::Accept, Decision::Accept]);
}

#[test]
fn an_older_joins_ack_says_nothing_about_a_newer_join() {
    let mut shell = Shell::connected();
    let join = |id| ClientMessage::Join { room: room("r"), id, from: JoinFrom::Newest { history: 0 } };
    let first = shell.client.request(join, shell.now).unwrap();
    shell.client.request(|id| ClientMessage::Leave { room: room("r"), id: Some(id) }, shell.now).unwrap();
    let second = shell.client.request(join, shell.now).unwrap();
    let joined = |id: &str| json!({"recovery": "fresh", "last_event_id": format!("r@k3f9a1qz.{id}"), "top": "r@k3f9a1qz.9", "members": 1});
    shell.ack(first.as_str(), &joined("3"));
    assert_eq!(shell.event("r@k3f9a1qz.4"), Decision::Drop);
    shell.ack(second.as_str(), &joined("5"));
    assert_eq!(shell.event("r@k3f9a1qz.6"), Decision::Accept);
}

#[test]
fn what_can_not_wait_is_gone_with_its_connection() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    shell.client.send(&event("r", None)).unwrap();
    shell.close(None);
    shell.next();
    shell.welcome("");
    let resume = shell.ids_sent()[0].to_owned();
    shell.ack(&resume, &json!({"rooms": {"r": {"error": "forbidden"}}}));
    assert_eq!(shell.sent.len(), 1);
}

#[test]
fn a_settled_request_makes_room_for_another() {
    let mut shell =
        Shell::with(7, ClientQueueLimits { request_bytes_max: 100, ..ClientQueueLimits::default() });
    shell.welcome("");
    for _ in 0..3 {
        let id = shell.request("r");
        assert_eq!(shell.client.request(|id| event("r", Some(id)), shell.now), Err(NotAccepted::Full));
        shell.ack(id.as_str(), &json!({}));
    }
}

#[test]
fn a_token_that_was_good_may_be_fetched_anew_again() {
    let unauthorized = HandshakeRefusal { status: Some(401), ..HandshakeRefusal::default() };
    let mut shell = Shell::new();
    for round in 0..3 {
        shell.client.refused(&unauthorized, shell.now);
        shell.next();
        assert!(shell.connects.last().unwrap().fresh_token, "{round}");
        shell.welcome("");
        shell.close(None);
        shell.next();
    }
}

#[test]
fn a_join_that_is_never_answered_ends_the_connection() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    assert_eq!(shell.event("r@k3f9a1qz.9"), Decision::Hole);
    while shell.disconnects.is_empty() {
        shell.client.heard(shell.now);
        assert!(shell.next() <= GIVE_UP_AFTER);
    }
    assert!(shell.settled.is_empty() && shell.lost.is_empty());
}

#[test]
fn a_room_that_was_left_is_silent_and_not_resumed() {
    let mut shell = Shell::new();
    shell.welcome("r@k3f9a1qz.7");
    shell.client.request(|id| ClientMessage::Leave { room: room("r"), id: Some(id) }, shell.now).unwrap();
    assert_eq!(shell.event("r@k3f9a1qz.8"), Decision::Drop);
    shell.close(None);
    shell.next();
    assert!(!shell.connects[1].resume_wait);
}

#[test]
fn a_join_asks_from_where_it_is_told() {
    let mut shell = Shell::connected();
    let from = JoinFrom::Position(Position::parse("k3f9a1qz.5").unwrap());
    let id = shell.client.request(|id| ClientMessage::Join { room: room("r"), id, from }, shell.now).unwrap();
    shell.act();
    assert_eq!(shell.sent[0]["data"], json!({"last_event_id": "r@k3f9a1qz.5"}));
    // Lost before its ack: the same join goes again, and no resume beside it.
    shell.close(None);
    shell.next();
    shell.welcome("");
    assert_eq!(shell.ids_sent(), [id.as_str(); 2]);
}

#[test]
fn closing_ends_everything_once() {
    let mut shell = Shell::connected();
    shell.request("r");
    shell.client.close();
    shell.client.close();
    shell.act();
    assert_eq!((shell.disconnects.as_slice(), shell.settled.len()), (&[CloseCode::NORMAL][..], 1));
    assert_eq!((shell.client.state(), shell.client.next_deadline()), (&State::Closed, None));
    let resume = shell.client.request(|id| ClientMessage::List { id: Some(id) }, shell.now);
    assert_eq!(resume, Err(NotAccepted::Closed));
}

fn room_joined(name: &str, offset: u64) -> Value {
    let position = format!("{name}@k3f9a1qz.{offset}");
    let data = json!({"recovery": "fresh", "last_event_id": position, "top": position, "members": 2});
    json!({"event": "room.joined", "room": name, "data": data})
}

fn room_left(name: &str, reason: &str) -> Value {
    json!({"event": "room.left", "room": name, "data": {"reason": reason}})
}

#[test]
fn what_the_server_joins_by_itself_is_told_and_what_it_takes_away_is_lost() {
    let mut shell = Shell::new();
    shell.welcome("auto@k3f9a1qz.4");
    assert_eq!(shell.receive(&room_joined("a", 7)), Decision::Ignore);
    assert_eq!(
        (&shell.joined_by_server, &shell.joined),
        (&vec![room("auto"), room("a")], &shell.joined_by_server)
    );
    assert_eq!(shell.caught_up, [(room("a"), CaughtUp { events: 0, recovery: Recovery::Fresh })]);
    assert_eq!(shell.event("a@k3f9a1qz.8"), Decision::Accept);
    assert_eq!(shell.receive(&room_left("a", "removed")), Decision::Ignore);
    assert_eq!(shell.event("a@k3f9a1qz.9"), Decision::Drop);
    assert_eq!(shell.lost, [(room("a"), RoomLoss::Left(LeftReason::Removed))]);
    assert_eq!(shell.lost[0].1.to_string(), "removed");
    // A second one is about a room that is not followed.
    shell.receive(&room_left("a", "removed"));
    assert_eq!(shell.lost.len(), 1);
    assert!(shell.sent.is_empty());
}

#[test]
fn a_leave_that_has_no_answer_yet_decides_and_not_what_the_application_did_before() {
    let mut shell = Shell::connected();
    shell.join("a");
    let leave = |id| ClientMessage::Leave { room: room("a"), id: Some(id) };
    let id = shell.client.request(leave, shell.now).unwrap();
    shell.act();
    shell.receive(&room_left("a", "removed"));
    shell.receive(&room_joined("a", 3));
    assert_eq!(shell.event("a@k3f9a1qz.4"), Decision::Drop);
    shell.ack(id.as_str(), &json!({}));
    assert!(shell.lost.is_empty() && shell.joined_by_server.is_empty());
    shell.receive(&room_joined("a", 5));
    assert_eq!(shell.event("a@k3f9a1qz.6"), Decision::Accept);
}
