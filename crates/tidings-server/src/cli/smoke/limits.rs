//! Whether a server keeps to the limits that its welcome tells: the size of a message, and how many a second.

use serde_json::{Value, json};
use tidings_client::ClientLimits;
use tokio::time::Instant;

use super::stage::{Checked, Fault, Outcome, Stage, Who};
use crate::cli::link::{ANSWER_MAX, Heard, Reply};

/// A limit above these is not tried, because that would be a load and no check.
const MESSAGE_BYTES_TRIED_MAX: usize = 4 * 1024 * 1024;
const MESSAGES_TRIED_MAX: u32 = 4000;
const TOO_LARGE: u16 = 1009;

fn told(stage: &Stage) -> ClientLimits {
    stage.welcome.as_ref().map(|welcome| welcome.limits.clone()).unwrap_or_default()
}

pub(super) async fn too_large(stage: &mut Stage) -> Checked {
    let max = told(stage).text_message_bytes;
    if max == 0 || max > MESSAGE_BYTES_TRIED_MAX {
        return Ok(Outcome::Skipped(format!("a message may have {max} bytes, which is not tried")));
    }
    let mut link = stage.link(Who::Ben).await?;
    let mut message = json!({"event": stage.event, "room": stage.room, "data": ""});
    let envelope = message.to_string().len();
    message["data"] = Value::from("x".repeat((max + 1).saturating_sub(envelope)));
    // A server that has refused it may not read all of it.
    let _ = link.send(message.to_string()).await;
    let fix =
        "limits.text_message_bytes_max bounds what a client may send; is there a proxy that cuts messages?";
    // Pings come all the while, and are no answer.
    let end = Instant::now() + ANSWER_MAX;
    loop {
        match link.heard(end.saturating_duration_since(Instant::now())).await {
            Some(Heard::Closed(Some(TOO_LARGE))) => {
                return Ok(Outcome::Passed(format!("{} bytes close with {TOO_LARGE}", max + 1)));
            }
            Some(Heard::Closed(code)) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                return Err(Fault::new(
                    format!("{} bytes close with {code}, and not {TOO_LARGE}", max + 1),
                    fix,
                ));
            }
            Some(_) => {}
            None => {
                return Err(Fault::new(
                    format!("{} bytes are taken, where {max} are the limit", max + 1),
                    fix,
                ));
            }
        }
    }
}

pub(super) async fn rate_limited(stage: &mut Stage) -> Checked {
    let limits = told(stage);
    let count = limits.messages_burst.saturating_add(limits.messages_per_second).saturating_add(10);
    if limits.messages_per_second == 0 || count > MESSAGES_TRIED_MAX {
        return Ok(Outcome::Skipped(format!("it would take {count} messages at once, which is not tried")));
    }
    let fix = "limits.messages_per_second and messages_burst bound what a client may send";
    let mut link = stage.link(Who::Ben).await?;
    let ids: Vec<String> = (0..count).map(|_| stage.id()).collect();
    // Of all that can be asked this alone is never the application's: it has no handler, and no rule is looked up.
    let asked = ids.iter().map(|id| json!({"event": "room.list", "id": id}).to_string());
    link.send_all(asked).await.map_err(Fault::with(fix))?;
    for (sent, id) in ids.iter().enumerate() {
        let reply = link.reply(&Value::from(id.as_str())).await.map_err(Fault::with(fix))?;
        if let Reply::Refused { code, .. } = reply {
            link.close().await;
            return match code.as_str() {
                "rate_limited" => Ok(Outcome::Passed(format!("after {sent} messages at once"))),
                _ => Err(Fault::new(
                    format!("room.list is answered by {code}, where rate_limited is due"),
                    fix,
                )),
            };
        }
    }
    Err(Fault::new(
        format!(
            "{count} messages at once are all taken, where {} and {} a second are the limit",
            limits.messages_burst, limits.messages_per_second
        ),
        fix,
    ))
}
