//! `image.send`: a binary message to a channel's room; stored, and sent on as the bytes that came.

use axum::body::Bytes;
use tidings::{AckError, Context};

use super::{Sent, request_id};
use crate::database::{Body, Database};

pub(super) async fn handle(database: Database, ctx: Context, image: Bytes) -> Result<Sent, AckError> {
    // Whoever sends to a room is in it, and only members of the channel are.
    let channel = ctx.room().ok_or_else(|| AckError::invalid("an image needs a room"))?;
    if image.is_empty() {
        return Err(AckError::invalid("there is no image in the message"));
    }
    let id = request_id(&ctx)?;
    let stored = database.store(channel.as_str(), ctx.user(), id.as_str(), Body::Image(&image)).await?;
    let sent = Sent::of(&stored)?;
    ctx.broadcast_binary(channel, "image.send", image).await?;
    Ok(sent)
}
