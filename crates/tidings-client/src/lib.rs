//! The client of Tidings: rooms, acks and presence over one WebSocket, with nothing lost when it breaks.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use serde_json::json;
//! use tidings_client::{Client, RoomEvent};
//!
//! # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
//! let client = Client::builder("ws://127.0.0.1:7777/ws")
//!     .token_from(|_| async { fetch_token().await.map(Some) }) // asked again at every connect
//!     .connect()?;
//! let (lobby, mut events) = client.join("chat:lobby").history(50).await?;
//! lobby.request("message.send", &json!({"content": "Hello"})).await?; // once, whatever the network does
//! while let Some(event) = events.next().await {
//!     match event {
//!         RoomEvent::Event(event) => println!("{:?}: {}", event.from, event.data.as_str()),
//!         RoomEvent::Reset(reset) => println!("start anew: {:?}", reset.reason),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] connects by itself, and again when a connection breaks (after 1, 2, 4 … 30 s, each time a random part of
//! that). Its rooms are joined again where they were, and what was missed comes before what is new. A request counts once,
//! however often it had to be sent.
//!
//! What decides is `tidings_protocol::client`, a machine without clock or socket; here are the socket, the clock and what
//! an application calls. It needs a tokio runtime.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod client;
mod connection;
mod event;
mod listeners;
mod presence;
mod request;
mod room;
mod shared;
mod shell;
mod tls;
mod token;

pub use client::{Client, ClientBuilder, DirectEvents, InvalidUrl};
pub use event::{Event, Payload, Reset};
pub use presence::{Members, Presence};
pub use request::{Answer, Request, RequestError};
pub use room::{Join, MembersPage, Room, RoomEvent, RoomEvents};
pub use tidings_protocol::client::{CaughtUp, HandshakeRefusal, State};
pub use tidings_protocol::error::ErrorCode;
pub use tidings_protocol::event_id::{EventId, RoomId};
pub use tidings_protocol::message::{ClientLimits, Recovery, ResetReason};
pub use token::TokenAsk;
