//! The memberships from the application's own database: one query, asked when a user connects, joins or resumes.
//!
//! Of one user there is one query at a time, and who asks meanwhile shares it if its answer is new enough. While the
//! database is away nobody waits for it: a task looks each second whether it is back, and everybody else is told at once.

mod answers;
mod database;
mod fault;
mod numbers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidings::auth::Identity;
use tidings::{MembershipFuture, Memberships, RoomId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::failure::Failure;
use crate::metrics_page::Sample;

use answers::{Answer, Answers};
pub(crate) use database::Address;
use database::{Database, Found};
use fault::Fault;
use numbers::Numbers;

/// Between two looks at a database that is away, and after a look that found it there.
const PAUSE: Duration = Duration::from_secs(1);
/// A look may take so long, connecting included.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What the configuration says.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) query: Arc<str>,
    /// For one answer, with all that it waits for.
    pub(crate) timeout: Duration,
    /// For so long an answer counts again.
    pub(crate) cache: Duration,
    pub(crate) pool_connections_max: u32,
    /// For so long an answer counts where there is none; not at all if none.
    pub(crate) last_known: Option<Duration>,
    /// Users whose answers are kept.
    pub(crate) users_max: usize,
}

/// The memberships. Cloning gives another handle of the same.
#[derive(Clone)]
pub(crate) struct SqlMemberships {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    timeout: Duration,
    cache: Duration,
    last_known: Option<Duration>,
    /// On which the queries run, wherever they are asked for.
    runtime: Handle,
    state: Mutex<State>,
    /// Somebody got no answer: whether the database is there has to be looked at.
    doubt: Notify,
    /// Whether a room that is none was told of.
    has_told_of_no_room: AtomicBool,
    /// And a user with too many.
    has_told_of_too_many: AtomicBool,
    numbers: Numbers,
}

struct State {
    /// Why the database can't be asked, as the last look found.
    away: Option<Fault>,
    /// Whether any look found it there.
    was_there: bool,
    answers: Answers,
    running: HashMap<Box<str>, Running>,
}

/// A query that somebody waits for, and perhaps others.
#[derive(Clone)]
struct Running {
    as_of: Instant,
    outcome: watch::Receiver<Option<Result<Answer, Fault>>>,
}

impl SqlMemberships {
    /// Looks whether the query can be used, and goes on looking. A database that is away is waited for by nobody: the
    /// server starts before it.
    ///
    /// # Errors
    /// A configuration's failure when somebody has to mend something, in the database's words.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        let Settings { address, query, timeout, cache, pool_connections_max, last_known, users_max } =
            settings;
        let answers = Answers::new(users_max, last_known.unwrap_or_default().max(cache));
        let shared = Arc::new(Shared {
            database: Database::new(address, query, pool_connections_max, timeout),
            timeout,
            cache,
            last_known,
            runtime: Handle::current(),
            state: Mutex::new(State { away: None, was_there: false, answers, running: HashMap::new() }),
            doubt: Notify::new(),
            has_told_of_no_room: AtomicBool::new(false),
            has_told_of_too_many: AtomicBool::new(false),
            numbers: Numbers::default(),
        });
        if let Err(Fault::Wrong { message, fix }) = shared.look().await {
            return Err(Failure::config(format_args!("[memberships] the database says: {message}")).fix(fix));
        }
        tokio::spawn(watch_over(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Whether users can be let in: all of them, or those at least who have been here.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.shared.state.lock();
        state.away.is_none() || (self.shared.last_known.is_some() && state.was_there)
    }

    /// What `/metrics` has of it.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let (is_there, users) = {
            let state = self.shared.state.lock();
            (state.away.is_none(), state.answers.len())
        };
        let (connections, idle) = self.shared.database.connections();
        self.shared.numbers.samples(is_there, users, connections, idle)
    }
}

impl Memberships for SqlMemberships {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let answer =
                self.shared.answer_or_last_known(identity.user().as_str(), self.shared.cache).await?;
            Ok(answer.rooms.to_vec())
        })
    }

    /// A yes may be as old as the cache allows. A no never is: who was just invited comes at once.
    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        Box::pin(async move {
            let user = identity.user().as_str();
            let asked_at = Instant::now();
            let answer = self.shared.answer_or_last_known(user, self.shared.cache).await?;
            if answer.has(room) || answer.as_of >= asked_at {
                return Ok(answer.has(room));
            }
            Ok(self.shared.answer_or_last_known(user, Duration::ZERO).await?.has(room))
        })
    }
}

impl Answer {
    fn has(&self, room: &RoomId) -> bool {
        self.rooms.binary_search(room).is_ok()
    }
}

