//! A page shows that somebody is there. Who is connected Tidings knows by itself; this is when he was last seen.

use serde_json::{Value, json};
use tidings::{AckError, Context};

use crate::database::Database;

pub async fn handle(database: Database, ctx: Context, _nothing: ()) -> Result<Value, AckError> {
    Ok(json!({"seen_at": database.seen(ctx.user()).await?}))
}
