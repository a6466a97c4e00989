//! Taking the content of a stored event back: a skip stands in its place, for whoever reads the log from then on.

use std::sync::Arc;

use tidings_protocol::event_id::Position;

use super::{Room, State};
use crate::publication::Publication;

/// What may be on its way here with its content, and so is redacted again when it comes: so many of a room at most.
const REMEMBERED_MAX: usize = 256;

impl Room {
    /// Redacts an event; whether it is stored here.
    pub(crate) fn redact(&self, event: Position) -> bool {
        let mut state = self.state.lock();
        if state.following.is_some() {
            let redacted = &mut state.rare.get_or_insert_default().redacted;
            if redacted.len() >= REMEMBERED_MAX {
                redacted.pop_front();
            }
            redacted.push_back(event);
        }
        self.put_skip(&mut state, event)
    }

    /// Redacts what was redacted before and was read from the broker before that.
    pub(super) fn redact_again(&self, state: &mut State) {
        let Some(rare) = &state.rare else { return };
        if rare.redacted.is_empty() {
            return;
        }
        for event in rare.redacted.clone() {
            self.put_skip(state, event);
        }
    }

    fn put_skip(&self, state: &mut State, event: Position) -> bool {
        let top = state.log.top();
        let skip = Publication::without_event(&self.id, Position { epoch: top.epoch, ..event });
        let was_stored = state.log.replace(event, Arc::new(skip));
        if was_stored && let Some(rare) = &mut state.rare {
            rare.newest.remove(event.offset);
        }
        was_stored
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::value::RawValue;
    use tidings_protocol::event_id::{Epoch, RoomId};
    use tidings_protocol::limits::Limits;
    use tidings_protocol::message::EventName;

    use super::*;
    use crate::env::SystemEnv;
    use crate::idempotency::IdempotencyIds;
    use crate::metrics::Metrics;
    use crate::publication::Payload;
    use crate::rules::{RoomRules, RuleBook};

    #[test]
    fn an_event_is_gone_from_the_history_and_from_what_a_room_retains_and_its_place_is_not() {
        let limits = Limits::default();
        let book = RuleBook::new(vec![RoomRules::new("*").key("/host").retain()], &limits).unwrap();
        let id = RoomId::parse("a").unwrap();
        let room = Room::new(id, Arc::clone(book.of("a").unwrap()), Epoch::from_random(1), Instant::now());
        let (metrics, ids) = (Metrics::default(), IdempotencyIds::new(&SystemEnv::inline(), &limits));
        let event = EventName::parse("sample").unwrap();
        let publish = |data: &str| {
            let data = RawValue::from_string(data.to_owned()).unwrap();
            let draft = room.draft(&event, Payload::Json(&data), None, None);
            room.sequence(draft, &ids, &metrics, &limits, Instant::now(), 0).unwrap().position
        };
        let (first, second) = (publish("{\"host\":1}"), publish("{\"host\":2}"));
        assert!(room.redact(first) && room.redact(first), "as often as one likes");
        let all = |_: &Publication| false;
        assert_eq!(room.history(None, 10, all).events.len(), 1);
        let after = Position { offset: 0, ..first };
        let kept: Vec<_> =
            room.read(after, 2, 9, 9999).unwrap().publications.iter().map(|p| p.offset).collect();
        assert_eq!(kept, [1, 2], "a skip has its place");
        assert_eq!(room.read_newest(after, 2, 9, 9999).unwrap().len(), 1);
        assert!(!room.redact(Position { offset: 3, ..second }), "nothing is there yet");
        assert!(!room.redact(Position { epoch: Epoch::from_random(9), ..second }), "it is another log's");
    }
}
