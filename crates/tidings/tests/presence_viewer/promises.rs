//! What docs/cluster.md promises of presence, each kept or broken in one call, whatever the nodes share.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings::RoomId;
use tidings::testing::{TestClient, TestHub};

use super::{HEALED_MAX, Node, Viewer, all_have, expected, is_presence, joined, list};
use crate::redis_servers::{RedisServer, Store};

pub const USERS: &str = "tidings:1:{r}:users";

/// Three nodes with a viewer at each: ann, bob and cid.
pub async fn three(node: &Node) -> ([TestHub; 3], Vec<Viewer>) {
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

pub async fn until_in_redis(server: &RedisServer, user: &str, wanted: (usize, usize)) {
    let began = Instant::now();
    while in_redis(server, user).await != wanted {
        let has = in_redis(server, user).await;
        assert!(began.elapsed() < HEALED_MAX, "Redis has {has:?} of {user}, not {wanted:?}");
    }
}

/// Cuts a connection without a close frame, until the hub has seen it.
pub async fn lose(hub: &TestHub, client: TestClient) {
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

pub async fn what_happens_at_one_node_is_seen_at_all_under_consecutive_revisions(store: &Store) {
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
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

pub async fn two_tabs_at_two_nodes_are_one_member(store: &Store) {
    let server = store.server_of(USERS).await;
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
    let mut tab = joined(&nodes[1], "ann").await;
    until_in_redis(server, "ann", (3, 2)).await;
    assert_told_nothing(&mut viewers[1..], &nodes[0]).await;
    // What one of them shows both show, and so does who comes back alone.
    tab.request_in("r", "presence.update", json!({"info": "here"})).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    here.insert("ann".to_owned(), json!("here"));
    all_have(&mut viewers, &here).await;
    viewers[0].client.request_in("r", "room.leave", json!({})).await;
    until_in_redis(server, "ann", (3, 1)).await;
    assert_told_nothing(&mut viewers[1..], &nodes[0]).await;
    let mut ann = joined(&nodes[2], "ann").await;
    assert_eq!(list(&mut ann, 10).await.1, here);
    ann.request_in("r", "room.leave", json!({})).await;
    tab.request_in("r", "room.leave", json!({})).await;
    all_have(&mut viewers[1..], &expected(&["bob", "cid"])).await;
}

pub async fn a_reconnect_at_another_node_within_the_grace_is_told_to_nobody(store: &Store) {
    let server = store.server_of(USERS).await;
    let (nodes, mut viewers) = three(&Node::of(&store.url()).grace(300)).await;
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
        until_in_redis(server, "dan", (4, 1)).await;
    }
    assert_told_nothing(&mut viewers, &nodes[0]).await;
    lose(&nodes[0], dan).await;
    all_have(&mut viewers, &expected(&["ann", "bob", "cid"])).await;
}

pub async fn pages_of_the_list_are_the_same_at_every_node(store: &Store) {
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
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
    let empty = Node::of(&store.url()).start().await;
    for hub in nodes.iter().chain([&empty]) {
        let members = hub.hub().room(&RoomId::parse("r").unwrap()).members().await.unwrap();
        assert!(members.iter().map(|member| &member.user).eq(here.keys()));
    }
    let nobody = empty.hub().room(&RoomId::parse("nobody").unwrap()).members().await.unwrap();
    assert!(nobody.is_empty());
}

pub async fn the_users_of_a_killed_node_leave_when_its_lease_has_ended(store: &Store) {
    let server = store.server_of(USERS).await;
    let lease = Duration::from_secs(3);
    let node = Node { lease, ..Node::of(&store.url()) };
    let doomed = Node { url: store.url_of_user("doomed").await, ..node.clone() }.start().await;
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
    store.cut_off("doomed").await;
    std::mem::forget((doomed, clients));
    let took = all_have(&mut viewers, &expected(&["ann", "bob"])).await;
    // Lease, the others' look, and what the unit test of the default's arithmetic adds.
    assert!(took > lease / 2 && took < lease + lease / 2 + Duration::from_secs(3), "{took:?}");
    until_in_redis(server, "ann", (2, 1)).await;
    assert!(viewers.iter().all(|viewer| viewer.asked == 1));
}

pub async fn after_flushall_everybody_is_back_and_nobody_was_told_otherwise(store: &Store) {
    let (nodes, mut viewers) = three(&Node::of(&store.url())).await;
    viewers[1].client.request_in("r", "presence.update", json!({"info": {"busy": 1}})).await;
    let mut here = expected(&["ann", "bob", "cid"]);
    here.insert("bob".to_owned(), json!({"busy": 1}));
    all_have(&mut viewers, &here).await;
    let (told, rev) = (viewers[0].told.len(), viewers[0].rev);
    store.flush().await;
    until_in_redis(store.server_of(USERS).await, "bob", (3, 1)).await;
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
