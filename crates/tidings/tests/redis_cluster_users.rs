//! What holds for all nodes that share a Redis Cluster: the same as with one server, also when slots have moved and masters
//! have died.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_servers;
mod users_of_nodes;

use std::time::{Duration, Instant};

use log_capture::TestHub;
use redis_servers::{RedisCluster, Store};
use tidings::ControlError;
use tidings::protocol::close::CloseCode;
use tidings::testing::identity;
use users_of_nodes::{
    EVERYWHERE_MAX, World, closed_with, connect, connect_with, lives, promises, token, told, until,
};

/// A key in the slot of what is no user's.
const CONTROL: &str = "tidings:1:{%control}:nodes";

/// Everything that one server promises too, of users whose names end so.
async fn all_of_it_holds(world: &World, users: &str) {
    let user = |name: &str| format!("{name}{users}");
    promises::of_thirty_who_come_to_three_nodes_at_once_five_get_in(world, &user("many")).await;
    promises::an_event_for_a_user_reaches_his_connections_on_other_nodes(world, &user("dan")).await;
    promises::nodes_are_listed_until_they_are_drained_or_gone(&world.store, 4).await;
    promises::a_session_is_taken_over_at_once_from_a_node_that_lives_and_from_one_that_is_dead(
        world,
        &user("eve"),
    )
    .await;
    promises::places_are_renewed_while_their_node_lives_and_come_free_when_it_is_dead(world, &user("fay"))
        .await;
    promises::who_is_sent_away_is_off_every_node_also_one_that_was_away_or_starts_later(world, users).await;
}

