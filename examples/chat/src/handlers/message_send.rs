//! `message.send`: stores a message and tells the channel.

use serde::{Deserialize, Serialize};
use tidings::{AckError, Context, RoomId};

use super::{Sent, check_content, check_member, request_id};
use crate::database::{Body, Database};

/// `{"channelId":"ch_1","content":"Hello"}`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MessageSend {
    channel_id: RoomId,
    content: String,
}

#[derive(Serialize)]
struct Said<'a> {
    content: &'a str,
}

pub(super) async fn handle(database: Database, ctx: Context, message: MessageSend) -> Result<Sent, AckError> {
    let MessageSend { channel_id, content } = message;
    check_content(&content)?;
    check_member(&database, &ctx, &channel_id).await?;
    let id = request_id(&ctx)?;
    let stored = database.store(channel_id.as_str(), ctx.user(), id.as_str(), Body::Text(&content)).await?;
    let sent = Sent::of(&stored)?;
    // Also if it was stored before: the server may have ended between the two. Pages know a message by its sender
    // and id, so that they show it once.
    ctx.broadcast(&channel_id, "message.send", &Said { content: &content }).await?;
    Ok(sent)
}
