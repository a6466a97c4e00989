//! What carries between nodes, and what sequences and stores.
//!
//! The seam is one call: a publication goes in, and its completion is told the outcome, inside the call where
//! that is possible. So the fast path of a single node allocates no future.

mod memory;
#[cfg(feature = "redis")]
mod redis;
mod together;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::event_id::{Position, RoomId};
use tidings_protocol::follower::Ask;
use tidings_protocol::message::MessageId;
use tokio::sync::oneshot;

use crate::auth::UserId;
use crate::encode;
use crate::inbox::{Entry, Inbox};
use crate::presence::Info;
use crate::publication::{Draft, Excluded};
use crate::room::{Need, PublishError, Receipt, Room};
use crate::users::ConnectionKey;

pub(crate) use memory::MemoryBroker;
#[cfg(feature = "redis")]
pub(crate) use redis::RedisBroker;
#[cfg(feature = "redis")]
pub use redis::{InvalidAddress, InvalidCertificate, InvalidPrefix, Redis, RedisFault, RedisReport};
pub(crate) use together::{Answer, Answers, NoPlace, Order, Place, Question, Replies, Reply, Wanted};
pub use together::{ControlError, NodeInfo};

/// Who is in a room, sorted.
pub(crate) type MembersFuture<'a> = Pin<Box<dyn Future<Output = Option<Vec<(UserId, Info)>>> + Send + 'a>>;

/// What every broker does.
pub(crate) trait Broker: Send + Sync + 'static {
    /// Sequences and stores a publication of `room`, lets it reach every member, and completes. Publications of
    /// one room are sequenced in the order of these calls. What is handed over inside the call waits until the
    /// caller rings ([`Node::ring`](crate::node::Node::ring)): so several that came together reach a shard together.
    fn submit(&self, room: &Arc<Room>, draft: Draft, completion: Completion);

    /// Sends on what calls before have handed over: what came together goes together.
    fn ring(&self) {}

    /// Whether it, and not this node, sequences rooms: then a room's log here follows the broker's while somebody
    /// [holds](Room::hold) it.
    fn is_shared(&self) -> bool {
        false
    }

    /// A room is held now, or is not any more.
    fn interest_changed(&self, _room: &Arc<Room>) {}

    /// Reads a room's log, for a follower that asks.
    fn read(&self, _room: &Arc<Room>, _ask: Ask) {}

    /// Carries an ephemeral event to the room's members on other nodes.
    fn pass_on(&self, _room: &Room, _frame: &Bytes, _except: Option<&Excluded>) {}

    /// Somebody came into a room here, left it or shows something else, and the other nodes are to know.
    fn presence_changed(&self, _room: &Arc<Room>) {}

    /// Reads who is in a room that this node does not follow; none if there is no answer.
    fn members<'a>(&'a self, _room: &'a Arc<Room>) -> MembersFuture<'a> {
        Box::pin(std::future::ready(None))
    }

    /// Whether what is published reaches other nodes.
    fn is_ready(&self) -> bool {
        true
    }

    /// What a request asks for, as a number that every node has for the same; none where one node is all there is.
    fn fingerprint(&self, _event: &str, _data: &[u8]) -> Option<u64> {
        None
    }

    /// Takes a place among those that a user's connections on all nodes may have; whoever loses his by it is closed,
    /// wherever he is. None where one node is all there is, which keeps the limit itself.
    fn take_place<'a>(&'a self, _wanted: Wanted<'a>) -> Option<Answer<'a, Result<Place, NoPlace>>> {
        None
    }

    /// Whether [`Broker::take_place`] would find one.
    fn find_place<'a>(&'a self, _wanted: Wanted<'a>) -> Option<Answer<'a, Result<(), NoPlace>>> {
        None
    }

    /// Has every other node do this; none where there is no other.
    fn order<'a>(&'a self, _order: Order<'a>) -> Option<Answer<'a, Result<(), ControlError>>> {
        None
    }

    /// Whom to ask when other nodes want to know something.
    fn answer_with(&self, _node: Box<dyn Answers>) {}

    /// Asks every other node; none where there is no other.
    fn ask<'a>(&'a self, _question: &Question) -> Option<Answer<'a, Replies>> {
        None
    }

    /// Takes the content of an event back where it is stored; whether it was. None where the rooms' logs here are all that
    /// is stored.
    fn redact<'a>(
        &'a self,
        _room: &'a Arc<Room>,
        _event: Position,
    ) -> Option<Answer<'a, Result<bool, ControlError>>> {
        None
    }

    /// Carries an event to a user's connections on other nodes.
    fn send_to_user(&self, _user: &UserId, _frame: &Bytes) {}

    /// The nodes that share it; none where one is all there is.
    fn nodes(&self) -> Option<Answer<'_, Result<Vec<NodeInfo>, ControlError>>> {
        None
    }

    /// This node takes nobody any more, and is about to end: whoever is not at another by then leaves its rooms when his
    /// grace would have ended.
    fn leave(&self) {}

    /// Waits until what it holds for users who are gone was given back; none where it holds nothing.
    fn settle(&self) -> Option<Answer<'_, ()>> {
        None
    }

    /// Forgets what is past its time.
    fn maintain(&self);
}

