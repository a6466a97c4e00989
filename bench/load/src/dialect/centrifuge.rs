//! Centrifuge's JSON protocol, version 2.

use super::{Client, Dialect, Step, Unit};

pub(super) struct Centrifuge;

impl Dialect for Centrifuge {
    fn path(&self, _client: &Client) -> String {
        "/connection/websocket".to_owned()
    }

    fn opening(&self, client: &Client) -> Vec<Step> {
        let mut steps = vec![Step::Send(br#"{"id":1,"connect":{}}"#.to_vec()), Step::Await("\"connect\"")];
        for (number, room) in client.rooms.iter().enumerate() {
            let id = number + 2;
            let subscribe = format!(r#"{{"id":{id},"subscribe":{{"channel":"{room}"}}}}"#);
            steps.extend([Step::Send(subscribe.into_bytes()), Step::Await("\"subscribe\"")]);
        }
        steps
    }

    fn publish(&self, room: &str, number: u64, payload: &str) -> Vec<u8> {
        let id = number + 1000;
        format!(r#"{{"id":{id},"publish":{{"channel":"{room}","data":"{payload}"}}}}"#).into_bytes()
    }

    /// Several messages may share a frame, one a line: so they are counted as a stream.
    fn unit(&self, room: &str, payload: &str) -> Unit {
        Unit::Frame { at_least: (payload.len() + room.len()) as u64 }
    }

    fn request(&self, client: &Client, number: u64, payload: &str) -> Option<Vec<u8>> {
        Some(self.publish(&format!("own{}", client.number), number, payload))
    }

    fn is_answer(&self, len: u64, payload: &str) -> bool {
        len < payload.len() as u64
    }

    fn heartbeat(&self, message: &[u8]) -> Option<&'static [u8]> {
        (message == b"{}").then_some(b"{}")
    }
}
