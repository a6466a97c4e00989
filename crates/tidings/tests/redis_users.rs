//! What holds for all nodes that share a real Redis: how often a user is connected, who is sent away, which nodes there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_servers;
mod users_of_nodes;

use std::time::{Duration, Instant};

use log_capture::TestHub;
use redis_servers::{Forwarder, RedisServer, Store, url_of};
use tidings::auth::{Identity, UserId};
use tidings::protocol::close::CloseCode;
use tidings::protocol::limits::ConnectionLimitPolicy;
use tidings::testing::identity;
use tidings::{ControlError, HubBuilder, Limits, Redis};
use users_of_nodes::{
    EVERYWHERE_MAX, SHORT_LEASE, START, World, closed_with, connect, connect_with, lives, node, open,
    promises, token, told, until, with_tokens,
};

fn redis(server: &RedisServer) -> Redis {
    users_of_nodes::redis(&server.url())
}

/// Redis by another way, and with leases that a test can wait for.
fn short(url: &str) -> Redis {
    users_of_nodes::redis(url).lease(SHORT_LEASE)
}

fn at_most(max: usize, policy: ConnectionLimitPolicy) -> HubBuilder {
    let mut limits = Limits::default();
    limits.connections_per_user_max = max;
    limits.connections_per_user_policy = policy;
    open().limits(limits)
}

/// How many places of a user Redis holds.
async fn places(server: &RedisServer, user: &str) -> usize {
    server.run(&["ZCARD".to_owned(), format!("tidings:1:{{@{user}}}:connections")]).await
}

/// Of places that were taken in one millisecond it is not told which is the oldest.
async fn anns_newest_place_is_past(server: &RedisServer) {
    until("the next millisecond", EVERYWHERE_MAX, async || {
        let (seconds, micros): (u64, u64) = server.run(&["TIME"]).await;
        let newest: Vec<(String, u64)> =
            server.run(&["ZRANGE", "tidings:1:{@ann}:since", "0", "0", "REV", "WITHSCORES"]).await;
        (seconds * 1000 + micros / 1000 > newest[0].1).then_some(())
    })
    .await;
}

async fn two_revocations_are_stored(server: &RedisServer) {
    until("both are stored", EVERYWHERE_MAX, async || {
        let stored: usize = server.run(&["ZCARD", "tidings:1:{%control}:revoked"]).await;
        (stored == 2).then_some(())
    })
    .await;
}

// What a cluster promises too.

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_thirty_who_come_to_three_nodes_at_once_five_get_in() {
    let world = World::of(Store::one().await).await;
    promises::of_thirty_who_come_to_three_nodes_at_once_five_get_in(&world, "ann").await;
}

#[tokio::test]
async fn places_are_renewed_while_their_node_lives_and_come_free_when_it_is_dead() {
    let world = World::of(Store::one().await).await;
    promises::places_are_renewed_while_their_node_lives_and_come_free_when_it_is_dead(&world, "ann").await;
}

#[tokio::test]
async fn a_session_is_taken_over_at_once_from_a_node_that_lives_and_from_one_that_is_dead() {
    let world = World::of(Store::one().await).await;
    let user = "ann";
    promises::a_session_is_taken_over_at_once_from_a_node_that_lives_and_from_one_that_is_dead(&world, user)
        .await;
}

#[tokio::test]
async fn who_is_sent_away_is_off_every_node_also_one_that_was_away_or_starts_later() {
    let world = World::of(Store::one().await).await;
    promises::who_is_sent_away_is_off_every_node_also_one_that_was_away_or_starts_later(&world, "").await;
}

#[tokio::test]
async fn an_event_for_a_user_reaches_his_connections_on_other_nodes() {
    let world = World::of(Store::one().await).await;
    promises::an_event_for_a_user_reaches_his_connections_on_other_nodes(&world, "ann").await;
}

#[tokio::test]
async fn nodes_are_listed_until_they_are_drained_or_gone() {
    promises::nodes_are_listed_until_they_are_drained_or_gone(&Store::one().await, 0).await;
}

// The limit.

