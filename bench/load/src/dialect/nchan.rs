//! Nchan: subscribers and publishers have locations of their own.

use super::{Client, Dialect, Role, Step, Unit, at_least};

pub(super) struct Nchan;

impl Dialect for Nchan {
    fn path(&self, client: &Client) -> String {
        let way = if client.role == Role::Publisher { "pub" } else { "sub" };
        format!("/{way}/{}", client.rooms.first().map_or("none", String::as_str))
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

    fn publisher_listens(&self) -> bool {
        false
    }
}
