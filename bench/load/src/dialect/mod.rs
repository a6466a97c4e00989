//! What differs between servers: how a client gets in, how it publishes, what a delivery looks like.

mod centrifuge;
mod nats;
mod nchan;
mod plain;
mod pusher;
mod socketio;
mod tidings;

use crate::plan::PlanError;

pub use tidings::{SigningKey, Tidings};

/// A client of a swarm.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number in the swarm, from 0.
    pub number: usize,
    /// The rooms that it is in.
    pub rooms: Vec<String>,
    /// What it does.
    pub role: Role,
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It listens to its rooms.
    Subscriber,
    /// It publishes into its room, and listens unless the dialect's publishers do not.
    Publisher,
    /// It sends requests and waits for their answers.
    Requester,
}

/// One step of what a client does between the upgrade and being ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send this message.
    Send(Vec<u8>),
    /// Wait for a message that contains this.
    Await(&'static str),
    /// The same, and give it to [`Dialect::learned`] for what to send then.
    Learn(&'static str),
}

/// How deliveries, or answers, are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// One a frame, of so many bytes; a shorter or longer frame is something else.
    Frame {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Frames carry a stream in which each takes so many bytes.
    Stream {
        /// Bytes of one.
        bytes: u64,
    },
}

impl Unit {
    /// How many of them a frame completes; `carry` keeps what it begins.
    pub fn count(self, len: u64, carry: &mut u64) -> u64 {
        match self {
            Self::Frame { min, max } => u64::from((min..=max).contains(&len)),
            Self::Stream { bytes } => {
                *carry += len;
                let whole = *carry / bytes;
                *carry %= bytes;
                whole
            }
        }
    }
}

/// A server's way to speak.
pub trait Dialect {
    /// The path and query of a client's handshake.
    fn path(&self, client: &Client) -> String;

    /// What follows the upgrade.
    fn opening(&self, client: &Client) -> Vec<Step>;

    /// What to send after a [`Step::Learn`].
    fn learned(&self, _client: &Client, _message: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    /// The `number`th publish into a room; `payload` is plain ASCII.
    fn publish(&self, room: &str, number: u64, payload: &str) -> Vec<u8>;

    /// How one arrives at a subscriber.
    fn unit(&self, room: &str, payload: &str) -> Unit;

    /// The `number`th request of a client, which the server answers.
    fn request(&self, _client: &Client, _number: u64, _payload: &str) -> Option<Vec<u8>> {
        None
    }

    /// How the answers arrive.
    fn answer(&self, payload: &str) -> Unit {
        at_least(payload)
    }

    /// What a heartbeat message of the server's own is answered with.
    fn heartbeat(&self, _message: &[u8]) -> Option<&'static [u8]> {
        None
    }

    /// Why the server refused what a client sent, if a message says that.
    fn refusal(&self, _message: &[u8]) -> Option<String> {
        None
    }

    /// Whether a publisher gets what it publishes, and so is one of the room's subscribers.
    fn publisher_listens(&self) -> bool {
        true
    }

    /// Whether it speaks in binary frames.
    fn binary(&self) -> bool {
        false
    }
}

/// Frames that have room for the payload.
fn at_least(payload: &str) -> Unit {
    Unit::Frame { min: payload.len() as u64, max: u64::MAX }
}

/// The dialect of this name.
///
/// # Errors
/// When there is none.
pub fn named(name: &str, key: Option<SigningKey>) -> Result<Box<dyn Dialect>, PlanError> {
    Ok(match name {
        "tidings" => Box::new(Tidings::new(key.ok_or(PlanError::NoKey)?)),
        "plain" => Box::new(plain::Plain),
        "socketio" => Box::new(socketio::SocketIo),
        "centrifuge" => Box::new(centrifuge::Centrifuge),
        "nats" => Box::new(nats::Nats),
        "nchan" => Box::new(nchan::Nchan),
        "pusher" => Box::new(pusher::Pusher),
        _ => return Err(PlanError::NoDialect(name.to_owned())),
    })
}
