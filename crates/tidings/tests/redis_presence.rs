//! Who is in a room that several nodes share through a real Redis: PROTOCOL.md §3 and §7.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod presence_viewer;
mod redis_servers;

use std::time::{Duration, Instant};

use presence_viewer::{HEALED_MAX, Node, Viewer, all_have, expected, is_presence, joined, list};
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::{Value, json};
use tidings::testing::TestHub;
use tidings::{Presence, RoomId};

const USERS: &str = "tidings:1:{r}:users";

/// Three nodes with a viewer at each: ann, bob and cid.
async fn three(node: &Node) -> ([TestHub; 3], Vec<Viewer>) {
    let nodes = [node.start().await, node.start().await, node.start().await];
    let mut viewers = Vec::new();
    for (hub, user) in nodes.iter().zip(["ann", "bob", "cid"]) {
        viewers.push(Viewer::join(hub, user).await);
    }
    all_have(&mut viewers, &expected(&["ann", "bob", "cid"])).await;
    (nodes, viewers)
}

/// How many users Redis has in the room, and at how many nodes this one is.
async fn in_redis(server: &RedisServer, user: &str) -> (usize, usize) {
    let count = server.run(&["HLEN", USERS]).await;
    let at: Option<String> = server.run(&["HGET", USERS, user]).await;
    (count, at.map_or(0, |at| at.split(' ').next().unwrap().len() / 16))
}

async fn until_in_redis(server: &RedisServer, user: &str, wanted: (usize, usize)) {
    let began = Instant::now();
    while in_redis(server, user).await != wanted {
        let has = in_redis(server, user).await;
        assert!(began.elapsed() < HEALED_MAX, "Redis has {has:?} of {user}, not {wanted:?}");
    }
}

/// Cuts a connection without a close frame, until the hub has seen it.
async fn lose(hub: &TestHub, client: tidings::testing::TestClient) {
    let before = hub.hub().metrics().connections;
    drop(client);
    while hub.hub().metrics().connections == before {
        tokio::task::yield_now().await;
    }
}

/// Whoever is told nothing else gets this next.
async fn assert_told_nothing(viewers: &mut [Viewer], hub: &TestHub) {
    let room = hub.hub().room(&RoomId::parse("r").unwrap());
    room.broadcast("mark", &json!(null)).await.unwrap();
    for viewer in viewers {
        loop {
            let message = viewer.client.next_message().await;
            if message["event"] == "mark" {
                break;
            }
            assert!(!is_presence(&message), "{message}");
        }
    }
}

#[tokio::test]
async fn what_happens_at_one_node_is_seen_at_all_under_consecutive_revisions() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    let mut dan = joined(&nodes[1], "dan").await;
    dan.request_in("r", "presence.update", json!({"info": {"away": true}})).await;
    let mut here = expected(&["ann", "bob", "cid", "dan"]);
    here.insert("dan".to_owned(), json!({"away": true}));
    all_have(&mut viewers, &here).await;
    viewers[0].client.request_in("r", "presence.update", json!({"info": 7})).await;
    here.insert("ann".to_owned(), json!(7));
    all_have(&mut viewers, &here).await;
    dan.request_in("r", "room.leave", json!({})).await;
    here.remove("dan");
    all_have(&mut viewers, &here).await;
    let left: Vec<_> = viewers[2].told.iter().filter(|told| told["event"] == "presence.leave").collect();
    assert_eq!(left.len(), 1);
    assert_eq!((&left[0]["data"]["user"], &left[0]["data"]["info"]), (&json!("dan"), &json!({"away": true})));
    // Ann has the list from before the two others; whatever happened came under the next revision, herself too.
    assert!(viewers.iter().all(|viewer| viewer.asked == 1 && viewer.rev == viewers[0].rev));
    assert!(viewers[0].told.len() >= 6, "{:?}", viewers[0].told);
}

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
async fn two_tabs_at_two_nodes_are_one_member() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    let mut tab = joined(&nodes[1], "ann").await;
    until_in_redis(&server, "ann", (3, 2)).await;
    assert_told_nothing(&mut viewers[1..], &nodes[0]).await;
    // What one of them shows both show, and so does who comes back alone.
    tab.request_in("r", "presence.update", json!({"info": "here"})).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    here.insert("ann".to_owned(), json!("here"));
    all_have(&mut viewers, &here).await;
    viewers[0].client.request_in("r", "room.leave", json!({})).await;
    until_in_redis(&server, "ann", (3, 1)).await;
    assert_told_nothing(&mut viewers[1..], &nodes[0]).await;
    let mut ann = joined(&nodes[2], "ann").await;
    assert_eq!(list(&mut ann, 10).await.1, here);
    ann.request_in("r", "room.leave", json!({})).await;
    tab.request_in("r", "room.leave", json!({})).await;
    all_have(&mut viewers[1..], &expected(&["bob", "cid"])).await;
}

