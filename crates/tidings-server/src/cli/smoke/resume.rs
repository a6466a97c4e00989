//! Whether a client whose network failed gets what it missed, by telling where it was.

use serde_json::json;

use super::arriving;
use super::delivery::recovery;
use super::stage::{Checked, Fault, Outcome, Stage, Who};

pub(super) async fn resume(stage: &mut Stage) -> Checked {
    let (mut ben, _) = stage.joined(Who::Ben).await?;
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let [before, first, second, after] = [stage.id(), stage.id(), stage.id(), stage.id()];
    let before = stage.publish(&mut ann, &before).await?;
    arriving::exactly(stage, &mut ben, &[&before.event_id]).await?;
    ben.cut();
    let first = stage.publish(&mut ann, &first).await?;
    let second = stage.publish(&mut ann, &second).await?;
    let mut ben = stage.link_to_resume(Who::Ben).await?;
    let id = stage.id();
    let back = json!({"event": "session.resume", "id": id, "data": {"last_event_id": before.event_id}});
    let ack = stage.join_with(&mut ben, &back).await?;
    let resumed = &ack["rooms"][&stage.room];
    if recovery(resumed) != "complete" {
        return Err(Fault::new(
            format!(
                "who comes back at {} is told {resumed}, where recovery \"complete\" is due",
                before.event_id
            ),
            "does the room keep history (history_events, history_seconds), and do all nodes share a broker?",
        ));
    }
    let after = stage.publish(&mut ann, &after).await?;
    let missed = [first.event_id.as_str(), &second.event_id, &after.event_id];
    arriving::exactly(stage, &mut ben, &missed).await?;
    ann.close().await;
    ben.close().await;
    Ok(Outcome::Passed(
        "after a cut without a close, two missed events and what followed, each once".to_owned(),
    ))
}
