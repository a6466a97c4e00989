//! Telling the backend: what waits in memory is stored, what is stored is sent, each key in its order, until it was taken or is dead.
//!
//! One task does it, in turns, and each turn is one commit.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::Kind;
use super::backend::{Backend, PostError, Reply};
use super::cloud_event::unix_ms;
use super::counts::Counts;
use super::outbox::{Due, Outbox, Settled};
use super::queue::{self, Queue};

/// So many are sent at a time, each of another key.
const SENT_AT_ONCE_MAX: usize = 32;
/// How long the backend has for each.
const SENT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two attempts: twice as long each time, up to this.
const BACKOFF_S_MAX: u64 = 60;
/// What nobody took for so long is dead.
const TRIED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The outbox is looked at so often also where nothing has come: another process may have put something in.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A disk that took nothing is tried again after this.
const DISK_WAIT: Duration = Duration::from_secs(1);
/// How often the dead letters are counted.
const DEAD_INTERVAL: Duration = Duration::from_secs(30);
/// At the end a disk that takes nothing is waited for so much longer than what is sent.
const DISK_FINISH_MAX: Duration = Duration::from_secs(3);

/// Who tells.
pub(crate) struct Telling {
    backend: Arc<Backend>,
    outbox: Outbox,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    /// Taken from the queue, and not stored yet.
    new: VecDeque<queue::Telling>,
    /// What attempts have led to, and is not stored yet.
    settled: Vec<Settled>,
    sending: JoinSet<(Due, Attempt)>,
    /// The keys of which something is sent, or has an end that is not stored yet.
    busy: HashSet<String>,
    is_full: bool,
    disk_fails: bool,
    count_dead_at: Option<Instant>,
}

/// What became of one.
#[derive(PartialEq, Eq, Debug)]
enum Attempt {
    Taken,
    /// The backend wants it no more.
    Gone,
    Failed(String),
}

