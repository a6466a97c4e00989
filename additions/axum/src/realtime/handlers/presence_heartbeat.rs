//! A page shows that somebody is there. Who is connected the hub knows by itself; this is when he was last seen.

use serde_json::json;
use tidings::{AckError, Context};

pub(super) async fn handle(
    _ctx: Context,
    _nothing: serde_json::Value,
) -> Result<serde_json::Value, AckError> {
    Ok(json!({"seen_at": super::now_ms()}))
}
