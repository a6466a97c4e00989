//! What is to be told, on disk, until the backend has taken it or it is dead.
//!
//! It is a SQLite database: whole after a crash at any byte, many writers' changes in one commit, and read by another
//! process (`tidings outbox`) while a server writes it. A log of our own would have to learn all that first. Every commit
//! is synced (`synchronous=FULL`), so that not even a power cut takes back what was stored; a turn of the
//! [teller](super::telling) is one commit, however much has happened since the last.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::Kind;
use super::cloud_event::{rfc3339, unix_ms};
use super::dead_letters::{DeadLetter, DeadLetters};
use super::queue::{OVERHEAD_BYTES, Telling};
use crate::failure::Failure;

const DATABASE: &str = "outbox.sqlite";
/// Held by the server that tells what is in it.
const LOCK: &str = "lock";
/// So long is waited for another process that writes.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(1);

/// `told` is what waits, in the order of `seq`. `keys` has each key that something waits under, with how the oldest of
/// it fares: so that what is due next is found without looking at what waits behind it. `totals` is kept by triggers, so
/// that it is true whichever process has changed something.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS told (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS told_by_key ON told (key, seq);
    CREATE TABLE IF NOT EXISTS keys (
        key TEXT PRIMARY KEY,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS keys_by_due ON keys (due_ms);
    CREATE TABLE IF NOT EXISTS totals (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
    CREATE TRIGGER IF NOT EXISTS told_stored AFTER INSERT ON told BEGIN
        UPDATE totals SET count = count + 1, bytes = bytes + new.bytes;
        INSERT OR IGNORE INTO keys VALUES (new.key, new.since_ms, 0);
    END;
    CREATE TRIGGER IF NOT EXISTS told_settled AFTER DELETE ON told BEGIN
        UPDATE totals SET count = count - 1, bytes = bytes - old.bytes;
        DELETE FROM keys WHERE key = old.key;
        INSERT INTO keys SELECT key, since_ms, 0 FROM told WHERE key = old.key ORDER BY seq LIMIT 1;
    END;
";

/// The outbox.
pub(crate) struct Outbox {
    database: SqliteConnection,
    dead: DeadLetters,
    bytes_max: u64,
    /// Bytes of the dead letters, when they were last looked at.
    dead_bytes: u64,
    _lock: Option<File>,
}

/// Something that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) since_ms: u64,
    /// How often it was tried in vain.
    pub(crate) attempts: u32,
    pub(crate) body: Vec<u8>,
}

/// What an attempt has led to.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// It is not to be told any more: it was taken, or is a dead letter.
    Over { seq: i64, key: String },
    /// It is to be tried again.
    Again { key: String, attempts: u32, due_ms: u64 },
}

impl Settled {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Over { key, .. } | Self::Again { key, .. } => key,
        }
    }
}

/// How much waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaitingCount {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// Why the outbox can't be used.
#[derive(Debug)]
pub(crate) enum OutboxError {
    Files(io::Error),
    Database(sqlx::Error),
    /// Another server tells what is in it.
    Locked,
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Locked => f.write_str("another server has it"),
        }
    }
}

impl From<io::Error> for OutboxError {
    fn from(error: io::Error) -> Self {
        Self::Files(error)
    }
}

impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl OutboxError {
    /// The same as a command's end.
    pub(crate) fn failure(&self, directory: &Path) -> Failure {
        let fix = match self {
            Self::Locked => "give each server an outbox of its own, or end the other",
            Self::Files(_) | Self::Database(_) => {
                "name a directory that this user can write to, /var/lib/tidings/outbox for a service: [webhooks] outbox"
            }
        };
        Failure::config(format_args!("the outbox {}: {self}", directory.display())).fix(fix)
    }
}

