//! Nodes whose Redis restarts, forgets, stands still, fails over and comes back with older data: docs/guarantees.md I1
//! to I5. Every divergence is told within 15 s, and what lost nothing is told to nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::time::{Duration, Instant};

use log_capture::TestHub;
use redis_nodes::{Names, Publisher, Reader, node, publish_and_read, until};
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::{Value, json};

/// I4: a divergence is told by then.
const TOLD_MAX: Duration = Duration::from_secs(15);

/// Two nodes behind one address of Redis, a reader at each, and a publisher.
struct World {
    forwarder: Forwarder,
    nodes: [TestHub; 2],
    readers: [Reader; 2],
    publisher: Publisher,
    names: Names,
}

impl World {
    async fn before(server: &RedisServer) -> Self {
        let forwarder = Forwarder::start(server.address()).await;
        let url = url_of(forwarder.address());
        let nodes = [node(&url).await, node(&url).await];
        let readers = [Reader::join(&nodes[0], "ann", "r").await, Reader::join(&nodes[1], "bob", "r").await];
        let publisher = Publisher::join(&nodes[0], "cid", "r").await;
        let mut world = Self { forwarder, nodes, readers, publisher, names: Names::default() };
        world.publish(5).await;
        assert_eq!(world.resets(), [0, 0]);
        world
    }

    /// Publishes so many, and lets everybody read them.
    async fn publish(&mut self, count: u64) {
        publish_and_read(&mut self.publisher, &mut self.readers, &mut self.names, count).await;
    }

    /// Waits until both readers have been told of a loss; within what time, and for what reasons.
    async fn told(&mut self, began: Instant) -> Vec<Value> {
        let before = self.resets();
        let mut reasons = Vec::new();
        for (reader, before) in self.readers.iter_mut().zip(before) {
            reader.read_resets(before + 1, &mut self.names).await;
            reasons.push(reader.resets.last().unwrap()["data"]["reason"].clone());
        }
        assert!(began.elapsed() < TOLD_MAX, "{:?}", began.elapsed());
        reasons
    }

    fn resets(&self) -> [usize; 2] {
        [0, 1].map(|index| self.readers[index].resets.len())
    }

