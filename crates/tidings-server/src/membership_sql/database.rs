//! The application's database, which is only ever read: its address, a bounded pool of connections, and the one query.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgTypeInfo};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Either, Executor as _, Postgres,
    Row as _, SqlSafeStr as _, SqlStr, Statement as _,
};
use tokio::time::timeout_at;

use super::fault::Fault;

/// More rooms of one user are not read: nobody is in so many, and a query that forgot its condition ends here.
const ROOMS_PER_USER_MAX: usize = 10_000;
/// SQLite asks after so many steps of its machine whether a query is to go on.
const STEPS_BETWEEN_QUESTIONS: i32 = 10_000;
/// Nobody's id, for whom the query is tried.
const NOBODY: &str = "";
/// A connection is not kept for longer, so that an address that moved is found.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// Where the database is, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
}

impl Address {
    /// Reads a URL. A relative path of SQLite's is so to `directory`.
    ///
    /// # Errors
    /// A sentence that shows no part of the URL, in which a password may be.
    pub(crate) fn parse(url: &str, directory: &Path, timeout: Duration) -> Result<Self, String> {
        let no_address = |error: sqlx::Error| match error {
            sqlx::Error::Configuration(why) => why.to_string(),
            other => other.to_string(),
        };
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => {
                let options = SqliteConnectOptions::from_str(url).map_err(no_address)?;
                let file = options.get_filename().to_owned();
                if file.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
                    return Err("names no file: a database in memory has no memberships in it".to_owned());
                }
                let options = options.filename(directory.join(file)).create_if_missing(false).read_only(true);
                Ok(Self::Sqlite(options.busy_timeout(timeout).disable_statement_logging()))
            }
            Some("postgres" | "postgresql") => {
                let options = PgConnectOptions::from_str(url).map_err(no_address)?;
                // What the server is told at the start, so that no connection that somebody pools for us is left changed.
                let told = [
                    ("default_transaction_read_only", "on".to_owned()),
                    ("statement_timeout", timeout.as_millis().to_string()),
                ];
                let options = options.application_name("tidings").options(told);
                Ok(Self::Postgres(options.disable_statement_logging()))
            }
            _ => Err("is neither sqlite://FILE nor postgres://USER@HOST/DATABASE".to_owned()),
        }
    }
}

/// What a user's rooms were.
pub(super) struct Found {
    /// Names, as the database has them.
    pub(super) names: Vec<String>,
    /// There were more than are read.
    pub(super) is_cut: bool,
}

/// The pool and the query.
pub(super) struct Database {
    pool: Pool,
    query: Arc<str>,
}

