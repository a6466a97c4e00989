//! `[memberships]` with an application's SQLite file: who is joined, who may join, and what holds when it can't be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod membership;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use membership::{connect, join, leave, not_served, number, refused, serve, until_ready};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Executor as _, SqliteConnection};

const TABLE: &str = "CREATE TABLE memberships (user_id TEXT, room TEXT);";

/// The application's own connection to its file, which is made.
async fn application(file: &Path, journal: SqliteJournalMode) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(journal);
    let mut connection = options.connect().await.unwrap();
    connection.execute(TABLE).await.unwrap();
    connection
}

fn url(file: &Path) -> String {
    format!("url = \"sqlite://{}\"", file.display())
}

#[tokio::test]
async fn users_are_joined_to_their_rows_and_rows_that_change_count_at_the_next_join() {
    let folder = tempfile::tempdir().unwrap();
    for (name, journal) in [("wal.db", SqliteJournalMode::Wal), ("rollback.db", SqliteJournalMode::Delete)] {
        let file = folder.path().join(name);
        let mut app = application(&file, journal).await;
        app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a'), ('ann', 'chat:b'), ('ann', NULL), ('bob', 'chat:b')")
            .await
            .unwrap();
        let serve = serve(&format!("{}\ncache_seconds = 0", url(&file))).await;
        let (mut ann, rooms) = connect(&serve, "ann").await;
        assert_eq!(rooms, ["chat:a", "chat:b"]);
        assert_eq!(connect(&serve, "eve").await.1, [""; 0]);

        assert_eq!(join(&mut ann, "chat:c").await, "forbidden");
        app.execute("INSERT INTO memberships VALUES ('ann', 'chat:c')").await.unwrap();
        assert_eq!(join(&mut ann, "chat:c").await, "ack");
        app.execute("DELETE FROM memberships WHERE room IN ('chat:a', 'chat:c')").await.unwrap();
        leave(&mut ann, "chat:a").await;
        assert_eq!(join(&mut ann, "chat:a").await, "forbidden");
        assert_eq!(connect(&serve, "ann").await.1, ["chat:b"]);
        ann.close().await;
        serve.end().await;
        // It was only read.
        app.execute("INSERT INTO memberships VALUES ('ann', 'chat:d')").await.unwrap();
    }
}

#[tokio::test]
async fn a_yes_counts_again_for_a_while_and_a_no_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let mut app = application(&file, SqliteJournalMode::Wal).await;
    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a')").await.unwrap();
    let serve = serve(&format!("{}\ncache_seconds = 3600", url(&file))).await;
    let (mut ann, _) = connect(&serve, "ann").await;
    let queries = number(&serve, "tidings_memberships_queries_total").await;
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "ack");
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"]);
    assert_eq!(number(&serve, "tidings_memberships_queries_total").await, queries);
    assert_eq!(number(&serve, "tidings_memberships_cached_answers_total").await, 2);

    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:b')").await.unwrap();
    assert_eq!(join(&mut ann, "chat:b").await, "ack", "who was just invited comes at once");
    assert_eq!(number(&serve, "tidings_memberships_queries_total").await, queries + 1);
    ann.close().await;
    serve.end().await;
}

#[tokio::test]
async fn an_id_is_never_a_part_of_the_query_and_what_is_no_room_is_left_out_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let mut app = application(&file, SqliteJournalMode::Wal).await;
    let ids = [
        "' OR '1'='1",
        "ann'; DROP TABLE memberships; --",
        "\\' OR 1=1 #",
        "$1",
        "?",
        "%",
        "ann\" OR \"\"=\"",
        "'",
    ];
    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a'), ('ann', 'no room'), ('ann', ''), ('7', 'chat:seven'), (7, 'chat:number')")
        .await
        .unwrap();
    let serve = serve(&url(&file)).await;
    for id in ids {
        assert_eq!(connect(&serve, id).await.1, [""; 0], "{id}");
    }
    sqlx::query("INSERT INTO memberships VALUES ($1, 'chat:own')")
        .bind(ids[1])
        .execute(&mut app)
        .await
        .unwrap();
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"], "the table is still there");
    assert_eq!(connect(&serve, "7").await.1, ["chat:number", "chat:seven"]);
    assert_eq!(number(&serve, "tidings_memberships_invalid_rooms_total").await, 2);
    let log = serve.end().await;
    assert_eq!(log.matches("is no room's name").count(), 1, "{log}");
    assert!(log.contains("no room\""), "{log}");
}