impl Outbox {
    /// Opens the outbox of a server, which no other may have at the same time.
    ///
    /// # Errors
    /// When it can't be made or read, or another server has it.
    pub(crate) async fn open(directory: &Path, bytes_max: u64) -> Result<Self, OutboxError> {
        // What is in it is about people.
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::create(directory.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutboxError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let outbox = Self::beside(directory).await?;
        Ok(Self { bytes_max, _lock: Some(lock), ..outbox })
    }

    /// Opens it beside the server that tells what is in it. What is told again from here was in it before: that it is full
    /// is no reason to keep it from being told.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub(crate) async fn beside(directory: &Path) -> Result<Self, OutboxError> {
        let options = SqliteConnectOptions::new()
            .filename(directory.join(DATABASE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(OTHERS_WAIT_MAX)
            .disable_statement_logging();
        let mut database = options.connect().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut database).await?;
        let dead = DeadLetters::open(directory)?;
        let (_, dead_bytes) = dead.measure()?;
        Ok(Self { database, dead, bytes_max: u64::MAX, dead_bytes, _lock: None })
    }

    pub(crate) fn dead(&self) -> &DeadLetters {
        &self.dead
    }

    /// How many dead letters there are. Another process may have sent some again.
    ///
    /// # Errors
    /// When they can't be counted.
    pub(crate) fn count_dead(&mut self) -> io::Result<u64> {
        let (count, bytes) = self.dead.measure()?;
        self.dead_bytes = bytes;
        Ok(count)
    }

    /// Stores what is new and what attempts have led to, all or nothing. How many of the new did not fit any more.
    ///
    /// # Errors
    /// When the disk does not take it: then nothing has changed.
    pub(crate) async fn turn<'a>(
        &mut self,
        new: impl IntoIterator<Item = &'a Telling>,
        settled: &[Settled],
    ) -> Result<u64, sqlx::Error> {
        let mut refused = 0;
        let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
        for settled in settled {
            match settled {
                Settled::Over { seq, .. } => {
                    sqlx::query("DELETE FROM told WHERE seq = ?").bind(seq).execute(&mut *change).await?;
                }
                Settled::Again { key, attempts, due_ms } => {
                    sqlx::query("UPDATE keys SET attempts = ?, due_ms = ? WHERE key = ?")
                        .bind(attempts)
                        .bind(due_ms.cast_signed())
                        .bind(key)
                        .execute(&mut *change)
                        .await?;
                }
            }
        }
        let stored: i64 = sqlx::query_scalar("SELECT bytes FROM totals").fetch_one(&mut *change).await?;
        let mut bytes = stored.cast_unsigned() + self.dead_bytes;
        let now_ms = unix_ms().cast_signed();
        for telling in new {
            let weight = telling.weight();
            if bytes.saturating_add(weight) > self.bytes_max {
                refused += 1;
                continue;
            }
            bytes += weight;
            sqlx::query(
                "INSERT OR IGNORE INTO told (id, kind, key, since_ms, bytes, body) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(&telling.id)
            .bind(telling.kind.name())
            .bind(&telling.key)
            .bind(now_ms)
            .bind(weight.cast_signed())
            .bind(&telling.body)
            .execute(&mut *change)
            .await?;
        }
        change.commit().await?;
        Ok(refused)
    }

    /// The oldest of each key that is due, so many at most, none of them of a key that is `busy`.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn due(
        &mut self,
        now_ms: u64,
        limit: usize,
        busy: &HashSet<String>,
    ) -> Result<Vec<Due>, sqlx::Error> {
        let keys: Vec<(String, u32)> =
            sqlx::query_as("SELECT key, attempts FROM keys WHERE due_ms <= ? ORDER BY due_ms LIMIT ?")
                .bind(now_ms.cast_signed())
                .bind((limit + busy.len()) as i64)
                .fetch_all(&mut self.database)
                .await?;
        let mut due = Vec::new();
        for (key, attempts) in keys.into_iter().filter(|(key, _)| !busy.contains(key)).take(limit) {
            let row: Option<(i64, String, String, i64, Vec<u8>)> = sqlx::query_as(
                "SELECT seq, id, kind, since_ms, body FROM told WHERE key = ? ORDER BY seq LIMIT 1",
            )
            .bind(&key)
            .fetch_optional(&mut self.database)
            .await?;
            if let Some((seq, id, kind, since_ms, body)) = row {
                due.push(Due { seq, id, kind, key, since_ms: since_ms.cast_unsigned(), attempts, body });
            }
        }
        Ok(due)
    }

    /// How much waits.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn waiting(&mut self) -> Result<WaitingCount, sqlx::Error> {
        let (count, bytes): (i64, i64) =
            sqlx::query_as("SELECT count, bytes FROM totals").fetch_one(&mut self.database).await?;
        Ok(WaitingCount { count: count.cast_unsigned(), bytes: bytes.cast_unsigned() + self.dead_bytes })
    }

    /// Makes a dead letter of what is due no more, before [`Outbox::turn`] forgets it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn bury(&mut self, due: &Due, attempts: u32, reason: &str) -> io::Result<()> {
        let letter = DeadLetter {
            id: due.id.clone(),
            r#type: format!("dev.tidings.{}", due.kind),
            key: due.key.clone(),
            since: rfc3339(due.since_ms),
            died: rfc3339(unix_ms()),
            attempts,
            reason: reason.to_owned(),
            event: serde_json::from_slice(&due.body)?,
        };
        self.dead.keep(&letter)?;
        self.dead_bytes += letter.event.get().len() as u64 + OVERHEAD_BYTES;
        Ok(())
    }

    /// Tells a dead letter again: it waits behind what waits under its key, and has a day again.
    ///
    /// # Errors
    /// When it can't be stored; it is a dead letter then as before, or both.
    pub(crate) async fn retry(&mut self, letter: &DeadLetter) -> Result<(), OutboxError> {
        let kind = letter.r#type.strip_prefix("dev.tidings.");
        let kind = Kind::TOLD.into_iter().find(|known| Some(known.name()) == kind);
        let kind = kind.ok_or_else(|| io::Error::other(format!("{} has a type that is none", letter.id)))?;
        let body = letter.event.get().as_bytes().to_vec();
        let telling = Telling { id: letter.id.clone(), kind, key: letter.key.clone(), body };
        self.turn([&telling], &[]).await?;
        Ok(self.dead.remove(&letter.id)?)
    }
}

