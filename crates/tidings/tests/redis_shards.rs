//! Nodes that share rooms through a Redis Cluster: spread over its masters, while its slots move and its masters die.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log_capture::TestHub;
use redis_nodes::{Names, PATIENCE, Publisher, Reader, node, node_with, publish_and_read, rule, until};
use redis_servers::{RedisCluster, RedisServer, SLOTS};
use serde_json::{Value, json};
use tidings::{Redis, RedisFault, RoomId};

/// Two nodes of a cluster, and in a room a reader at each and a publisher.
struct World {
    nodes: [TestHub; 2],
    readers: [Reader; 2],
    publisher: Publisher,
    names: Names,
}

impl World {
    async fn before(cluster: &RedisCluster, room: &str) -> Self {
        let nodes = [node(&cluster.url(&[0, 1, 2])).await, node(&cluster.url(&[2, 1, 0])).await];
        let readers =
            [Reader::join(&nodes[0], "ann", room).await, Reader::join(&nodes[1], "bob", room).await];
        let publisher = Publisher::join(&nodes[0], "cid", room).await;
        let mut world = Self { nodes, readers, publisher, names: Names::default() };
        world.publish(5).await;
        world
    }

    /// Publishes so many, and lets everybody read them.
    async fn publish(&mut self, count: u64) {
        publish_and_read(&mut self.publisher, &mut self.readers, &mut self.names, count).await;
    }

    fn has_all(&self, count: u64) {
        let all: Vec<_> = (1..=count).map(|number| json!(number)).collect();
        for reader in &self.readers {
            assert_eq!(reader.resets, Vec::<Value>::new());
            assert_eq!(reader.events, all);
        }
        // And nothing twice.
        assert_eq!(self.publisher.acked.len() as u64, count);
    }

    fn connections_lost(&self) -> u64 {
        self.nodes.iter().map(|node| node.hub().metrics().broker_connections_lost).sum()
    }
}

#[tokio::test]
async fn rooms_are_spread_over_the_masters_and_so_are_their_channels() {
    let cluster = RedisCluster::of_masters().await;
    let rule = || rule().ephemeral("typing");
    // Of the cluster, one server is known at first.
    let one = node_with(&cluster.url(&[1]), rule()).await;
    let two = node_with(&cluster.url(&[2]), rule()).await;
    assert_eq!(one.hub().metrics().broker_connections, 7, "two to each master, and the control's");
    let (mut ann, mut bob) = (one.connect("ann").await, two.connect("bob").await);
    let mut rooms = Vec::new();
    for slots in SLOTS {
        rooms.push(cluster.rooms("room", &slots, 3).await);
    }
    for room in rooms.iter().flatten() {
        ann.join(room).await;
        bob.join(room).await;
        ann.request_in(room, "typing", json!(true)).await;
        assert_eq!(bob.next_named("typing").await["room"], room.as_str());
        let message = json!({"event": "say", "room": room, "data": room, "id": format!("1 {room}")});
        let ack = ann.ask(message.clone()).await;
        let event = bob.next_named("say").await;
        assert_eq!((&event["data"], &event["id"]), (&json!(room), &ack["data"]["event_id"]));
        let again = ann.ask(message).await;
        assert_eq!(again["data"]["duplicate"], true, "{again}");
    }
    for (server, rooms) in cluster.servers.iter().zip(&rooms) {
        let of: BTreeSet<_> = rooms.iter().map(|room| format!("tidings:1:{{{room}}}")).collect();
        assert_eq!(channels(server).await, of);
        let classic: Vec<String> = server.run(&["PUBSUB", "CHANNELS"]).await;
        assert_eq!(classic, Vec::<String>::new());
    }
    drop((ann, bob));
    let began = Instant::now();
    for server in &cluster.servers {
        while !channels(server).await.is_empty() {
            assert!(began.elapsed() < PATIENCE, "{:?}", channels(server).await);
        }
    }
    assert_eq!(one.hub().metrics().broker_connections_lost, 0);
}

/// The rooms' channels that somebody has subscribed to at a server.
async fn channels(server: &RedisServer) -> BTreeSet<String> {
    let all: Vec<String> = server.run(&["PUBSUB", "SHARDCHANNELS", "tidings:1:{[^%]*"]).await;
    all.into_iter().collect()
}