impl Attempt {
    fn of(reply: Result<Reply, PostError>) -> Self {
        match reply {
            Ok(Reply { status, .. }) if status.is_success() => Self::Taken,
            Ok(Reply { status: StatusCode::GONE, .. }) => Self::Gone,
            Ok(Reply { status, .. }) => Self::Failed(format!("the answer is {status}")),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl Telling {
    pub(crate) fn new(backend: Arc<Backend>, outbox: Outbox, queue: Arc<Queue>, counts: Arc<Counts>) -> Self {
        Self {
            backend,
            outbox,
            queue,
            counts,
            new: VecDeque::new(),
            settled: Vec::new(),
            sending: JoinSet::new(),
            busy: HashSet::new(),
            is_full: false,
            disk_fails: false,
            count_dead_at: None,
        }
    }

    /// Tells until it is to finish: then for so long as it is told, or until nothing is due any more.
    pub(crate) async fn run(mut self, mut finish: oneshot::Receiver<Duration>) {
        let mut finish_by: Option<Instant> = None;
        loop {
            let is_stored = self.store().await;
            self.send_due().await;
            if let Some(by) = finish_by {
                let is_over = self.sending.is_empty() || Instant::now() >= by;
                if is_stored && is_over {
                    return;
                }
                if Instant::now() >= by + DISK_FINISH_MAX {
                    return error!(count = self.new.len(), "webhooks could not be stored, and are lost");
                }
            }
            let pause = if is_stored { LOOK_INTERVAL } else { DISK_WAIT };
            let queue = Arc::clone(&self.queue);
            tokio::select! {
                // What has come waits behind what the disk did not take.
                () = queue.filled(), if is_stored => {}
                Some(sent) = self.sending.join_next() => self.settle(sent),
                Ok(within) = &mut finish, if finish_by.is_none() => finish_by = Some(Instant::now() + within),
                () = tokio::time::sleep_until(Instant::now() + pause) => {}
            }
            while let Some(sent) = self.sending.try_join_next() {
                self.settle(sent);
            }
        }
    }

    /// Stores what is new and what has ended, in one commit; whether the disk took it.
    async fn store(&mut self) -> bool {
        if self.new.is_empty() {
            self.new = self.queue.take();
        }
        if !self.new.is_empty() || !self.settled.is_empty() {
            match self.outbox.turn(&self.new, &self.settled).await {
                Ok(refused) => self.stored(refused),
                Err(error) => {
                    if !std::mem::replace(&mut self.disk_fails, true) {
                        error!(%error, "webhooks can't be stored: they wait in memory while there is room");
                    }
                    return false;
                }
            }
        }
        self.measure().await;
        true
    }

    fn stored(&mut self, refused: u64) {
        if std::mem::take(&mut self.disk_fails) {
            info!("webhooks are stored again");
        }
        for _ in 0..refused {
            self.counts.count_refused();
        }
        if refused > 0 && !std::mem::replace(&mut self.is_full, true) {
            error!(refused, "the outbox of webhooks is full: the newest are lost, and counted");
        } else if refused == 0 && !self.new.is_empty() && std::mem::take(&mut self.is_full) {
            info!("the outbox of webhooks has room again");
        }
        self.new.clear();
        for settled in self.settled.drain(..) {
            self.busy.remove(settled.key());
        }
    }

    async fn measure(&mut self) {
        if self.count_dead_at.is_none_or(|at| at <= Instant::now()) {
            self.count_dead_at = Some(Instant::now() + DEAD_INTERVAL);
            match self.outbox.count_dead() {
                Ok(dead) => self.counts.set_dead(dead),
                Err(error) => warn!(%error, "the dead letters can't be counted"),
            }
        }
        match self.outbox.waiting().await {
            Ok(waiting) => self.counts.set_waiting(waiting.count, waiting.bytes),
            Err(error) => debug!(%error, "what waits could not be counted"),
        }
    }

    /// Sends what is due, as far as there are free hands.
    async fn send_due(&mut self) {
        let free = SENT_AT_ONCE_MAX - self.sending.len();
        if free == 0 {
            return;
        }
        let due = match self.outbox.due(unix_ms(), free, &self.busy).await {
            Ok(due) => due,
            Err(error) => return error!(%error, "the outbox of webhooks can't be read"),
        };
        for mut due in due {
            self.busy.insert(due.key.clone());
            let backend = Arc::clone(&self.backend);
            self.sending.spawn(async move {
                let body = std::mem::take(&mut due.body).into();
                let reply = backend.post(&due.id, axum::body::Bytes::clone(&body), SENT_WAIT_MAX).await;
                due.body = body.into();
                (due, Attempt::of(reply))
            });
        }
    }

    /// Notes what has become of one; it is stored in the next turn.
    fn settle(&mut self, sent: Result<(Due, Attempt), JoinError>) {
        let (due, attempt) = match sent {
            Ok(sent) => sent,
            // Its key waits for a restart then, which is better than to be told out of order.
            Err(error) => return error!(%error, "sending a webhook panicked"),
        };
        let kind = Kind::TOLD.into_iter().find(|kind| kind.name() == due.kind);
        match (kind, &attempt) {
            (Some(kind), Attempt::Taken) => self.counts.count_done(kind),
            (Some(kind), _) => self.counts.count_failed(kind),
            (None, _) => {}
        }
        let attempts = due.attempts + 1;
        let is_old = unix_ms().saturating_sub(due.since_ms) >= TRIED_FOR.as_millis() as u64;
        let reason = match attempt {
            Attempt::Taken => return self.settled.push(Settled::Over { seq: due.seq, key: due.key }),
            Attempt::Failed(reason) if !is_old => return self.try_again(due.key, attempts, &reason),
            Attempt::Failed(reason) => reason,
            Attempt::Gone => "the answer is 410: it is not wanted".to_owned(),
        };
        match self.outbox.bury(&due, attempts, &reason) {
            Ok(()) => {
                error!(
                    id = due.id,
                    kind = due.kind,
                    attempts,
                    reason,
                    "a webhook is a dead letter: tidings outbox list"
                );
                self.count_dead_at = None;
                self.settled.push(Settled::Over { seq: due.seq, key: due.key });
            }
            Err(error) => {
                error!(id = due.id, %error, "a dead letter can't be written: it is tried on");
                self.try_again(due.key, attempts, &reason);
            }
        }
    }

    fn try_again(&mut self, key: String, attempts: u32, reason: &str) {
        let wait_s = backoff_s(attempts);
        if attempts == 1 {
            warn!(key, wait_s, reason, "a webhook was not taken, and is tried again");
        } else {
            debug!(key, attempts, wait_s, reason, "a webhook was not taken, and is tried again");
        }
        self.settled.push(Settled::Again { key, attempts, due_ms: unix_ms() + 1000 * wait_s });
    }
}

/// How long to wait after so many attempts.
fn backoff_s(attempts: u32) -> u64 {
    1_u64.checked_shl(attempts - 1).unwrap_or(BACKOFF_S_MAX).min(BACKOFF_S_MAX)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;
    use tidings::{Observe as _, Observed, RoomId};

    use super::super::signing::SigningKey;
    use super::*;

    /// One who has nobody to tell, and so many bytes.
    async fn teller(directory: &std::path::Path, bytes_max: u64) -> Telling {
        let key = SigningKey::derive(&SecretString::from("canary-bird of a test, 32 bytes and more"));
        let backend = Backend::new("http://127.0.0.1:9/", false, key).unwrap();
        let counts = Arc::new(Counts::default());
        let queue = Arc::new(Queue::new(vec![Kind::Occupied], Arc::clone(&counts)));
        let outbox = Outbox::open(directory, bytes_max).await.unwrap();
        Telling::new(Arc::new(backend), outbox, queue, counts)
    }

    fn occupy(teller: &Telling, times: usize) {
        let room = RoomId::parse("a").unwrap();
        for _ in 0..times {
            queue::Watcher(Arc::clone(&teller.queue)).observe(Observed::Occupied { room: &room });
        }
    }

    #[tokio::test]
    async fn what_a_full_outbox_refuses_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut teller = teller(directory.path(), 1200).await;
        occupy(&teller, 5);
        assert!(teller.store().await);
        assert_eq!((teller.counts.waiting(), teller.counts.refused()), (2, 3));
        assert!(teller.counts.bytes() <= 1200);
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut teller = teller(directory.path(), u64::MAX).await;
        // Another process that does not let go of the database stands for a disk that takes nothing.
        let options = SqliteConnectOptions::new().filename(directory.path().join("outbox.sqlite"));
        let mut other = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        occupy(&teller, 2);
        assert!(!teller.store().await);
        occupy(&teller, 1);
        assert!(!teller.store().await);
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        assert!(teller.store().await && teller.store().await);
        assert_eq!((teller.counts.waiting(), teller.counts.refused()), (3, 0));
    }

    #[test]
    fn the_waits_double_up_to_a_minute() {
        let waits: Vec<_> = [1, 2, 3, 6, 7, 8, 64, 65, 1500].map(backoff_s).into();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn only_a_success_takes_it_and_only_410_ends_it_at_once() {
        let answered = |status: u16| {
            Attempt::of(Ok(Reply { status: StatusCode::from_u16(status).unwrap(), body: Default::default() }))
        };
        for (status, expected) in [(200, Attempt::Taken), (204, Attempt::Taken), (410, Attempt::Gone)] {
            assert_eq!(answered(status), expected);
        }
        for status in [301, 302, 400, 404, 500, 503] {
            assert!(matches!(answered(status), Attempt::Failed(_)), "{status}");
        }
    }
}
