//! Who is in a room that several nodes share through a real Redis: PROTOCOL.md §3 and §7.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod presence_viewer;
mod redis_servers;

use std::time::{Duration, Instant};

use presence_viewer::promises::{USERS, three, until_in_redis};
use presence_viewer::storm::Storm;
use presence_viewer::{HEALED_MAX, Node, Viewer, all_have, expected, joined, list, promises};
use redis_servers::{Forwarder, RedisServer, Store, url_of};
use serde_json::{Value, json};
use tidings::{Presence, RoomId};

// What a cluster promises too.

#[tokio::test]
async fn what_happens_at_one_node_is_seen_at_all_under_consecutive_revisions() {
    promises::what_happens_at_one_node_is_seen_at_all_under_consecutive_revisions(&Store::one().await).await;
}

#[tokio::test]
async fn two_tabs_at_two_nodes_are_one_member() {
    promises::two_tabs_at_two_nodes_are_one_member(&Store::one().await).await;
}

#[tokio::test]
async fn a_reconnect_at_another_node_within_the_grace_is_told_to_nobody() {
    promises::a_reconnect_at_another_node_within_the_grace_is_told_to_nobody(&Store::one().await).await;
}

#[tokio::test]
async fn pages_of_the_list_are_the_same_at_every_node() {
    promises::pages_of_the_list_are_the_same_at_every_node(&Store::one().await).await;
}

#[tokio::test]
async fn the_users_of_a_killed_node_leave_when_its_lease_has_ended() {
    promises::the_users_of_a_killed_node_leave_when_its_lease_has_ended(&Store::one().await).await;
}

#[tokio::test]
async fn after_flushall_everybody_is_back_and_nobody_was_told_otherwise() {
    promises::after_flushall_everybody_is_back_and_nobody_was_told_otherwise(&Store::one().await).await;
}

#[tokio::test]
async fn whatever_happens_all_lists_are_true_in_the_end() {
    for seed in [1, 2, 3] {
        let store = Store::one().await;
        let mut storm = Storm::over(&store, seed).await;
        storm.rage(300).await;
        storm.settles().await;
    }
}

// What one server is enough to show.

#[tokio::test]
async fn who_joins_is_told_how_many_are_in_the_room_and_sees_himself() {
    let server = RedisServer::start().await;
    let node = Node::of(&server.url());
    let (one, two) = (node.start().await, node.start().await);
    let mut ann = one.connect("ann").await;
    assert_eq!(ann.join("r").await["members"], 1);
    assert_eq!(list(&mut ann, 10).await.1, expected(&["ann"]));
    until_in_redis(&server, "ann", (1, 1)).await;
    let mut bob = two.connect("bob").await;
    assert_eq!(bob.join("r").await["members"], 2);
    assert_eq!(list(&mut bob, 10).await.1, expected(&["ann", "bob"]));
    assert_eq!(bob.request_in("r", "room.members", json!({"limit": 1})).await["data"]["count"], 2);
}

#[tokio::test]
async fn whoever_does_not_come_back_from_a_node_that_was_drained_leaves_about_when_his_grace_ends() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let node = Node { lease: Duration::from_secs(12), ..Node::of(&server.url()).grace(4000) };
    let minute = Duration::from_secs(60);
    let ending = Node { url: url_of(forwarder.address()), lease: minute, ..node.clone() }.start().await;
    let one = node.start().await;
    let mut viewers = vec![Viewer::join(&one, "ann").await];
    let clients = [joined(&ending, "bob").await, joined(&ending, "cid").await];
    all_have(&mut viewers, &expected(&["ann", "bob", "cid"])).await;
    ending.hub().drain(Duration::from_millis(1500)).await;
    let _cid = joined(&one, "cid").await;
    // Its process has ended before the graces have.
    forwarder.point_nowhere();
    forwarder.cut();
    std::mem::forget((ending, clients));
    all_have(&mut viewers, &expected(&["ann", "cid"])).await;
    assert_eq!(viewers[0].left(), ["bob"]);
}

#[tokio::test]
async fn after_a_restart_without_data_all_agree_on_who_is_still_here() {
    let mut server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    let mut dan = joined(&nodes[2], "dan").await;
    let _eve = joined(&nodes[2], "eve").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid", "dan", "eve"])).await;
    server.kill();
    // He leaves while nobody can be told.
    dan.request_in("r", "room.leave", json!({})).await;
    server.start_again().await;
    let took = all_have(&mut viewers, &expected(&["ann", "bob", "cid", "eve"])).await;
    assert!(took < HEALED_MAX, "{took:?}");
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec!["dan".to_owned()], 1));
    }
    until_in_redis(&server, "eve", (4, 1)).await;
}

