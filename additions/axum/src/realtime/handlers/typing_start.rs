//! Somebody types: the others see it, and nothing is stored.

use serde_json::json;
use tidings::{AckError, Context};

pub(super) async fn handle(ctx: Context, _nothing: serde_json::Value) -> Result<(), AckError> {
    let room = ctx
        .room()
        .ok_or_else(|| AckError::invalid("typing is for a room"))?;
    ctx.broadcast_ephemeral(room, "typing.start", &json!({"user": ctx.user()}))?;
    Ok(())
}
