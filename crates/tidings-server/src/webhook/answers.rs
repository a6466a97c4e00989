//! What the backend has answered a moment ago: so few and for so short that it may be out of date, and never more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use parking_lot::Mutex;

/// So much of them is kept, each with what it takes beside itself. With more that are young enough, the next is asked for
/// each time.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;
const OVERHEAD_BYTES: usize = 128;

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; digest::SHA256_OUTPUT_LEN]);

/// Answers, by what was asked.
pub(crate) struct Answers<V> {
    kept_for: Duration,
    known: Mutex<Known<V>>,
}

struct Known<V> {
    answers: HashMap<Key, Answer<V>>,
    bytes: usize,
}

struct Answer<V> {
    at: Instant,
    bytes: usize,
    value: V,
}

/// A question's key: its parts, which can't run into each other.
pub(crate) fn key(parts: &[&str]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; digest::SHA256_OUTPUT_LEN];
    key.copy_from_slice(context.finish().as_ref());
    Key(key)
}

impl<V: Clone> Answers<V> {
    pub(crate) fn new(kept_for: Duration) -> Self {
        Self { kept_for, known: Mutex::new(Known { answers: HashMap::new(), bytes: 0 }) }
    }

    /// The answer, if it is young enough.
    pub(crate) fn get(&self, key: &Key) -> Option<V> {
        self.get_at(key, Instant::now())
    }

    /// Keeps an answer of so many bytes, if there is room.
    pub(crate) fn keep(&self, key: Key, answer: V, bytes: usize) {
        self.keep_at(key, answer, bytes, Instant::now());
    }

    fn get_at(&self, key: &Key, now: Instant) -> Option<V> {
        let known = self.known.lock();
        let Answer { at, value, .. } = known.answers.get(key)?;
        (now.saturating_duration_since(*at) < self.kept_for).then(|| value.clone())
    }

    fn keep_at(&self, key: Key, value: V, bytes: usize, now: Instant) {
        let bytes = bytes + OVERHEAD_BYTES;
        let mut known = self.known.lock();
        let Known { answers, bytes: kept } = &mut *known;
        if let Some(old) = answers.remove(&key) {
            *kept -= old.bytes;
        }
        if *kept + bytes > ANSWERS_BYTES_MAX {
            answers.retain(|_, answer| now.saturating_duration_since(answer.at) < self.kept_for);
            *kept = answers.values().map(|answer| answer.bytes).sum();
        }
        if !self.kept_for.is_zero() && *kept + bytes <= ANSWERS_BYTES_MAX {
            *kept += bytes;
            answers.insert(key, Answer { at: now, bytes, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1024 * 1024 - OVERHEAD_BYTES;

    #[test]
    fn an_answer_counts_for_its_time_and_there_is_only_so_much_of_them() {
        let answers = Answers::new(Duration::from_secs(5));
        let now = Instant::now();
        let number = |number: u32| key(&[&number.to_string()]);
        answers.keep_at(number(0), true, BYTES, now);
        assert_eq!(answers.get_at(&number(0), now + Duration::from_secs(4)), Some(true));
        assert_eq!(answers.get_at(&number(0), now + Duration::from_secs(5)), None);
        for next in (1..20).chain(1..20) {
            answers.keep_at(number(next), false, BYTES, now + Duration::from_secs(1));
        }
        let count = || {
            let known = answers.known.lock();
            (known.answers.len(), known.bytes)
        };
        assert_eq!(count(), (16, ANSWERS_BYTES_MAX));
        assert_eq!(answers.get_at(&number(19), now + Duration::from_secs(1)), None, "there was no room");
        answers.keep_at(number(19), true, BYTES, now + Duration::from_secs(9));
        assert_eq!(count(), (1, ANSWERS_BYTES_MAX / 16), "what is too old makes room");
        let never = Answers::new(Duration::ZERO);
        never.keep_at(number(0), true, BYTES, now);
        assert_eq!(never.get_at(&number(0), now), None);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert!(key(&["ann", "b"]) != key(&["an", "nb"]));
        assert!(key(&["ann"]) == key(&["ann"]));
    }
}
