//! Somebody types: the others see it, and nothing is stored.

use serde_json::json;
use tidings::{AckError, Context};

use crate::database::Database;

pub async fn handle(_database: Database, ctx: Context, _nothing: ()) -> Result<(), AckError> {
    let (room, _) = super::channel(&ctx)?;
    Ok(ctx.broadcast_ephemeral(room, "typing.start", &json!({"user": ctx.user()}))?)
}
