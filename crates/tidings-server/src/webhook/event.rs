//! Events that the backend serves: what it answers is acked, refused or broadcast, each broadcast once however often it is asked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings::protocol::message::EventName;
use tidings::{AckError, Context, ErrorCode, HubBuilder, RoomId};
use tracing::warn;

use super::asking::{Asking, Object};

/// An answer broadcasts so many events at most.
const BROADCASTS_MAX: usize = 100;

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    user: &'a str,
    session: String,
    room: Option<&'a str>,
    event: &'a str,
    data: &'a RawValue,
    /// The client's, and the same again when it tries again.
    id: Option<&'a str>,
    claims: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(default)]
    ack: Option<Box<RawValue>>,
    #[serde(default)]
    broadcast: Vec<Object<Broadcast>>,
    #[serde(default)]
    error: Option<Object<Refused>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Broadcast {
    /// The room of the event that was asked about, if none.
    #[serde(default)]
    room: Option<RoomId>,
    event: String,
    #[serde(default = "null")]
    data: Box<RawValue>,
    #[serde(default)]
    to_others: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    code: ErrorCode,
    message: String,
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// Lets the backend serve an event.
pub(crate) fn serve(hub: HubBuilder, event: &str, asking: Arc<Asking>) -> HubBuilder {
    hub.on(event, move |context: Context, data: Box<RawValue>| {
        let asking = Arc::clone(&asking);
        async move { answer(&asking, &context, &data).await }
    })
}

async fn answer(asking: &Asking, context: &Context, data: &RawValue) -> Result<Box<RawValue>, AckError> {
    let claims: Box<RawValue> = context.claims()?;
    let question = Question {
        user: context.user(),
        session: context.session().to_string(),
        room: context.room().map(RoomId::as_str),
        event: context.event(),
        data,
        id: context.request_id().map(|id| id.as_str()),
        claims: &claims,
    };
    let asked = asking.event(context.user(), &question).await;
    let answer =
        asked.map_err(|error| error.to_string()).and_then(|answer: Answer| judged(answer, context.room()));
    let Publishing { ack, events } = match answer {
        Ok(Ok(publishing)) => publishing,
        Ok(Err(Refused { code, message })) => return Err(AckError::new(code, message)),
        Err(cause) => {
            warn!(event = context.event(), cause, "an event had no answer of its webhook");
            return Err(AckError::unavailable("what serves this event did not answer: try again"));
        }
    };
    for (room, Broadcast { event, data, to_others, .. }) in &events {
        if *to_others {
            context.broadcast_to_others(room, event, data).await?;
        } else {
            context.broadcast(room, event, data).await?;
        }
    }
    Ok(ack)
}

/// What a good answer leads to.
struct Publishing {
    ack: Box<RawValue>,
    events: Vec<(RoomId, Broadcast)>,
}

/// Everything that can be wrong with an answer is found before the first of its events is published.
fn judged(answer: Answer, room: Option<&RoomId>) -> Result<Result<Publishing, Refused>, String> {
    let Answer { ack, broadcast, error } = answer;
    if let Some(Object(refused)) = error {
        if ack.is_some() || !broadcast.is_empty() {
            return Err("the answer has an error and something beside it".to_owned());
        }
        if refused.code == ErrorCode::Other {
            return Err("the answer's error has a code that PROTOCOL.md does not have".to_owned());
        }
        return Ok(Err(refused));
    }
    if broadcast.len() > BROADCASTS_MAX {
        return Err(format!("the answer has {} broadcasts, {BROADCASTS_MAX} at most", broadcast.len()));
    }
    if room.is_none() && broadcast.iter().any(|Object(broadcast)| broadcast.room.is_none()) {
        // The client's fault, who would say the same again.
        let message = "this event is for a room: name it".to_owned();
        return Ok(Err(Refused { code: ErrorCode::Invalid, message }));
    }
    let placed = broadcast.into_iter().filter_map(|Object(broadcast)| {
        let room = broadcast.room.as_ref().or(room).cloned()?;
        Some(match EventName::parse(&broadcast.event) {
            Ok(name) if !name.is_reserved() => Ok((room, broadcast)),
            _ => Err("a broadcast's event is reserved or not a name"),
        })
    });
    let events = placed.collect::<Result<_, _>>()?;
    Ok(Ok(Publishing { ack: ack.unwrap_or_else(null), events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, room: Option<&str>) -> Result<String, String> {
        let Object(answer) = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let room = room.map(|room| RoomId::parse(room).unwrap());
        Ok(match judged(answer, room.as_ref())? {
            Ok(Publishing { ack, events }) => {
                let said = |(room, broadcast): &(RoomId, Broadcast)| {
                    format!("{room} {} {}", broadcast.event, broadcast.data)
                };
                format!("{ack} {:?}", events.iter().map(said).collect::<Vec<_>>())
            }
            Err(Refused { code, message }) => format!("{code} {message}"),
        })
    }

    #[test]
    fn an_answer_is_an_ack_with_broadcasts_or_an_error() {
        assert_eq!(judge("{}", None).unwrap(), "null []");
        assert_eq!(
            judge(
                r#"{"ack":{"n":1.0},"broadcast":[{"event":"a","data":[ 1 ]},{"room":"b","event":"c"}]}"#,
                Some("a")
            )
            .unwrap(),
            r#"{"n":1.0} ["a a [ 1 ]", "b c null"]"#
        );
        assert_eq!(judge(r#"{"error":{"code":"forbidden","message":"no"}}"#, None).unwrap(), "forbidden no");
        let to_the_events_room = r#"{"broadcast":[{"event":"a"}]}"#;
        assert_eq!(judge(to_the_events_room, None).unwrap(), "invalid this event is for a room: name it");
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        for wrong in [
            "[]",
            r#"{"acked":1}"#,
            r#"{"broadcast":[{"room":"a","event":"room.reset"}]}"#,
            r#"{"broadcast":[{"room":"a b","event":"a"}]}"#,
            r#"{"error":{"code":"teapot","message":"?"}}"#,
            r#"{"error":{"code":"forbidden","message":"no"},"ack":1}"#,
            r#"{"error":"no"}"#,
            r#"{"error":["forbidden","no"]}"#,
        ] {
            assert!(judge(wrong, None).is_err(), "{wrong}");
        }
        let many = format!(r#"{{"broadcast":[{}]}}"#, vec![r#"{"event":"a"}"#; 101].join(","));
        assert!(judge(&many, Some("a")).unwrap_err().contains("100 at most"));
    }
}
