//! `[[rooms]]`: what holds in which rooms.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidings::{Overflow, Presence, RoomRules};

use super::access::Who;
use crate::failure::{Failure, Failures};
use crate::webhook::Webhooks;

/// A rule: what holds in the rooms that it fits.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Room {
    /// The rooms: a name, or the beginning of names and `*`.
    #[schemars(extend("examples" = ["chat:*"]))]
    pub(super) pattern: String,
    /// Who may join. `members`, if unset: whom the token's `rooms` name, or the memberships.
    pub(super) join: Option<Who>,
    /// Who may publish. `nobody`, if unset.
    pub(super) publish: Option<Who>,
    /// What members are told of each other: who comes and goes (`true`, if unset), how many they are (`"counts"`), nothing (`false`).
    presence: Option<Told>,
    /// Events that are not stored: names, or the beginning of names and `*`.
    #[serde(default)]
    #[schemars(extend("examples" = [["typing.*"]]))]
    pub(super) ephemeral: Vec<String>,
    /// Whether events may be published that no `[[events]]` names.
    #[serde(default)]
    any_event: bool,
    /// Events that are kept, at most `limits.history_events_max`, which it is if unset.
    #[schemars(extend("examples" = [1000]))]
    history_events: Option<usize>,
    /// How long an event is kept, at most `limits.history_age_max_seconds`, which it is if unset.
    #[schemars(extend("examples" = [600]))]
    history_seconds: Option<u64>,
    /// Bytes of the events that are kept, at most `limits.history_bytes_max`, which it is if unset.
    #[schemars(extend("examples" = [1_048_576]))]
    history_bytes: Option<usize>,
    /// Events that one who comes back is sent at most; with more he gets a reset. All that are kept, if unset.
    #[schemars(extend("examples" = [500]))]
    replay_events: Option<usize>,
    /// What becomes of a member that reads too slowly. He is disconnected, if unset.
    overflow: Option<Slow>,
    /// By what, beside an event's name, the newest of something is known, for `conflate` and `retain`: a JSON pointer into
    /// the data. The name alone, if unset.
    #[schemars(extend("examples" = ["/host"]))]
    pub(super) key: Option<String>,
    /// Whether one who joins gets the newest event of each key at once.
    #[serde(default)]
    retain: bool,
}

/// What becomes of a member that reads too slowly.
#[derive(Clone, Copy, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
enum Slow {
    Disconnect,
    DropOldest,
    Conflate,
}

/// What members are told of each other: `true`, `false`, or `"counts"`.
#[derive(Clone, Copy, Deserialize, JsonSchema, Debug)]
#[serde(untagged, expecting = "expected true, false or \"counts\"")]
enum Told {
    Switch(bool),
    Word(ToldWord),
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
enum ToldWord {
    Counts,
}

impl Room {
    /// The same, with the backend as who says who may join, where it is asked.
    pub(super) fn rules_with(&self, started: Option<&Webhooks>) -> RoomRules {
        match (&self.join, started) {
            (Some(Who::Webhook), Some(webhooks)) => webhooks.asked_to_join(self.rules()),
            _ => self.rules(),
        }
    }

    /// What is not said is as the library has it: members join, nobody publishes.
    fn rules(&self) -> RoomRules {
        let mut rules = RoomRules::new(self.pattern.as_str());
        if let Some(who) = &self.join {
            rules = rules.join(who.access());
        }
        if let Some(who) = &self.publish {
            rules = rules.publish(who.access());
        }
        if let Some(told) = self.presence {
            rules = rules.presence(told);
        }
        for pattern in &self.ephemeral {
            rules = rules.ephemeral(pattern.as_str());
        }
        if self.any_event {
            rules = rules.any_event();
        }
        if let Some(events) = self.history_events {
            rules = rules.history_events(events);
        }
        if let Some(seconds) = self.history_seconds {
            rules = rules.history_age(Duration::from_secs(seconds));
        }
        if let Some(bytes) = self.history_bytes {
            rules = rules.history_bytes(bytes);
        }
        if let Some(events) = self.replay_events {
            rules = rules.replay_events(events);
        }
        if let Some(slow) = self.overflow {
            rules = rules.overflow(slow.into());
        }
        if let Some(pointer) = &self.key {
            rules = rules.key(pointer.as_str());
        }
        if self.retain {
            rules = rules.retain();
        }
        rules
    }
}

impl From<Slow> for Overflow {
    fn from(slow: Slow) -> Self {
        match slow {
            Slow::Disconnect => Self::Disconnect,
            Slow::DropOldest => Self::DropOldest,
            Slow::Conflate => Self::Conflate,
        }
    }
}

impl From<Told> for Presence {
    fn from(told: Told) -> Self {
        match told {
            Told::Switch(on) => on.into(),
            Told::Word(ToldWord::Counts) => Self::Counts,
        }
    }
}

/// Each rule is some room's: one behind a wider one would never be, whatever it forbids.
pub(super) fn check_reached(rooms: &[Room], failures: &mut Failures) {
    for (index, Room { pattern, .. }) in rooms.iter().enumerate() {
        let wider = rooms[..index].iter().find(|earlier| covers(&earlier.pattern, pattern));
        if let Some(Room { pattern: wider, .. }) = wider {
            let fix = match wider == pattern {
                true => "keep one of the two".to_owned(),
                false => {
                    format!("put this rule before that of {wider:?}: a room's rule is the first that fits it")
                }
            };
            failures.add(
                Failure::config(format_args!(
                    "[[rooms]] {pattern:?} is behind {wider:?}, which fits all of its rooms"
                ))
                .key(format_args!("rooms[{index}].pattern"))
                .fix(fix),
            );
        }
    }
}

/// Whether what fits one pattern fits the wider one too.
fn covers(wider: &str, pattern: &str) -> bool {
    match wider.strip_suffix('*') {
        Some(beginning) => pattern.strip_suffix('*').unwrap_or(pattern).starts_with(beginning),
        None => pattern == wider,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_wider_than_those_that_begin_so() {
        for (wider, pattern) in
            [("*", "chat:*"), ("chat:*", "chat:1"), ("chat:*", "chat:*"), ("a", "a"), ("a*", "a")]
        {
            assert!(covers(wider, pattern), "{wider} {pattern}");
        }
        for (other, pattern) in
            [("chat:*", "*"), ("chat:1", "chat:*"), ("chat:*", "cha"), ("a", "b"), ("ab*", "a*")]
        {
            assert!(!covers(other, pattern), "{other} {pattern}");
        }
    }

    #[test]
    fn presence_is_on_off_or_a_number() {
        let told = |value: &str| {
            let room: Result<Room, _> = toml::from_str(&format!("pattern = \"a\"\npresence = {value}"));
            room.map(|room| room.presence.map(Presence::from))
        };
        assert_eq!(told("true").unwrap(), Some(Presence::On));
        assert_eq!(told("false").unwrap(), Some(Presence::Off));
        assert_eq!(told("\"counts\"").unwrap(), Some(Presence::Counts));
        for wrong in ["\"count\"", "1"] {
            let error = told(wrong).unwrap_err().to_string();
            assert!(error.contains("expected true, false or \"counts\""), "{error}");
        }
    }
}
