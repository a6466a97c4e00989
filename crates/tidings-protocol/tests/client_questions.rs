//! The questions of a client's shell, which are none of the application's requests.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_protocol::client::{
    Action, Client, ClientQueueLimits, GIVE_UP_AFTER, NotAccepted, Outcome, State,
};
use tidings_protocol::codec::decode_server_text;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, MessageId};

struct Shell {
    client: Client,
    now: Instant,
    sent: Vec<Value>,
    settled: Vec<(MessageId, Outcome)>,
}

impl Shell {
    /// One that waits for its first connection, with one place for requests.
    fn new() -> Self {
        let now = Instant::now();
        let client = Client::new(7, ClientQueueLimits { requests_max: 1, ..Default::default() }, now);
        let mut shell = Self { client, now, sent: vec![], settled: vec![] };
        shell.act();
        shell
    }

    fn connected() -> Self {
        let mut shell = Self::new();
        shell.welcome();
        shell
    }

    fn act(&mut self) {
        while let Some(action) = self.client.poll_action(self.now) {
            match action {
                Action::Send(_, frame) => self.sent.push(serde_json::from_slice(&frame).unwrap()),
                Action::Settled(id, outcome) => self.settled.push((id, outcome)),
                _ => {}
            }
        }
    }

    fn receive(&mut self, message: &Value) {
        let text = message.to_string();
        self.client.receive(&decode_server_text(&text).unwrap(), self.now);
        self.act();
    }

    fn welcome(&mut self) {
        self.receive(&json!({"event": "session.welcome", "data": {
            "session": "s1", "user": "me", "rooms": [], "last_event_id": "", "heartbeat_ms": 30000, "limits": {}, "features": [],
        }}));
    }

    fn request(&mut self) -> Result<MessageId, NotAccepted> {
        let event = EventName::parse("message.send").unwrap();
        let data = Data::Json(RawValue::NULL);
        let message =
            |id| ClientMessage::Event(ClientEvent { event, room: Some(room()), data, id: Some(id) });
        let id = self.client.request(message, self.now);
        self.act();
        id
    }

    fn ask(&mut self) -> Result<MessageId, NotAccepted> {
        let message =
            |id| ClientMessage::Members { room: room(), id: Some(id), after: None, limit: Some(1000) };
        let id = self.client.ask(message, self.now);
        self.act();
        id
    }

    fn refuse_for_now(&mut self, id: &MessageId) {
        let refusal = json!({"code": "unavailable", "message": "", "retry_after_ms": 1000});
        self.receive(&json!({"event": "error", "id": id.as_str(), "data": refusal}));
    }

    fn ids_sent(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|message| message["id"].as_str()).collect()
    }
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

#[test]
fn a_question_has_a_place_where_requests_have_none_and_goes_first() {
    let mut shell = Shell::connected();
    let refused = shell.request().unwrap();
    shell.refuse_for_now(&refused);
    assert_eq!(shell.request(), Err(NotAccepted::Full));
    let question = shell.ask().unwrap();
    assert_eq!(shell.ids_sent(), [refused.as_str(), question.as_str()]);
    shell.receive(&json!({"event": "ack", "id": question.as_str(), "data": {"rev": 7}}));
    assert!(
        matches!(&shell.settled[..], [(id, Outcome::Acked(data))] if *id == question && data.get() == r#"{"rev":7}"#)
    );
    assert_eq!(shell.request(), Err(NotAccepted::Full), "it was not one of them");
}

#[test]
fn a_question_that_is_refused_for_now_is_tried_again_and_holds_nothing_back() {
    let mut shell = Shell::connected();
    let question = shell.ask().unwrap();
    shell.refuse_for_now(&question);
    let request = shell.request().unwrap();
    assert_eq!(shell.ids_sent(), [question.as_str(), request.as_str()]);
    shell.now += Duration::from_secs(1);
    shell.client.tick(shell.now);
    shell.act();
    assert_eq!(shell.ids_sent()[2..], [question.as_str()]);
}

#[test]
fn a_question_ends_with_its_connection_and_a_request_does_not() {
    let mut shell = Shell::new();
    assert_eq!(shell.ask(), Err(NotAccepted::NotConnected));
    shell.welcome();
    let (question, request) = (shell.ask().unwrap(), shell.request().unwrap());
    shell.client.closed(None, shell.now);
    shell.act();
    assert!(matches!(&shell.settled[..], [(id, Outcome::OutcomeUnknown)] if *id == question));
    shell.now = shell.client.next_deadline().unwrap();
    shell.client.tick(shell.now);
    shell.sent.clear();
    shell.act();
    shell.welcome();
    assert_eq!(shell.ids_sent(), [request.as_str()]);
    shell.client.close();
    assert_eq!(shell.ask(), Err(NotAccepted::Closed));
}

#[test]
fn a_question_without_an_answer_is_given_up_and_the_connection_is_not() {
    let mut shell = Shell::connected();
    let question = shell.ask().unwrap();
    for _ in 0..12 {
        shell.now += GIVE_UP_AFTER / 12;
        shell.client.heard(shell.now);
        shell.client.tick(shell.now);
        shell.act();
    }
    assert!(matches!(&shell.settled[..], [(id, Outcome::OutcomeUnknown)] if *id == question));
    assert_eq!(shell.client.state(), &State::Connected);
}
