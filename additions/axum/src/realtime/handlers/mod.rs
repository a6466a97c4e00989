//! What pages send, by its name: one file an event. The hub has checked its schema, and that its sender is in the room.

mod message_send;
mod presence_heartbeat;
mod typing_start;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tidings::HubBuilder;

/// Registers every handler. What it returns is the ack.
pub(super) fn register(hub: HubBuilder) -> HubBuilder {
    let message = json!({
        "type": "object",
        "required": ["content"],
        "additionalProperties": false,
        "properties": {"content": {"type": "string", "minLength": 1, "maxLength": 4000}},
    });
    let nothing = json!({"type": "null"});
    hub.schema("message.send", &message)
        .on("message.send", message_send::handle)
        .schema("typing.start", &nothing)
        .on("typing.start", typing_start::handle)
        .schema("presence.heartbeat", &nothing)
        .on("presence.heartbeat", presence_heartbeat::handle)
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
