//! Whether what one user publishes arrives at the other, is acked, and counts once when it is sent again.

use serde_json::Value;

use super::arriving;
use super::stage::{Checked, Fault, Outcome, Stage, Who};

pub(super) async fn delivery(stage: &mut Stage) -> Checked {
    let (mut ben, _) = stage.joined(Who::Ben).await?;
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let [first, second] = [stage.id(), stage.id()];
    let first = stage.publish(&mut ann, &first).await?;
    let second = stage.publish(&mut ann, &second).await?;
    arriving::exactly(stage, &mut ben, &[&first.event_id, &second.event_id]).await?;
    ann.close().await;
    ben.close().await;
    let by = if first.is_by_api { ", published by the HTTP API" } else { "" };
    Ok(Outcome::Passed(format!("two events, each once and in order, at a second connection{by}")))
}

pub(super) async fn ack(stage: &mut Stage) -> Checked {
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let id = stage.id();
    let published = stage.publish(&mut ann, &id).await?;
    if !published.event_id.starts_with(&format!("{}@", stage.room)) || published.is_duplicate {
        return Err(Fault::new(
            format!("a first publish was acked as {published:?}"),
            "an ack names the event as room@epoch.offset, and no duplicate; is this a Tidings server?",
        ));
    }
    if published.is_by_api {
        ann.close().await;
        return Ok(Outcome::Skipped("clients may not publish here; the HTTP API has answered".to_owned()));
    }
    let event = ann.event(stage.is_event(&published.event_id)).await;
    let event = event.map_err(Fault::with("the publisher hears his own event too: see the server's log"))?;
    ann.close().await;
    if event["re"] != *id {
        return Err(Fault::new(
            format!("the event says it answers {}, and not {id}", event["re"]),
            "a client settles its request by re: let nothing rewrite messages on the way",
        ));
    }
    Ok(Outcome::Passed("it names the event that the publisher hears".to_owned()))
}

pub(super) async fn duplicate(stage: &mut Stage) -> Checked {
    const FIX: &str =
        "ids count for limits.idempotency_window_seconds; several nodes have to share a broker for it";
    let (mut ben, _) = stage.joined(Who::Ben).await?;
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let [id, other] = [stage.id(), stage.id()];
    let first = stage.publish(&mut ann, &id).await?;
    let again = stage.publish(&mut ann, &id).await?;
    let last = stage.publish(&mut ann, &other).await?;
    if again.event_id != first.event_id || !again.is_duplicate {
        let message =
            format!("the same id again became {}, and not a duplicate of {}", again.event_id, first.event_id);
        return Err(Fault::new(message, FIX));
    }
    arriving::exactly(stage, &mut ben, &[&first.event_id, &last.event_id]).await?;
    ann.close().await;
    ben.close().await;
    Ok(Outcome::Passed("the same id again is acked as a duplicate, and delivered once".to_owned()))
}

/// What a join's ack says of what was missed.
pub(super) fn recovery(ack: &Value) -> &str {
    ack["recovery"].as_str().unwrap_or_default()
}
