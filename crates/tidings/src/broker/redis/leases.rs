//! Places in users' limits that this node holds in Redis: renewed while their connections live, given back when they end.
//!
//! A node that dies renews nothing, and its places come free when their leases end. Who takes a place over does not wait
//! for that: Redis keeps who has lost his place, and a renewal of it is told so.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tracing::debug;

use super::Shared;
use super::routes::Routes;
use super::script::Channels;
use super::user_keys::tag_of;
use super::user_scripts::Kept;
use crate::auth::UserId;
use crate::local_users::Lost;
use crate::metrics::Metrics;
use crate::session_id::SessionId;

/// How long a place is held without being renewed.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(70);
pub(super) const LEASE_MIN: Duration = Duration::from_secs(1);
pub(super) const LEASE_MAX: Duration = Duration::from_secs(600);
/// A lease is renewed when it has used up two sevenths of its time, give or take a quarter: so two may fail.
const RENEW_AFTER: f64 = 2.0 / 7.0;
/// And again this soon, in parts of the lease, when that failed.
const RETRY_AFTER: f64 = 1.0 / 14.0;
/// How often leases are looked through for those that are due, in parts of the lease.
const TICKS_PER_LEASE: u32 = 70;
/// So many users' leases are renewed at once.
const USERS_AT_ONCE_MAX: usize = 512;
/// And so many of them by one call. In a cluster each may be in a slot of his own.
const CALL_USERS_MAX: usize = 64;
/// So many places wait to be given back. More end with their leases.
const GIVEN_BACK_MAX: usize = 65_536;

/// The places of a node.
pub(super) struct Leases {
    pub(super) lease: Duration,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Told when places are given back.
    given_back: Notify,
    /// Whose turn it is to send: what was taken to be sent first is sent first.
    turn: Semaphore,
}

#[derive(Default)]
struct State {
    by_user: HashMap<UserId, Held>,
    /// When whose leases are renewed; an entry that its user knows nothing of is an old one.
    due: BinaryHeap<Reverse<(Instant, UserId)>>,
    given_back: Vec<(UserId, SessionId)>,
    /// Of those, what could not be sent, until the next time that the leases are looked through.
    put_off: Vec<(UserId, SessionId)>,
    /// How many leases there are, those included that are only about to be taken.
    count: usize,
    /// The node ends.
    is_ending: bool,
}

struct Held {
    /// Each with when its place was taken, by the server's clock; the oldest first.
    sessions: Vec<(SessionId, u64)>,
    due: Instant,
}

/// A place, given back when dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    user: UserId,
    session: SessionId,
    /// Whether Redis may know of it.
    may_be_held: bool,
}

/// What there is to do for one user.
struct Work {
    user: UserId,
    sessions: Vec<Kept>,
}

impl Leases {
    pub(super) fn new(lease: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            lease,
            metrics,
            state: Mutex::default(),
            given_back: Notify::new(),
            turn: Semaphore::new(1),
        })
    }

    /// A place that is about to be taken: whatever becomes of the call, it is given back when this is dropped.
    pub(super) fn lease(self: &Arc<Self>, user: &UserId, session: SessionId) -> Lease {
        self.state.lock().count += 1;
        Lease { leases: Arc::clone(self), user: user.clone(), session, may_be_held: true }
    }

    /// The sessions of a user that have their places since a moment or longer.
    pub(super) fn sessions_until(&self, user: &str, until_ms: u64) -> Vec<SessionId> {
        let state = self.state.lock();
        let sessions = state.by_user.get(user).into_iter().flat_map(|held| &held.sessions);
        sessions.filter(|(_, since_ms)| *since_ms <= until_ms).map(|(session, _)| *session).collect()
    }

    /// What is to be sent: all that is given back, and what is due.
    fn work(&self, now: Instant) -> Vec<Work> {
        let mut state = self.state.lock();
        let mut work: Vec<Work> = Vec::new();
        let mut given_back = std::mem::take(&mut state.given_back);
        given_back.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (user, session) in given_back {
            match work.last_mut().filter(|work| work.user == user) {
                Some(work) => work.sessions.push((session, None)),
                None => work.push(Work { user, sessions: vec![(session, None)] }),
            }
        }
        while work.len() < USERS_AT_ONCE_MAX {
            let Some(Reverse((due, user))) =
                state.due.peek().filter(|Reverse((due, _))| *due <= now).cloned()
            else {
                break;
            };
            state.due.pop();
            let Some(held) = state.by_user.get(&user).filter(|held| held.due == due) else { continue };
            let sessions = held.sessions.iter().map(|(session, since_ms)| (*session, Some(*since_ms)));
            work.push(Work { sessions: sessions.collect(), user });
        }
        work
    }

    /// A user's leases are renewed again then.
    fn next(&self, user: &UserId, due: Instant) {
        let mut state = self.state.lock();
        if let Some(held) = state.by_user.get_mut(user) {
            held.due = due;
            state.due.push(Reverse((due, user.clone())));
        }
    }

    /// The node ends: what it has is given back as its connections end, and then nothing is left to be kept.
    pub(super) fn end(&self) {
        self.state.lock().is_ending = true;
        self.given_back.notify_one();
    }

    fn has_ended(&self) -> bool {
        let state = self.state.lock();
        state.is_ending && state.count == 0 && state.given_back.is_empty() && state.put_off.is_empty()
    }

    fn give_back(&self, state: &mut State, user: &UserId, session: SessionId) {
        if let Some(held) = state.by_user.get_mut(user) {
            let before = held.sessions.len();
            held.sessions.retain(|(held, _)| *held != session);
            self.metrics.leases.subtract((before - held.sessions.len()) as u64);
            if held.sessions.is_empty() {
                state.by_user.remove(user);
            }
        }
        if state.by_user.is_empty() {
            // What a mass disconnect leaves behind.
            state.by_user = HashMap::new();
            state.due = BinaryHeap::new();
        }
        if state.given_back.len() < GIVEN_BACK_MAX {
            state.given_back.push((user.clone(), session));
        }
    }

    /// What was given back is not known to be: it is sent again, and not at once.
    fn put_off(&self, given_back: impl Iterator<Item = (UserId, SessionId)>) {
        let mut state = self.state.lock();
        let room = GIVEN_BACK_MAX.saturating_sub(state.put_off.len());
        state.put_off.extend(given_back.take(room));
    }

    fn try_again(&self) {
        let State { given_back, put_off, .. } = &mut *self.state.lock();
        given_back.append(put_off);
    }

    fn part(&self, part: f64, random: u64) -> Duration {
        // Not all at the same moment.
        self.lease.mul_f64(part * (0.75 + (random % 500) as f64 / 1000.0))
    }
}

