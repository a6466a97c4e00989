//! Servers without a protocol of their own: whoever connects to `/room/NAME` is in the room, and whatever is sent is
//! broadcast there as it is. `/echo` sends it back.

use super::{Client, Dialect, Role, Step, Unit, at_least};

pub(super) struct Plain;

impl Dialect for Plain {
    fn path(&self, client: &Client) -> String {
        match (client.role, client.rooms.first()) {
            (Role::Requester, _) | (_, None) => "/echo".to_owned(),
            (_, Some(room)) => format!("/room/{room}"),
        }
    }

    fn opening(&self, _client: &Client) -> Vec<Step> {
        Vec::new()
    }

    fn publish(&self, _room: &str, _number: u64, payload: &str) -> Vec<u8> {
        format!("\"{payload}\"").into_bytes()
    }

    fn unit(&self, _room: &str, payload: &str) -> Unit {
        at_least(payload)
    }

    fn request(&self, _client: &Client, _number: u64, payload: &str) -> Option<Vec<u8>> {
        Some(format!("\"{payload}\"").into_bytes())
    }
}
