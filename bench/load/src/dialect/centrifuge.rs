//! Centrifuge's JSON protocol as version 0.15 speaks it: a line each, as many in a frame as came together.

use super::{Client, Dialect, Role, Step, Unit};

pub(super) struct Centrifuge;

/// Ids of one length, so that answers are too.
const FIRST_ID: u64 = 1_000_000_000;

impl Dialect for Centrifuge {
    fn path(&self, _client: &Client) -> String {
        "/connection/websocket".to_owned()
    }

    fn opening(&self, client: &Client) -> Vec<Step> {
        let mut steps = vec![Step::Send(br#"{"id":1,"params":{}}"#.to_vec()), Step::Await("\"client\"")];
        let rooms = if client.role == Role::Subscriber { &client.rooms[..] } else { &[] };
        for room in rooms {
            let subscribe = format!(r#"{{"id":2,"method":1,"params":{{"channel":"{room}"}}}}"#);
            steps.extend([Step::Send(subscribe.into_bytes()), Step::Await("\"id\":2")]);
        }
        steps
    }

    fn publish(&self, room: &str, number: u64, payload: &str) -> Vec<u8> {
        let id = FIRST_ID + number;
        let publish =
            format!(r#"{{"id":{id},"method":3,"params":{{"channel":"{room}","data":"{payload}"}}}}"#);
        publish.into_bytes()
    }

    fn unit(&self, room: &str, payload: &str) -> Unit {
        let one = format!(r#"{{"result":{{"channel":"{room}","data":{{"data":"{payload}"}}}}}}"#);
        Unit::Stream { bytes: one.len() as u64 + 1 }
    }

    fn request(&self, client: &Client, number: u64, payload: &str) -> Option<Vec<u8>> {
        Some(self.publish(&format!("own{}", client.number), number, payload))
    }

    fn answer(&self, _payload: &str) -> Unit {
        Unit::Stream { bytes: format!(r#"{{"id":{FIRST_ID},"result":{{}}}}"#).len() as u64 + 1 }
    }

    fn publisher_listens(&self) -> bool {
        false
    }
}