impl Lease {
    /// Redis holds it since then.
    pub(super) fn hold(&self, since_ms: u64, shared: &Shared) {
        let due = shared.env.now() + self.leases.part(RENEW_AFTER, shared.env.random());
        self.held_since(since_ms, due);
    }

    fn held_since(&self, since_ms: u64, due: Instant) {
        let leases = &self.leases;
        let mut state = leases.state.lock();
        let state = &mut *state;
        let held = state.by_user.entry(self.user.clone()).or_insert_with(|| {
            state.due.push(Reverse((due, self.user.clone())));
            Held { sessions: Vec::with_capacity(1), due }
        });
        held.sessions.push((self.session, since_ms));
        leases.metrics.leases.add(1);
    }

    /// Redis says that it does not hold it.
    pub(super) fn refused(mut self) {
        self.may_be_held = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.leases.state.lock();
        state.count -= 1;
        if self.may_be_held {
            self.leases.give_back(&mut state, &self.user, self.session);
        }
        drop(state);
        self.leases.given_back.notify_one();
    }
}

/// Renews and gives back for as long as the node lives, and until its last place is given back.
pub(super) async fn keep(routes: Arc<Routes>) {
    let leases = &routes.shared.leases;
    let mut ticks = tokio::time::interval((leases.lease / TICKS_PER_LEASE).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => leases.try_again(),
            () = leases.given_back.notified() => {}
        }
        while send(&routes).await {}
        if leases.has_ended() {
            break;
        }
    }
}

/// Sends what there is to send, and waits for the answers, so that no later call overtakes one of these; whether there was
/// anything. What fails is not there to be sent at once again.
pub(super) async fn send(routes: &Arc<Routes>) -> bool {
    let shared = &routes.shared;
    // It is never closed.
    let _turn = shared.leases.turn.acquire().await;
    let mut work = shared.leases.work(shared.env.now()).into_iter().peekable();
    let any = work.peek().is_some();
    let call_users_max = match shared.channels {
        Channels::Classic => CALL_USERS_MAX,
        Channels::Sharded => 1,
    };
    while work.peek().is_some() {
        let mut calls = JoinSet::new();
        while calls.len() * call_users_max < USERS_AT_ONCE_MAX && work.peek().is_some() {
            let of_one_call: Vec<_> = work.by_ref().take(call_users_max).collect();
            let routes = Arc::clone(routes);
            calls.spawn(async move { send_one(&routes, of_one_call).await });
        }
        while calls.join_next().await.is_some() {}
    }
    any
}

