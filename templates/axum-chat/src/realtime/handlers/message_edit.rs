//! An edit, by whoever wrote it.

use schemars::JsonSchema;
use serde::Deserialize;
use tidings::{AckError, Context};

use crate::database::{Database, Message};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageEdit {
    #[schemars(range(min = 1))]
    seq: i64,
    #[schemars(length(min = 1, max = 4000))]
    content: String,
}

pub async fn handle(
    database: Database,
    ctx: Context,
    edit: MessageEdit,
) -> Result<Message, AckError> {
    let (room, channel) = super::channel(&ctx)?;
    let message = database
        .edit(channel, edit.seq, ctx.user(), &edit.content)
        .await?;
    let message =
        message.ok_or_else(|| AckError::forbidden("only your own messages can be edited"))?;
    ctx.broadcast(room, "message.edit", &message).await?;
    Ok(message)
}