impl Shared {
    /// The user's rooms as they were `age_max` ago at the earliest; where they can't be had, as they were last known, if
    /// that counts.
    async fn answer_or_last_known(self: &Arc<Self>, user: &str, age_max: Duration) -> Result<Answer, String> {
        let answered = tokio::time::timeout(self.timeout, self.answer(user, age_max)).await;
        let fault = match answered.unwrap_or(Err(Fault::Slow)) {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        self.numbers.count_failure();
        self.doubt.notify_one();
        if let Some(age_max) = self.last_known {
            let now = Instant::now();
            let last = self.state.lock().answers.get(user, now);
            if let Some(answer) = last.filter(|answer| now.saturating_duration_since(answer.as_of) <= age_max)
            {
                self.numbers.count_last_known();
                return Ok(answer);
            }
        }
        Err(fault.to_string())
    }

    async fn answer(self: &Arc<Self>, user: &str, age_max: Duration) -> Result<Answer, Fault> {
        let asked_at = Instant::now();
        let is_new_enough = |as_of: Instant| asked_at.saturating_duration_since(as_of) <= age_max;
        loop {
            let mut running = {
                let mut state = self.state.lock();
                if let Some(answer) = state.answers.get(user, asked_at)
                    && is_new_enough(answer.as_of)
                {
                    self.numbers.count_shared();
                    return Ok(answer);
                }
                if let Some(fault) = &state.away {
                    return Err(fault.clone());
                }
                match state.running.get(user) {
                    // One whose sender is gone has ended without an outcome.
                    Some(running) if running.outcome.has_changed().is_ok() => running.clone(),
                    _ => self.begin(&mut state, user),
                }
            };
            let outcome = match running.outcome.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Err(Fault::Slow)),
                Err(_) => return Err(Fault::Away("the query was given up".to_owned())),
            };
            // Another's query that began before we asked may not know what has changed since: then there is one more.
            if is_new_enough(running.as_of) {
                return outcome;
            }
        }
    }

    /// Begins a query, which goes on whoever stops waiting for it, and ends in time.
    fn begin(self: &Arc<Self>, state: &mut State, user: &str) -> Running {
        let as_of = Instant::now();
        let (sender, outcome) = watch::channel(None);
        let running = Running { as_of, outcome };
        state.running.insert(user.into(), running.clone());
        let (shared, user) = (Arc::clone(self), user.to_owned());
        self.runtime.spawn(async move {
            let found = shared.database.rooms_of(&user, as_of + shared.timeout).await;
            shared.numbers.count_query(as_of.elapsed());
            let outcome = found.map(|found| Answer { as_of, rooms: shared.rooms(found) });
            {
                let mut state = shared.state.lock();
                state.running.remove(user.as_str());
                if let Ok(answer) = &outcome {
                    state.answers.put(&user, answer.clone(), Instant::now());
                }
            }
            sender.send_replace(Some(outcome));
        });
        running
    }

    /// What of the database's names are rooms, sorted.
    fn rooms(&self, found: Found) -> Arc<[RoomId]> {
        let mut rooms = Vec::with_capacity(found.names.len());
        for name in found.names {
            match RoomId::parse(&name) {
                Ok(room) => rooms.push(room),
                Err(fault) => {
                    self.numbers.count_no_room();
                    if !self.has_told_of_no_room.swap(true, Ordering::Relaxed) {
                        let shown: String = name.escape_debug().take(80).collect();
                        warn!(
                            name = shown, %fault,
                            "the memberships' query gives what is no room's name; it is left out, and so are others like it"
                        );
                    }
                }
            }
        }
        if found.is_cut && !self.has_told_of_too_many.swap(true, Ordering::Relaxed) {
            warn!(
                read = rooms.len(),
                "the memberships' query gives more rooms for one user than are read: has it its WHERE?"
            );
        }
        rooms.sort_unstable();
        rooms.dedup();
        rooms.into()
    }

    /// Looks whether the database is there, and says so when that has changed.
    async fn look(&self) -> Result<(), Fault> {
        let found = self.database.check(Instant::now() + LOOK_MAX).await;
        let mut state = self.state.lock();
        match &found {
            Ok(()) if state.away.is_some() => info!("the memberships' database is there again"),
            Ok(()) if !state.was_there => info!("the memberships' database is there"),
            Ok(()) => {}
            Err(fault) if state.away.as_ref() == Some(fault) => {}
            Err(fault) => {
                let until_then = match self.last_known {
                    Some(_) => "users' last known rooms count until it is there",
                    None => "handshakes are refused until it is there",
                };
                let fix = if let Fault::Wrong { fix, .. } = fault { Some(fix.as_str()) } else { None };
                warn!(%fault, fix, "the memberships' database can't be used: {until_then}");
            }
        }
        state.was_there |= found.is_ok();
        state.away = found.clone().err();
        found
    }
}

/// Looks after the database: each second while it is away, and when somebody got no answer.
async fn watch_over(shared: Arc<Shared>) {
    loop {
        if shared.state.lock().away.is_none() {
            shared.doubt.notified().await;
        } else {
            pause().await;
        }
        // The log has it.
        let _ = shared.look().await;
        pause().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause between two looks")]
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
