//! Runs `/vectors/client_machine.json`: what a client does with a stream of messages. The format is in
//! `vectors/README.md`.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::Value;
use tidings_protocol::client::{Action, Client, ClientQueueLimits, Decision};
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec::decode_server_text;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{ClientMessage, JoinFrom};

struct Run {
    client: Client,
    now: Instant,
    sent: VecDeque<Value>,
    join_id: String,
    resume_id: String,
    /// The cursor that the next welcome has to make the client resume.
    resumes: Option<String>,
}

impl Run {
    fn act(&mut self) {
        while let Some(action) = self.client.poll_action(self.now) {
            if let Action::Send(_, frame) = action {
                self.sent.push_back(serde_json::from_slice(&frame).unwrap());
            }
        }
    }

    fn join_was_sent(&mut self, room: &Value, position: &Value) {
        let join = self.sent.pop_front().unwrap();
        assert_eq!((&join["event"], &join["room"]), (&"room.join".into(), room));
        assert_eq!(&join["data"]["last_event_id"], position);
        self.join_id = join["id"].as_str().unwrap().to_owned();
    }

    fn step(&mut self, step: &Value) {
        let expected = &step["expect"];
        if let Some(text) = step["receive"].as_str() {
            let text = text.replace("$join", &self.join_id).replace("$resume", &self.resume_id);
            let message = decode_server_text(&text).unwrap();
            let decision = match self.client.receive(&message, self.now) {
                Decision::Accept => "accept",
                Decision::Reset => "reset",
                Decision::Move => "move",
                Decision::Drop => "drop",
                Decision::Hole => "hole",
                Decision::Ignore => "ignore",
            };
            assert_eq!(decision, expected);
            self.act();
            if let Some(cursor) = self.resumes.take() {
                let resume = self.sent.pop_front().unwrap();
                assert_eq!(
                    (&resume["event"], &resume["data"]["last_event_id"]),
                    (&"session.resume".into(), &cursor.into())
                );
                self.resume_id = resume["id"].as_str().unwrap().to_owned();
            }
        } else if let Some(room) = step["join"].as_str() {
            let room = RoomId::parse(room).unwrap();
            let message = |id| ClientMessage::Join { room, id, from: JoinFrom::Newest { history: 0 } };
            self.client.request(message, self.now).unwrap();
            self.act();
            self.join_was_sent(&step["join"], expected);
        } else if step["rejoin"].is_string() {
            self.join_was_sent(&step["rejoin"], expected);
        } else {
            let code = step.get("disconnect").unwrap().as_u64();
            self.client.closed(code.map(|code| CloseCode(code.try_into().unwrap())), self.now);
            self.now = self.client.next_deadline().unwrap();
            self.client.tick(self.now);
            self.act();
            self.resumes = expected.as_str().map(str::to_owned);
            assert_eq!(
                self.client.positions().cursor().to_string(),
                self.resumes.clone().unwrap_or_default()
            );
        }
    }
}

#[test]
fn client_machine() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/client_machine.json");
    let scenarios: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(!scenarios.is_empty());
    for scenario in &scenarios {
        let now = Instant::now();
        let client = Client::new(1, ClientQueueLimits::default(), now);
        let (sent, join_id, resume_id) = (VecDeque::new(), String::new(), String::new());
        let mut run = Run { client, now, sent, join_id, resume_id, resumes: None };
        run.act();
        for step in scenario["steps"].as_array().unwrap() {
            println!("{}: {step}", scenario["name"]);
            run.step(step);
        }
        assert_eq!(run.sent, [] as [Value; 0], "{}", scenario["name"]);
    }
}
