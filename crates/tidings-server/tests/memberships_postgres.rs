//! `[memberships]` with a real PostgreSQL: what a user's rows allow, and what holds when it stops, is slow, or has no place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]
#![allow(clippy::disallowed_methods, reason = "what is waited for is looked at again")]

mod membership;
mod postgres;
#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
mod server;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use membership::{configured, connect, join, leave, not_served, number, refused, serve, until_ready};
use postgres::{PASSWORD, PostgresServer};
use redis_servers::{Certificates, Forwarder};
use server::Serve;

const TABLE: &str = "CREATE TABLE memberships (user_id text, room varchar(60)); \
    INSERT INTO memberships VALUES ('ann', 'chat:a'), ('ann', 'chat:b'), ('bob', 'chat:a'), ('slow', 'chat:a')";

async fn postgres() -> PostgresServer {
    let postgres = PostgresServer::start().await;
    postgres.run(TABLE).await;
    postgres
}

#[tokio::test]
async fn rows_count_at_the_next_join_and_the_password_stays_in_its_file() {
    let postgres = postgres().await;
    let home = configured("url_file = \"database.url\"\ncache_seconds = 0");
    std::fs::write(home.path().join("database.url"), postgres.url() + "\n").unwrap();
    let serve = Serve::start(home).await;
    let (mut ann, rooms) = connect(&serve, "ann").await;
    assert_eq!(rooms, ["chat:a", "chat:b"]);
    assert_eq!(join(&mut ann, "chat:c").await, "forbidden");
    postgres.run("INSERT INTO memberships VALUES ('ann', 'chat:c')").await;
    assert_eq!(join(&mut ann, "chat:c").await, "ack");
    postgres.run("DELETE FROM memberships WHERE room = 'chat:a'").await;
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "forbidden");
    for id in ["' OR '1'='1", "ann'; DROP TABLE memberships; --", "$1", "E'\\'", "%", "\u{2019} OR 1=1"] {
        assert_eq!(connect(&serve, id).await.1, [""; 0], "{id}");
    }
    assert_eq!(connect(&serve, "ann").await.1, ["chat:b", "chat:c"]);
    ann.close().await;
    let log = serve.end().await;
    assert!(!log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn a_server_starts_before_its_database_and_lives_through_its_restart() {
    let mut postgres = postgres().await;
    postgres.stop();
    let serve = serve(&format!("url = \"{}\"\ncache_seconds = 0", postgres.url())).await;
    until_ready(&serve, 503).await;
    let began = Instant::now();
    let (status, problem) = refused(&serve, "ann").await;
    assert_eq!((status, problem["detail"].as_str()), (503, Some("the user's rooms could not be read")));
    assert!(began.elapsed() < Duration::from_millis(1500), "nobody waits for what is known to be away");

    postgres.start_again().await;
    until_ready(&serve, 200).await;
    let (mut ann, _) = connect(&serve, "ann").await;
    postgres.stop();
    assert_eq!(refused(&serve, "ann").await.0, 503);
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "unavailable");
    until_ready(&serve, 503).await;
    postgres.start_again().await;
    until_ready(&serve, 200).await;
    assert_eq!(join(&mut ann, "chat:a").await, "ack");
    ann.close().await;
    let log = serve.end().await;
    assert!(log.contains("there again") && !log.contains(PASSWORD), "{log}");
}

#[tokio::test]
async fn who_was_known_stays_so_while_the_database_is_away_if_that_is_wanted() {
    let mut postgres = postgres().await;
    let settings = "cache_seconds = 0\nwhen_down = \"last_known\"";
    let serve = serve(&format!("url = \"{}\"\n{settings}", postgres.socket_url())).await;
    drop(connect(&serve, "ann").await);
    postgres.run("DELETE FROM memberships WHERE user_id = 'ann' AND room = 'chat:b'").await;
    drop(connect(&serve, "ann").await);
    postgres.stop();
    let (mut ann, rooms) = connect(&serve, "ann").await;
    assert_eq!(rooms, ["chat:a"], "the last answer, and none before");
    assert_eq!(join(&mut ann, "chat:b").await, "forbidden");
    assert_eq!(refused(&serve, "bob").await.0, 503, "nothing is known of him");
    until_ready(&serve, 200).await;
    ann.close().await;
    serve.end().await;
}

