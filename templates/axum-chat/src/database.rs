//! The database: users and their sessions, channels, who is in them, and what was said. Every query is here.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{FromRow, Result};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, password TEXT NOT NULL, seen_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users, ends_at INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS members (
  channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL REFERENCES users, PRIMARY KEY (channel, user)
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
  seq INTEGER PRIMARY KEY, channel INTEGER NOT NULL REFERENCES channels, user TEXT NOT NULL, content TEXT NOT NULL,
  at INTEGER NOT NULL, edited_at INTEGER, request_id TEXT NOT NULL, UNIQUE (user, request_id)
) STRICT;
CREATE INDEX IF NOT EXISTS messages_of_channel ON messages (channel, seq);
INSERT OR IGNORE INTO channels VALUES (1, 'General');
";

/// The channel that everyone is in.
const GENERAL: i64 = 1;
/// Messages that a page begins with.
const MESSAGES_MAX: i64 = 200;
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another process.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub struct Database(SqlitePool);

#[derive(FromRow)]
pub struct Channel {
    pub id: i64,
    pub name: String,
}

/// A message, as pages get it. Times are milliseconds since 1970.
#[derive(FromRow, Serialize, Debug)]
pub struct Message {
    pub seq: i64,
    pub channel: i64,
    pub user: String,
    pub content: String,
    pub at: i64,
    pub edited_at: Option<i64>,
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
        sqlx::query("INSERT INTO members VALUES (?, ?)")
            .bind(GENERAL)
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

    /// That his page has shown itself; when.
    pub async fn seen(&self, user: &str) -> Result<i64> {
        let (query, at) = (
            sqlx::query("UPDATE users SET seen_at = ? WHERE name = ?"),
            now_ms(),
        );
        query.bind(at).bind(user).execute(&self.0).await?;
        Ok(at)
    }

    // Channels.

    pub async fn channels_of(&self, user: &str) -> Result<Vec<Channel>> {
        let sql =
            "SELECT id, name FROM channels JOIN members ON channel = id WHERE user = ? ORDER BY id";
        sqlx::query_as(sql).bind(user).fetch_all(&self.0).await
    }

    pub async fn is_member(&self, channel: i64, user: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM members WHERE channel = ? AND user = ?)";
        sqlx::query_scalar(sql)
            .bind(channel)
            .bind(user)
            .fetch_one(&self.0)
            .await
    }

    pub async fn create_channel(&self, name: &str) -> Result<i64> {
        let query = sqlx::query("INSERT INTO channels (name) VALUES (?)");
        Ok(query.bind(name).execute(&self.0).await?.last_insert_rowid())
    }

    pub async fn add_member(&self, channel: i64, user: &str) -> Result<()> {
        let query = sqlx::query("INSERT OR IGNORE INTO members VALUES (?, ?)");
        query.bind(channel).bind(user).execute(&self.0).await?;
        Ok(())
    }

    pub async fn remove_member(&self, channel: i64, user: &str) -> Result<()> {
        let query = sqlx::query("DELETE FROM members WHERE channel = ? AND user = ?");
        query.bind(channel).bind(user).execute(&self.0).await?;
        Ok(())
    }

    // Messages.

    /// Stores a message, or finds it: a page sends it again, under the same id, if it has no answer. None if the id was
    /// another message's, in another channel.
    pub async fn store(
        &self,
        channel: i64,
        user: &str,
        content: &str,
        request_id: &str,
    ) -> Result<Option<Message>> {
        let sql = "INSERT OR IGNORE INTO messages (channel, user, content, at, request_id) VALUES (?, ?, ?, ?, ?)";
        let query = sqlx::query(sql).bind(channel).bind(user).bind(content);
        query
            .bind(now_ms())
            .bind(request_id)
            .execute(&self.0)
            .await?;
        let sql = "SELECT seq, channel, user, content, at, edited_at FROM messages \
             WHERE user = ? AND request_id = ? AND channel = ?";
        let query = sqlx::query_as(sql)
            .bind(user)
            .bind(request_id)
            .bind(channel);
        query.fetch_optional(&self.0).await
    }

    /// None if there is no message of this user's under that number.
    pub async fn edit(
        &self,
        channel: i64,
        seq: i64,
        user: &str,
        content: &str,
    ) -> Result<Option<Message>> {
        let sql = "UPDATE messages SET content = ?, edited_at = ? WHERE channel = ? AND seq = ? AND user = ?";
        let query = sqlx::query(sql).bind(content).bind(now_ms());
        let edited = query
            .bind(channel)
            .bind(seq)
            .bind(user)
            .execute(&self.0)
            .await?;
        if edited.rows_affected() == 0 {
            return Ok(None);
        }
        let sql = "SELECT seq, channel, user, content, at, edited_at FROM messages WHERE seq = ?";
        sqlx::query_as(sql).bind(seq).fetch_optional(&self.0).await
    }

    /// The newest, ascending.
    pub async fn messages(&self, channel: i64) -> Result<Vec<Message>> {
        let sql = "SELECT seq, channel, user, content, at, edited_at FROM messages \
             WHERE channel = ? ORDER BY seq DESC LIMIT ?";
        let query = sqlx::query_as(sql).bind(channel).bind(MESSAGES_MAX);
        let mut messages: Vec<Message> = query.fetch_all(&self.0).await?;
        messages.reverse();
        Ok(messages)
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