#[tokio::test]
async fn a_tokens_own_limit_counts_on_all_nodes_and_every_user_has_his_own() {
    let server = RedisServer::start().await;
    let (one, two) = (node(open(), redis(&server)), node(open(), redis(&server)));
    let user = "a}{n n%é";
    let strange = || Identity::new(UserId::parse(user).unwrap());
    let _first = connect(&one, strange()).await.unwrap();
    let _bob = connect(&two, identity("a").with_max_connections(1)).await.unwrap();
    let refused = connect(&two, strange().with_max_connections(1)).await.unwrap_err();
    assert_eq!(refused.code(), "connection_limit");
    let _second = connect(&two, strange().with_max_connections(2)).await.unwrap();
    let none = connect(&one, identity("cid").with_max_connections(0)).await.unwrap_err();
    assert_eq!(none.code(), "connection_limit");
    assert_eq!(places(&server, "a%7d%7bn%20n%25%c3%a9").await, 2);
}

#[tokio::test]
async fn the_oldest_makes_room_wherever_it_is() {
    let server = RedisServer::start().await;
    let nodes: Vec<_> =
        (0..3).map(|_| node(at_most(2, ConnectionLimitPolicy::CloseOldest), redis(&server))).collect();
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(connect(node, identity("ann")).await.unwrap());
        anns_newest_place_is_past(&server).await;
    }
    closed_with(&mut clients[0], CloseCode::TAKEN_OVER).await;
    assert_eq!(nodes[2].hub().metrics().limit_hits["connections_per_user_max"], 1);
    let mut newest = connect(&nodes[0], identity("ann").with_max_connections(1)).await.unwrap();
    for client in &mut clients[1..] {
        closed_with(client, CloseCode::TAKEN_OVER).await;
    }
    lives(&mut newest).await;
    assert_eq!(places(&server, "ann").await, 1);
}

/// Redis has forgotten when places were renewed, and remembers when they were taken: what a cut longer than a lease leaves.
#[tokio::test]
async fn the_oldest_is_one_that_is_there_still() {
    let server = RedisServer::start().await;
    let one = node(at_most(2, ConnectionLimitPolicy::CloseOldest), short(&server.url()));
    let mut alive = connect(&one, identity("ann")).await.unwrap();
    let () = server.run(&["ZADD", "tidings:1:{@ann}:since", "1", "00000000000000a1.00000000000000a1"]).await;
    anns_newest_place_is_past(&server).await;
    let mut second = connect(&one, identity("ann")).await.unwrap();
    anns_newest_place_is_past(&server).await;
    let mut third = connect(&one, identity("ann")).await.unwrap();
    closed_with(&mut alive, CloseCode::TAKEN_OVER).await;
    lives(&mut second).await;
    lives(&mut third).await;
    assert_eq!(places(&server, "ann").await, 2);
}

#[tokio::test]
async fn while_redis_is_away_nobody_is_let_in_and_nobody_is_sent_away() {
    let mut server = RedisServer::start().await;
    let one = node(open(), short(&server.url()));
    let mut ann = connect(&one, identity("ann")).await.unwrap();
    server.stop();
    let began = Instant::now();
    let refused = connect(&one, identity("ann")).await.unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (503, "broker_unavailable"));
    assert_eq!(told(&one, "bob").await, (503, "broker_unavailable".into()));
    assert!(began.elapsed() < Duration::from_secs(3), "a second at most for each: {:?}", began.elapsed());
    assert_eq!(one.hub().disconnect_user("bob").await, Err(ControlError::Unavailable));
    assert_eq!(one.hub().revoke_user("bob").await, Err(ControlError::Unavailable));
    assert_eq!(one.hub().revoke_token("t").await, Err(ControlError::Unavailable));
    assert_eq!(one.hub().nodes().await, Err(ControlError::Unavailable));
    lives(&mut ann).await;
    // It has kept nothing.
    server.start_again().await;
    until("the lease is back", Duration::from_secs(10), async || {
        (places(&server, "ann").await == 1).then_some(())
    })
    .await;
    let mut second = connect(&one, identity("ann")).await.unwrap();
    let () = server.run(&["FLUSHALL"]).await;
    until("the leases are back", Duration::from_secs(10), async || {
        (places(&server, "ann").await == 2).then_some(())
    })
    .await;
    for client in [&mut ann, &mut second] {
        lives(client).await;
    }
}

