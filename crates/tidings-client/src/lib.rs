//! The client of Tidings: rooms, acks and presence over one WebSocket, with nothing lost when it breaks.
//!
//! ```
//! # use tidings::{Access, Hub, RoomRules, auth::{Jwt, mint_hs256}};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let secret = b"a canary-bird of the client's documentation";
//! # let rule = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
//! # let hub = Hub::builder().authenticate(Jwt::hs256(secret)?).rule(rule).build()?;
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("ws://{}/ws", listener.local_addr()?);
//! # let app = axum::Router::new().route("/ws", hub.route());
//! # tokio::spawn(async move { axum::serve(listener, app).await });
//! # let fetch_token = move || async move {
//! #     mint_hs256(secret, &serde_json::json!({"sub": "ann", "aud": "tidings", "exp": 4_000_000_000u64}))
//! # };
//! use serde_json::json;
//! use tidings_client::{Client, RoomEvent};
//!
//! let client = Client::builder(url)
//!     .token_from(move |_| async move { fetch_token().await.map(Some) }) // asked again at every connect
//!     .connect()?;
//! let (lobby, mut events) = client.join("chat:lobby").history(50).await?;
//! lobby.request("message.send", &json!({"content": "Hello"})).await?; // once, whatever the network does
//! while let Some(event) = events.next().await {
//!     match event {
//!         RoomEvent::Event(event) => {
//!             println!("{:?}: {}", event.from, event.data.as_str());
//!             # assert_eq!(event.data.as_str(), r#"{"content":"Hello"}"#);
//!             # break;
//!         }
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
mod fault;
mod listeners;
mod presence;
mod request;
mod room;
mod shared;
mod shell;
mod tls;
mod token;

pub use client::{Client, ClientBuilder, DirectEvents, InvalidUrl, ServerRooms};
pub use event::{Event, Payload, Reset};
pub use fault::ConnectionFault;
pub use presence::{Members, Presence};
pub use request::{Answer, Request, RequestError};
pub use room::{Join, MembersPage, Room, RoomEvent, RoomEvents};
pub use tidings_protocol::client::{CaughtUp, HandshakeRefusal, RoomLoss, State};
pub use tidings_protocol::error::ErrorCode;
pub use tidings_protocol::event_id::{EventId, RoomId};
pub use tidings_protocol::message::{ClientLimits, LeftReason, Recovery, ResetReason};
#[cfg(feature = "tls")]
pub use tls::InvalidCertificate;
pub use token::TokenAsk;
