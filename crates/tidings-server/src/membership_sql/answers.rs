//! What users' rooms were when the database last told them: bounded in users and in rooms, and by age.
//!
//! Two generations take turns, so that nothing has to be sorted by age: what was asked for since the last turn is in both
//! or in the young one, and the old one goes as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings::RoomId;

/// Rooms of all users together that are kept, at most.
const ROOMS_MAX: usize = 1_000_000;

/// One user's rooms, sorted, and when they were asked for.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// When the query began: what it tells may be as old as that.
    pub(super) as_of: Instant,
    pub(super) rooms: Arc<[RoomId]>,
}

/// The answers of many users.
pub(super) struct Answers {
    young: Generation,
    old: Generation,
    users_max: usize,
    rooms_max: usize,
    age_max: Duration,
}

#[derive(Default)]
struct Generation {
    began: Option<Instant>,
    users: HashMap<Box<str>, Answer>,
    rooms: usize,
}

impl Answers {
    /// For so many users, none of whom has an answer of use that is older.
    pub(super) fn new(users_max: usize, age_max: Duration) -> Self {
        let (young, old) = Default::default();
        Self { young, old, users_max, rooms_max: ROOMS_MAX, age_max }
    }

    pub(super) fn len(&self) -> usize {
        self.young.users.len() + self.old.users.len()
    }

    /// The newest answer for a user, if it is not too old.
    pub(super) fn get(&self, user: &str, now: Instant) -> Option<Answer> {
        let answer = self.young.users.get(user).or_else(|| self.old.users.get(user))?;
        (now.saturating_duration_since(answer.as_of) <= self.age_max).then(|| answer.clone())
    }

    /// Keeps an answer in the place of an older one.
    pub(super) fn put(&mut self, user: &str, answer: Answer, now: Instant) {
        let began = *self.young.began.get_or_insert(now);
        // Half of each bound for each generation.
        let is_full = 2 * (self.young.users.len() + 1) > self.users_max
            || 2 * (self.young.rooms + answer.rooms.len()) > self.rooms_max;
        if is_full || now.saturating_duration_since(began) > self.age_max {
            self.old = std::mem::take(&mut self.young);
            self.young.began = Some(now);
        }
        self.old.remove(user);
        self.young.remove(user);
        self.young.rooms += answer.rooms.len();
        self.young.users.insert(user.into(), answer);
    }
}

impl Generation {
    fn remove(&mut self, user: &str) {
        if let Some(answer) = self.users.remove(user) {
            self.rooms -= answer.rooms.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(as_of: Instant, rooms: usize) -> Answer {
        let rooms: Vec<_> = (0..rooms).map(|room| RoomId::parse(&format!("r{room}")).unwrap()).collect();
        Answer { as_of, rooms: rooms.into() }
    }

    #[test]
    fn the_newest_answer_counts_until_it_is_too_old() {
        let t0 = Instant::now();
        let mut answers = Answers::new(10, Duration::from_secs(60));
        answers.put("ann", answer(t0, 2), t0);
        answers.put("ann", answer(t0, 1), t0 + Duration::from_secs(1));
        assert_eq!(answers.get("ann", t0 + Duration::from_secs(60)).unwrap().rooms.len(), 1);
        assert!(answers.get("ann", t0 + Duration::from_secs(61)).is_none());
        assert!(answers.get("bob", t0).is_none());
        assert_eq!((answers.len(), answers.young.rooms), (1, 1));
    }

    #[test]
    fn users_and_rooms_are_bounded_and_the_newest_half_stays() {
        let t0 = Instant::now();
        let mut answers = Answers::new(100, Duration::from_secs(60));
        for user in 0..1000 {
            answers.put(&format!("u{user}"), answer(t0, 1), t0);
            assert!(answers.len() <= 100, "{}", answers.len());
        }
        assert!((950..1000).all(|user| answers.get(&format!("u{user}"), t0).is_some()));
        answers.rooms_max = 40;
        for user in 0..100 {
            answers.put(&format!("v{user}"), answer(t0, 10), t0);
        }
        assert!(answers.young.rooms + answers.old.rooms <= 40);
    }

    #[test]
    fn who_has_gone_is_forgotten_in_time() {
        let t0 = Instant::now();
        let mut answers = Answers::new(100, Duration::from_secs(60));
        answers.put("ann", answer(t0, 1), t0);
        for minute in 1..=3u64 {
            let now = t0 + Duration::from_secs(61 * minute);
            answers.put("bob", answer(now, 1), now);
        }
        assert_eq!(answers.len(), 1);
    }
}
