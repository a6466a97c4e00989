//! The Tidings protocol, pure: values and `now` in, actions out.
//!
//! No runtime, no socket, no clock, no lock. The server's shell is the crate `tidings`; the client's is
//! whatever drives [`client`]. The wire is described in PROTOCOL.md.

pub mod client;
pub mod close;
pub mod codec;
pub mod error;
pub mod event_id;
pub mod follower;
pub mod frame;
pub mod limits;
pub mod message;
pub mod room_log;
pub mod session;
pub mod token_bucket;