/// Somebody's interest in a room: while there is one, the room's log here follows the broker's.
pub(crate) struct Held {
    room: Arc<Room>,
    broker: Arc<dyn Broker>,
}

impl Held {
    pub(crate) fn new(broker: &Arc<dyn Broker>, room: &Arc<Room>) -> Self {
        if room.hold() {
            broker.interest_changed(room);
        }
        Self { room: Arc::clone(room), broker: Arc::clone(broker) }
    }

    /// Waits until a client at `from` can be told what follows, as far as the broker has it.
    pub(crate) async fn ready(&self, from: Option<Position>) {
        loop {
            match self.room.need(from) {
                Need::Nothing => return,
                // Held, so that it ends with the heal.
                Need::Healing(broken) => drop(broken.healed().await),
                Need::Read(broken, ask) => {
                    if let Some(ask) = ask {
                        self.broker.read(&self.room, ask);
                    }
                    drop(broken.healed().await);
                    return;
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.room.release() {
            self.broker.interest_changed(&self.room);
        }
    }
}

/// Who is told what became of a publication.
pub(crate) enum Completion {
    /// The application.
    Caller(oneshot::Sender<Result<Receipt, PublishError>>),
    /// The client who sent it, by an ack.
    Client { inbox: Arc<Inbox>, connection: ConnectionKey, room: RoomId, id: MessageId },
    /// A client who asked for no ack.
    Nobody,
}

impl Completion {
    /// Tells the outcome.
    pub(crate) fn complete(self, outcome: Result<Receipt, PublishError>) {
        match self {
            // Whoever has stopped waiting does not want to know.
            Self::Caller(caller) => drop(caller.send(outcome)),
            Self::Client { inbox, connection, room, id } => {
                let frame = answer(&room, &id, outcome);
                inbox.push(Entry::Direct { connection, frame });
            }
            Self::Nobody => {}
        }
    }
}

fn answer(room: &RoomId, id: &MessageId, outcome: Result<Receipt, PublishError>) -> Bytes {
    match outcome {
        Ok(receipt) => encode::published(room, id, receipt.position, receipt.duplicate),
        Err(error) => encode::error(Some(id), &refusal(error)),
    }
}

/// What a client is told.
pub(crate) fn refusal(error: PublishError) -> Refusal {
    match error {
        PublishError::Conflict => Refusal::new(
            ErrorCode::IdempotencyConflict,
            "this id was used for another message in the last five minutes: use a random prefix and a counter",
        ),
        PublishError::TooManyIds => {
            Refusal::new(ErrorCode::RateLimited, "too many idempotency ids in five minutes")
                .retry_after_ms(60_000)
        }
        PublishError::TooFast { retry_after } => {
            // Rounded up, so that a client that waits as long is in time.
            let wait_ms = u64::try_from(retry_after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
            Refusal::new(ErrorCode::RateLimited, "this room has as many publishes a second as it takes")
                .retry_after_ms(wait_ms)
        }
        PublishError::TooLarge => Refusal::new(ErrorCode::TooLarge, "the message is too large"),
        PublishError::Unavailable => Refusal::new(
            ErrorCode::Unavailable,
            "what rooms are stored in does not answer: it may be published, try again with the same id",
        ),
        PublishError::UnknownRoom => Refusal::new(ErrorCode::UnknownRoom, "no rule covers this room"),
    }
}
