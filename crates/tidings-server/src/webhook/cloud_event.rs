//! A webhook's body: a CloudEvent 1.0 in its structured form, with an id that is its own.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;

use super::Kind;

/// Random bytes of an id, behind its time.
const ID_RANDOM_BYTES: usize = 10;

#[derive(Serialize)]
struct CloudEvent<'a, D> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    r#type: String,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    data: &'a D,
}

/// A webhook's id, and its body.
pub(crate) struct Written {
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
}

/// Writes one, about `subject`, of what has happened now.
///
/// # Errors
/// When the data can't be written as JSON, or the system has no randomness.
pub(crate) fn write(kind: Kind, subject: &str, data: &impl Serialize) -> std::io::Result<Written> {
    let at_unix_ms = unix_ms();
    let mut random = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
    // Those that are younger are larger, so that a backend's table of them grows at one end.
    let id = random.iter().fold(format!("msg_{at_unix_ms:012x}"), |id, byte| format!("{id}{byte:02x}"));
    let event = CloudEvent {
        specversion: "1.0",
        id: &id,
        source: "/tidings",
        r#type: kind.event_type(),
        subject,
        time: rfc3339(at_unix_ms),
        datacontenttype: "application/json",
        data,
    };
    let body = serde_json::to_vec(&event)?;
    Ok(Written { id, body })
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in milliseconds, as the documentation shows it.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn it_has_what_a_cloud_event_has_to_have() {
        let data = json!({"room": "chat:lobby"});
        let Written { id, body } = write(Kind::Occupied, "chat:lobby", &data).unwrap();
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "dev.tidings.room.occupied");
        assert_eq!((&event["source"], &event["subject"]), (&json!("/tidings"), &json!("chat:lobby")));
        assert_eq!(event["data"], data);
        assert_eq!(event["id"], id);
        assert_eq!(id.len(), "msg_".len() + 32);
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_time_is_written_as_the_documentation_shows_it() {
        assert_eq!(rfc3339(1_795_867_200_000), "2026-11-28T12:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_007), "2000-02-28T23:59:59.007Z");
    }
}