enum Pool {
    Sqlite(SqlitePool, Arc<WatchedFile>),
    Postgres(PgPool),
}

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(address: Address, query: Arc<str>, connections_max: u32, timeout: Duration) -> Self {
        let pool = match address {
            Address::Sqlite(options) => {
                let file = Arc::new(WatchedFile::new(options.get_filename()));
                let watched = Arc::clone(&file);
                let pool = SqlitePoolOptions::new()
                    .max_connections(connections_max)
                    .acquire_timeout(timeout)
                    .max_lifetime(CONNECTION_AGE_MAX)
                    .before_acquire(move |_, of_connection| {
                        let is_of_this_file = of_connection.age < watched.age();
                        Box::pin(async move { Ok(is_of_this_file) })
                    })
                    .connect_lazy_with(options);
                Pool::Sqlite(pool, file)
            }
            Address::Postgres(options) => Pool::Postgres(
                PgPoolOptions::new()
                    .max_connections(connections_max)
                    .acquire_timeout(timeout)
                    .max_lifetime(CONNECTION_AGE_MAX)
                    .connect_lazy_with(options),
            ),
        };
        Self { pool, query }
    }

    /// Open connections, and how many of them nobody uses.
    pub(super) fn connections(&self) -> (u32, usize) {
        match &self.pool {
            Pool::Sqlite(pool, _) => (pool.size(), pool.num_idle()),
            Pool::Postgres(pool) => (pool.size(), pool.num_idle()),
        }
    }

    fn sql(&self) -> SqlStr {
        AssertSqlSafe(Arc::clone(&self.query)).into_sql_str()
    }

    /// The user's rooms, by the deadline. The user's id goes beside the query and is never a part of its text.
    pub(super) async fn rooms_of(&self, user: &str, deadline: Instant) -> Result<Found, Fault> {
        let found = match &self.pool {
            Pool::Sqlite(pool, file) => {
                file.look()?;
                let Ok(connection) = timeout_at(deadline.into(), pool.acquire()).await else {
                    return Err(Fault::Slow);
                };
                let mut connection = connection.map_err(Fault::of)?;
                end_at(&mut connection, deadline).await.map_err(Fault::of)?;
                let found =
                    timeout_at(deadline.into(), sqlite_rooms(&mut connection, self.sql(), user)).await;
                if found.is_err() {
                    // Closed instead of kept until its query ends: so the pool has a place for another at once.
                    drop(connection.detach());
                }
                found
            }
            Pool::Postgres(pool) => {
                let Ok(connection) = timeout_at(deadline.into(), pool.acquire()).await else {
                    return Err(Fault::Slow);
                };
                let mut connection = connection.map_err(Fault::of)?;
                let found =
                    timeout_at(deadline.into(), postgres_rooms(&mut connection, self.sql(), user)).await;
                if found.is_err() || matches!(found, Ok(Ok(Found { is_cut: true, .. }))) {
                    drop(connection.detach());
                }
                found
            }
        };
        match found {
            Err(_) => Err(Fault::Slow),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => match Fault::of(error) {
                // Such an id is none that the table could hold, where ids are numbers, say.
                Fault::NoSuchId => Ok(Found { names: Vec::new(), is_cut: false }),
                fault => Err(fault),
            },
        }
    }

    /// Whether the query can be used: by a connection of its own, which says why there is none, where a pool would wait.
    pub(super) async fn check(&self, deadline: Instant) -> Result<(), Fault> {
        let checking = async {
            match &self.pool {
                Pool::Sqlite(pool, file) => {
                    file.look()?;
                    let options = SqliteConnectOptions::clone(&pool.connect_options());
                    let mut connection = options.connect().await.map_err(Fault::of)?;
                    end_at(&mut connection, deadline).await.map_err(Fault::of)?;
                    check_sqlite(&mut connection, self.sql()).await?;
                    drop(connection.close().await);
                }
                Pool::Postgres(pool) => {
                    let options = PgConnectOptions::clone(&pool.connect_options());
                    let mut connection = options.connect().await.map_err(Fault::of)?;
                    check_postgres(&mut connection, self.sql()).await?;
                    drop(connection.close().await);
                }
            }
            Ok(())
        };
        timeout_at(deadline.into(), checking).await.unwrap_or(Err(Fault::Slow))
    }
}

/// SQLite's query ends by itself at the deadline: nothing else ends what its thread does.
async fn end_at(connection: &mut SqliteConnection, deadline: Instant) -> sqlx::Result<()> {
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS_BETWEEN_QUESTIONS, move || Instant::now() < deadline);
    Ok(())
}

async fn sqlite_rooms(connection: &mut SqliteConnection, query: SqlStr, user: &str) -> sqlx::Result<Found> {
    let rows = sqlx::query(query).bind(user.to_owned()).fetch(connection);
    // Unchecked: SQLite gives any value as text, and a room's name may be a number there.
    collect(rows.map(|row| row?.try_get_unchecked(0))).await
}

async fn postgres_rooms(connection: &mut PgConnection, query: SqlStr, user: &str) -> sqlx::Result<Found> {
    let rows = sqlx::query(query).bind(user.to_owned()).fetch(connection);
    collect(rows.map(|row| row?.try_get(0))).await
}

async fn collect(rows: impl Stream<Item = sqlx::Result<Option<String>>>) -> sqlx::Result<Found> {
    let mut rows = std::pin::pin!(rows);
    let mut names = Vec::new();
    while let Some(name) = rows.try_next().await? {
        if names.len() == ROOMS_PER_USER_MAX {
            return Ok(Found { names, is_cut: true });
        }
        // No name is no room.
        names.extend(name);
    }
    Ok(Found { names, is_cut: false })
}

async fn check_sqlite(connection: &mut SqliteConnection, query: SqlStr) -> Result<(), Fault> {
    let statement = (&mut *connection).prepare_with(query.clone(), &[]).await.map_err(Fault::of)?;
    let parameters = match statement.parameters() {
        Some(Either::Left(types)) => types.len(),
        Some(Either::Right(count)) => count,
        None => 0,
    };
    check_shape(parameters, statement.columns().len())?;
    sqlite_rooms(connection, query, NOBODY).await.map(drop).or_else(unless_of_the_id)
}

