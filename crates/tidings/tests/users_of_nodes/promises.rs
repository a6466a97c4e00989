//! What docs/cluster.md promises of users, each kept or broken in one call. Names of users are the caller's, so that all of
//! it can be asked again when something has happened to Redis.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tidings::protocol::close::CloseCode;
use tidings::testing::{TestClient, identity};

use super::{
    EVERYWHERE_MAX, SHORT_LEASE, World, closed_with, connect, connect_with, lives, node, once, open, places,
    redis, take_over, token, told, until, with_tokens,
};
use crate::log_capture::TestHub;
use crate::redis_servers::Store;

pub async fn of_thirty_who_come_to_three_nodes_at_once_five_get_in(world: &World, user: &str) {
    let World { store, nodes, .. } = world;
    let hits_of = |node: &TestHub| node.hub().metrics().limit_hits["connections_per_user_max"];
    let hits: Vec<_> = nodes.iter().map(hits_of).collect();
    let attempts = (0..30).map(|attempt| connect(&nodes[attempt % 3], identity(user)));
    let (clients, refused): (Vec<_>, Vec<_>) = join_all(attempts).await.into_iter().partition(Result::is_ok);
    assert_eq!((clients.len(), refused.len()), (5, 25));
    for refusal in refused {
        let refusal = refusal.unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.code()), (429, "connection_limit"));
    }
    let held: u64 = nodes.iter().map(|node| node.hub().metrics().leases).sum();
    assert_eq!((held, places(store, user).await), (5, 5));
    let stranger = format!("{user}-who-does-not-come");
    for (node, hits) in nodes.iter().zip(hits) {
        assert_eq!(told(node, &token(user, "1")).await, (429, "connection_limit".into()));
        assert_eq!(hits_of(node), hits + 1);
        assert_eq!(told(node, &token(&stranger, "2")).await, (426, "upgrade_required".into()));
    }
    assert_eq!(places(store, &stranger).await, 0, "a plain GET takes nothing");
    let mut clients: Vec<_> = clients.into_iter().map(Result::unwrap).collect();
    for client in &mut clients {
        lives(client).await;
    }
    drop(clients.pop());
    let sixth = until("a place that was given back is taken", EVERYWHERE_MAX, async || {
        connect(&nodes[0], identity(user)).await.ok()
    })
    .await;
    drop((clients, sixth));
    all_are_given_back(store, user).await;
    assert!(nodes.iter().all(|node| node.hub().metrics().leases == 0));
}

async fn all_are_given_back(store: &Store, user: &str) {
    until("all places are given back", EVERYWHERE_MAX, async || {
        store.keys(&format!("tidings:1:{{@{user}")).await.is_empty().then_some(())
    })
    .await;
}