#[tokio::test]
async fn a_cut_connection_loses_nothing() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let node = Node::of(&server.url());
    let apart = Node { url: url_of(forwarder.address()), ..node.clone() }.start().await;
    let one = node.start().await;
    let mut viewers = vec![Viewer::join(&one, "ann").await, Viewer::join(&apart, "bob").await];
    let mut dan = joined(&apart, "dan").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "dan"])).await;
    forwarder.point_nowhere();
    forwarder.cut();
    let _eve = joined(&one, "eve").await;
    dan.request_in("r", "room.leave", json!({})).await;
    viewers[1].client.request_in("r", "presence.update", json!({"info": 5})).await;
    forwarder.point_to(server.address());
    let mut here = expected(&["ann", "bob", "eve"]);
    here.insert("bob".to_owned(), json!(5));
    let took = all_have(&mut viewers, &here).await;
    assert!(took < Duration::from_secs(6), "{took:?}");
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec!["dan".to_owned()], 1));
    }
}

/// A node that has just connected can't tell whether others are dead or were cut off like itself.
#[tokio::test]
async fn who_asks_through_a_new_connection_makes_nobody_leave() {
    const LEASE: Duration = Duration::from_secs(4);
    let server = RedisServer::start().await;
    let forwarders = [Forwarder::start(server.address()).await, Forwarder::start(server.address()).await];
    let behind = |forwarder: &Forwarder| Node { lease: LEASE, ..Node::of(&url_of(forwarder.address())) };
    let (one, third) = (behind(&forwarders[0]).start().await, behind(&forwarders[1]).start().await);
    let mut viewers = vec![Viewer::join(&one, "ann").await, Viewer::join(&one, "bob").await];
    let here = expected(&["ann", "bob"]);
    all_have(&mut viewers, &here).await;
    forwarders[0].point_nowhere();
    forwarders[0].cut();
    let (cut, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while cut.elapsed() <= LEASE {
        ticks.tick().await;
    }
    let lost_before = third.hub().metrics().broker_connections_lost;
    forwarders[1].cut();
    while third.hub().metrics().broker_connections_lost == lost_before || !third.hub().is_ready() {
        ticks.tick().await;
    }
    let room = third.hub().room(&RoomId::parse("r").unwrap());
    assert!(room.members().await.is_err(), "who is there can't be said yet");
    forwarders[0].point_to(server.address());
    let members = loop {
        if let Ok(members) = room.members().await {
            break members;
        }
        assert!(cut.elapsed() < LEASE + HEALED_MAX, "nobody says who is there");
        ticks.tick().await;
    };
    let users: Vec<_> = members.iter().map(|member| member.user.as_str()).collect();
    assert_eq!(users, ["ann", "bob"]);
    all_have(&mut viewers, &here).await;
    for viewer in &viewers {
        assert_eq!(viewer.left(), [""; 0]);
    }
}

#[tokio::test]
async fn a_change_that_was_not_carried_is_noticed_without_traffic() {
    let server = RedisServer::start().await;
    let (_nodes, mut viewers) = three(&Node::of(&server.url())).await;
    // Somebody at a node that nobody has heard of, written as the scripts do it, and carried to nobody.
    let () = server.run(&["ZADD", "tidings:1:{r}:nodes", "9999999999999", "00000000000000ff"]).await;
    let () = server.run(&["HSET", USERS, "dan", "00000000000000ff {\"lost\":true}"]).await;
    let () = server.run(&["HINCRBY", "tidings:1:{r}:meta", "users", "1"]).await;
    let () = server.run(&["HINCRBY", "tidings:1:{r}:meta", "rev", "1"]).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    here.insert("dan".to_owned(), json!({"lost": true}));
    all_have(&mut viewers, &here).await;
    assert!(viewers.iter().all(|viewer| viewer.asked == 1), "the nodes tell what they have missed");
}

#[tokio::test]
async fn killed_subscriptions_heal_while_people_come_and_go() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    for number in 0..5 {
        let user = format!("user{number}");
        let mut client = joined(&nodes[number % 3], &user).await;
        let () = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        client.request_in("r", "presence.update", json!({"info": number})).await;
        let mut here = expected(&["ann", "bob", "cid"]);
        here.insert(user, json!(number));
        all_have(&mut viewers, &here).await;
        client.request_in("r", "room.leave", json!({})).await;
        all_have(&mut viewers, &expected(&["ann", "bob", "cid"])).await;
    }
}

#[tokio::test]
async fn users_that_were_lost_by_a_failover_are_put_back() {
    let a = RedisServer::start().await;
    let forwarder = Forwarder::start(a.address()).await;
    let (nodes, mut viewers) = three(&Node::of(&url_of(forwarder.address()))).await;
    let mut dan = joined(&nodes[0], "dan").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid", "dan"])).await;
    let b = RedisServer::replica_of(&a).await;
    // It hears no more of its master, and is promoted without what comes now.
    let () = b.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let _eve = joined(&nodes[1], "eve").await;
    dan.request_in("r", "room.leave", json!({})).await;
    let here = expected(&["ann", "bob", "cid", "eve"]);
    all_have(&mut viewers, &here).await;
    b.promote().await;
    forwarder.point_to(b.address());
    forwarder.cut();
    until_in_redis(&b, "eve", (4, 1)).await;
    until_in_redis(&b, "dan", (4, 0)).await;
    let _fay = joined(&nodes[2], "fay").await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid", "eve", "fay"])).await;
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec!["dan".to_owned()], 1), "nobody was told otherwise");
    }
}

