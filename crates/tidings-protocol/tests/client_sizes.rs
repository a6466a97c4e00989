//! A client sends nothing that is larger than the welcome says, since the server closes for it: PROTOCOL.md §7.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking, in its helpers too.

use std::time::Instant;

use serde_json::json;
use serde_json::value::to_raw_value;
use tidings_protocol::client::{Action, Client, ClientQueueLimits, NotAccepted, Outcome, State};
use tidings_protocol::codec::{decode_server_text, encode_client};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::message::{ClientEvent, ClientMessage, Data, EventName, MessageId};

const TEXT_BYTES_MAX: usize = 200;
const BINARY_BYTES_MAX: usize = 100;

/// Does what is due, and gives the sizes of what was sent and how requests ended.
fn act(client: &mut Client, now: Instant) -> (Vec<usize>, Vec<(MessageId, Outcome)>) {
    let (mut sent, mut settled) = (vec![], vec![]);
    while let Some(action) = client.poll_action(now) {
        match action {
            Action::Send(_, frame) => sent.push(frame.len()),
            Action::Settled(id, outcome) => settled.push((id, outcome)),
            _ => {}
        }
    }
    (sent, settled)
}

fn welcome(client: &mut Client, now: Instant) {
    let message = json!({"event": "session.welcome", "data": {
        "session": "s1", "user": "me", "rooms": [], "last_event_id": "", "heartbeat_ms": 30000, "features": [],
        "limits": {"text_message_bytes": TEXT_BYTES_MAX, "binary_message_bytes": BINARY_BYTES_MAX},
    }});
    client.receive(&decode_server_text(&message.to_string()).unwrap(), now);
}

fn event(data: Data<'_>, id: Option<MessageId>) -> ClientMessage<'_> {
    ClientMessage::Event(ClientEvent { event: EventName::parse("e").unwrap(), room: None, data, id })
}

/// So many bytes besides its data and the quotes around that.
fn overhead(data: Data<'_>, id: Option<MessageId>) -> usize {
    let (mut frame, own) = (Vec::new(), data.as_bytes().len());
    encode_client(&event(data, id), &mut frame);
    frame.len() - own
}

#[test]
fn what_is_larger_than_the_server_takes_is_refused_here_and_ends_no_connection() {
    let now = Instant::now();
    let mut client = Client::new(7, ClientQueueLimits::default(), now);
    act(&mut client, now);
    let text = |bytes: usize| to_raw_value(&"x".repeat(bytes)).unwrap();
    let id = MessageId::parse("0000000000000000-0").unwrap();
    let too_large = text(TEXT_BYTES_MAX);

    // Nobody has said yet what the server takes.
    let asked = client.request(|id| event(Data::Json(&too_large), Some(id)), now).unwrap();
    welcome(&mut client, now);
    let (sent, settled) = act(&mut client, now);
    let [(refused, Outcome::Refused(refusal))] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((refused, refusal.code), (&asked, ErrorCode::TooLarge));
    assert!(sent.is_empty(), "{sent:?}");

    let larger = client.request(|id| event(Data::Json(&too_large), Some(id)), now);
    assert_eq!(larger, Err(NotAccepted::TooLarge));
    let fits = text(TEXT_BYTES_MAX - overhead(Data::Json(&text(0)), Some(id)) - 2);
    client.request(|id| event(Data::Json(&fits), Some(id)), now).unwrap();
    assert_eq!(act(&mut client, now).0, [TEXT_BYTES_MAX]);

    // Bytes have a limit of their own.
    let payload = vec![0; BINARY_BYTES_MAX - overhead(Data::Binary(b""), None) + 1];
    assert_eq!(client.send(&event(Data::Binary(&payload), None)), Err(NotAccepted::TooLarge));
    client.send(&event(Data::Binary(&payload[1..]), None)).unwrap();
    assert_eq!(act(&mut client, now).0, [BINARY_BYTES_MAX]);
    assert_eq!(client.state(), &State::Connected);
}