#[tokio::test]
async fn a_place_that_was_taken_too_late_is_given_back() {
    let server = RedisServer::start().await;
    let one = node(at_most(1, ConnectionLimitPolicy::RefuseNewest), redis(&server));
    drop(connect(&one, identity("ann")).await.unwrap());
    until("her place is given back", EVERYWHERE_MAX, async || {
        (places(&server, "ann").await == 0).then_some(())
    })
    .await;
    server.pause();
    let began = Instant::now();
    let refused = connect(&one, identity("ann")).await.unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (503, "broker_unavailable"));
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    // Now Redis does what it was asked.
    server.go_on();
    until("there is a place", Duration::from_secs(10), async || connect(&one, identity("ann")).await.ok())
        .await;
}

// What is done everywhere.

/// The last connection ends together with its node, so that its place is being given back while the node ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_node_that_ends_gives_back_also_what_was_on_its_way() {
    let server = RedisServer::start().await;
    for round in 0..40 {
        let user = format!("ann-{round}");
        let hub = node(open(), redis(&server));
        let ann = until("the node has its Redis", EVERYWHERE_MAX, async || {
            connect(&hub, identity(&user)).await.ok()
        })
        .await;
        assert_eq!(places(&server, &user).await, 1);
        drop((hub, ann));
        until("the place is given back", EVERYWHERE_MAX, async || {
            (places(&server, &user).await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_order_is_about_the_connections_of_before_it() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let (one, two) = (node(open(), redis(&server)), node(open(), short(&url_of(forwarder.address()))));
    let mut first = connect(&two, identity("ann")).await.unwrap();
    assert_eq!(one.hub().disconnect_user("ann").await, Ok(0));
    closed_with(&mut first, CloseCode::KICKED).await;
    let mut second = connect(&two, identity("ann")).await.unwrap();
    // The list is read again with each new connection.
    forwarder.cut();
    let lost_before = two.hub().metrics().broker_connections_lost;
    until("the connection is lost", EVERYWHERE_MAX, async || {
        (two.hub().metrics().broker_connections_lost > lost_before).then_some(())
    })
    .await;
    let mut third =
        until("there is another", EVERYWHERE_MAX, async || connect(&two, identity("ann")).await.ok()).await;
    lives(&mut second).await;
    lives(&mut third).await;
}

#[tokio::test]
async fn as_many_revocations_as_may_be_are_for_all_nodes_together() {
    let server = RedisServer::start().await;
    let mut limits = Limits::default();
    limits.revocations_max = 2;
    let (one, two) =
        (node(open().limits(limits.clone()), redis(&server)), node(open().limits(limits), redis(&server)));
    assert_eq!(one.hub().revoke_user("ann").await, Ok(0));
    assert_eq!(two.hub().revoke_token("t").await, Ok(()));
    let full = two.hub().revoke_token("u").await.unwrap_err();
    assert!(matches!(full, ControlError::TooMany(_)), "{full}");
    assert_eq!(one.hub().revoke_user("ann").await, Ok(0), "what is on the list is not one more");
}

#[tokio::test]
async fn what_was_revoked_is_known_to_who_starts_after_redis_has_lost_it() {
    let server = RedisServer::start().await;
    let (one, two) = (node(with_tokens(open()), redis(&server)), node(with_tokens(open()), redis(&server)));
    let (anns, bobs) = (token("ann", "1"), token("bob", "2"));
    let (mut ann, mut bob) =
        (connect_with(&two, &anns).await.unwrap(), connect_with(&two, &bobs).await.unwrap());
    one.hub().revoke_user("ann").await.unwrap();
    one.hub().revoke_token("2").await.unwrap();
    assert_eq!(one.hub().disconnect_user("cid").await, Ok(0));
    for client in [&mut ann, &mut bob] {
        closed_with(client, CloseCode::TOKEN_INVALID).await;
    }
    drop(one);
    let () = server.run(&["FLUSHALL"]).await;
    two_revocations_are_stored(&server).await;
    let later = node(with_tokens(open()), redis(&server));
    for revoked in [&anns, &bobs] {
        assert_eq!(connect_with(&later, revoked).await.unwrap_err().code(), "token_claims");
    }
    let disconnected: usize = server.run(&["EXISTS", "tidings:1:{%control}:disconnected"]).await;
    assert_eq!(disconnected, 0, "that would be about later connections");
}

#[tokio::test]
async fn a_revocation_that_redis_has_lost_is_stored_again_though_another_came_since() {
    let server = RedisServer::start().await;
    let (one, two) = (node(with_tokens(open()), redis(&server)), node(with_tokens(open()), redis(&server)));
    let (anns, bobs) = (token("ann", "1"), token("bob", "2"));
    one.hub().revoke_user("ann").await.unwrap();
    until("the other node has read it", EVERYWHERE_MAX, async || {
        (told(&two, &anns).await == (401, "token_claims".into())).then_some(())
    })
    .await;
    let () = server.run(&["FLUSHALL"]).await;
    one.hub().revoke_user("bob").await.unwrap();
    two_revocations_are_stored(&server).await;
    let later = node(with_tokens(open()), redis(&server));
    for revoked in [&anns, &bobs] {
        assert_eq!(connect_with(&later, revoked).await.unwrap_err().code(), "token_claims");
    }
}

/// The two keys of the list are lost separately, by an eviction for one.
#[tokio::test]
async fn a_revocation_of_which_redis_has_lost_a_part_is_stored_again() {
    for part in ["revoked", "revoked:values"] {
        let server = RedisServer::start().await;
        let (one, two) =
            (node(with_tokens(open()), redis(&server)), node(with_tokens(open()), redis(&server)));
        let (anns, bobs) = (token("ann", "1"), token("bob", "2"));
        one.hub().revoke_user("ann").await.unwrap();
        until("the other node has read it", EVERYWHERE_MAX, async || {
            (told(&two, &anns).await == (401, "token_claims".into())).then_some(())
        })
        .await;
        let () = server.run(&["DEL".to_owned(), format!("tidings:1:{{%control}}:{part}")]).await;
        one.hub().revoke_user("bob").await.unwrap();
        two_revocations_are_stored(&server).await;
        until("their values are stored", EVERYWHERE_MAX, async || {
            let values: Vec<Option<u64>> =
                server.run(&["HMGET", "tidings:1:{%control}:revoked:values", "uann", "ubob"]).await;
            values.iter().all(Option::is_some).then_some(())
        })
        .await;
        let later = node(with_tokens(open()), redis(&server));
        for revoked in [&anns, &bobs] {
            assert_eq!(connect_with(&later, revoked).await.unwrap_err().code(), "token_claims", "{part}");
        }
    }
}

/// As many as may be stored take longer to read than a connection may take to be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_together_read_a_hundred_thousand_revocations() {
    let server = RedisServer::start().await;
    for first in (1..100_000).step_by(5000) {
        // Of the last minutes: nobody has to know any more what is too old.
        let fill = "local began = redis.call('TIME')[1] * 1000 - 200000
            for n = ARGV[1], ARGV[1] + 4999 do redis.call('ZADD', KEYS[1], began + n, 't' .. n) end";
        let () = server.run(&["EVAL", fill, "1", "tidings:1:{%control}:revoked", &first.to_string()]).await;
    }
    let stored: usize = server.run(&["ZCARD", "tidings:1:{%control}:revoked"]).await;
    assert_eq!(stored, 100_000);
    let nodes = [(); 2].map(|()| node(with_tokens(open()), redis(&server)));
    until("both are ready", Duration::from_secs(40), async || {
        nodes.iter().all(|node| node.hub().is_ready()).then_some(())
    })
    .await;
    for node in &nodes {
        assert_eq!(connect_with(node, &token("ann", "77777")).await.unwrap_err().code(), "token_claims");
    }
}

// The nodes.

#[tokio::test(start_paused = true)]
async fn a_hub_without_a_broker_is_the_only_node() {
    let hub = TestHub::start(open()).unwrap();
    let _ann = hub.connect("ann").await;
    let nodes = hub.hub().nodes().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].connections, nodes[0].is_this), (1, 1, true));
    assert_eq!(nodes[0].since_unix_ms, START * 1000);
}