fn lost(node: &TestHub) -> u64 {
    node.hub().metrics().broker_connections_lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn all_of_it_holds_in_a_cluster_and_when_the_slot_of_what_is_no_users_has_moved() {
    let world = World::of(Store::Cluster(RedisCluster::of_masters().await)).await;
    all_of_it_holds(&world, "1").await;
    let mut ann = connect(&world.nodes[0], identity("ann")).await.unwrap();
    let lost_before: Vec<_> = world.all().map(lost).collect();
    let cluster = world.store.cluster();
    let (slot, from) = (cluster.slot_of(CONTROL).await, cluster.master_of(CONTROL).await);
    let began = Instant::now();
    cluster.move_slot(slot, from, (from + 1) % 3).await;
    until("every node has left its old master", EVERYWHERE_MAX, async || {
        world.all().map(lost).eq(lost_before.iter().map(|lost| lost + 1)).then_some(())
    })
    .await;
    world.is_ready().await;
    println!("all were ready again {:?} after the slot began to move", began.elapsed());
    assert!(world.all().map(lost).eq(lost_before.iter().map(|lost| lost + 1)), "and nothing else is lost");
    lives(&mut ann).await;
    drop(ann);
    all_of_it_holds(&world, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_the_master_of_what_is_no_users_is_dead_nobody_is_let_in_and_then_all_of_it_holds() {
    let mut world = World::of(Store::Cluster(RedisCluster::with_replicas().await)).await;
    let stolen = token("ann", "before");
    let [one, ..] = &world.nodes;
    let mut thief = connect_with(one, &stolen).await.unwrap();
    one.hub().revoke_token("before").await.unwrap();
    closed_with(&mut thief, CloseCode::TOKEN_INVALID).await;
    let mut ann = connect_with(one, &token("ann", "own")).await.unwrap();

    let cluster = world.store.cluster_mut();
    let master = cluster.master_of(CONTROL).await;
    cluster.servers[master + 3].has_all_of(&cluster.servers[master]).await;
    cluster.servers[master].kill();
    let died = Instant::now();
    until("no node is ready", EVERYWHERE_MAX, async || {
        world.all().all(|node| !node.hub().is_ready()).then_some(())
    })
    .await;
    println!("no node was ready {:?} after the death", died.elapsed());
    let [one, ..] = &world.nodes;
    let bobs = token("bob", "1");
    let (refused, (status, code), disconnected) =
        tokio::join!(connect(one, identity("bob")), told(one, &bobs), one.hub().disconnect_user("bob"),);
    assert_eq!(refused.unwrap_err().code(), "broker_unavailable");
    assert_eq!((status, &*code), (503, "broker_unavailable"));
    assert_eq!(disconnected, Err(ControlError::Unavailable));
    lives(&mut ann).await;

    world.is_ready().await;
    println!("all were ready again {:?} after it", died.elapsed());
    assert_eq!(world.store.cluster().master_of(CONTROL).await, master + 3, "nobody was ready before that");
    let later = world.later();
    let refused = until("it has its Redis", EVERYWHERE_MAX, async || {
        let refused = connect_with(&later, &stolen).await.unwrap_err();
        (refused.code() != "broker_unavailable").then_some(refused)
    })
    .await;
    assert_eq!(refused.code(), "token_claims", "what was revoked has outlived its master");
    drop(later);
    lives(&mut ann).await;
    drop(ann);
    all_of_it_holds(&world, "3").await;
}

#[tokio::test]
async fn a_master_of_what_is_no_users_that_is_replaced_in_good_order_is_left_at_once() {
    let world = World::of(Store::Cluster(RedisCluster::with_replicas().await)).await;
    let (cluster, [one, two, _]) = (world.store.cluster(), &world.nodes);
    let mut ann = connect(two, identity("ann")).await.unwrap();
    let master = cluster.master_of(CONTROL).await;
    cluster.fail_over(master, master + 3).await;
    let began = Instant::now();
    until("there are orders again", EVERYWHERE_MAX, async || one.hub().disconnect_user("ann").await.ok())
        .await;
    closed_with(&mut ann, CloseCode::KICKED).await;
    println!("what was ordered was done {:?} after the failover", began.elapsed());
    world.is_ready().await;
    promises::an_event_for_a_user_reaches_his_connections_on_other_nodes(&world, "bob").await;
    promises::nodes_are_listed_until_they_are_drained_or_gone(&world.store, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_another_master_is_dead_its_own_users_wait_and_no_others() {
    let mut world = World::of(Store::Cluster(RedisCluster::with_replicas().await)).await;
    let World { store, nodes: [one, two, _], .. } = &mut world;
    let cluster = store.cluster_mut();
    let of_control = cluster.master_of(CONTROL).await;
    let (doomed, third) = ((of_control + 1) % 3, (of_control + 2) % 3);
    let (waiting, other) = (user_at(cluster, doomed).await, user_at(cluster, third).await);
    let mut there = connect(one, identity(&waiting)).await.unwrap();
    cluster.servers[doomed + 3].has_all_of(&cluster.servers[doomed]).await;
    cluster.servers[doomed].kill();
    let died = Instant::now();
    let mut others = connect(two, identity(&other)).await.unwrap();
    two.hub().revoke_token("t").await.unwrap();
    assert!(died.elapsed() < Duration::from_millis(500), "{:?}", died.elapsed());
    let refused = connect(two, identity(&waiting)).await.unwrap_err();
    assert_eq!(refused.code(), "broker_unavailable");
    assert_eq!(two.hub().disconnect_user(&waiting).await, Err(ControlError::Unavailable));
    for client in [&mut there, &mut others] {
        lives(client).await;
    }
    let mut second =
        until("he gets in again", 4 * EVERYWHERE_MAX, async || connect(two, identity(&waiting)).await.ok())
            .await;
    println!("its users got in again {:?} after the death", died.elapsed());
    lives(&mut second).await;
    assert_eq!(two.hub().disconnect_user(&waiting).await, Ok(1));
    for client in [&mut there, &mut second] {
        closed_with(client, CloseCode::KICKED).await;
    }
}

/// A user whose places that master has.
async fn user_at(cluster: &RedisCluster, master: usize) -> String {
    for number in 0.. {
        let user = format!("user{number}");
        if cluster.master_of(&format!("tidings:1:{{@{user}}}:since")).await == master {
            return user;
        }
    }
    unreachable!()
}

/// The server that dates an order is not the one that dates a user's places, and their clocks may differ.
#[tokio::test]
async fn an_order_is_about_the_connections_of_before_it_by_the_clock_of_their_own_server() {
    let world = World::of(Store::Cluster(RedisCluster::of_masters().await)).await;
    let (store, [one, two, _]) = (&world.store, &world.nodes);
    let elsewhere = (store.cluster().master_of(CONTROL).await + 1) % 3;
    let user = user_at(store.cluster(), elsewhere).await;
    let (places, order) = (format!("tidings:1:{{@{user}}}:since"), "tidings:1:{%control}:disconnected");
    let (values, id) = (format!("{order}:values"), format!("u{user}"));
    let newest = async |key: &str| -> u64 {
        let newest: Vec<(String, u64)> = store.run(&["ZRANGE", key, "0", "0", "REV", "WITHSCORES"]).await;
        newest[0].1
    };
    let mut first = connect(two, identity(&user)).await.unwrap();
    let first_at = newest(&places).await;
    assert_eq!(one.hub().disconnect_user(&user).await, Ok(0));
    closed_with(&mut first, CloseCode::KICKED).await;
    let until_ms: u64 = store.run(&["HGET", &values, &id]).await;
    assert!((first_at..first_at + 5000).contains(&until_ms), "{first_at} {until_ms}");
    let ordered_at = newest(order).await;
    until("the next millisecond", EVERYWHERE_MAX, async || {
        let (seconds, micros): (u64, u64) = store.server_of(order).await.run(&["TIME"]).await;
        (seconds * 1000 + micros / 1000 > ordered_at + 1).then_some(())
    })
    .await;

    // As it is stored if the clock that dates orders is behind the other.
    let mut second = connect(two, identity(&user)).await.unwrap();
    let second_at = newest(&places).await;
    assert!(ordered_at + 1 < second_at);
    let _: u64 = store.run(&["HSET", &values, &id, &second_at.to_string()]).await;
    let _: u64 = store.run(&["ZADD", order, &(ordered_at + 1).to_string(), &id]).await;
    closed_with(&mut second, CloseCode::KICKED).await;
}
