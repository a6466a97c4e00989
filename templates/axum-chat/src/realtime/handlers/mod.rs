//! What pages send, by its name: one file an event. Tidings has checked its schema, which is its type's, and that its sender
//! is in the room. What a handler returns is the ack.

mod message_edit;
mod message_send;
mod presence_heartbeat;
mod typing_start;

use tidings::{AckError, Context, HubBuilder, RoomId};

use super::rooms::channel_of;
use crate::database::Database;

/// Every event that there is.
pub fn register(hub: HubBuilder, database: &Database) -> HubBuilder {
    hub.on_with_schema("message.send", with(database, message_send::handle))
        .on_with_schema("message.edit", with(database, message_edit::handle))
        .on_with_schema("typing.start", with(database, typing_start::handle))
        .on_with_schema(
            "presence.heartbeat",
            with(database, presence_heartbeat::handle),
        )
}

/// A handler that has the database at hand.
fn with<T, F, H>(database: &Database, handler: H) -> impl Fn(Context, T) -> F + use<T, F, H>
where
    H: Fn(Database, Context, T) -> F,
{
    let database = database.clone();
    move |ctx, data| handler(database.clone(), ctx, data)
}

/// The room that a message was for, and its channel.
fn channel(ctx: &Context) -> Result<(&RoomId, i64), AckError> {
    let room = ctx
        .room()
        .ok_or_else(|| AckError::invalid("this event is for a channel's room"))?;
    let channel = channel_of(room).ok_or_else(|| AckError::invalid("this room is no channel's"))?;
    Ok((room, channel))
}
