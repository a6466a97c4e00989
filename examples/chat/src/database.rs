//! The application's database: one SQLite file, and every query that the application makes.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{FromRow, Result};

/// Messages that a page begins with, and gets after a reset.
const MESSAGES_SHOWN: i64 = 200;
const CONNECTIONS_MAX: u32 = 4;
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

/// A pool of connections. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Database(SqlitePool);

/// A channel; its id is the name of its room.
#[derive(FromRow, Serialize)]
pub(crate) struct Channel {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A message as pages get it.
#[derive(FromRow, Serialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    pub(crate) from: String,
    /// The id of the request that sent it.
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    /// Where its image is to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    pub(crate) at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edited_at: Option<i64>,
}

/// What a message says.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    Text(&'a str),
    Image(&'a [u8]),
}

/// What became of a message that was to be stored.
pub(crate) enum Stored {
    /// It is there since then; perhaps this request has been served before.
    At(i64),
    /// The same request id was used for another message.
    Conflict,
}

impl Database {
    /// Opens the file, makes it if need be, and brings its tables up to date.
    pub(crate) async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_WAIT_MAX)
            .journal_mode(SqliteJournalMode::Wal)
            // What is committed survives the end of the process at any moment. For the end of the machine's power: Full.
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).connect_with(options).await?;
        sqlx::migrate!().run(&pool).await?;
        Ok(Self(pool))
    }

    /// A setting, made by `make` the first time.
    pub(crate) async fn setting(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>> {
        sqlx::query("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(make())
            .execute(&self.0)
            .await?;
        sqlx::query_scalar("SELECT value FROM settings WHERE name = ?").bind(name).fetch_one(&self.0).await
    }

    // Users.

    pub(crate) async fn password_hash(&self, user: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT password_hash FROM users WHERE name = ?")
            .bind(user)
            .fetch_optional(&self.0)
            .await
    }

    /// A new user, who becomes a member of every channel; `false` if the name is taken.
    pub(crate) async fn sign_up(&self, user: &str, password_hash: &str) -> Result<bool> {
        let mut transaction = self.0.begin().await?;
        let made =
            sqlx::query("INSERT INTO users (name, password_hash) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(user)
                .bind(password_hash)
                .execute(&mut *transaction)
                .await?;
        sqlx::query("INSERT INTO memberships (user, channel) SELECT ?, id FROM channels WHERE true ON CONFLICT DO NOTHING")
            .bind(user)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(made.rows_affected() == 1)
    }

    pub(crate) async fn begin_session(&self, id: &str, user: &str) -> Result<()> {
        sqlx::query("INSERT INTO sessions (id, user, begun_at_ms) VALUES (?, ?, ?)")
            .bind(id)
            .bind(user)
            .bind(now_ms())
            .execute(&self.0)
            .await
            .map(drop)
    }

    pub(crate) async fn end_session(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE id = ?").bind(id).execute(&self.0).await.map(drop)
    }

    pub(crate) async fn user_of_session(&self, id: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT user FROM sessions WHERE id = ?").bind(id).fetch_optional(&self.0).await
    }

    pub(crate) async fn seen(&self, user: &str) -> Result<()> {
        sqlx::query("UPDATE users SET last_seen_ms = ? WHERE name = ?")
            .bind(now_ms())
            .bind(user)
            .execute(&self.0)
            .await
            .map(drop)
    }

    // Channels.

    pub(crate) async fn channels_of(&self, user: &str) -> Result<Vec<Channel>> {
        sqlx::query_as(
            "SELECT id, name FROM channels JOIN memberships ON channel = id WHERE user = ? ORDER BY id",
        )
        .bind(user)
        .fetch_all(&self.0)
        .await
    }

    pub(crate) async fn is_member(&self, user: &str, channel: &str) -> Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM memberships WHERE user = ? AND channel = ?)")
            .bind(user)
            .bind(channel)
            .fetch_one(&self.0)
            .await
    }

    // Messages.

    /// Stores a message once, however often its request comes.
    pub(crate) async fn store(
        &self,
        channel: &str,
        user: &str,
        request_id: &str,
        body: Body<'_>,
    ) -> Result<Stored> {
        let (content, image) = match body {
            Body::Text(content) => (Some(content), None),
            Body::Image(image) => (None, Some(image)),
        };
        sqlx::query(
            "INSERT INTO messages (channel, user, request_id, content, image, sent_at_ms) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT (user, request_id) DO NOTHING",
        )
        .bind(channel)
        .bind(user)
        .bind(request_id)
        .bind(content)
        .bind(image)
        .bind(now_ms())
        .execute(&self.0)
        .await?;
        // An edit has changed the content of the same message since, perhaps.
        let at = sqlx::query_scalar(
            "SELECT sent_at_ms FROM messages WHERE user = ? AND request_id = ? AND channel = ? \
             AND image IS ? AND (content IS ? OR edited_at_ms IS NOT NULL)",
        )
        .bind(user)
        .bind(request_id)
        .bind(channel)
        .bind(image)
        .bind(content)
        .fetch_optional(&self.0)
        .await?;
        Ok(at.map_or(Stored::Conflict, Stored::At))
    }

    /// Changes one's own message; when, or none if there is no such message of this user.
    pub(crate) async fn edit(
        &self,
        channel: &str,
        user: &str,
        message: &str,
        content: &str,
    ) -> Result<Option<i64>> {
        let at = now_ms();
        let edited = sqlx::query(
            "UPDATE messages SET content = ?, edited_at_ms = ? \
             WHERE user = ? AND request_id = ? AND channel = ? AND content IS NOT NULL",
        )
        .bind(content)
        .bind(at)
        .bind(user)
        .bind(message)
        .bind(channel)
        .execute(&self.0)
        .await?;
        Ok((edited.rows_affected() == 1).then_some(at))
    }

    /// The newest messages of a channel, oldest first.
    pub(crate) async fn messages(&self, channel: &str) -> Result<Vec<Message>> {
        let mut newest_first: Vec<Message> = sqlx::query_as(
            "SELECT user AS \"from\", request_id AS id, content, \
             CASE WHEN image IS NULL THEN NULL ELSE '/images/' || seq END AS image, \
             sent_at_ms AS at, edited_at_ms AS edited_at \
             FROM messages WHERE channel = ? ORDER BY seq DESC LIMIT ?",
        )
        .bind(channel)
        .bind(MESSAGES_SHOWN)
        .fetch_all(&self.0)
        .await?;
        newest_first.reverse();
        Ok(newest_first)
    }

    /// An image, if the user may see it.
    pub(crate) async fn image(&self, seq: i64, user: &str) -> Result<Option<Vec<u8>>> {
        sqlx::query_scalar(
            "SELECT image FROM messages JOIN memberships USING (channel) \
             WHERE seq = ? AND memberships.user = ? AND image IS NOT NULL",
        )
        .bind(seq)
        .bind(user)
        .fetch_optional(&self.0)
        .await
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
