//! A load generator for WebSocket servers, in one thread: raw epoll, one read buffer, frames counted by their headers.
//!
//! It must be clearly faster than any server, or it would measure itself. It counts every delivery at every
//! subscriber, so that a server that drops is seen; latency is from the moment at which a message was *meant* to be
//! sent (so that a stall is not forgiven), and the server's CPU and memory are read from `/proc`. A [`Dialect`] is
//! what differs between servers; a [`case`] is what is asked of them.

mod asked;
pub mod case;
pub mod dialect;
pub mod link;
pub mod plan;
pub mod poller;
pub mod report;
pub mod swarm;
pub mod usage;

pub use asked::{Asked, Case};
pub use dialect::Dialect;
pub use plan::{Plan, Target};
pub use report::Report;
