//! The hot paths, so often, to have their instructions counted: `tidings-instructions PATH TIMES`.
//!
//! `run.py` runs it under callgrind with two counts; the difference is what one costs, without what it takes to get
//! there. No socket, no thread and no clock of the system is in it, so that a count is the same on a noisy machine.

#![allow(clippy::expect_used, reason = "a run that can't be set up has no count")]

use std::process::ExitCode;

use tidings::testing::{TestClient, TestHub};
use tidings::{Access, Hub, Limits, RoomRules};
use tidings_protocol::codec::decode_client_text;
use tidings_protocol::frame::{Inbound, MessageReader, Opcode, ReaderLimits, put_masked_frame};

/// Members of the room that is published to.
const MEMBERS: usize = 1000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (path, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    match (path.as_deref(), times) {
        (Some("decode"), Some(times)) => decode(times),
        (Some("publish"), Some(times)) => runtime.block_on(publish(MEMBERS, times)),
        (Some("ack"), Some(times)) => runtime.block_on(publish(1, times)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn message(number: usize) -> String {
    format!(r#"{{"event":"tick","room":"r0","data":"{}","id":"9f-{number}"}}"#, "x".repeat(126))
}

/// A masked frame of a client's, read and decoded.
fn decode(times: usize) {
    let limits = ReaderLimits::from(&Limits::default());
    let mut reader = MessageReader::default();
    let mut frame = Vec::new();
    put_masked_frame(&mut frame, Opcode::Text, message(0).as_bytes(), [1, 2, 3, 4]);
    for _ in 0..times {
        let (mut bytes, mut used) = (frame.clone(), 0);
        let inbound = reader.read(&mut bytes, &mut used, &limits);
        let Ok(Some(Inbound::Text(text))) = inbound else { return };
        std::hint::black_box(decode_client_text(text)).expect("a message");
    }
}

/// Publishes of a client with ids, to all members of a room, until the last member has them and the sender its acks.
async fn publish(members: usize, times: usize) {
    let mut limits = Limits::default();
    (limits.messages_per_second, limits.messages_burst) = (1_000_000, 1_000_000);
    (limits.messages_per_second_per_user, limits.publishes_per_second_per_room) = (1_000_000, 1_000_000);
    let rule = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event().presence(false);
    let hub = TestHub::start(Hub::builder().limits(limits).rule(rule)).expect("a hub");
    let mut clients: Vec<TestClient> = Vec::new();
    for number in 0..members {
        let mut client = hub.connect(&format!("u{number}")).await;
        client.join("r0").await;
        clients.push(client);
    }
    for number in 0..times {
        clients[0].send_text(&message(number)).await;
    }
    // The sender gets its acks besides the events; where it is alone it is the last member too.
    let (mut acks, mut events) = (0, 0);
    while acks < times || events < times {
        let text = clients[0].next_text().await;
        if text.starts_with(r#"{"event":"ack""#) { acks += 1 } else { events += 1 }
    }
    if let [_, .., last] = &mut clients[..] {
        for _ in 0..times {
            last.next_text().await;
        }
    }
}
