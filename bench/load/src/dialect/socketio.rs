//! Socket.IO 4 over its WebSocket transport, default namespace: `join`, `publish` and `echo` are the servers' events.

use super::{Client, Dialect, Step, Unit, at_least};

pub(super) struct SocketIo;

impl Dialect for SocketIo {
    fn path(&self, _client: &Client) -> String {
        "/socket.io/?EIO=4&transport=websocket".to_owned()
    }

    fn opening(&self, client: &Client) -> Vec<Step> {
        let mut steps = vec![Step::Await("0{"), Step::Send(b"40".to_vec()), Step::Await("40{")];
        for (number, room) in client.rooms.iter().enumerate() {
            steps.push(Step::Send(format!("42{number}[\"join\",\"{room}\"]").into_bytes()));
            steps.push(Step::Await("43"));
        }
        steps
    }

    fn publish(&self, room: &str, _number: u64, payload: &str) -> Vec<u8> {
        format!("42[\"publish\",\"{room}\",\"{payload}\"]").into_bytes()
    }

    fn unit(&self, _room: &str, payload: &str) -> Unit {
        at_least(payload)
    }

    fn request(&self, _client: &Client, number: u64, payload: &str) -> Option<Vec<u8>> {
        Some(format!("42{number}[\"echo\",\"{payload}\"]").into_bytes())
    }

    fn heartbeat(&self, message: &[u8]) -> Option<&'static [u8]> {
        (message == b"2").then_some(b"3")
    }
}