#[tokio::test]
async fn a_reconnect_at_another_node_within_the_grace_is_told_to_nobody() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url()).grace(300)).await;
    let mut dan = joined(&nodes[0], "dan").await;
    dan.request_in("r", "presence.update", json!({"info": 1})).await;
    let mut here = expected(&["ann", "bob", "cid", "dan"]);
    here.insert("dan".to_owned(), json!(1));
    all_have(&mut viewers, &here).await;
    for to in [1, 2, 0] {
        let from = (to + 2) % 3;
        lose(&nodes[from], dan).await;
        dan = joined(&nodes[to], "dan").await;
        // Where he was his grace ends, and he is where he is now.
        until_in_redis(&server, "dan", (4, 1)).await;
    }
    assert_told_nothing(&mut viewers, &nodes[0]).await;
    lose(&nodes[0], dan).await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid"])).await;
}

#[tokio::test]
async fn pages_of_the_list_are_the_same_at_every_node() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    let mut others = Vec::new();
    for number in 0..90 {
        let user = format!("user{number:02}");
        others.push(joined(&nodes[number % 3], &user).await);
        here.insert(user, Value::Null);
    }
    all_have(&mut viewers, &here).await;
    let mut pages = Vec::new();
    for viewer in &mut viewers {
        let first = viewer.client.request_in("r", "room.members", json!({"limit": 40})).await["data"].clone();
        assert_eq!(first["count"], 93);
        assert_eq!(list(&mut viewer.client, 40).await, (viewer.rev, here.clone()));
        pages.push(first);
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
    // And the application sees the same, also at a node that has nobody there.
    let empty = Node::of(&server.url()).start().await;
    for hub in nodes.iter().chain([&empty]) {
        let members = hub.hub().room(&RoomId::parse("r").unwrap()).members().await.unwrap();
        assert!(members.iter().map(|member| &member.user).eq(here.keys()));
    }
    let nobody = empty.hub().room(&RoomId::parse("nobody").unwrap()).members().await.unwrap();
    assert!(nobody.is_empty());
}

