//! A message: stored, then published. One that comes again under its id is the one that is stored.

use schemars::JsonSchema;
use serde::Deserialize;
use tidings::{AckError, Context, ErrorCode};

use crate::database::{Database, Message};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageSend {
    #[schemars(length(min = 1, max = 4000))]
    content: String,
}

pub async fn handle(
    database: Database,
    ctx: Context,
    sent: MessageSend,
) -> Result<Message, AckError> {
    let (room, channel) = super::channel(&ctx)?;
    let id = ctx
        .request_id()
        .ok_or_else(|| AckError::invalid("a message has an id"))?;
    let message = database
        .store(channel, ctx.user(), &sent.content, id.as_str())
        .await?;
    let message = message.ok_or_else(|| {
        AckError::new(
            ErrorCode::IdempotencyConflict,
            "this id was a message's in another channel",
        )
    })?;
    ctx.broadcast(room, "message.send", &message).await?;
    Ok(message)
}
