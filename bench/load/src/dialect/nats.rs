//! NATS's own protocol inside WebSocket frames. A frame holds as many messages as came together.

use super::{Client, Dialect, Role, Step, Unit};

pub(super) struct Nats;

impl Dialect for Nats {
    fn path(&self, _client: &Client) -> String {
        "/".to_owned()
    }

    fn opening(&self, client: &Client) -> Vec<Step> {
        let mut hello = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n".to_vec();
        for (number, room) in client.rooms.iter().enumerate() {
            hello.extend(format!("SUB {room} {number}\r\n").into_bytes());
        }
        if client.role == Role::Requester {
            hello.extend(format!("SUB own{} 0\r\n", client.number).into_bytes());
        }
        hello.extend(b"PING\r\n");
        vec![Step::Await("INFO"), Step::Send(hello), Step::Await("PONG")]
    }

    fn publish(&self, room: &str, _number: u64, payload: &str) -> Vec<u8> {
        format!("PUB {room} {}\r\n\"{payload}\"\r\n", payload.len() + 2).into_bytes()
    }

    fn unit(&self, room: &str, payload: &str) -> Unit {
        let one = format!("MSG {room} 0 {}\r\n\"{payload}\"\r\n", payload.len() + 2);
        Unit::Stream { bytes: one.len() as u64 }
    }

    fn heartbeat(&self, message: &[u8]) -> Option<&'static [u8]> {
        (message == b"PING\r\n").then_some(b"PONG\r\n")
    }

    fn binary(&self) -> bool {
        true
    }
}