#[tokio::test]
async fn a_room_may_tell_only_how_many_are_in_it_on_all_nodes_or_nothing() {
    let server = RedisServer::start().await;
    for presence in [Presence::Counts, Presence::Off] {
        let () = server.run(&["FLUSHALL"]).await;
        let node = Node { presence, ..Node::of(&server.url()) };
        let (one, two) = (node.start().await, node.start().await);
        let mut ann = joined(&one, "ann").await;
        let _bob = joined(&two, "bob").await;
        if presence == Presence::Counts {
            let count = ann.next_named("presence.count").await;
            assert_eq!(count["data"]["members"], 2);
            let page = ann.request_in("r", "room.members", json!({})).await["data"].clone();
            assert_eq!((&page["members"], &page["count"]), (&json!([]), &json!(2)));
            assert!(page["rev"].as_u64() >= count["data"]["rev"].as_u64());
        } else {
            until_in_redis(&server, "bob", (2, 1)).await;
            let began = Instant::now();
            while list(&mut ann, 10).await.1 != expected(&["ann", "bob"]) {
                assert!(began.elapsed() < HEALED_MAX);
            }
            one.hub().room(&RoomId::parse("r").unwrap()).broadcast("mark", &json!(1)).await.unwrap();
            assert_eq!(ann.next_message().await["event"], "mark");
        }
    }
}

#[tokio::test]
async fn nothing_stays_for_ever_and_who_has_left_leaves_nothing() {
    let server = RedisServer::start().await;
    let (nodes, viewers) = three(&Node::of(&server.url()).grace(100)).await;
    let ttl = async || {
        let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
        for key in &keys {
            let ttl: i64 = server.run(&["TTL", key]).await;
            assert!(ttl > 0, "{key} stays for ever");
        }
        keys.into_iter().filter(|key| key.contains("{r}")).collect::<Vec<_>>()
    };
    assert!(ttl().await.contains(&USERS.to_owned()));
    drop(viewers);
    until_in_redis(&server, "ann", (0, 0)).await;
    let began = Instant::now();
    while ttl().await != ["tidings:1:{r}:meta"] {
        assert!(began.elapsed() < HEALED_MAX, "{:?}", ttl().await);
    }
    // The nodes let go of the room as well: nobody listens to its channel.
    loop {
        let channels: Vec<String> = server.run(&["PUBSUB", "CHANNELS", "tidings:1:{[^%]*"]).await;
        if channels.is_empty() {
            break;
        }
        assert!(began.elapsed() < HEALED_MAX, "{channels:?}");
    }
    drop(nodes);
}

#[tokio::test]
async fn a_thousand_who_come_to_three_nodes_are_few_messages() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    let began = Instant::now();
    let coming = (0..3).map(|index| {
        let hub = nodes[index].clone();
        tokio::spawn(async move {
            let mut clients = Vec::new();
            for number in 0..333 {
                clients.push(joined(&hub, &format!("user{index}{number:03}")).await);
            }
            clients
        })
    });
    let mut clients: Vec<Vec<tidings::testing::TestClient>> = Vec::new();
    for coming in coming.collect::<Vec<_>>() {
        clients.push(coming.await.unwrap());
    }
    let mut here = expected(&["ann", "bob", "cid"]);
    here.extend(
        (0..3).flat_map(|index| (0..333).map(move |number| (format!("user{index}{number:03}"), Value::Null))),
    );
    all_have(&mut viewers, &here).await;
    // One each up to twenty members, then four a second at most.
    let most = 25 + usize::try_from(began.elapsed().as_millis() / 250).unwrap();
    for viewer in &viewers {
        assert!(viewer.told.len() <= most, "{} messages", viewer.told.len());
        assert_eq!(viewer.asked, 1);
        let largest = viewer.told.iter().map(|told| told.to_string().len()).max().unwrap();
        assert!(largest < 64 * 1024 + 200, "{largest}");
    }
    // A node that has nobody there yet reads the list in parts, while it changes.
    let late = Node::of(&server.url()).start().await;
    let moving = joined(&nodes[0], "dan");
    let (mut dan, eve) = tokio::join!(moving, Viewer::join(&late, "eve"));
    viewers.push(eve);
    here.extend(expected(&["dan", "eve"]));
    dan.request_in("r", "presence.update", json!({"info": 1})).await;
    here.insert("dan".to_owned(), json!(1));
    all_have(&mut viewers, &here).await;
    drop(clients);
}