#[tokio::test]
async fn a_slow_query_and_a_full_pool_are_refused_in_time_and_are_over_with_it() {
    let postgres = postgres().await;
    let query = "SELECT room FROM memberships WHERE user_id = rtrim($1, '0123456789') AND (user_id <> 'slow' OR pg_sleep(60) IS NULL)";
    let settings = "timeout_seconds = 0.5\npool_connections_max = 1\ncache_seconds = 0";
    let serve = serve(&format!("url = \"{}\"\nquery = \"{query}\"\n{settings}", postgres.url())).await;
    drop(connect(&serve, "ann").await);
    let began = Instant::now();
    let all = join_all((0..10).map(async |user| refused(&serve, &format!("slow{user}")).await.0)).await;
    assert!(all.iter().all(|status| *status == 503), "{all:?}");
    let took = began.elapsed();
    assert!((Duration::from_millis(450)..Duration::from_secs(4)).contains(&took), "{took:?}");
    drop(connect(&serve, "bob").await);
    assert!(number(&serve, "tidings_memberships_pool_connections").await <= 1);
    until_ready(&serve, 200).await;
    // Nothing is left of it in the database either.
    let began = Instant::now();
    let mut app = postgres.connect().await;
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&mut app).await.unwrap() > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "the query goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    serve.end().await;
}

#[tokio::test]
async fn a_network_that_falls_silent_holds_nobody_longer_than_the_timeout() {
    let postgres = postgres().await;
    let forwarder = Forwarder::start(postgres.address()).await;
    let url = postgres.url_at(forwarder.address());
    let serve = serve(&format!("url = \"{url}\"\ntimeout_seconds = 2\ncache_seconds = 0")).await;
    let (mut ann, _) = connect(&serve, "ann").await;
    forwarder.hold();
    let began = Instant::now();
    assert_eq!(refused(&serve, "bob").await.0, 503);
    leave(&mut ann, "chat:a").await;
    assert_eq!(join(&mut ann, "chat:a").await, "unavailable");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    until_ready(&serve, 503).await;
    forwarder.release();
    forwarder.cut();
    until_ready(&serve, 200).await;
    assert_eq!(join(&mut ann, "chat:a").await, "ack");
    ann.close().await;
    serve.end().await;
}

#[tokio::test]
async fn a_connection_is_encrypted_and_the_server_verified_where_that_is_asked_for() {
    let certificates = Certificates::make();
    let files = ["server.pem", "server.key"].map(|name| (name, certificates.read(name)));
    let settings = "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'";
    let postgres = PostgresServer::start_with(settings, &files).await;
    postgres.run(TABLE).await;
    // What only who encrypts gets to see.
    postgres
        .run("CREATE VIEW encrypted AS SELECT room, user_id FROM memberships, pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
        .await;
    let query = "query = \"SELECT room FROM encrypted WHERE user_id = $1\"";
    let (url, folder) = (postgres.url(), tempfile::tempdir().unwrap());
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, certificates.read("ca.pem")).unwrap();
    for (mode, rooms) in [
        ("disable".to_owned(), 0),
        ("require".to_owned(), 2),
        (format!("verify-full&sslrootcert={}", authority.display()), 2),
    ] {
        let serve = serve(&format!("url = \"{url}?sslmode={mode}\"\n{query}")).await;
        assert_eq!(connect(&serve, "ann").await.1.len(), rooms, "{mode}");
        serve.end().await;
    }
    // An authority that nobody knows.
    let (output, stderr) = not_served(&format!("url = \"{url}?sslmode=verify-full\"")).await;
    assert!(output.status.code() == Some(78) && stderr.contains("sslrootcert"), "{stderr}");
}

#[tokio::test]
async fn many_who_ask_for_one_user_share_a_query() {
    let postgres = postgres().await;
    let query = "SELECT room FROM memberships WHERE user_id = $1 AND (SELECT pg_sleep(0.3)) IS NOT NULL";
    for (cache_seconds, queries) in [(60, 1..=1), (0, 1..=2)] {
        let settings = format!("query = \"{query}\"\ncache_seconds = {cache_seconds}\ntimeout_seconds = 2.5");
        let serve = serve(&format!("url = \"{}\"\n{settings}", postgres.url())).await;
        let five = tokio::join!(
            connect(&serve, "ann"),
            connect(&serve, "ann"),
            connect(&serve, "ann"),
            connect(&serve, "ann"),
            connect(&serve, "ann")
        );
        for rooms in [&five.0.1, &five.1.1, &five.2.1, &five.3.1, &five.4.1] {
            assert_eq!(rooms, &["chat:a", "chat:b"]);
        }
        let asked = number(&serve, "tidings_memberships_queries_total").await;
        assert!(queries.contains(&asked), "{asked} with cache_seconds = {cache_seconds}");
        drop(five);
        serve.end().await;
    }
}

