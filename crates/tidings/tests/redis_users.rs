//! What holds for all nodes that share a real Redis: how often a user is connected, who is sent away, which nodes there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use log_capture::TestHub;
use redis_servers::{Forwarder, RedisServer, url_of};
use serde_json::{Value, json};
use tidings::auth::{Identity, Jwt, UserId, mint_hs256};
use tidings::protocol::close::CloseCode;
use tidings::protocol::limits::ConnectionLimitPolicy;
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{ControlError, HandshakeRefusal, Hub, HubBuilder, Limits, Redis, RoomRules, SessionId};

const SECRET: &[u8] = b"canary-bird of the users of many nodes";
/// Where the calendar of the tests' nodes begins.
const START: u64 = 1_795_468_800;
/// What is done everywhere is done within so long.
const EVERYWHERE_MAX: Duration = Duration::from_secs(5);

fn open() -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*"))
}

/// One more node of those that share a Redis.
fn node(builder: HubBuilder, redis: Redis) -> TestHub {
    static NODES: AtomicU64 = AtomicU64::new(1);
    TestHub::start_seeded(builder.broker(redis), NODES.fetch_add(1, Ordering::Relaxed)).unwrap()
}

fn redis(server: &RedisServer) -> Redis {
    Redis::new(&server.url()).unwrap()
}

/// Redis by another way, and with leases that a test can wait for.
fn short(url: &str) -> Redis {
    Redis::new(url).unwrap().lease(Duration::from_secs(2))
}

fn at_most(max: usize, policy: ConnectionLimitPolicy) -> HubBuilder {
    let mut limits = Limits::default();
    limits.connections_per_user_max = max;
    limits.connections_per_user_policy = policy;
    open().limits(limits)
}

async fn connect(hub: &TestHub, identity: Identity) -> Result<TestClient, HandshakeRefusal> {
    hub.connect_as(identity, ConnectOptions::default()).await
}

async fn take_over(hub: &TestHub, session: SessionId) -> Result<TestClient, HandshakeRefusal> {
    let options = ConnectOptions { session: Some(session.to_string()), ..ConnectOptions::default() };
    hub.connect_as(identity("ann"), options).await
}

/// Asks again and again, until it is so.
async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < within, "{what} is not so after {within:?}");
        ticks.tick().await;
    }
}

async fn closed_with(client: &mut TestClient, code: CloseCode) {
    let closed = tokio::time::timeout(EVERYWHERE_MAX, client.closed()).await;
    assert_eq!(closed.expect("it is still open"), Some(code));
}

async fn lives(client: &mut TestClient) {
    assert_eq!(client.request("room.list", json!(null)).await["event"], "ack");
}

/// How many places of a user Redis holds.
async fn places(server: &RedisServer, user: &str) -> usize {
    server.run(&["ZCARD".to_owned(), format!("tidings:1:{{@{user}}}:connections")]).await
}

/// The keys that there are besides those of the nodes themselves; each has an end.
async fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = server.run(&["KEYS", "*"]).await;
    for key in &keys {
        let ttl_ms: i64 = server.run(&["PTTL", key]).await;
        // -2: it has ended meanwhile.
        assert!(ttl_ms > 0 || ttl_ms == -2, "{key} never ends");
    }
    keys.retain(|key| !key.contains("{%nodes}"));
    keys.sort();
    keys
}

/// What a plain GET is told, which makes the same checks as a handshake and takes nothing.
async fn told(hub: &TestHub, token: &str) -> (u16, String) {
    let request = Request::get(format!("/ws?token={token}")).header("host", "api.example");
    let answer = hub.hub().upgrade(request.body(Body::empty()).unwrap()).await;
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    (status, problem["code"].as_str().unwrap().to_owned())
}

// The limit.

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_thirty_who_come_to_three_nodes_at_once_five_get_in() {
    let server = RedisServer::start().await;
    let nodes: Vec<_> = (0..3).map(|_| node(open(), redis(&server))).collect();
    let attempts = (0..30).map(|attempt| connect(&nodes[attempt % 3], identity("ann")));
    let (clients, refused): (Vec<_>, Vec<_>) = join_all(attempts).await.into_iter().partition(Result::is_ok);
    assert_eq!((clients.len(), refused.len()), (5, 25));
    for refusal in refused {
        let refusal = refusal.unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.code()), (429, "connection_limit"));
    }
    let held: u64 = nodes.iter().map(|node| node.hub().metrics().leases).sum();
    assert_eq!((held, places(&server, "ann").await), (5, 5));
    for node in &nodes {
        assert_eq!(told(node, "ann").await, (429, "connection_limit".into()));
        assert_eq!(node.hub().metrics().limit_hits["connections_per_user_max"], 1);
        assert_eq!(told(node, "bob").await, (426, "upgrade_required".into()));
    }
    assert_eq!(places(&server, "bob").await, 0, "a plain GET takes nothing");
    let mut clients: Vec<_> = clients.into_iter().map(Result::unwrap).collect();
    for client in &mut clients {
        lives(client).await;
    }
    drop(clients.pop());
    let sixth = until("a place that was given back is taken", EVERYWHERE_MAX, async || {
        connect(&nodes[0], identity("ann")).await.ok()
    })
    .await;
    drop((clients, sixth));
    until("all places are given back", EVERYWHERE_MAX, async || keys(&server).await.is_empty().then_some(()))
        .await;
    assert!(nodes.iter().all(|node| node.hub().metrics().leases == 0));
}

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
        // Whose places are as old as each other's is not told.
        until("the next millisecond", EVERYWHERE_MAX, async || {
            let (seconds, micros): (u64, u64) = server.run(&["TIME"]).await;
            let newest: Vec<(String, u64)> =
                server.run(&["ZRANGE", "tidings:1:{@ann}:since", "0", "0", "REV", "WITHSCORES"]).await;
            (seconds * 1000 + micros / 1000 > newest[0].1).then_some(())
        })
        .await;
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

