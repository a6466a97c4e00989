//! What a node asks of its Redis before it starts, and whether it says that it is ready afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::time::{Duration, Instant};

use redis_nodes::{Publisher, Reader, node, until};
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::json;
use tidings::{Redis, RedisFault};

fn redis(url: &str) -> Redis {
    log_capture::keep();
    Redis::new(url).unwrap()
}

#[tokio::test]
async fn a_redis_that_can_be_used_says_what_will_not_always_work() {
    let server = RedisServer::start().await;
    let report = redis(&server.url()).check().await.unwrap();
    assert!(report.version.split('.').count() >= 2, "{}", report.version);
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("maxmemory is not set"), "{:?}", report.warnings);
    let () = server.run(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "volatile-lru"]).await;
    let report = redis(&server.url()).check().await.unwrap();
    assert!(report.warnings[0].contains("maxmemory-policy is volatile-lru"), "{:?}", report.warnings);
    let () = server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    assert_eq!(redis(&server.url()).check().await.unwrap().warnings, Vec::<String>::new());
    let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
    assert_eq!(keys, Vec::<String>::new(), "it leaves nothing behind");
}

#[tokio::test]
async fn nobody_at_the_address_may_pass() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    forwarder.point_nowhere();
    let fault = redis(&url_of(forwarder.address())).check().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Unreachable(_)) && fault.is_passing(), "{fault}");
    let replica = RedisServer::replica_of(&server).await;
    let fault = redis(&replica.url()).check().await.unwrap_err();
    assert!(fault.to_string().contains("replica"), "{fault}");
    assert!(fault.is_passing());
}

/// A user who may do what a fault's fix says, but for `less`.
async fn check_as(server: &RedisServer, less: &[&str]) -> Result<(), RedisFault> {
    let mut rule = vec!["ACL", "SETUSER", "tidings", "reset", "on", ">canary-bird"];
    let all = "~tidings:* &tidings:* +@read +@write +@scripting +@pubsub +@connection +info +time";
    rule.extend(all.split(' ').chain(less.iter().copied()));
    let () = server.run(&rule).await;
    let url = format!("redis://tidings:canary-bird@{}", server.address());
    redis(&url).check().await.map(drop)
}

#[tokio::test]
async fn what_the_user_may_not_do_is_told_with_what_he_needs() {
    let server = RedisServer::start().await;
    check_as(&server, &[]).await.expect("the rule in the fix is enough");
    for less in
        [&["-info"][..], &["-@scripting"], &["-subscribe"], &["resetchannels"], &["resetkeys"], &["-zadd"]]
    {
        let fault = check_as(&server, less).await.expect_err(less[0]);
        assert!(!fault.is_passing(), "{less:?}: {fault}");
        assert!(fault.fix().contains("ACL"), "{less:?}: {fault}");
    }
    let fault =
        redis(&format!("redis://tidings:wrong-canary-bird@{}", server.address())).check().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Refused(_)), "{fault}");
    assert!(!fault.to_string().contains("canary-bird"), "{fault}");
}

#[tokio::test]
async fn a_node_whose_redis_delivers_nothing_is_not_ready_and_is_again_by_itself() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let hub = node(&url_of(forwarder.address())).await;
    for attached_to_nothing in [true, false] {
        let began = Instant::now();
        if attached_to_nothing {
            // Nothing comes through, and no connection ends.
            forwarder.hold();
        } else {
            forwarder.point_nowhere();
            forwarder.cut();
        }
        until("it is not ready", || !hub.hub().is_ready()).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        forwarder.release();
        forwarder.point_to(server.address());
        until("it is ready again", || hub.hub().is_ready()).await;
    }
    let mut reader = Reader::join(&hub, "ann", "r").await;
    let mut publisher = Publisher::join(&hub, "bob", "r").await;
    let last = publisher.publish().await;
    reader.read_to(&last, &mut Default::default()).await;
}

#[tokio::test]
async fn an_outage_is_told_to_every_connection_once_and_its_end_too() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let hub = node(&url_of(forwarder.address())).await;
    let mut clients = [hub.connect("ann").await, hub.connect("bob").await];
    for _ in 0..2 {
        forwarder.point_nowhere();
        forwarder.cut();
        for client in &mut clients {
            assert_eq!(
                client.next_message().await,
                json!({"event": "session.degraded", "data": {"degraded": true}})
            );
        }
        forwarder.point_to(server.address());
        for client in &mut clients {
            assert_eq!(
                client.next_message().await,
                json!({"event": "session.degraded", "data": {"degraded": false}})
            );
        }
    }
    // One that is over in a moment is not told.
    forwarder.cut();
    until("it is not ready", || !hub.hub().is_ready()).await;
    until("it is ready again", || hub.hub().is_ready()).await;
    for client in &mut clients {
        client.send(json!({"event": "room.list", "id": "1"})).await;
        assert_eq!(client.next_message().await["event"], "ack");
    }
}

#[tokio::test]
async fn of_several_addresses_the_master_is_used_and_the_other_after_a_failover() {
    let a = RedisServer::start().await;
    let b = RedisServer::replica_of(&a).await;
    let url = format!("redis://{},{}", b.address(), a.address());
    redis(&url).check().await.unwrap();
    let hub = node(&url).await;
    let mut reader = Reader::join(&hub, "ann", "r").await;
    let mut publisher = Publisher::join(&hub, "bob", "r").await;
    publisher.publish().await;
    b.has_all_of(&a).await;
    b.promote().await;
    a.follow(&b).await;
    let last = publisher.publish().await;
    reader.read_to(&last, &mut Default::default()).await;
    assert!(reader.resets.is_empty());
}
