//! `message.edit`: changes one's own message and tells the channel.

use serde::{Deserialize, Serialize};
use tidings::{AckError, Context, RoomId};

use super::{Sent, check_content, check_member};
use crate::database::Database;

/// `{"channelId":"ch_1","messageId":"client-uuid","content":"Hello again"}`; `messageId` is the id of the request that
/// sent the message. It is looked up among the caller's own, so nobody changes another's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MessageEdit {
    channel_id: RoomId,
    message_id: String,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edited<'a> {
    message_id: &'a str,
    content: &'a str,
}

pub(super) async fn handle(database: Database, ctx: Context, edit: MessageEdit) -> Result<Sent, AckError> {
    let MessageEdit { channel_id, message_id, content } = edit;
    check_content(&content)?;
    check_member(&database, &ctx, &channel_id).await?;
    let edited = database.edit(channel_id.as_str(), ctx.user(), &message_id, &content).await?;
    let at = edited.ok_or_else(|| AckError::forbidden("there is no such message of yours"))?;
    ctx.broadcast(&channel_id, "message.edit", &Edited { message_id: &message_id, content: &content })
        .await?;
    Ok(Sent { at })
}