#[tokio::test]
async fn places_are_renewed_while_their_node_lives_and_come_free_when_it_is_dead() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let dead = node(open(), short(&url_of(forwarder.address())));
    let living = node(open(), short(&server.url()));
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(connect(&dead, identity("ann")).await.unwrap());
    }
    let lease_ends = async || -> u64 {
        let first: Vec<(String, u64)> =
            server.run(&["ZRANGE", "tidings:1:{@ann}:connections", "0", "0", "WITHSCORES"]).await;
        first[0].1
    };
    let at_first = lease_ends().await;
    until("each lease is renewed beyond its time", Duration::from_secs(15), async || {
        (lease_ends().await > at_first + 2500).then_some(())
    })
    .await;
    assert_eq!(connect(&living, identity("ann")).await.unwrap_err().code(), "connection_limit");
    forwarder.point_nowhere();
    forwarder.cut();
    let died = Instant::now();
    let mut sixth = until("a dead node's place comes free", Duration::from_secs(10), async || {
        connect(&living, identity("ann")).await.ok()
    })
    .await;
    assert!(died.elapsed() < Duration::from_secs(3), "{:?}", died.elapsed());
    lives(&mut sixth).await;
    until("renewals fail", EVERYWHERE_MAX, async || {
        (dead.hub().metrics().lease_renewals_failed > 0).then_some(())
    })
    .await;
    // It was not dead after all: nobody is sent away, though there are six now.
    forwarder.point_to(server.address());
    until("the leases are back", EVERYWHERE_MAX, async || (places(&server, "ann").await == 6).then_some(()))
        .await;
    for client in &mut clients {
        lives(client).await;
    }
}