async fn send_one(routes: &Routes, work: Vec<Work>) {
    let (shared, leases) = (&routes.shared, &routes.shared.leases);
    let users: Vec<_> =
        work.iter().map(|work| (shared.keyspace.places_of(&work.user), work.sessions.clone())).collect();
    // Among fixed links it is the same for all of them.
    let link = work.first().and_then(|work| routes.link_of_user(&tag_of(&work.user)));
    let answer = match link.and_then(|link| Some((link.connected()?, link))) {
        Some((connected, link)) => {
            let mut connection = connected.connection.clone();
            let call = shared.scripts.users.renew(&mut connection, &users, leases.lease);
            link.call(&connected, call).await.map_err(|error| error.to_string())
        }
        None => Err("there is no connection".to_owned()),
    };
    let now = shared.env.now();
    let kept = |work: &Work| work.sessions.iter().filter(|(_, since_ms)| since_ms.is_some()).count();
    match answer {
        Ok(lost) => {
            for work in &work {
                if kept(work) > 0 {
                    leases.next(&work.user, now + leases.part(RENEW_AFTER, shared.env.random()));
                }
                for session in work.sessions.iter().map(|(session, _)| session) {
                    if lost.contains(session) {
                        shared.local_users.replace(work.user.as_str(), *session, Lost::ToItsOwn);
                    }
                }
            }
        }
        Err(error) => {
            debug!(error, "leases of users' places were not renewed");
            let mut given_back = Vec::new();
            for work in work {
                let kept = kept(&work);
                shared.metrics.lease_renewals_failed.add(kept as u64);
                if kept > 0 {
                    leases.next(&work.user, now + leases.part(RETRY_AFTER, shared.env.random()));
                }
                let ended = work.sessions.into_iter().filter(|(_, since_ms)| since_ms.is_none());
                given_back.extend(ended.map(|(session, _)| (work.user.clone(), session)));
            }
            leases.put_off(given_back.into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dead node's places come free within 90 s, and a living node's outlast two renewals that fail.
    #[test]
    fn a_lease_is_long_enough_for_the_living_and_short_enough_for_the_dead() {
        let leases = Leases::new(LEASE_DEFAULT, Arc::default());
        assert!((Duration::from_secs(60)..=Duration::from_secs(80)).contains(&leases.lease));
        let longest = |part| (0..500).map(|random| leases.part(part, random)).max().unwrap();
        let (renewed, tried_again) = (longest(RENEW_AFTER), longest(RETRY_AFTER));
        assert!(renewed <= Duration::from_secs(25) && tried_again <= Duration::from_millis(6250));
        let tick = leases.lease / TICKS_PER_LEASE + super::super::link::CALL_MAX;
        assert!(renewed + 2 * tried_again + 3 * tick < leases.lease / 2 + Duration::from_secs(10));
        assert!(leases.lease < Duration::from_secs(90), "it is not renewed after its node's death");
    }

    #[test]
    fn what_is_given_back_is_sent_once_and_before_nothing_of_it_is_renewed() {
        let env = crate::env::SystemEnv::inline();
        let leases = Leases::new(LEASE_DEFAULT, Arc::default());
        let ann = UserId::parse("ann").unwrap();
        let (one, two) = (SessionId::first(&env), SessionId::first(&env));
        let now = Instant::now();
        let (first, second) = (leases.lease(&ann, one), leases.lease(&ann, two));
        first.held_since(7, now);
        second.held_since(9, now);
        assert_eq!(leases.sessions_until("ann", 8), [one]);
        assert!(leases.work(now - Duration::from_millis(1)).is_empty());
        let renewed = leases.work(now);
        assert_eq!(renewed.len(), 1);
        assert_eq!(renewed[0].sessions, [(one, Some(7)), (two, Some(9))]);
        assert!(leases.work(now).is_empty(), "until it is said when it is next");
        leases.next(&ann, now);
        drop(first);
        let mut work = leases.work(now);
        assert_eq!(work.remove(0).sessions, [(one, None)]);
        assert_eq!(work.remove(0).sessions, [(two, Some(9))]);
        leases.lease(&ann, one).refused();
        leases.next(&ann, now);
        drop(second);
        assert_eq!(leases.work(now).remove(0).sessions, [(two, None)]);
        assert!(leases.work(now + LEASE_DEFAULT).is_empty());
        assert_eq!(leases.metrics.leases.get(), 0);
    }

    #[test]
    fn it_has_ended_when_what_was_about_to_be_taken_is_given_back_too() {
        let env = crate::env::SystemEnv::inline();
        let leases = Leases::new(LEASE_DEFAULT, Arc::default());
        let (held, about_to_be) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let held = leases.lease(&held, SessionId::first(&env));
        held.held_since(7, Instant::now());
        let about_to_be = leases.lease(&about_to_be, SessionId::first(&env));
        assert!(!leases.has_ended());
        leases.end();
        drop(held);
        assert_eq!(leases.work(Instant::now()).len(), 1);
        assert!(!leases.has_ended(), "one may still be held");
        drop(about_to_be);
        assert!(!leases.has_ended(), "it is not sent yet");
        assert_eq!(leases.work(Instant::now()).len(), 1);
        assert!(leases.has_ended());
    }

    #[test]
    fn what_could_not_be_given_back_is_not_in_the_way_of_what_can_be_sent() {
        let leases = Leases::new(LEASE_DEFAULT, Arc::default());
        let (ann, one) = (UserId::parse("ann").unwrap(), SessionId::first(&crate::env::SystemEnv::inline()));
        leases.put_off([(ann, one)].into_iter());
        assert!(leases.work(Instant::now()).is_empty(), "until the leases are looked through again");
        leases.try_again();
        assert_eq!(leases.work(Instant::now()).remove(0).sessions, [(one, None)]);
        leases.try_again();
        assert!(leases.work(Instant::now()).is_empty());
    }
}
