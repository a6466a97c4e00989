//! Nodes that ask sentinels where the master is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::time::{Duration, Instant};

use redis_nodes::{Names, Publisher, Reader, node, until};
use redis_servers::{RedisServer, Sentinels};
use serde_json::json;
use tidings::Redis;

#[tokio::test]
async fn the_sentinels_master_is_used_and_after_a_failover_the_other() {
    let mut a = RedisServer::start().await;
    let b = RedisServer::replica_of(&a).await;
    let mut sentinels = Sentinels::of(&a).await;
    Redis::new(&sentinels.url()).unwrap().check().await.unwrap();
    let nodes = [node(&sentinels.url()).await, node(&sentinels.url()).await];
    let mut readers = [Reader::join(&nodes[0], "ann", "r").await, Reader::join(&nodes[1], "bob", "r").await];
    let mut publisher = Publisher::join(&nodes[0], "cid", "r").await;
    let mut names = Names::default();
    publisher.publish().await;

    // As an operator does it: nothing is lost, and nobody is reset.
    let began = Instant::now();
    sentinels.fail_over_to(&b).await;
    let promoted = began.elapsed();
    // The nodes ask the sentinels, and don't wait for the old master's demotion: what it took until then would be lost.
    until("the nodes have left it", || {
        nodes.iter().all(|node| node.hub().metrics().broker_connections_lost >= 2)
    })
    .await;
    let last = publisher.publish().await;
    for reader in &mut readers {
        reader.read_to(&last, &mut names).await;
    }
    println!("FAILOVER: the sentinels knew it after {promoted:?}, it was used after {:?}", began.elapsed());
    assert!(began.elapsed() < promoted + Duration::from_secs(3));
    until("both are ready", || nodes.iter().all(|node| node.hub().is_ready())).await;

    // And by a death, while a sentinel is gone too. What is acked and was not copied would be told: this was copied.
    sentinels.have_demoted(&a, &b).await;
    sentinels.kill(0);
    let began = Instant::now();
    let mut b = b;
    b.kill();
    let last = publisher.publish().await;
    for reader in &mut readers {
        reader.read_to(&last, &mut names).await;
    }
    let used = began.elapsed();
    println!("kill -9: the promoted one was used after {used:?}");
    let all: Vec<_> = (1..=3).map(|number| json!(number)).collect();
    for reader in &readers {
        assert_eq!(reader.events, all);
        assert!(reader.resets.is_empty(), "{:?}", reader.resets);
    }
    until("both are ready", || nodes.iter().all(|node| node.hub().is_ready())).await;
    a.kill();
}

#[tokio::test]
async fn sentinels_that_know_no_such_master_are_told() {
    log_capture::keep();
    let a = RedisServer::start().await;
    let _b = RedisServer::replica_of(&a).await;
    let sentinels = Sentinels::of(&a).await;
    let url = sentinels.url().replace("/main", "/another");
    let fault = Redis::new(&url).unwrap().check().await.unwrap_err();
    assert!(fault.to_string().contains("no sentinel knows"), "{fault}");
    assert!(fault.is_passing());
}