async fn check_postgres(connection: &mut PgConnection, query: SqlStr) -> Result<(), Fault> {
    let id = [PgTypeInfo::with_name("text")];
    let statement = (&mut *connection).prepare_with(query.clone(), &id).await.map_err(Fault::of)?;
    let parameters = match statement.parameters() {
        Some(Either::Left(types)) => types.len(),
        Some(Either::Right(count)) => count,
        None => 0,
    };
    check_shape(parameters, statement.columns().len())?;
    let column = &statement.columns()[0];
    if !<String as sqlx::Type<Postgres>>::compatible(column.type_info()) {
        return Err(Fault::wrong(
            format!("the query's column {:?} is {} and no text", column.name(), column.type_info()),
            format!("cast it: SELECT {}::text", column.name()),
        ));
    }
    postgres_rooms(connection, query, NOBODY).await.map(drop).or_else(unless_of_the_id)
}

fn check_shape(parameters: usize, columns: usize) -> Result<(), Fault> {
    if parameters != 1 {
        return Err(Fault::wrong(
            format!("the query has {parameters} parameters, and one is given: the user's id"),
            "name the user as $1: SELECT room FROM memberships WHERE user_id = $1",
        ));
    }
    if columns != 1 {
        return Err(Fault::wrong(
            format!("the query gives {columns} columns, and one is read: the room"),
            "select the room's name alone: SELECT room FROM memberships WHERE user_id = $1",
        ));
    }
    Ok(())
}

/// Nobody's id may be none that the table could hold.
fn unless_of_the_id(error: sqlx::Error) -> Result<(), Fault> {
    match Fault::of(error) {
        Fault::NoSuchId => Ok(()),
        fault => Err(fault),
    }
}

/// SQLite's file by its name. A connection goes on reading a file that was replaced or deleted: who was taken out of the new
/// one would be a member for ever.
struct WatchedFile {
    path: PathBuf,
    seen: Mutex<(Option<(u64, u64)>, Instant)>,
}

impl WatchedFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Mutex::new((None, Instant::now())) }
    }

    /// Looks which file it is now.
    fn look(&self) -> Result<(), Fault> {
        let file = std::fs::metadata(&self.path)
            .map_err(|error| Fault::Away(format!("{}: {error}", self.path.display())))?;
        let id = Some((file.dev(), file.ino()));
        let mut seen = self.seen.lock();
        if seen.0 != id {
            *seen = (id, Instant::now());
        }
        Ok(())
    }

    /// For how long it has been this file; older connections are another's.
    fn age(&self) -> Duration {
        self.seen.lock().1.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        Address::parse(url, Path::new("/etc/tidings"), Duration::from_millis(1500))
    }

    #[test]
    fn sqlite_is_a_file_beside_the_configuration_and_only_read() {
        for (url, file) in [
            ("sqlite://app.db", "/etc/tidings/app.db"),
            ("sqlite:data/app.db", "/etc/tidings/data/app.db"),
            ("sqlite:///var/app.db?mode=rwc", "/var/app.db"),
        ] {
            let Ok(Address::Sqlite(options)) = parse(url) else { panic!("{url}") };
            assert_eq!(options.get_filename(), Path::new(file));
            let shown = format!("{options:?}");
            assert!(
                shown.contains("read_only: true") && shown.contains("create_if_missing: false"),
                "{shown}"
            );
        }
        for url in
            ["sqlite::memory:", "sqlite://", "sqlite://app.db?mode=memory", "sqlite://app.db?mode=what"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn postgres_is_told_to_read_only_and_for_how_long() {
        let Ok(Address::Postgres(options)) = parse("postgres://app@db.example:5433/shop?sslmode=require")
        else {
            panic!("no address")
        };
        assert_eq!((options.get_host(), options.get_port()), ("db.example", 5433));
        let told = options.get_options().unwrap();
        assert!(told.contains("default_transaction_read_only=on"), "{told}");
        assert!(told.contains("statement_timeout=1500"), "{told}");
    }

    #[test]
    fn what_is_no_address_is_told_without_it() {
        for url in [
            "",
            "mysql://ann:canary-bird-of-a-password-at-the-database@h/d",
            "postgres://ann:canary-bird-of-a-password-at-the-database@h:port/d",
            "postgres://ann:canary-bird-of-a-password-at-the-database@h/d?sslmode=perhaps",
            "app.db",
        ] {
            let told = parse(url).unwrap_err();
            assert!(!told.contains("canary-bird"), "{told}");
        }
    }
}
