//! Three nodes behind one Redis, thousands of clients, and a node that is killed: nothing acked is lost, nothing comes
//! twice, and everybody is soon back elsewhere.
//!
//! `NODE_DEATH_CLIENTS` says how many clients there are, `NODE_DEATH_AT` how many of a hundred begin at the node that is
//! killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]
#![allow(
    clippy::disallowed_methods,
    reason = "clients publish for a while, and what is waited for is looked at again"
)]

#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
mod server;
mod swarm;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis_servers::RedisServer;
use server::{Node, get};
use swarm::{Part, Seen, Swarm};
use tidings::RoomId;
use tokio::sync::watch;

const SECRET: &str = "canary-bird of the nodes, more than 32 bytes";
/// Members of a room, a quarter of whom publish.
const MEMBERS: usize = 100;
/// One of them publishes this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(2500);
/// How long they publish before the node dies, and after.
const PUBLISHING: Duration = Duration::from_secs(5);
/// Everybody is to be back by then.
const BACK_MAX: Duration = Duration::from_secs(60);

async fn node(redis: &RedisServer) -> Node {
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        audience = "app"
        [broker]
        url = "redis://{}"
        [admin]
        listen = "127.0.0.1:0"
        [[rooms]]
        pattern = "*"
        join = "anyone"
        publish = "anyone"
        any_event = true
        presence = false
        [limits]
        # All clients come from one address here.
        pending_handshakes_max = 8192
        pending_handshakes_per_ip_max = 8192
        "#,
        redis.address()
    );
    Node::start(&config, &[]).await
}

/// A counter of a node's.
async fn count(node: &Node, name: &str) -> u64 {
    let page = get(&node.admin, "/metrics", &node.admin).await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse::<f64>().unwrap() as u64
}

fn token(user: &str) -> String {
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let claims = serde_json::json!({"sub": user, "aud": "app", "exp": exp});
    tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

fn number_of(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap())
}

async fn until(what: &str, max: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < max, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_dies_and_nothing_acked_is_lost_or_comes_twice() {
    let clients = number_of("NODE_DEATH_CLIENTS", 300);
    let of_hundred = number_of("NODE_DEATH_AT", 34);
    let redis = RedisServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(&redis).await);
    }
    let swarm = Arc::new(Swarm {
        nodes: nodes.iter().map(|node| node.address.clone()).collect(),
        joined: AtomicUsize::new(0),
        publishing: watch::channel(false).0,
        ended: AtomicBool::new(false),
    });
    let mut seen: Vec<(RoomId, usize, Arc<Mutex<Seen>>)> = Vec::new();
    for index in 0..clients {
        let room = RoomId::parse(&format!("room:{}", index / MEMBERS)).unwrap();
        let node = if index % 100 < of_hundred { 0 } else { 1 + index % 2 };
        let user = format!("user{index}");
        let publishes = (index % 4 == 0).then_some((PUBLISH_EVERY, index as u64 * 1_000_000));
        let part = Part { token: token(&user), room: room.clone(), node, publishes };
        seen.push((room, node, swarm::start(&swarm, part, index as u64 + 1)));
        // Not all handshakes in one moment: this is not what is asked here.
        until("handshakes", BACK_MAX, || swarm.joined.load(Ordering::Relaxed) + 200 > index).await;
    }
    until("everybody is in", BACK_MAX, || swarm.joined.load(Ordering::Relaxed) == clients).await;
    let reads_before = [
        count(&nodes[1], "tidings_broker_reads_total").await,
        count(&nodes[2], "tidings_broker_reads_total").await,
    ];

    swarm.publishing.send(true).unwrap();
    tokio::time::sleep(PUBLISHING).await;
    nodes[0].child.start_kill().unwrap();
    nodes[0].child.wait().await.unwrap();
    let died = Instant::now();
    let struck: Vec<_> = seen.iter().filter(|(_, node, _)| *node == 0).map(|(_, _, seen)| seen).collect();
    until("everybody is back", BACK_MAX, || struck.iter().all(|seen| !seen.lock().resumed_at.is_empty()))
        .await;
    let back = died.elapsed();
    tokio::time::sleep(PUBLISHING).await;
    swarm.publishing.send(false).unwrap();
    until("everything is answered", BACK_MAX, || seen.iter().all(|(_, _, seen)| seen.lock().waiting == 0))
        .await;

    let mut published: HashMap<RoomId, Vec<u64>> = HashMap::new();
    for (room, _, seen) in &seen {
        published.entry(room.clone()).or_default().extend(&seen.lock().acked);
    }
    until("everything has come", BACK_MAX, || {
        seen.iter().all(|(room, _, seen)| seen.lock().events.len() >= published[room].len())
    })
    .await;
    swarm.ended.store(true, Ordering::Relaxed);

    let mut orders: HashMap<&RoomId, Vec<u64>> = HashMap::new();
    let mut took: Vec<Duration> = Vec::new();
    for (room, node, seen) in &seen {
        let seen = seen.lock();
        assert_eq!((seen.resets, seen.unknown), (0, 0));
        let order = orders.entry(room).or_insert_with(|| seen.events.clone());
        assert!(*order == seen.events, "{room}: all members see one order");
        if *node == 0 {
            took.push(seen.resumed_at[0].saturating_duration_since(died));
        }
    }
    let mut total = 0;
    for (room, mut acked) in published {
        let mut order = orders[&room].clone();
        total += acked.len();
        acked.sort_unstable();
        order.sort_unstable();
        assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{room}: nothing comes twice");
        assert!(order == acked, "{room}: what was acked, and nothing else");
    }
    took.sort_unstable();
    let p99 = took[(took.len() * 99 / 100).min(took.len() - 1)];
    let rooms = orders.len() as u64;
    for (index, before) in reads_before.into_iter().enumerate() {
        let reads = count(&nodes[index + 1], "tidings_broker_reads_total").await - before;
        println!("node {}: {reads} reads for {rooms} rooms", index + 2);
        assert!(reads <= 2 * rooms, "at most two reads a room: {reads} for {rooms}");
    }
    println!(
        "{clients} clients, {} of them at the node that died, {total} events acked: all back in {back:?}, p50 {:?}, p99 {p99:?}",
        took.len(),
        took[took.len() / 2],
    );
}
