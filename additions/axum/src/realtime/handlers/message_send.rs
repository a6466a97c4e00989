//! A message. Store it here, before it is published, and unique by (user, id): one that comes again under its id
//! (`ctx.request_id()`), because an answer got lost, is the one that is stored.

use serde_json::json;
use tidings::{AckError, Context};

pub(super) async fn handle(
    ctx: Context,
    data: serde_json::Value,
) -> Result<serde_json::Value, AckError> {
    let room = ctx
        .room()
        .ok_or_else(|| AckError::invalid("a message is for a room"))?;
    let message = json!({"user": ctx.user(), "content": data["content"], "at": super::now_ms()});
    ctx.broadcast(room, "message.send", &message).await?;
    Ok(message)
}