#[tokio::test]
async fn a_server_starts_before_its_database_and_follows_a_file_that_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let serve = serve(&format!("{}\ncache_seconds = 0", url(&file))).await;
    until_ready(&serve, 503).await;
    let (status, problem) = refused(&serve, "ann").await;
    assert_eq!((status, problem["detail"].as_str()), (503, Some("the user's rooms could not be read")));
    assert_eq!(number(&serve, "tidings_memberships_database_up").await, 0);

    let draft = folder.path().join("draft.db");
    let mut app = application(&draft, SqliteJournalMode::Delete).await;
    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a')").await.unwrap();
    std::fs::rename(&draft, &file).unwrap();
    until_ready(&serve, 200).await;
    let (mut ann, rooms) = connect(&serve, "ann").await;
    assert_eq!(rooms, ["chat:a"]);

    // A backup is laid over it: an open connection would go on reading what was there.
    drop(application(&draft, SqliteJournalMode::Delete).await);
    std::fs::rename(&draft, &file).unwrap();
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "forbidden");

    std::fs::remove_file(&file).unwrap();
    assert_eq!(join(&mut ann, "chat:a").await, "unavailable");
    assert_eq!(refused(&serve, "ann").await.0, 503);
    until_ready(&serve, 503).await;
    ann.close().await;
    let log = serve.end().await;
    for told in [
        "the memberships' database can't be used: handshakes are refused",
        "the memberships' database is there",
    ] {
        assert!(log.contains(told), "{log}");
    }
}

#[tokio::test]
async fn who_was_known_stays_so_while_the_database_is_away_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let mut app = application(&file, SqliteJournalMode::Wal).await;
    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a'), ('bob', 'chat:a')").await.unwrap();
    let serve = serve(&format!("{}\ncache_seconds = 0\nwhen_down = \"last_known\"", url(&file))).await;
    let (mut ann, _) = connect(&serve, "ann").await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"]);
    assert_eq!(join(&mut ann, "chat:b").await, "forbidden");
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "ack");
    assert_eq!(refused(&serve, "bob").await.0, 503, "nothing is known of him");
    assert!(number(&serve, "tidings_memberships_last_known_answers_total").await >= 3);
    until_ready(&serve, 200).await;
    ann.close().await;
    serve.end().await;
}

#[tokio::test]
async fn a_slow_query_is_refused_in_time_and_holds_nobody_up_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let mut app = application(&file, SqliteJournalMode::Wal).await;
    app.execute("INSERT INTO memberships VALUES ('ann', 'chat:a'), ('slow', 'chat:a')").await.unwrap();
    // It never ends for some of the users.
    let query = "SELECT room FROM memberships WHERE user_id = rtrim($1, '0123456789') AND ($1 NOT LIKE 'slow%' OR \
        (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n) > 0)";
    let settings = "timeout_seconds = 0.5\npool_connections_max = 1\ncache_seconds = 0";
    let serve = serve(&format!("{}\nquery = \"{query}\"\n{settings}", url(&file))).await;
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"]);
    let began = Instant::now();
    assert_eq!(refused(&serve, "slow").await.0, 503);
    let took = began.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_secs(3)).contains(&took), "{took:?}");
    // The pool's only connection is free again, or there is another in its place.
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"]);
    assert!(number(&serve, "tidings_memberships_pool_connections").await <= 1);
    until_ready(&serve, 200).await;

    // While it is used, others wait, and not for ever.
    let began = Instant::now();
    let all = join_all((0..10).map(async |user| refused(&serve, &format!("slow{user}")).await.0)).await;
    assert!(all.iter().all(|status| *status == 503), "{all:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(connect(&serve, "ann").await.1, ["chat:a"]);
    serve.end().await;
}

#[tokio::test]
async fn a_query_that_can_not_be_is_a_fault_of_the_configuration_in_the_databases_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    drop(application(&file, SqliteJournalMode::Wal).await);
    std::fs::write(
        folder.path().join("text.db"),
        "this is a text and no database, and long enough to show it".repeat(20),
    )
    .unwrap();
    for (query, said, fix) in [
        ("SELECT room FROM members WHERE user_id = $1", "no such table: members", "mend query"),
        ("SELECT room FRM memberships WHERE user_id = $1", "syntax error", "mend query"),
        ("SELECT room FROM memberships", "does not name the user", "$1"),
        ("SELECT room FROM memberships WHERE user_id = $1 AND room = $2", "2 parameters", "$1"),
        ("SELECT room, user_id FROM memberships WHERE user_id = $1", "2 columns", "alone"),
        ("DELETE FROM memberships WHERE user_id = $1 RETURNING room", "readonly database", "SELECT"),
    ] {
        let (output, stderr) = not_served(&format!("{}\nquery = \"{query}\"", url(&file))).await;
        assert_eq!(output.status.code(), Some(78), "{query}: {stderr}");
        assert!(stderr.contains(said) && stderr.contains(fix), "{query}: {stderr}");
    }
    let (output, stderr) = not_served(&url(&folder.path().join("text.db"))).await;
    assert!(output.status.code() == Some(78) && stderr.contains("not a database"), "{stderr}");
}