#[tokio::test]
async fn who_asks_after_a_change_is_not_told_what_was_before_it() {
    let postgres = postgres().await;
    let query = "SELECT room FROM memberships WHERE user_id = $1 AND (SELECT pg_sleep(0.7)) IS NOT NULL";
    let settings = format!("query = \"{query}\"\ncache_seconds = 0\ntimeout_seconds = 2.5");
    let serve = serve(&format!("url = \"{}\"\n{settings}", postgres.url())).await;
    let mut app = postgres.connect().await;
    let before = connect(&serve, "ann");
    let after = async {
        let began = Instant::now();
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&mut app).await.unwrap() == 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody asks");
        }
        postgres.run("DELETE FROM memberships WHERE user_id = 'ann' AND room = 'chat:b'").await;
        connect(&serve, "ann").await
    };
    let (before, after) = tokio::join!(before, after);
    assert_eq!(before.1, ["chat:a", "chat:b"]);
    assert_eq!(after.1, ["chat:a"], "the query that was under way knew nothing of it");
    drop((before, after));
    serve.end().await;
}

#[tokio::test]
async fn a_query_that_can_not_be_is_a_fault_of_the_configuration_in_the_databases_words() {
    let postgres = postgres().await;
    postgres
        .run(
            "CREATE TABLE numbered (user_id bigint, room text, owner uuid); \
             INSERT INTO numbered VALUES (7, 'chat:seven'); \
             CREATE TABLE hidden (user_id text, room text); \
             CREATE ROLE reader LOGIN PASSWORD 'canary-bird-of-a-reader'",
        )
        .await;
    let url = postgres.socket_url();
    for (query, said, fix) in [
        ("SELECT room FROM members WHERE user_id = $1", "\"members\" does not exist", "mend query"),
        ("SELECT room FRM memberships WHERE user_id = $1", "syntax error", "mend query"),
        ("SELECT room FROM memberships", "does not name the user", "$1"),
        ("SELECT room, user_id FROM memberships WHERE user_id = $1", "2 columns", "alone"),
        ("SELECT room FROM numbered WHERE user_id = $1", "operator does not exist", "$1::bigint"),
        ("SELECT owner FROM numbered WHERE user_id = $1::bigint", "UUID", "owner::text"),
        ("DELETE FROM memberships WHERE user_id = $1 RETURNING room", "read-only transaction", "SELECT"),
    ] {
        let (output, stderr) = not_served(&format!("url = \"{url}\"\nquery = '{query}'")).await;
        assert_eq!(output.status.code(), Some(78), "{query}: {stderr}");
        assert!(stderr.contains(said) && stderr.contains(fix), "{query}: {stderr}");
    }
    let reader = url.replace("user=app", "user=reader");
    for (url, said, fix) in [
        (reader, "permission denied for table memberships", "GRANT SELECT"),
        (
            postgres.url().replace(PASSWORD, "canary-bird-of-a-wrong-password"),
            "password authentication",
            "url_file",
        ),
        (url.replace("/postgres?", "/shop?"), "database \"shop\" does not exist", "application's database"),
        (postgres.url() + "?sslmode=require", "TLS", "sslmode"),
    ] {
        let (output, stderr) = not_served(&format!("url = \"{url}\"")).await;
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(said) && stderr.contains(fix), "{stderr}");
        assert!(!stderr.contains("canary-bird"), "{stderr}");
    }

    // Where ids are numbers, one that is none belongs nowhere.
    let query = "SELECT room FROM numbered WHERE user_id = $1::bigint";
    let serve = serve(&format!("url = \"{}\"\nquery = '{query}'", postgres.socket_url())).await;
    assert_eq!(connect(&serve, "7").await.1, ["chat:seven"]);
    for id in ["ann", "7; DROP TABLE numbered", "99999999999999999999"] {
        assert_eq!(connect(&serve, id).await.1, [""; 0], "{id}");
    }
    assert_eq!(number(&serve, "tidings_memberships_failures_total").await, 0);
    serve.end().await;
}
