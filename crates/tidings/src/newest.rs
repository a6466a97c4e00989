//! The newest event of each key of a room: what a joiner of a dashboard is shown, and what is left of a slow reader's
//! backlog when a room conflates.
//!
//! A key is an event's name and, if the rule says where in the data, what the event is about. One value a key, in the
//! order of their offsets, bounded in keys, in bytes and in age. It knows no room and no member.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;
use smol_str::SmolStr;
use tidings_protocol::event_id::Offset;
use tidings_protocol::message::EventName;
use tidings_protocol::room_log::LogBounds;

use crate::publication::{Payload, Publication};

/// A longer key is none: the event counts by its name alone.
const KEY_BYTES_MAX: usize = 256;

/// What an event is about.
pub(crate) type Key = SmolStr;

/// Where in an event's data its key is: a JSON pointer (RFC 6901).
#[derive(Clone, Default, Debug)]
pub(crate) struct KeyPointer(Vec<String>);

impl KeyPointer {
    /// Parses a pointer; none if it is no such thing.
    pub(crate) fn parse(pointer: &str) -> Option<Self> {
        if pointer.is_empty() {
            return Some(Self::default());
        }
        let tokens = pointer.strip_prefix('/')?.split('/');
        Some(Self(tokens.map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// The key of an event.
    pub(crate) fn key(&self, event: &EventName, payload: &Payload<'_>) -> Key {
        let value = match payload {
            Payload::Json(data) if !self.0.is_empty() => self.value(data),
            Payload::Json(_) | Payload::Binary(_) => None,
        };
        match value.filter(|value| value.len() <= KEY_BYTES_MAX) {
            // A name holds no space, so that no two keys are written alike.
            Some(value) => format!("{event} {value}").into(),
            None => event.as_str().into(),
        }
    }

    /// The value that the pointer leads to, written in one way: a text's escapes are resolved.
    fn value(&self, data: &RawValue) -> Option<String> {
        let mut at = data;
        for token in &self.0 {
            at = if at.get().starts_with('[') {
                let items: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
                items.get(token.parse::<usize>().ok()?).copied()?
            } else {
                let mut members: HashMap<String, &RawValue> = serde_json::from_str(at.get()).ok()?;
                members.remove(token)?
            };
        }
        if at.get().starts_with('"') {
            let text: String = serde_json::from_str(at.get()).ok()?;
            return Some(format!("\"{text}"));
        }
        Some(at.get().to_owned())
    }
}

/// The newest event of each key.
#[derive(Default)]
pub(crate) struct Newest {
    by_key: HashMap<Key, Offset>,
    by_offset: BTreeMap<Offset, Kept>,
    bytes: usize,
}

struct Kept {
    key: Key,
    at_ms: u64,
    publication: Arc<Publication>,
}

impl Newest {
    /// Keeps a publication as the newest of its key, in place of the one before it.
    pub(crate) fn insert(&mut self, key: Key, publication: Arc<Publication>, at_ms: u64) {
        let offset = publication.offset;
        if let Some(older) = self.by_key.insert(key.clone(), offset) {
            self.forget(older);
        }
        self.bytes += publication.bytes();
        self.by_offset.insert(offset, Kept { key, at_ms, publication });
    }

    /// Lets go of the event at an offset, if it is one of the newest.
    pub(crate) fn remove(&mut self, offset: Offset) {
        if let Some(kept) = self.forget(offset) {
            self.by_key.remove(&kept.key);
        }
    }

    /// Lets go of what is over a bound, the oldest first; whether there were too many keys.
    pub(crate) fn trim(&mut self, keys_max: usize, bounds: &LogBounds, now_ms: u64) -> bool {
        let has_too_many = self.by_offset.len() > keys_max;
        let keep_from_ms = now_ms.saturating_sub(bounds.age_max.as_millis() as u64);
        while let Some((offset, oldest)) = self.by_offset.first_key_value() {
            let over = self.by_offset.len() > keys_max || self.bytes > bounds.bytes_max;
            if !over && oldest.at_ms >= keep_from_ms {
                break;
            }
            let offset = *offset;
            self.remove(offset);
        }
        has_too_many
    }

    /// Whether it keeps nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    fn forget(&mut self, offset: Offset) -> Option<Kept> {
        let kept = self.by_offset.remove(&offset)?;
        self.bytes -= kept.publication.bytes();
        Some(kept)
    }

    /// The newest of each key that lie after `after` and not after `until`, in order, so many and about so many bytes
    /// at most.
    pub(crate) fn between(
        &self,
        after: Offset,
        until: Offset,
        events_max: usize,
        bytes_max: usize,
    ) -> Vec<Arc<Publication>> {
        let mut bytes = 0;
        if after >= until {
            return Vec::new();
        }
        self.by_offset
            .range(after + 1..=until)
            .map(|(_, kept)| &kept.publication)
            .take_while(|publication| {
                // One of any size is admitted.
                let fits = bytes == 0 || bytes + publication.bytes() <= bytes_max;
                bytes += publication.bytes();
                fits
            })
            .take(events_max)
            .map(Arc::clone)
            .collect()
    }

    /// The offset of the oldest that is kept.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.by_offset.first_key_value().map(|(offset, _)| *offset)
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tidings_protocol::event_id::{Epoch, Position, RoomId};

    use super::*;
    use crate::publication::Draft;

    fn publication(offset: Offset) -> Arc<Publication> {
        let (event, room) = (EventName::parse("e").unwrap(), RoomId::parse("r").unwrap());
        let draft = Draft::new(&event, &room, Payload::Json(RawValue::NULL), None, None);
        Arc::new(draft.publish(&room, Position { epoch: Epoch::from_random(1), offset }, 0))
    }

    fn bounds() -> LogBounds {
        LogBounds { age_max: Duration::from_secs(1), events_max: 0, bytes_max: usize::MAX }
    }

    fn offsets(newest: &Newest, after: Offset, until: Offset) -> Vec<Offset> {
        newest.between(after, until, 100, usize::MAX).iter().map(|publication| publication.offset).collect()
    }

    #[test]
    fn a_key_is_the_event_and_what_its_pointer_finds() {
        let key = |pointer: &str, data: &str| {
            let data = RawValue::from_string(data.to_owned()).unwrap();
            let event = EventName::parse("cpu").unwrap();
            KeyPointer::parse(pointer).unwrap().key(&event, &Payload::Json(&data)).to_string()
        };
        assert_eq!(key("", r#"{"host":"a"}"#), "cpu");
        assert_eq!(key("/host", r#"{"host":"a","v":1}"#), "cpu \"a");
        assert_eq!(key("/host", r#"{"host":"\u0061"}"#), "cpu \"a", "however it is escaped");
        assert_eq!(key("/a~1b/1", r#"{"a/b":[1,{"x":2}]}"#), r#"cpu {"x":2}"#);
        assert_ne!(key("/host", r#"{"host":1}"#), key("/host", r#"{"host":"1"}"#));
        for nothing_there in ["{}", "7", "[]", "null", r#""host""#] {
            assert_eq!(key("/host", nothing_there), "cpu");
        }
        assert_eq!(key("/host", &format!(r#"{{"host":"{}"}}"#, "x".repeat(257))), "cpu");
        assert!(KeyPointer::parse("host").is_none());
    }

    #[test]
    fn it_is_bounded_in_keys_and_in_age() {
        let mut newest = Newest::default();
        for offset in 1..=5 {
            newest.insert(format!("k{offset}").into(), publication(offset), offset * 1000);
        }
        assert!(newest.trim(3, &bounds(), 5000));
        assert_eq!(offsets(&newest, 0, 9), [4, 5], "two keys too many, and one that is older than a second");
        newest.insert("k4".into(), publication(6), 5000);
        assert_eq!((offsets(&newest, 0, 9), newest.first()), (vec![5, 6], Some(5)));
        assert!(!newest.trim(3, &bounds(), 9000));
        assert_eq!((newest.first(), newest.bytes(), newest.by_key.len()), (None, 0, 0));
    }

    proptest! {
        #[test]
        fn a_reader_who_stops_anywhere_ends_with_the_newest_of_each_key(
            keys in prop::collection::vec(0..6u8, 1..60),
            stops in prop::collection::vec(1..4usize, 1..60),
        ) {
            let mut newest = Newest::default();
            let (mut model, mut seen, mut after) = (HashMap::new(), HashMap::new(), 0);
            let mut stops = stops.into_iter().cycle();
            for (index, key) in keys.iter().enumerate() {
                let offset = index as Offset + 1;
                newest.insert(key.to_string().into(), publication(offset), 0);
                model.insert(*key, offset);
                if offset.is_multiple_of(3) {
                    for read in newest.between(after, offset, stops.next().unwrap_or(1), usize::MAX) {
                        prop_assert!(read.offset > after);
                        after = read.offset;
                        seen.insert(keys[after as usize - 1], after);
                    }
                }
            }
            for read in newest.between(after, keys.len() as Offset, usize::MAX, usize::MAX) {
                seen.insert(keys[read.offset as usize - 1], read.offset);
            }
            prop_assert_eq!(seen, model);
        }
    }
}
