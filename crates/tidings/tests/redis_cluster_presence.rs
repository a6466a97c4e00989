//! Who is in a room that several nodes share through a Redis Cluster: the same as with one server, also while the room's slot
//! moves and its master dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod presence_viewer;
mod redis_servers;

use std::time::{Duration, Instant};

use presence_viewer::promises::{USERS, three, until_in_redis};
use presence_viewer::storm::Storm;
use presence_viewer::{Node, all_have, expected, joined, promises};
use redis_servers::{RedisCluster, Store};
use serde_json::json;

async fn cluster() -> Store {
    Store::Cluster(RedisCluster::of_masters().await)
}

#[tokio::test]
async fn who_is_in_a_room_is_the_same_at_all_nodes_of_a_cluster() {
    let store = cluster().await;
    promises::what_happens_at_one_node_is_seen_at_all_under_consecutive_revisions(&store).await;
    store.flush().await;
    promises::two_tabs_at_two_nodes_are_one_member(&store).await;
    store.flush().await;
    promises::a_reconnect_at_another_node_within_the_grace_is_told_to_nobody(&store).await;
    store.flush().await;
    promises::pages_of_the_list_are_the_same_at_every_node(&store).await;
}

#[tokio::test]
async fn the_users_of_a_killed_node_leave_when_its_lease_has_ended() {
    promises::the_users_of_a_killed_node_leave_when_its_lease_has_ended(&cluster().await).await;
}

#[tokio::test]
async fn after_flushall_everybody_is_back_and_nobody_was_told_otherwise() {
    promises::after_flushall_everybody_is_back_and_nobody_was_told_otherwise(&cluster().await).await;
}

/// Moves the room's slot from master to master, for as long as it is polled.
async fn keep_moving(cluster: &RedisCluster) {
    let (slot, mut at) = (cluster.slot_of(USERS).await, cluster.master_of(USERS).await);
    loop {
        let to = (at + 1) % 3;
        cluster.move_slot(slot, at, to).await;
        at = to;
        #[expect(clippy::disallowed_methods, reason = "nodes are to find it now here and now there")]
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test]
async fn whatever_happens_while_the_slot_moves_all_lists_are_true_in_the_end() {
    for seed in [1, 2] {
        let store = cluster().await;
        let mut storm = Storm::over(&store, seed).await;
        tokio::select! {
            () = storm.rage(300) => {}
            () = keep_moving(store.cluster()) => {}
        }
        storm.settles().await;
    }
}

#[tokio::test]
async fn a_room_whose_slot_moves_keeps_its_members_and_nobody_is_told_otherwise() {
    let store = cluster().await;
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
    let mut dan = joined(&nodes[0], "dan").await;
    let mut here = expected(&["ann", "bob", "cid", "dan"]);
    all_have(&mut viewers, &here).await;
    let cluster = store.cluster();
    let (slot, at) = (cluster.slot_of(USERS).await, cluster.master_of(USERS).await);
    for (from, to) in [(at, (at + 1) % 3), ((at + 1) % 3, at)] {
        cluster.begin_move(slot, from, to).await;
        assert!(cluster.move_key(slot, from, to).await);
        // Nobody can be told of this before it has arrived.
        dan.request_in("r", "presence.update", json!({"info": to})).await;
        here.insert("dan".to_owned(), json!(to));
        while cluster.move_key(slot, from, to).await {}
        cluster.end_move(slot, from, to).await;
        let took = all_have(&mut viewers, &here).await;
        println!("all knew it {took:?} after the slot was there");
    }
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec![], 1));
    }
}

#[tokio::test]
async fn users_whom_a_dead_master_takes_along_are_put_back() {
    let mut store = Store::Cluster(RedisCluster::with_replicas().await);
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
    let mut dan = joined(&nodes[0], "dan").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid", "dan"])).await;
    let cluster = store.cluster_mut();
    let master = cluster.master_of(USERS).await;
    cluster.servers[master + 3].has_all_of(&cluster.servers[master]).await;
    // The replica hears no more of its master.
    cluster.cut_off_replicas(master).await;
    let _eve = joined(&nodes[1], "eve").await;
    dan.request_in("r", "room.leave", json!({})).await;
    let here = expected(&["ann", "bob", "cid", "eve"]);
    all_have(&mut viewers, &here).await;
    let died = Instant::now();
    cluster.servers[master].kill();
    cluster.is_master(master + 3).await;
    println!("the replica was promoted {:?} after the death", died.elapsed());
    let server = &cluster.servers[master + 3];
    until_in_redis(server, "eve", (4, 1)).await;
    until_in_redis(server, "dan", (4, 0)).await;
    let _fay = joined(&nodes[2], "fay").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid", "eve", "fay"])).await;
    println!("and all lists were true after {:?}", died.elapsed());
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec!["dan".to_owned()], 1), "nobody was told otherwise");
    }
}
