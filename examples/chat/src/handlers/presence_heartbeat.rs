//! `presence.heartbeat`: the client is there; the database remembers when.

use serde_json::Value;
use tidings::{AckError, Context};

use crate::database::Database;

pub(super) async fn handle(database: Database, ctx: Context, _data: Value) -> Result<(), AckError> {
    Ok(database.seen(ctx.user()).await?)
}