#[tokio::test]
async fn the_users_of_a_killed_node_leave_when_its_lease_has_ended() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let lease = Duration::from_secs(3);
    let node = Node { lease, ..Node::of(&server.url()) };
    let doomed = Node { url: url_of(forwarder.address()), ..node.clone() }.start().await;
    let (one, two) = (node.start().await, node.start().await);
    let mut viewers = vec![Viewer::join(&one, "ann").await, Viewer::join(&two, "bob").await];
    let mut clients = Vec::new();
    let mut here = expected(&["ann", "bob"]);
    // More than one call looks through.
    for number in 0..1200 {
        let user = format!("user{number:04}");
        clients.push(joined(&doomed, &user).await);
        here.insert(user, Value::Null);
    }
    clients.push(joined(&doomed, "ann").await);
    all_have(&mut viewers, &here).await;
    // It lives for as long as it says so, with no traffic at all.
    let began = Instant::now();
    while began.elapsed() < lease * 2 {
        viewers[0].follow_all().await;
        assert_eq!(viewers[0].members.len(), here.len());
    }
    forwarder.point_nowhere();
    forwarder.cut();
    std::mem::forget((doomed, clients));
    let took = all_have(&mut viewers, &expected(&["ann", "bob"])).await;
    // Lease, the others' look, and what the unit test of the default's arithmetic adds.
    assert!(took > lease / 2 && took < lease + lease / 2 + Duration::from_secs(3), "{took:?}");
    until_in_redis(&server, "ann", (2, 1)).await;
    assert!(viewers.iter().all(|viewer| viewer.asked == 1));
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
async fn after_flushall_everybody_is_back_and_nobody_was_told_otherwise() {
    let server = RedisServer::start().await;
    let (nodes, mut viewers) = three(&Node::of(&server.url())).await;
    viewers[1].client.request_in("r", "presence.update", json!({"info": {"busy": 1}})).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    here.insert("bob".to_owned(), json!({"busy": 1}));
    all_have(&mut viewers, &here).await;
    let (told, rev) = (viewers[0].told.len(), viewers[0].rev);
    let () = server.run(&["FLUSHALL"]).await;
    until_in_redis(&server, "bob", (3, 1)).await;
    assert_eq!(all_have(&mut viewers, &here).await.as_secs(), 0);
    let mut dan = joined(&nodes[0], "dan").await;
    here.insert("dan".to_owned(), Value::Null);
    all_have(&mut viewers, &here).await;
    assert!(viewers[0].rev > rev, "clients go on from what they had");
    for viewer in &viewers {
        assert_eq!((viewer.left(), viewer.asked), (vec![], 1));
    }
    let named = |told: &Value| told["data"].get("user").or(told["data"].get("joins")).is_some();
    assert_eq!(viewers[0].told[told..].iter().filter(|told| named(told)).count(), 1, "{:?}", viewers[0].told);
    dan.request_in("r", "room.leave", json!({})).await;
    here.remove("dan");
    all_have(&mut viewers, &here).await;
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
        let channels: Vec<String> = server.run(&["PUBSUB", "CHANNELS", "tidings:1:{*"]).await;
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

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

/// People come, go, change, move to other nodes, while connections are cut and Redis forgets; then all lists are true.
async fn storm(seed: u64, steps: usize) {
    let server = RedisServer::start().await;
    let mut forwarders = Vec::new();
    for _ in 0..3 {
        forwarders.push(Forwarder::start(server.address()).await);
    }
    let (mut nodes, mut viewers) = (Vec::new(), Vec::new());
    for (forwarder, user) in forwarders.iter().zip(["ann", "bob", "cid"]) {
        let node = Node::of(&url_of(forwarder.address())).grace(200).start().await;
        viewers.push(Viewer::join(&node, user).await);
        nodes.push(node);
    }
    let mut random = Random(seed);
    let mut people: Vec<Option<(usize, tidings::testing::TestClient)>> = (0..30).map(|_| None).collect();
    for _ in 0..steps {
        let number = random.below(people.len());
        let (user, node) = (format!("user{number:02}"), random.below(3));
        match (random.below(40), people[number].take()) {
            (0, person) => {
                forwarders[node].cut();
                people[number] = person;
            }
            (1, person) => {
                let () = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
                people[number] = person;
            }
            (2, person) if random.below(3) == 0 => {
                let () = server.run(&["FLUSHALL"]).await;
                people[number] = person;
            }
            (_, None) => people[number] = Some((node, joined(&nodes[node], &user).await)),
            (3..12, Some((_, mut client))) => drop(client.request_in("r", "room.leave", json!({})).await),
            (12..18, Some((at, client))) => {
                lose(&nodes[at], client).await;
                people[number] = Some((node, joined(&nodes[node], &user).await));
            }
            // His other tab goes first.
            (18..24, Some((_, mut old))) => {
                people[number] = Some((node, joined(&nodes[node], &user).await));
                old.request_in("r", "room.leave", json!({})).await;
            }
            (24..26, Some((at, client))) => lose(&nodes[at], client).await,
            (_, Some((at, mut client))) => {
                client.request_in("r", "presence.update", json!({"info": random.below(100)})).await;
                people[number] = Some((at, client));
            }
        }
        viewers[random.below(3)].follow_all().await;
    }
    let mut here = expected(&["ann", "bob", "cid"]);
    for (number, person) in people.iter_mut().enumerate() {
        let Some((_, client)) = person else { continue };
        client.request_in("r", "presence.update", json!({"info": number})).await;
        here.insert(format!("user{number:02}"), json!(number));
    }
    let took = all_have(&mut viewers, &here).await;
    assert!(took < HEALED_MAX, "{took:?}");
    for viewer in &mut viewers {
        assert_eq!(list(&mut viewer.client, 7).await.1, here);
    }
    let server_has: usize = server.run(&["HLEN", USERS]).await;
    assert_eq!(server_has, here.len());
}

#[tokio::test]
async fn whatever_happens_all_lists_are_true_in_the_end() {
    for seed in [1, 2, 3] {
        storm(seed, 300).await;
    }
}