#[tokio::test]
async fn a_slot_that_moves_loses_nothing_and_disturbs_no_other() {
    let cluster = RedisCluster::of_masters().await;
    let room = cluster.rooms("moving", &SLOTS[0], 1).await.remove(0);
    let slot = cluster.slot_of(&room).await;
    let mut world = World::before(&cluster, &room).await;
    let lost = world.connections_lost();
    for (round, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let before = world.publisher.refused;
        cluster.begin_move(slot, from, to).await;
        // Some of the room's keys are here and some are there.
        assert!(cluster.move_key(slot, from, to).await);
        let publishing = world.publisher.publish();
        let moving = async {
            while cluster.move_key(slot, from, to).await {}
            let began = Instant::now();
            // Until the node has been refused once: what it tries again is not lost.
            redis_nodes::until("it was refused", || began.elapsed() > Duration::from_millis(300)).await;
            cluster.end_move(slot, from, to).await;
            Instant::now()
        };
        let (_, moved) = futures_util::join!(publishing, moving);
        println!("published {:?} after the slot was there", moved.elapsed());
        assert!(world.publisher.refused > before, "a room on its way is unavailable");
        world.publish(5).await;
        world.has_all(5 + 6 * (round as u64 + 1));
        assert_eq!(channels(&cluster.servers[to]).await.len(), 1);
        assert_eq!(channels(&cluster.servers[from]).await.len(), 0);
    }
    // Many at once, without waiting for one before the next: what is stored keeps their order.
    let hub = world.nodes[0].hub();
    let room = hub.room(&RoomId::parse(&room).unwrap());
    let publishing = futures_util::future::join_all((1000..1500).map(|number| {
        let room = room.clone();
        async move { room.broadcast("number", &json!(number)).await.is_ok().then_some(number) }
    }));
    let (published, ()) = futures_util::join!(publishing, cluster.move_slot(slot, 0, 1));
    let published: Vec<_> = published.into_iter().flatten().collect();
    println!("{} of 500 were stored at once", published.len());
    let before = world.readers[0].events.len();
    world.publish(1).await;
    for reader in &world.readers {
        let (_, read) = reader.events[before..].split_last().unwrap();
        let read: Vec<_> = read.iter().map(|number| number.as_u64().unwrap()).collect();
        assert!(read.is_sorted_by(|one, other| one < other), "{read:?}");
        assert!(published.iter().all(|number| read.contains(number)), "none that was acked is missing");
        assert!(reader.resets.is_empty());
    }
    assert_eq!(world.connections_lost(), lost, "nobody else's subscription is touched");
}

#[tokio::test]
async fn resharding_under_load_loses_nothing() {
    let cluster = RedisCluster::of_masters().await;
    // The tool moves a master's first slots.
    let rooms = cluster.rooms("load", &(0..=299), 6).await;
    let nodes = [node(&cluster.url(&[0])).await, node(&cluster.url(&[2])).await];
    let mut working = Vec::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for (index, room) in rooms.iter().enumerate() {
        let mut reader = Reader::join(&nodes[(index + 1) % 2], &format!("reader{index}"), room).await;
        let mut publisher = Publisher::join(&nodes[index % 2], &format!("publisher{index}"), room).await;
        let stopped = stopped.clone();
        working.push(tokio::spawn(async move {
            let (mut names, mut longest) = (Names::default(), Duration::ZERO);
            let mut more = 10;
            // Some more when all is over.
            while more > 0 {
                more -= usize::from(*stopped.borrow());
                let began = Instant::now();
                let last = publisher.publish().await;
                longest = longest.max(began.elapsed());
                reader.read_to(&last, &mut names).await;
            }
            assert_eq!(reader.resets, Vec::<Value>::new());
            assert_eq!(reader.events.len(), publisher.acked.len());
            let in_order = (1..).map(|number: u64| json!(number)).take(reader.events.len());
            assert!(in_order.eq(reader.events.iter().cloned()));
            (reader, publisher, longest)
        }));
    }
    let began = Instant::now();
    cluster.reshard(300, 0, 1).await;
    println!("300 slots moved in {:?}", began.elapsed());
    stop.send(true).unwrap();
    let mut members = Vec::new();
    for working in working {
        let (reader, publisher, longest) = working.await.unwrap();
        let (acked, refused) = (publisher.acked.len(), publisher.refused);
        println!("{acked} acked, {refused} refused, the longest took {longest:?}");
        assert!(acked > 10 && longest < Duration::from_secs(5));
        members.push((reader, publisher));
    }
    let counts = [channels(&cluster.servers[0]).await.len(), channels(&cluster.servers[1]).await.len()];
    assert_eq!(counts, [0, rooms.len()]);
}

#[tokio::test]
async fn a_failover_without_loss_resets_nobody() {
    let cluster = RedisCluster::with_replicas().await;
    let room = cluster.rooms("kept", &SLOTS[1], 1).await.remove(0);
    let mut world = World::before(&cluster, &room).await;
    for (count, from, to) in [(1, 1, 4), (2, 4, 1)] {
        let began = Instant::now();
        cluster.fail_over(from, to).await;
        let promoted = began.elapsed();
        world.publish(1).await;
        println!("promoted after {promoted:?}, published and read by all after {:?}", began.elapsed());
        world.publish(4).await;
        world.has_all(5 + 5 * count);
        cluster.know_of_failover(from, to).await;
    }
    let nodes = &world.nodes;
    until("both are ready", || nodes.iter().all(|node| node.hub().is_ready())).await;
}