/// Whether a directory has an outbox at all.
pub(crate) fn has_outbox(directory: &Path) -> bool {
    fs::metadata(directory.join(DATABASE)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(id: &str, key: &str) -> Telling {
        let body = format!(r#"{{"id":"{id}"}}"#).into_bytes();
        Telling { id: id.to_owned(), kind: Kind::Presence, key: key.to_owned(), body }
    }

    async fn due(outbox: &mut Outbox, now_ms: u64) -> Vec<String> {
        let due = outbox.due(now_ms, 10, &HashSet::new()).await.unwrap();
        due.into_iter().map(|due| due.id).collect()
    }

    #[tokio::test]
    async fn each_key_has_its_order_and_waits_for_its_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(directory.path(), u64::MAX).await.unwrap();
        let all = [telling("1", "a"), telling("2", "a"), telling("3", "b")];
        assert_eq!(outbox.turn(&all, &[]).await.unwrap(), 0);
        let now_ms = unix_ms();
        assert_eq!(due(&mut outbox, now_ms).await, ["1", "3"]);
        let again = Settled::Again { key: "a".to_owned(), attempts: 1, due_ms: now_ms + 1000 };
        outbox.turn(&[], &[again]).await.unwrap();
        assert_eq!(due(&mut outbox, now_ms).await, ["3"]);
        // A newer one of the same key does not bring it forward.
        outbox.turn(&[telling("4", "a")], &[]).await.unwrap();
        assert_eq!(due(&mut outbox, now_ms).await, ["3"]);
        let first = outbox.due(now_ms + 1000, 10, &HashSet::from(["b".to_owned()])).await.unwrap().remove(0);
        assert_eq!((first.id.as_str(), first.attempts), ("1", 1));
        outbox.turn(&[], &[Settled::Over { seq: first.seq, key: first.key.clone() }]).await.unwrap();
        assert_eq!(due(&mut outbox, unix_ms()).await, ["2", "3"]);
        drop(outbox);
        let mut outbox = Outbox::open(directory.path(), u64::MAX).await.unwrap();
        assert_eq!(due(&mut outbox, unix_ms()).await, ["2", "3"], "what was stored is there again");
        assert_eq!(outbox.waiting().await.unwrap().count, 3);
    }

    #[tokio::test]
    async fn a_full_outbox_refuses_the_newest_and_a_second_server_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let one = telling("1", "a").weight();
        let mut outbox = Outbox::open(directory.path(), 2 * one).await.unwrap();
        let three = [telling("1", "a"), telling("2", "a"), telling("3", "a")];
        assert_eq!(outbox.turn(&three, &[]).await.unwrap(), 1);
        assert_eq!(outbox.waiting().await.unwrap(), WaitingCount { count: 2, bytes: 2 * one });
        let first = outbox.due(unix_ms(), 1, &HashSet::new()).await.unwrap().remove(0);
        let over = Settled::Over { seq: first.seq, key: first.key.clone() };
        assert_eq!(outbox.turn(&[telling("3", "a")], &[over]).await.unwrap(), 0, "what was taken makes room");
        let second = Outbox::open(directory.path(), u64::MAX).await;
        assert!(matches!(second, Err(OutboxError::Locked)));
    }

    #[tokio::test]
    async fn a_dead_letter_is_told_again_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(directory.path(), u64::MAX).await.unwrap();
        outbox.turn(&[telling("1", "a")], &[]).await.unwrap();
        let first = outbox.due(unix_ms(), 1, &HashSet::new()).await.unwrap().remove(0);
        outbox.bury(&first, 3, "410 Gone").unwrap();
        outbox.turn(&[], &[Settled::Over { seq: first.seq, key: first.key.clone() }]).await.unwrap();
        assert!(due(&mut outbox, unix_ms()).await.is_empty());
        let letter = outbox.dead().all().unwrap().remove(0);
        assert_eq!((letter.attempts, letter.key.as_str()), (3, "a"));
        let mut beside = Outbox::beside(directory.path()).await.unwrap();
        beside.retry(&letter).await.unwrap();
        assert!(outbox.dead().all().unwrap().is_empty());
        let again = outbox.due(unix_ms(), 1, &HashSet::new()).await.unwrap().remove(0);
        assert_eq!((again.body, again.attempts), (first.body, 0));
    }
}
