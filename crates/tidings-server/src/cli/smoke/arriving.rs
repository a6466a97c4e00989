//! What arrives at a connection of what was published: each event once, in order.

use serde_json::Value;

use super::stage::{Fault, Stage};
use crate::cli::link::Link;

/// Takes events of the room until `ids.last()` is there, and compares those that are among `ids` with them.
pub(super) async fn exactly(stage: &Stage, link: &mut Link, ids: &[&str]) -> Result<(), Fault> {
    let Some(last) = ids.last() else { return Ok(()) };
    let mut arrived: Vec<String> = Vec::new();
    let room = stage.room.clone();
    let is_ours = |message: &Value| {
        message["room"] == *room && message["id"].as_str().is_some_and(|id| ids.contains(&id))
    };
    while arrived.last().is_none_or(|id| id != last) {
        let event = link.event(is_ours).await.map_err(|why| {
            Fault::new(
                format!("{} of {} events arrived at {}: {why}", arrived.len(), ids.len(), link.welcome.user),
                "if there are several nodes, do they share a broker ([broker] url)? the log says what is amiss there",
            )
        })?;
        arrived.extend(event["id"].as_str().map(str::to_owned));
    }
    if arrived == ids {
        return Ok(());
    }
    let count = |id: &&&str| arrived.iter().filter(|arrived| arrived == *id).count();
    let message = match ids.iter().find(|id| count(id) != 1) {
        Some(id) if count(&id) == 0 => format!("{id} never arrived at {}", link.welcome.user),
        Some(id) => format!("{id} arrived {} times at {}", count(&id), link.welcome.user),
        None => format!("events arrived out of order: {arrived:?}"),
    };
    Err(Fault::new(
        message,
        "nothing between server and client may repeat, drop or reorder messages; is this a Tidings server?",
    ))
}