#[tokio::test]
async fn a_master_that_dies_is_replaced_and_what_it_took_along_is_told() {
    let mut cluster = RedisCluster::with_replicas().await;
    let room = cluster.rooms("lost", &SLOTS[2], 1).await.remove(0);
    let other = cluster.rooms("other", &SLOTS[0], 1).await.remove(0);
    let mut world = World::before(&cluster, &room).await;
    let mut elsewhere = Publisher::join(&world.nodes[1], "dan", &other).await;
    // The replica hears no more of its master, and what is acked now will be lost.
    cluster.servers[5].has_all_of(&cluster.servers[2]).await;
    cluster.cut_off_replicas(2).await;
    world.publish(3).await;
    let began = Instant::now();
    cluster.servers[2].kill();
    // The other masters' rooms don't wait.
    elsewhere.publish().await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    for reader in &mut world.readers {
        reader.read_resets(1, &mut world.names).await;
        assert_eq!(reader.resets[0]["data"]["reason"], "forked");
    }
    println!("a dead master's rooms were told after {:?}", began.elapsed());
    // The lost offsets are given to other events, under another epoch.
    world.publish(5).await;
    println!("and published to after {:?}", began.elapsed());
    // It comes back as a replica of its replica.
    cluster.servers[2].start_again().await;
    world.publish(3).await;
    assert!(world.readers.iter().all(|reader| reader.resets.len() == 1));
    let nodes = &world.nodes;
    until("both are ready", || nodes.iter().all(|node| node.hub().is_ready())).await;
}

#[tokio::test]
async fn a_cluster_is_checked_at_every_master() {
    log_capture::keep();
    let mut cluster = RedisCluster::of_masters().await;
    let check = |url: String| async move { Redis::new(&url).unwrap().check().await };
    let report = check(cluster.url(&[1])).await.unwrap();
    assert!(report.version.split('.').count() >= 2, "{}", report.version);
    assert_eq!(report.warnings.len(), 3, "each master has no bound: {:?}", report.warnings);
    for server in &cluster.servers {
        let address = server.address().to_string();
        assert!(report.warnings.iter().any(|warning| warning.contains(&address)), "{:?}", report.warnings);
        let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
        assert_eq!(keys, Vec::<String>::new(), "it leaves nothing behind");
    }
    // Addressed as what it is not.
    let fault = check(cluster.servers[0].url()).await.unwrap_err();
    assert!(matches!(fault, RedisFault::IsCluster) && fault.fix().contains("redis+cluster"), "{fault}");
    let single = RedisServer::start().await;
    let fault = check(format!("redis+cluster://{}", single.address())).await.unwrap_err();
    assert!(matches!(fault, RedisFault::IsNoCluster) && !fault.is_passing(), "{fault}");
    // A user who may do what the fix says, and one master where he may not.
    let all = "~tidings:* &tidings:* +@read +@write +@scripting +@pubsub +@connection +info +time";
    let in_cluster = ["+cluster|slots", "+cluster|info"];
    for server in &cluster.servers {
        let mut rule = vec!["ACL", "SETUSER", "tidings", "reset", "on", ">canary-bird"];
        rule.extend(all.split(' ').chain(in_cluster));
        let () = server.run(&rule).await;
    }
    let url = || cluster.url(&[0]).replace("://", "://tidings:canary-bird@");
    check(url()).await.expect("the rule in the fix is enough");
    for less in ["-ssubscribe", "-spublish", "-cluster"] {
        let server = &cluster.servers[if less == "-cluster" { 0 } else { 2 }];
        let () = server.run(&["ACL", "SETUSER", "tidings", less]).await;
        let fault = check(url()).await.expect_err(less);
        assert!(!fault.is_passing() && fault.fix().contains("ACL"), "{less}: {fault}");
        let more = if less == "-cluster" { &in_cluster[..] } else { &["+@pubsub"] };
        let () = server.run(&[&["ACL", "SETUSER", "tidings"], more].concat()).await;
    }
    // A slot that nobody has.
    let () = cluster.servers[0].run(&["CLUSTER", "DELSLOTS", "0"]).await;
    let fault = check(cluster.url(&[0])).await.unwrap_err();
    assert!(matches!(fault, RedisFault::NotWhole(_)) && fault.is_passing(), "{fault}");
    for server in &mut cluster.servers {
        server.kill();
    }
    let fault = check(cluster.url(&[0])).await.unwrap_err();
    assert!(matches!(fault, RedisFault::Unreachable(_)), "{fault}");
}