    async fn nodes_are_ready(&self) {
        until("both nodes are ready", || self.nodes.iter().all(|node| node.hub().is_ready())).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_once_and_without_traffic() {
    let mut server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    let began = Instant::now();
    server.kill();
    server.start_again().await;
    assert_eq!(world.told(began).await, ["unknown_epoch", "unknown_epoch"]);
    world.publish(3).await;
    assert_eq!(world.resets(), [1, 1]);
}

#[tokio::test]
async fn flushall_is_told_without_traffic() {
    let server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    let began = Instant::now();
    let () = server.run(&["FLUSHALL"]).await;
    assert_eq!(world.told(began).await, ["unknown_epoch", "unknown_epoch"]);
    world.publish(3).await;
    assert_eq!(world.resets(), [1, 1]);
}

#[tokio::test]
async fn flushall_under_traffic_is_told_with_the_next_event() {
    let server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    let began = Instant::now();
    let () = server.run(&["FLUSHALL"]).await;
    world.publish(1).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(world.resets(), [1, 1]);
}

#[tokio::test]
async fn deleted_keys_are_told() {
    let server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    // The log alone: nobody here has lost anything, and who comes with an old cursor is told.
    let old = world.readers[0].position.clone().unwrap();
    let () = server.run(&["DEL", "tidings:1:{r}:log"]).await;
    world.publish(2).await;
    assert_eq!(world.resets(), [0, 0]);
    let late = node(&server.url()).await;
    let mut dan = late.connect("dan").await;
    let cursor = format!("r@{}.{}", old.0, old.1 - 2);
    let ack = dan.request("session.resume", json!({ "last_event_id": cursor })).await;
    assert_eq!(ack["data"]["rooms"]["r"]["recovery"], "gap", "{ack}");
    assert_eq!(dan.next_named("room.reset").await["data"]["reason"], "expired");
    // And meta: another life.
    let began = Instant::now();
    let () = server.run(&["DEL", "tidings:1:{r}:meta"]).await;
    assert_eq!(world.told(began).await, ["unknown_epoch", "unknown_epoch"]);
    world.publish(2).await;
    assert_eq!(world.resets(), [1, 1]);
}

#[tokio::test]
async fn ten_seconds_of_silence_lose_nothing_and_publish_nothing_twice() {
    let server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    let () = server.run(&["CLIENT", "PAUSE", "10000", "ALL"]).await;
    let began = Instant::now();
    world.publish(5).await;
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(world.publisher.refused > 0, "a publish that has no answer is told so in half a second");
    assert_eq!(world.resets(), [0, 0]);
    let all: Vec<_> = (1..=10).map(|number| json!(number)).collect();
    assert!(world.readers.iter().all(|reader| reader.events == all), "{:?}", world.readers[0].events);
    world.nodes_are_ready().await;
}

#[tokio::test]
async fn killed_subscriptions_heal_by_themselves() {
    let server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    for _ in 0..3 {
        let () = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        world.publish(3).await;
    }
    world.forwarder.cut();
    world.publish(3).await;
    assert_eq!(world.resets(), [0, 0]);
    let all: Vec<_> = (1..=17).map(|number| json!(number)).collect();
    assert!(world.readers.iter().all(|reader| reader.events == all), "{:?}", world.readers[0].events);
}

#[tokio::test]
async fn failovers_without_loss_reset_nobody() {
    let a = RedisServer::start().await;
    let mut world = World::before(&a).await;
    let b = RedisServer::replica_of(&a).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        to.has_all_of(from).await;
        to.promote().await;
        world.forwarder.point_to(to.address());
        world.forwarder.cut();
        world.publish(3).await;
        from.follow(to).await;
        world.publish(3).await;
    }
    assert_eq!(world.resets(), [0, 0]);
    assert!(world.readers.iter().all(|reader| reader.epochs == 2), "each is another history");
    let all: Vec<_> = (1..=17).map(|number| json!(number)).collect();
    assert!(world.readers.iter().all(|reader| reader.events == all), "{:?}", world.readers[0].events);
}

#[tokio::test]
async fn a_failover_and_back_under_open_connections_is_no_loss_either() {
    let a = RedisServer::start().await;
    let mut world = World::before(&a).await;
    let b = RedisServer::replica_of(&a).await;
    // Nobody cuts a connection: the nodes find out that A is a replica, and then that it has another history.
    b.promote().await;
    a.follow(&b).await;
    a.promote().await;
    world.publish(3).await;
    assert_eq!(world.resets(), [0, 0]);
}

#[tokio::test]
async fn failovers_with_loss_are_told_and_no_id_names_two_events() {
    let a = RedisServer::start().await;
    let mut world = World::before(&a).await;
    let b = RedisServer::replica_of(&a).await;
    // The first replica gives its master another replication id, and so the room another epoch: it is to be on both.
    world.publish(1).await;
    let mut expected = 0;
    for (from, to) in [(&a, &b), (&b, &a)] {
        to.has_all_of(from).await;
        // It hears no more of its master, and is promoted without what comes now.
        let () = to.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
        world.publish(3).await;
        to.promote().await;
        let began = Instant::now();
        world.forwarder.point_to(to.address());
        world.forwarder.cut();
        assert_eq!(world.told(began).await, ["forked", "forked"]);
        expected += 1;
        // The lost offsets are given to other events now, under another epoch.
        world.publish(5).await;
        assert_eq!(world.resets(), [expected, expected]);
        from.follow(to).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_with_older_data_is_told() {
    let mut server = RedisServer::start().await;
    let mut world = World::before(&server).await;
    let () = server.run(&["SAVE"]).await;
    world.publish(4).await;
    let began = Instant::now();
    server.kill();
    server.start_again().await;
    assert_eq!(world.told(began).await, ["forked", "forked"]);
    world.publish(3).await;
    assert_eq!(world.resets(), [1, 1]);
}
