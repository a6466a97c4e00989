//! The database: users and their sessions, who watches which board, and the samples of the last hour. Every query is here.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{FromRow, Result};

use crate::sampler::BOARD;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users, ends_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS watchers (
  board TEXT NOT NULL, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (board, user)
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
  id INTEGER PRIMARY KEY, board TEXT NOT NULL, series TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL,
  at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS samples_of_board ON samples (board, at);
";

/// How far back samples go, in seconds.
const KEPT_S: f64 = 3600.0;
/// Samples that a page begins with.
const SAMPLES_MAX: i64 = 1000;
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another process.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub struct Database(SqlitePool);

/// One value of one series, as pages get it.
#[derive(FromRow, Serialize, Clone, Debug)]
pub struct Sample {
    pub series: String,
    pub value: f64,
    /// How to show it: `ratio` (of one) or `count`.
    pub unit: String,
    /// In seconds since 1970.
    pub at: f64,
}

impl Database {
    /// Opens the file, and makes it if need be.
    pub async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_WAIT_MAX)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = connect(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self(pool))
    }

    pub async fn close(&self) {
        self.0.close().await;
    }

    // Users.

    pub async fn password_of(&self, user: &str) -> Result<Option<String>> {
        let sql = "SELECT password FROM users WHERE name = ?";
        sqlx::query_scalar(sql)
            .bind(user)
            .fetch_optional(&self.0)
            .await
    }

    /// Whether nobody had the name.
    pub async fn sign_up(&self, user: &str, password: &str) -> Result<bool> {
        let mut transaction = self.0.begin().await?;
        let made = sqlx::query("INSERT OR IGNORE INTO users (name, password) VALUES (?, ?)")
            .bind(user)
            .bind(password)
            .execute(&mut *transaction)
            .await?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO watchers VALUES (?, ?)")
            .bind(BOARD)
            .bind(user)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub async fn begin_session(&self, id: &str, user: &str, max_age_s: u32) -> Result<()> {
        let query = sqlx::query("INSERT INTO sessions VALUES (?, ?, ?)");
        let ends_at = now_ms() + i64::from(max_age_s) * 1000;
        query
            .bind(id)
            .bind(user)
            .bind(ends_at)
            .execute(&self.0)
            .await?;
        // Those that were never ended.
        sqlx::query("DELETE FROM sessions WHERE ends_at < ?")
            .bind(now_ms())
            .execute(&self.0)
            .await?;
        Ok(())
    }

    pub async fn end_session(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE id = ?")
            .bind(id)
            .execute(&self.0)
            .await?;
        Ok(())
    }

    pub async fn user_of_session(&self, id: &str) -> Result<Option<String>> {
        let sql = "SELECT user FROM sessions WHERE id = ? AND ends_at >= ?";
        sqlx::query_scalar(sql)
            .bind(id)
            .bind(now_ms())
            .fetch_optional(&self.0)
            .await
    }

    // Boards.

    pub async fn boards_of(&self, user: &str) -> Result<Vec<String>> {
        let sql = "SELECT board FROM watchers WHERE user = ? ORDER BY board";
        sqlx::query_scalar(sql).bind(user).fetch_all(&self.0).await
    }

    pub async fn is_watcher(&self, board: &str, user: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM watchers WHERE board = ? AND user = ?)";
        sqlx::query_scalar(sql)
            .bind(board)
            .bind(user)
            .fetch_one(&self.0)
            .await
    }

    pub async fn add_watcher(&self, board: &str, user: &str) -> Result<()> {
        let query = sqlx::query("INSERT OR IGNORE INTO watchers VALUES (?, ?)");
        query.bind(board).bind(user).execute(&self.0).await?;
        Ok(())
    }

    pub async fn remove_watcher(&self, board: &str, user: &str) -> Result<()> {
        let query = sqlx::query("DELETE FROM watchers WHERE board = ? AND user = ?");
        query.bind(board).bind(user).execute(&self.0).await?;
        Ok(())
    }

    // Samples.

    /// All of them or none, and what is past its time goes.
    pub async fn store(&self, board: &str, samples: &[Sample]) -> Result<()> {
        let mut transaction = self.0.begin().await?;
        let sql = "INSERT INTO samples (board, series, value, unit, at) VALUES (?, ?, ?, ?, ?)";
        for Sample {
            series,
            value,
            unit,
            at,
        } in samples
        {
            let query = sqlx::query(sql)
                .bind(board)
                .bind(series)
                .bind(value)
                .bind(unit)
                .bind(at);
            query.execute(&mut *transaction).await?;
        }
        let newest = samples.iter().map(|sample| sample.at).fold(0.0, f64::max);
        let query = sqlx::query("DELETE FROM samples WHERE board = ? AND at < ?");
        query
            .bind(board)
            .bind(newest - KEPT_S)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// The newest, ascending.
    pub async fn samples(&self, board: &str) -> Result<Vec<Sample>> {
        let sql = "SELECT series, value, unit, at FROM samples WHERE board = ? \
             ORDER BY at DESC, id DESC LIMIT ?";
        let query = sqlx::query_as(sql).bind(board).bind(SAMPLES_MAX);
        let mut samples: Vec<Sample> = query.fetch_all(&self.0).await?;
        samples.reverse();
        Ok(samples)
    }
}

/// Of several processes that open a new file at once SQLite refuses some, and does not wait there by itself.
async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool> {
    let until = Instant::now() + BUSY_WAIT_MAX;
    loop {
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX);
        match pool.connect_with(options.clone()).await {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                tokio::time::sleep(BUSY_PAUSE).await
            }
            connected => return connected,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.message() == "database is locked")
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
