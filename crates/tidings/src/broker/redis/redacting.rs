//! Taking the content of an event back where it is stored. What nodes have read of it before is an order's affair
//! ([`super::orders`]).

use std::sync::Arc;

use tidings_protocol::event_id::Position;
use tracing::warn;

use super::error::CallError;
use super::orders::WAIT_MAX;
use super::routes::Routes;
use crate::broker::ControlError;
use crate::publication::REDACTED_RECORD;
use crate::room::Room;

/// Whether the event was stored.
pub(super) async fn redact(routes: &Routes, room: &Arc<Room>, event: Position) -> Result<bool, ControlError> {
    let shared = &routes.shared;
    let redacting = async {
        let link = routes.link(room.id.as_str());
        let link =
            link.ok_or(CallError::Nowhere("no server of the cluster is known to have the room's slot"))?;
        let connected = link.connection_made().await;
        let mut connection = connected.connection.clone();
        let keys = shared.keys_of(room);
        let call =
            shared.scripts.redact(&mut connection, &keys, shared.fresh_epoch(), event, REDACTED_RECORD);
        link.call(&connected, call).await
    };
    match tokio::time::timeout(WAIT_MAX, redacting).await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(error)) => {
            warn!(room = %room.id, %event, %error, "an event may not be redacted");
            Err(ControlError::Unavailable)
        }
        Err(_) => Err(ControlError::Unavailable),
    }
}