pub async fn a_session_is_taken_over_at_once_from_a_node_that_lives_and_from_one_that_is_dead(
    world: &World,
    user: &str,
) {
    world.is_ready().await;
    let World { store, nodes: [living, ..], away } = world;
    let mut first = connect(away, once(user)).await.unwrap();
    let second = take_over(living, once(user), first.session()).await.unwrap();
    closed_with(&mut first, CloseCode::TAKEN_OVER).await;
    let mut third = take_over(away, once(user), second.session()).await.unwrap();

    store.cut_off("away").await;
    let began = Instant::now();
    assert_eq!(connect(living, once(user)).await.unwrap_err().code(), "connection_limit");
    let mut fourth = take_over(living, once(user), third.session()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    lives(&mut third).await;
    // The dead node was only away, and has missed that it was told.
    store.let_back("away").await;
    closed_with(&mut third, CloseCode::TAKEN_OVER).await;
    lives(&mut fourth).await;
    // A session that is nobody's, and a stranger's.
    for session in [first.session(), third.session()] {
        let refused = take_over(living, once(user), session).await.unwrap_err();
        assert_eq!(refused.code(), "connection_limit");
    }
    assert_eq!(places(store, user).await, 1);
    drop((first, second, third, fourth));
    all_are_given_back(store, user).await;
}

pub async fn places_are_renewed_while_their_node_lives_and_come_free_when_it_is_dead(
    world: &World,
    user: &str,
) {
    world.is_ready().await;
    let World { store, nodes: [living, ..], away } = world;
    let failed_before = away.hub().metrics().lease_renewals_failed;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(connect(away, identity(user)).await.unwrap());
    }
    // Several are due at once.
    let others: Vec<_> = (0..30).map(|number| format!("{user}-{number}")).collect();
    for other in &others {
        clients.push(connect(away, identity(other)).await.unwrap());
    }
    let lease_ends = async || -> u64 {
        let key = format!("tidings:1:{{@{user}}}:connections");
        let first: Vec<(String, u64)> = store.run(&["ZRANGE", &key, "0", "0", "WITHSCORES"]).await;
        first[0].1
    };
    let at_first = lease_ends().await;
    until("each lease is renewed beyond its time", Duration::from_secs(15), async || {
        (lease_ends().await > at_first + 2500).then_some(())
    })
    .await;
    assert_eq!(connect(living, identity(user)).await.unwrap_err().code(), "connection_limit");
    for other in &others {
        assert_eq!(places(store, other).await, 1, "{other} lives too");
    }
    assert_eq!(away.hub().metrics().lease_renewals_failed, failed_before);
    store.cut_off("away").await;
    let died = Instant::now();
    let mut sixth = until("a dead node's place comes free", Duration::from_secs(10), async || {
        connect(living, identity(user)).await.ok()
    })
    .await;
    println!("a dead node's place came free after {:?}", died.elapsed());
    assert!(died.elapsed() < SHORT_LEASE + Duration::from_secs(1), "{:?}", died.elapsed());
    lives(&mut sixth).await;
    until("renewals fail", EVERYWHERE_MAX, async || {
        (away.hub().metrics().lease_renewals_failed > failed_before).then_some(())
    })
    .await;
    // It was not dead after all: nobody is sent away, though there are six now.
    store.let_back("away").await;
    until("the leases are back", EVERYWHERE_MAX, async || (places(store, user).await == 6).then_some(()))
        .await;
    for client in &mut clients {
        lives(client).await;
    }
    drop((clients, sixth));
    all_are_given_back(store, user).await;
}

pub async fn who_is_sent_away_is_off_every_node_also_one_that_was_away_or_starts_later(
    world: &World,
    users: &str,
) {
    world.is_ready().await;
    let World { store, nodes: [one, two, _], away } = world;
    let [kicked, revoked, ann] = ["kicked", "revoked", "ann"].map(|user| format!("{user}{users}"));
    let stolen = format!("stolen{users}");
    let tokens = [token(&kicked, "1"), token(&revoked, "2"), token(&ann, &stolen), token(&ann, "own")];
    let mut clients = Vec::new();
    for node in [one, two, away] {
        for token in &tokens {
            clients.push(connect_with(node, token).await.unwrap());
        }
    }
    let orders_before = store.keys("tidings:1:{%control}").await;
    store.cut_off("away").await;
    let ordered = Instant::now();
    assert_eq!(one.hub().disconnect_user(&kicked).await, Ok(1));
    assert_eq!(one.hub().revoke_user(&revoked).await, Ok(1));
    one.hub().revoke_token(&stolen).await.unwrap();
    let codes = [CloseCode::KICKED, CloseCode::TOKEN_INVALID, CloseCode::TOKEN_INVALID];
    let (here, elsewhere) = clients.split_at_mut(8);
    for of_node in here.chunks_mut(4) {
        for (client, code) in of_node.iter_mut().zip(codes) {
            closed_with(client, code).await;
        }
        lives(&mut of_node[3]).await;
    }
    println!("all were sent away after {:?}", ordered.elapsed());
    assert!(ordered.elapsed() < EVERYWHERE_MAX, "{:?}", ordered.elapsed());
    // Nobody gets in by the node that does not know.
    assert_eq!(told(away, &tokens[1]).await.0, 503);
    for client in &mut *elsewhere {
        lives(client).await;
    }
    store.let_back("away").await;
    let back = Instant::now();
    for (client, code) in elsewhere.iter_mut().zip(codes) {
        closed_with(client, code).await;
    }
    println!("and off the node that was away {:?} after it was back", back.elapsed());
    assert!(back.elapsed() < EVERYWHERE_MAX, "{:?}", back.elapsed());
    lives(&mut elsewhere[3]).await;

    let later = world.later();
    for node in [two, away, &later] {
        for revoked in &tokens[1..3] {
            let refused = until("the node has its Redis again", EVERYWHERE_MAX, async || {
                let refused = connect_with(node, revoked).await.unwrap_err();
                (refused.status().as_u16() != 503).then_some(refused)
            })
            .await;
            assert_eq!(refused.code(), "token_claims");
            assert_eq!(told(node, revoked).await, (401, "token_claims".into()));
        }
        // Who was only disconnected comes back, and stays.
        let mut again = connect_with(node, &tokens[0]).await.unwrap();
        lives(&mut again).await;
    }
    let lists = ["revoked", "revoked:values", "disconnected"];
    let lists: BTreeSet<_> = lists.map(|list| format!("tidings:1:{{%control}}:{list}")).into();
    let orders = store.keys("tidings:1:{%control}").await;
    assert!(orders.is_superset(&lists) && orders.is_superset(&orders_before), "{orders:?}");
}

