//! What the hub refuses of a configuration: which key it means, and what to do about it.

use tidings::{BuildError, Limits};

use super::access::{Claim, Who};
use super::{Config, Room, limits};
use crate::failure::Failure;

impl Config {
    /// The failure of what the hub does not take, with the key of it.
    pub(super) fn refused(&self, refusal: &BuildError, limits: &Limits) -> Failure {
        let message = match refusal {
            // The file is named by its key.
            BuildError::Schema(event, fault) => match self.schema_file(event) {
                Some(path) => format!("{path}: {fault}"),
                None => refusal.to_string(),
            },
            _ => refusal.to_string(),
        };
        let failure = Failure::config(message);
        let failure = self.key_of(refusal).into_iter().fold(failure, Failure::key);
        match refusal {
            BuildError::Limits(fault) => failure.fix(self.way_out(fault, limits)),
            BuildError::Pattern(..) => {
                failure.fix("a room's name, or the beginning of names and *, as in pattern = \"chat:*\"")
            }
            BuildError::Ephemeral(_) => {
                failure.fix("name an event of yours, or the beginning of such, as in [\"typing.*\"]")
            }
            BuildError::Key(_) => failure.fix("a JSON pointer into the event's data, as in key = \"/host\""),
            BuildError::Claim(_) => {
                failure.fix("a JSON pointer into the token's claims, as in claim = \"/role\"")
            }
            BuildError::Event(_) => failure
                .fix("names of events are letters, digits, . _ and -, and those of the protocol are taken"),
            BuildError::TwoSchemas(_) => failure.fix("keep one [[events]] of this name"),
            BuildError::Schema(..) => failure.fix("mend the schema, or remove the [[events]]"),
            BuildError::Origin(_) => {
                failure.fix("scheme and host, and no path, as in allowed_origins = [\"https://app.example\"]")
            }
            _ => failure,
        }
    }

    /// Where in the configuration that is what is refused.
    fn key_of(&self, refusal: &BuildError) -> Option<String> {
        let room = |is_it: &dyn Fn(&Room) -> bool| self.rooms.iter().position(is_it);
        match refusal {
            BuildError::Pattern(pattern, _) => {
                room(&|room| room.pattern == *pattern).map(|index| format!("rooms[{index}].pattern"))
            }
            BuildError::Ephemeral(pattern) => {
                let index = room(&|room| room.ephemeral.contains(pattern))?;
                let at = self.rooms.get(index)?.ephemeral.iter().position(|own| own == pattern)?;
                Some(format!("rooms[{index}].ephemeral[{at}]"))
            }
            BuildError::Key(pointer) => {
                room(&|room| room.key.as_ref() == Some(pointer)).map(|index| format!("rooms[{index}].key"))
            }
            BuildError::Claim(pointer) => self.rooms.iter().enumerate().find_map(|(index, room)| {
                let asks = |who: &Option<Who>| matches!(who, Some(Who::Claim(Claim { claim, .. })) if claim == pointer);
                let key = if asks(&room.join) { "join" } else { asks(&room.publish).then_some("publish")? };
                Some(format!("rooms[{index}].{key}.claim"))
            }),
            BuildError::Event(name) => self.event(name).map(|index| format!("events[{index}].name")),
            // The second is the one too many.
            BuildError::TwoSchemas(name) => {
                self.events.iter().rposition(|event| event.name == *name).map(|index| format!("events[{index}].name"))
            }
            BuildError::Schema(name, _) => self.event(name).map(|index| format!("events[{index}].schema_file")),
            BuildError::Origin(fault) => {
                let told = fault.to_string();
                let at = self.allowed_origins.iter().position(|origin| told.starts_with(&format!("{origin:?} ")));
                Some(at.map_or("allowed_origins".to_owned(), |index| format!("allowed_origins[{index}]")))
            }
            BuildError::Limits(fault) => {
                let keys = limits_in(fault);
                // Of two that contradict each other, the one that somebody has set.
                let key = keys.iter().find(|key| self.limits.is_set(key)).or(keys.first())?;
                Some(format!("limits.{key}"))
            }
            _ => None,
        }
    }

    fn event(&self, name: &str) -> Option<usize> {
        self.events.iter().position(|event| event.name == name)
    }

    fn schema_file(&self, event: &str) -> Option<String> {
        let file = self.events.get(self.event(event)?)?.schema_file.as_ref()?;
        Some(self.files.path(file).display().to_string())
    }

    /// Which keys would have to change, and what they are now.
    fn way_out(&self, fault: &str, limits: &Limits) -> String {
        let now = |key: &&str| format!("{key} (now {})", limits::value_of(limits, key).unwrap_or_default());
        format!("change {}", limits_in(fault).iter().map(now).collect::<Vec<_>>().join(" or "))
    }
}

/// The keys of the limits that a sentence names.
fn limits_in(fault: &str) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for key in fault.split_whitespace().filter_map(limits::key_of) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}
