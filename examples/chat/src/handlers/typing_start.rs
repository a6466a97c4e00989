//! `typing.start`: tells the others, and is forgotten at once.

use serde::Deserialize;
use serde_json::json;
use tidings::{AckError, Context, RoomId};

use super::check_member;
use crate::database::Database;

/// `{"channelId":"ch_1"}`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TypingStart {
    channel_id: RoomId,
}

pub(super) async fn handle(database: Database, ctx: Context, typing: TypingStart) -> Result<(), AckError> {
    check_member(&database, &ctx, &typing.channel_id).await?;
    ctx.broadcast_ephemeral(&typing.channel_id, "typing.start", &json!({}))?;
    Ok(())
}