pub async fn an_event_for_a_user_reaches_his_connections_on_other_nodes(world: &World, user: &str) {
    let [one, two, _] = &world.nodes;
    let (mut here, mut there) =
        (connect(one, identity(user)).await.unwrap(), connect(two, identity(user)).await.unwrap());
    assert_eq!(one.hub().send_to_user(user, "ping", &json!({"n": 1})).unwrap(), 1);
    for client in [&mut here, &mut there] {
        assert_eq!(next_of(client).await, json!({"event": "ping", "data": {"n": 1}}));
    }
    assert_eq!(one.hub().send_to_user("nobody", "ping", &1).unwrap(), 0);
}

async fn next_of(client: &mut TestClient) -> serde_json::Value {
    let next = tokio::time::timeout(EVERYWHERE_MAX, client.next_event()).await;
    next.expect("nothing came")
}

/// A node's entry lives so long after it was renewed.
const ENTRY_MAX: Duration = Duration::from_secs(15);

/// Beside so many others, which stay.
pub async fn nodes_are_listed_until_they_are_drained_or_gone(store: &Store, others: usize) {
    let mut nodes: Vec<_> = (0..3).map(|_| node(with_tokens(open()), redis(&store.url()))).collect();
    let ann = until("the node has its Redis", EVERYWHERE_MAX, async || {
        connect(&nodes[1], identity("listed")).await.ok()
    })
    .await;
    let listed = async |hub: &TestHub| hub.hub().nodes().await.unwrap();
    let is_left = async |hub: &TestHub, count: usize| {
        until("so many are listed", EVERYWHERE_MAX, async || {
            (listed(hub).await.len() == others + count).then_some(())
        })
        .await;
    };
    is_left(&nodes[0], 3).await;
    let all = listed(&nodes[0]).await;
    assert_eq!(all.iter().filter(|node| node.is_this).count(), 1);
    assert!(all.iter().all(|node| node.id.len() == 16 && node.since_unix_ms >= super::START * 1000));
    until("its connections are told", Duration::from_secs(10), async || {
        (listed(&nodes[0]).await.iter().map(|node| node.connections).sum::<u64>() == 1).then_some(())
    })
    .await;
    drop(nodes.pop());
    is_left(&nodes[0], 2).await;
    nodes[1].hub().drain(Duration::ZERO).await;
    assert_eq!(places(store, "listed").await, 0, "a drained node has given everything back");
    is_left(&nodes[0], 1).await;
    assert_eq!(told(&nodes[1], &token("bob", "1")).await, (503, "draining".into()));
    drop(ann);
    let bob = connect(&nodes[0], identity("bob")).await.unwrap();
    // Without waiting for anybody: a goodbye that is not heard leaves it to the entry's own time.
    drop((nodes, bob));
    until("what they had is gone", EVERYWHERE_MAX + ENTRY_MAX, async || {
        let of_users = store.keys("tidings:1:{@").await;
        let listed: usize = store.run(&["ZCARD", "tidings:1:{%control}:nodes"]).await;
        (of_users.is_empty() && listed == others).then_some(())
    })
    .await;
}
