//! What Redis keeps and carries of a room: its keys, the scripts that alone write them, and their answers as types.
//!
//! delivery.md §4 is the specification. Nothing here decides what a position means to a client: that is
//! `RoomLog`'s, which is filled from what these calls return.
#![cfg_attr(not(test), expect(dead_code, reason = "the broker that makes these calls comes next"))]

mod answer;
mod error;
mod keys;
mod log;
mod message;
mod script;
#[cfg(test)]
mod tests;