#[tokio::test]
async fn a_session_is_taken_over_at_once_from_a_node_that_lives_and_from_one_that_is_dead() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let one_only = || at_most(1, ConnectionLimitPolicy::RefuseNewest);
    let cut_off = node(one_only(), short(&url_of(forwarder.address())));
    let living = node(one_only(), short(&server.url()));
    let mut first = connect(&cut_off, identity("ann")).await.unwrap();
    let second = take_over(&living, first.session()).await.unwrap();
    closed_with(&mut first, CloseCode::TAKEN_OVER).await;
    let mut third = take_over(&cut_off, second.session()).await.unwrap();

    forwarder.point_nowhere();
    forwarder.cut();
    let began = Instant::now();
    assert_eq!(connect(&living, identity("ann")).await.unwrap_err().code(), "connection_limit");
    let mut fourth = take_over(&living, third.session()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    lives(&mut third).await;
    // The dead node was only away, and has missed that it was told.
    forwarder.point_to(server.address());
    closed_with(&mut third, CloseCode::TAKEN_OVER).await;
    lives(&mut fourth).await;
    // A session that is nobody's, and a stranger's.
    for session in [first.session(), third.session()] {
        assert_eq!(take_over(&living, session).await.unwrap_err().code(), "connection_limit");
    }
    assert_eq!(places(&server, "ann").await, 1);
    drop((first, second, third, fourth));
    until("all places are given back", EVERYWHERE_MAX, async || keys(&server).await.is_empty().then_some(()))
        .await;
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

fn with_tokens() -> HubBuilder {
    at_most(10, ConnectionLimitPolicy::RefuseNewest).authenticate(Jwt::hs256(SECRET).unwrap())
}

fn token(user: &str, jti: &str) -> String {
    let claims =
        json!({"sub": user, "aud": "tidings", "jti": jti, "iat": START - 60, "exp": START + 1_000_000});
    mint_hs256(SECRET, &claims).unwrap()
}

async fn connect_with(hub: &TestHub, token: &str) -> Result<TestClient, HandshakeRefusal> {
    connect(hub, Jwt::hs256(SECRET).unwrap().verify(token, START).unwrap()).await
}

#[tokio::test]
async fn who_is_sent_away_is_off_every_node_also_one_that_was_away_or_starts_later() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let (one, two) = (node(with_tokens(), redis(&server)), node(with_tokens(), redis(&server)));
    let away = node(with_tokens(), Redis::new(&url_of(forwarder.address())).unwrap());
    let tokens = [token("kicked", "1"), token("revoked", "2"), token("ann", "stolen"), token("ann", "own")];
    let mut clients = Vec::new();
    for node in [&one, &two, &away] {
        for token in &tokens {
            clients.push(connect_with(node, token).await.unwrap());
        }
    }
    forwarder.point_nowhere();
    forwarder.cut();
    assert_eq!(one.hub().disconnect_user("kicked").await, Ok(1));
    assert_eq!(one.hub().revoke_user("revoked").await, Ok(1));
    one.hub().revoke_token("stolen").await.unwrap();
    let codes = [CloseCode::KICKED, CloseCode::TOKEN_INVALID, CloseCode::TOKEN_INVALID];
    let (here, elsewhere) = clients.split_at_mut(8);
    for of_node in here.chunks_mut(4) {
        for (client, code) in of_node.iter_mut().zip(codes) {
            closed_with(client, code).await;
        }
        lives(&mut of_node[3]).await;
    }
    // Nobody gets in by the node that does not know.
    assert_eq!(told(&away, &tokens[1]).await.0, 503);
    for client in &mut *elsewhere {
        lives(client).await;
    }
    forwarder.point_to(server.address());
    let back = Instant::now();
    for (client, code) in elsewhere.iter_mut().zip(codes) {
        closed_with(client, code).await;
    }
    assert!(back.elapsed() < EVERYWHERE_MAX, "{:?}", back.elapsed());
    lives(&mut elsewhere[3]).await;

    let later = node(with_tokens(), redis(&server));
    for node in [&two, &away, &later] {
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
    assert_eq!(keys(&server).await.iter().filter(|key| key.contains("{%control}")).count(), 3);
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
    let (one, two) = (node(with_tokens(), redis(&server)), node(with_tokens(), redis(&server)));
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
    until("it is stored again", EVERYWHERE_MAX, async || {
        let stored: usize = server.run(&["ZCARD", "tidings:1:{%control}:revoked"]).await;
        (stored == 2).then_some(())
    })
    .await;
    let later = node(with_tokens(), redis(&server));
    for revoked in [&anns, &bobs] {
        assert_eq!(connect_with(&later, revoked).await.unwrap_err().code(), "token_claims");
    }
    let disconnected: usize = server.run(&["EXISTS", "tidings:1:{%control}:disconnected"]).await;
    assert_eq!(disconnected, 0, "that would be about later connections");
}

#[tokio::test]
async fn an_event_for_a_user_reaches_his_connections_on_other_nodes() {
    let server = RedisServer::start().await;
    let (one, two) = (node(open(), redis(&server)), node(open(), redis(&server)));
    let (mut here, mut there) =
        (connect(&one, identity("ann")).await.unwrap(), connect(&two, identity("ann")).await.unwrap());
    assert_eq!(one.hub().send_to_user("ann", "ping", &json!({"n": 1})).unwrap(), 1);
    for client in [&mut here, &mut there] {
        assert_eq!(client.next_event().await, json!({"event": "ping", "data": {"n": 1}}));
    }
    assert_eq!(one.hub().send_to_user("bob", "ping", &1).unwrap(), 0);
}

// The nodes.

#[tokio::test]
async fn nodes_are_listed_until_they_are_drained_or_gone() {
    let server = RedisServer::start().await;
    let nodes: Vec<_> = (0..3).map(|_| node(open(), redis(&server))).collect();
    let _ann = connect(&nodes[1], identity("ann")).await.unwrap();
    let listed = until("all three are listed", EVERYWHERE_MAX, async || {
        let listed = nodes[0].hub().nodes().await.unwrap();
        (listed.len() == 3).then_some(listed)
    })
    .await;
    assert_eq!(listed.iter().filter(|node| node.is_this).count(), 1);
    assert!(listed.iter().all(|node| node.id.len() == 16 && node.since_unix_ms >= START * 1000));
    until("its connections are told", Duration::from_secs(10), async || {
        let listed = nodes[0].hub().nodes().await.unwrap();
        (listed.iter().map(|node| node.connections).sum::<u64>() == 1).then_some(())
    })
    .await;
    let mut nodes = nodes;
    drop(nodes.pop());
    let is_left = async |hub: &TestHub, count: usize| {
        until("one is gone", EVERYWHERE_MAX, async || {
            (hub.hub().nodes().await.unwrap().len() == count).then_some(())
        })
        .await;
    };
    is_left(&nodes[0], 2).await;
    nodes[1].hub().drain(Duration::ZERO).await;
    assert_eq!(places(&server, "ann").await, 0, "a drained node has given everything back");
    is_left(&nodes[0], 1).await;
    assert_eq!(told(&nodes[1], "bob").await, (503, "draining".into()));
    keys(&server).await;
    let bob = connect(&nodes[0], identity("bob")).await.unwrap();
    // Without a goodbye to anybody.
    drop((nodes, bob));
    until("nothing is left", EVERYWHERE_MAX, async || {
        let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
        keys.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_without_a_broker_is_the_only_node() {
    let hub = TestHub::start(open()).unwrap();
    let _ann = hub.connect("ann").await;
    let nodes = hub.hub().nodes().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].connections, nodes[0].is_this), (1, 1, true));
    assert_eq!(nodes[0].since_unix_ms, START * 1000);
}
