//! What the backend has answered a moment ago: so few and for so short that it may be out of date, and never more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use parking_lot::Mutex;

/// So many are kept. With more that are young enough, the next is asked for each time.
const ANSWERS_MAX: usize = 10_000;

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; digest::SHA256_OUTPUT_LEN]);

/// Answers, by what was asked.
pub(crate) struct Answers<V> {
    kept_for: Duration,
    known: Mutex<HashMap<Key, (Instant, V)>>,
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
        Self { kept_for, known: Mutex::default() }
    }

    /// The answer, if it is young enough.
    pub(crate) fn get(&self, key: &Key) -> Option<V> {
        self.get_at(key, Instant::now())
    }

    pub(crate) fn keep(&self, key: Key, answer: V) {
        self.keep_at(key, answer, Instant::now());
    }

    fn get_at(&self, key: &Key, now: Instant) -> Option<V> {
        let known = self.known.lock();
        let (at, answer) = known.get(key)?;
        (now.saturating_duration_since(*at) < self.kept_for).then(|| answer.clone())
    }

    fn keep_at(&self, key: Key, answer: V, now: Instant) {
        if self.kept_for.is_zero() {
            return;
        }
        let mut known = self.known.lock();
        if known.len() >= ANSWERS_MAX {
            known.retain(|_, (at, _)| now.saturating_duration_since(*at) < self.kept_for);
        }
        if known.len() < ANSWERS_MAX || known.contains_key(&key) {
            known.insert(key, (now, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_time_and_there_are_only_so_many() {
        let answers = Answers::new(Duration::from_secs(5));
        let now = Instant::now();
        let number = |number: u32| key(&[&number.to_string()]);
        answers.keep_at(number(0), true, now);
        assert_eq!(answers.get_at(&number(0), now + Duration::from_secs(4)), Some(true));
        assert_eq!(answers.get_at(&number(0), now + Duration::from_secs(5)), None);
        for next in 1..12_000 {
            answers.keep_at(number(next), false, now + Duration::from_secs(1));
        }
        assert_eq!(answers.known.lock().len(), ANSWERS_MAX);
        answers.keep_at(number(20_000), true, now + Duration::from_secs(9));
        assert_eq!(answers.known.lock().len(), 1, "what is too old makes room");
        let never = Answers::new(Duration::ZERO);
        never.keep_at(number(0), true, now);
        assert_eq!(never.get_at(&number(0), now), None);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert!(key(&["ann", "b"]) != key(&["an", "nb"]));
        assert!(key(&["ann"]) == key(&["ann"]));
    }
}
