//! What a member can do, a file for each event. The return value of a handler is the ack.

mod image_send;
mod message_edit;
mod message_send;
mod presence_heartbeat;
mod typing_start;

use serde::Serialize;
use tidings::protocol::message::MessageId;
use tidings::{AckError, Context, ErrorCode, HubBuilder, RoomId};

use crate::database::{Database, Stored};

/// The longest text of a message, in characters.
const CONTENT_CHARS_MAX: usize = 4_000;

/// Registers every handler.
pub(crate) fn register(hub: HubBuilder, database: &Database) -> HubBuilder {
    hub.on("message.send", with(database, message_send::handle))
        .on("message.edit", with(database, message_edit::handle))
        .on("typing.start", with(database, typing_start::handle))
        .on("presence.heartbeat", with(database, presence_heartbeat::handle))
        .on_binary("image.send", with(database, image_send::handle))
}

/// A handler that has the database at hand.
fn with<T, F, H>(database: &Database, handler: H) -> impl Fn(Context, T) -> F + use<T, F, H>
where
    H: Fn(Database, Context, T) -> F,
{
    let database = database.clone();
    move |ctx, data| handler(database.clone(), ctx, data)
}

/// The ack of a message: when it was stored, in milliseconds since 1970.
#[derive(Serialize)]
struct Sent {
    at: i64,
}

impl Sent {
    fn of(stored: &Stored) -> Result<Self, AckError> {
        match stored {
            Stored::At(at) => Ok(Self { at: *at }),
            Stored::Conflict => Err(AckError::new(
                ErrorCode::IdempotencyConflict,
                "this id was used for another message: give each message an id of its own",
            )),
        }
    }
}

/// A message without a room comes from whoever is connected: the database says who may.
async fn check_member(database: &Database, ctx: &Context, channel: &RoomId) -> Result<(), AckError> {
    if database.is_member(ctx.user(), channel.as_str()).await? {
        return Ok(());
    }
    Err(AckError::forbidden(format!("you are not a member of {channel}")))
}

/// The id under which a request counts once.
fn request_id(ctx: &Context) -> Result<&MessageId, AckError> {
    ctx.request_id()
        .ok_or_else(|| AckError::invalid("a message needs an id, so that a retry is no second message"))
}

fn check_content(content: &str) -> Result<(), AckError> {
    if (1..=CONTENT_CHARS_MAX).contains(&content.chars().count()) {
        return Ok(());
    }
    Err(AckError::invalid(format!("a message has 1 to {CONTENT_CHARS_MAX} characters")))
}
