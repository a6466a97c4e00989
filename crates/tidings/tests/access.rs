//! Rules that look at the token's claims, and rules that ask the application: at a join, a publish, a resume and after a
//! refresh. Whoever can't be asked lets nobody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by it, and a handler that panics is a case"
)]

mod log_capture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use log_capture::TestHub;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings::auth::{AuthFuture, Authenticate, Identity, UserId};
use tidings::testing::{ConnectOptions, TestClient, identity};
use tidings::{
    Access, AccessError, BuildError, Hub, HubBuilder, MembershipError, MembershipFuture, Memberships, RoomId,
    RoomRules,
};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Takes the token itself for the claims.
struct ClaimsAsToken;

impl Authenticate for ClaimsAsToken {
    fn authenticate<'a>(&'a self, token: &'a str, _now_unix_s: u64) -> AuthFuture<'a> {
        Box::pin(async move { Ok(with_claims(&serde_json::from_str(token).unwrap())) })
    }
}

fn with_claims(claims: &Value) -> Identity {
    let rooms = claims["rooms"].as_array().into_iter().flatten().map(|room| room_id(room.as_str().unwrap()));
    Identity::new(UserId::parse(claims["sub"].as_str().unwrap()).unwrap())
        .with_claims(&claims.to_string())
        .with_rooms(rooms.collect())
}

fn room_id(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn builder() -> HubBuilder {
    Hub::builder().authenticate(ClaimsAsToken)
}

async fn connect(hub: &TestHub, claims: &Value) -> TestClient {
    hub.connect_as(with_claims(claims), ConnectOptions::default()).await.unwrap()
}

/// The error's code, or `ack`.
async fn answer(client: &mut TestClient, room: &str, event: &str) -> String {
    let answer = client.request_in(room, event, json!({})).await;
    answer["data"]["code"].as_str().unwrap_or("ack").to_owned()
}

async fn refresh(client: &mut TestClient, claims: &Value) {
    let answer = client.request("session.refresh", json!({"token": claims.to_string()})).await;
    assert_eq!(answer["event"], "ack", "{answer}");
}

async fn rooms(client: &mut TestClient) -> Value {
    client.request("room.list", json!(null)).await["data"]["rooms"].clone()
}

/// The next error without an id: what a refresh has taken away.
async fn taken_away(client: &mut TestClient) -> String {
    let error = client.next_where(|message| message["event"] == "error" && message.get("id").is_none()).await;
    error["data"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_who_joins_and_who_publishes_and_again_after_a_refresh() {
    let rules = RoomRules::new("staff")
        .any_event()
        .join(Access::claim("/role", "staff"))
        .publish(Access::claim("/app/scopes", "write"));
    let hub = TestHub::start(builder().rule(rules)).unwrap();
    let claims = |role: &str, scopes: &[&str]| json!({"sub": "ann", "role": role, "app": {"scopes": scopes}});
    let mut guest = connect(&hub, &json!({"sub": "bob", "role": "guest"})).await;
    assert_eq!(answer(&mut guest, "staff", "room.join").await, "forbidden");
    let mut ann = connect(&hub, &claims("staff", &["read", "write"])).await;
    assert_eq!(answer(&mut ann, "staff", "room.join").await, "ack");
    assert_eq!(answer(&mut ann, "staff", "say").await, "ack");
    refresh(&mut ann, &claims("staff", &["read"])).await;
    assert_eq!(answer(&mut ann, "staff", "say").await, "forbidden");
    assert_eq!(rooms(&mut ann).await, json!(["staff"]));
    refresh(&mut ann, &claims("guest", &["write"])).await;
    assert_eq!(taken_away(&mut ann).await, "forbidden");
    let left = json!({"event": "room.left", "room": "staff", "data": {"reason": "forbidden"}});
    assert_eq!(ann.next_named("room.left").await, left);
    assert_eq!(rooms(&mut ann).await, json!([]));
    assert_eq!(answer(&mut ann, "staff", "say").await, "not_joined");
    assert_eq!(answer(&mut ann, "staff", "room.join").await, "forbidden");
    let cursor = json!({"last_event_id": "staff@k3f9a1qz.1"});
    let resumed = ann.request("session.resume", cursor).await;
    assert_eq!(resumed["data"]["rooms"]["staff"]["error"], "forbidden");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_wants_a_claim_or_asks_is_not_joined_on_connect_without() {
    let hub = builder()
        .rule(RoomRules::new("staff").join(Access::claim("/role", "staff")))
        .rule(RoomRules::new("asks").join_if(|_, _| async { Ok(true) }))
        .rule(RoomRules::new("*"));
    let hub = TestHub::start(hub).unwrap();
    let claims = |role: &str| json!({"sub": "ann", "role": role, "rooms": ["asks", "chat", "staff"]});
    assert_eq!(connect(&hub, &claims("guest")).await.welcome()["rooms"], json!(["chat"]));
    let mut ann = connect(&hub, &claims("staff")).await;
    assert_eq!(ann.welcome()["rooms"], json!(["chat", "staff"]));
    ann.join("asks").await;
}

#[test]
fn a_pointer_that_points_nowhere_is_told_when_the_hub_is_built() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let fault = builder().rule(RoomRules::new("*").join(Access::claim("role", "staff"))).build().unwrap_err();
    assert!(matches!(&fault, BuildError::Claim(pointer) if pointer == "role"), "{fault}");
    assert!(fault.to_string().contains("/role"), "{fault}");
}

/// What a handler that a test holds in its hand does next.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Lets,
    Refuses,
    Fails,
    Panics,
    Hangs,
}

#[derive(Clone)]
struct Handler {
    does: Arc<Mutex<Does>>,
    asked: Arc<AtomicUsize>,
}

impl Handler {
    fn new(does: Does) -> Self {
        Self { does: Arc::new(Mutex::new(does)), asked: Arc::default() }
    }

    fn set(&self, does: Does) {
        *self.does.lock() = does;
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }

    async fn answer(self) -> Result<bool, AccessError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let does = *self.does.lock();
        match does {
            Does::Lets => Ok(true),
            Does::Refuses => Ok(false),
            Does::Fails => Err("the database is down".into()),
            Does::Panics => panic!("a bug of the application's"),
            Does::Hangs => std::future::pending().await,
        }
    }
}

fn asks(pattern: &str, join: &Handler, publish: &Handler) -> RoomRules {
    let (join, publish) = (join.clone(), publish.clone());
    RoomRules::new(pattern)
        .any_event()
        .join_if(move |_, _| join.clone().answer())
        .publish_if(move |_, _| publish.clone().answer())
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_who_joins_and_one_that_can_not_lets_nobody() {
    let (join, publish) = (Handler::new(Does::Lets), Handler::new(Does::Lets));
    let hub = TestHub::start(builder().rule(asks("*", &join, &publish))).unwrap();
    let mut ann = connect(&hub, &json!({"sub": "ann"})).await;
    for (does, expected, seconds) in [
        (Does::Refuses, "forbidden", 0),
        (Does::Fails, "unavailable", 0),
        (Does::Panics, "unavailable", 0),
        (Does::Hangs, "unavailable", 5),
        (Does::Lets, "ack", 0),
    ] {
        join.set(does);
        let begun = Instant::now();
        assert_eq!(answer(&mut ann, "a", "room.join").await, expected);
        assert_eq!(begun.elapsed(), Duration::from_secs(seconds));
        assert_eq!(join.asked(), 1);
    }
    assert_eq!(hub.hub().metrics().panics, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_who_publishes_and_one_that_can_not_lets_nobody() {
    let (join, publish) = (Handler::new(Does::Lets), Handler::new(Does::Lets));
    let hub = TestHub::start(builder().rule(asks("*", &join, &publish).ephemeral("typing"))).unwrap();
    let (mut ann, mut bob) =
        (connect(&hub, &json!({"sub": "ann"})).await, connect(&hub, &json!({"sub": "bob"})).await);
    ann.join("a").await;
    bob.join("a").await;
    for (does, expected, seconds) in [
        (Does::Refuses, "forbidden", 0),
        (Does::Fails, "unavailable", 0),
        (Does::Panics, "unavailable", 0),
        (Does::Hangs, "unavailable", 5),
        (Does::Lets, "ack", 0),
    ] {
        publish.set(does);
        for event in ["say", "typing"] {
            let begun = Instant::now();
            assert_eq!(answer(&mut ann, "a", event).await, expected, "{event}");
            assert_eq!(begun.elapsed(), Duration::from_secs(seconds));
            assert_eq!(publish.asked(), 1);
        }
    }
    // Only what was let has reached anybody, and a refused id was not used up.
    assert_eq!(bob.next_event().await["event"], "say");
    assert_eq!(bob.next_event().await["event"], "typing");
    publish.set(Does::Refuses);
    let message = json!({"event": "say", "room": "a", "data": 7, "id": "once"});
    assert_eq!(ann.ask(message.clone()).await["data"]["code"], "forbidden");
    publish.set(Does::Lets);
    assert_eq!(ann.ask(message.clone()).await["data"]["duplicate"], false);
    assert_eq!(ann.ask(message).await["data"]["duplicate"], true);
    assert_eq!(bob.next_event().await["data"], 7);
}

#[tokio::test(start_paused = true)]
async fn publishes_that_are_asked_about_keep_their_order() {
    // The first question takes longest.
    let left = Arc::new(AtomicUsize::new(10));
    let rules = RoomRules::new("*").any_event().join(Access::Anyone).publish_if(move |_, _| {
        let left = Arc::clone(&left);
        async move {
            let wait = left.fetch_sub(1, Ordering::SeqCst) as u64;
            let until = Instant::now() + Duration::from_millis(100 * wait);
            tokio::time::sleep_until(until).await;
            Ok(true)
        }
    });
    let hub = TestHub::start(builder().rule(rules)).unwrap();
    let (mut ann, mut bob) =
        (connect(&hub, &json!({"sub": "ann"})).await, connect(&hub, &json!({"sub": "bob"})).await);
    ann.join("a").await;
    bob.join("a").await;
    for number in 0..9 {
        ann.send(json!({"event": "say", "room": "a", "data": number, "id": format!("n-{number}")})).await;
    }
    // What is behind them in the room waits too.
    ann.send(json!({"event": "room.leave", "room": "a", "id": "leave"})).await;
    ann.send(json!({"event": "say", "room": "a", "data": 9, "id": "n-9"})).await;
    for number in 0..9 {
        let next = tokio::time::timeout(Duration::from_secs(60), bob.next_event()).await.unwrap();
        assert_eq!(next["data"], number);
        ann.next_where(|message| message["id"] == format!("n-{number}") && message["event"] == "ack").await;
    }
    ann.next_where(|message| message["id"] == "leave" && message["event"] == "ack").await;
    assert_eq!(ann.next_named("error").await["data"]["code"], "not_joined");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_asks_the_handler_again() {
    let (join, publish) = (Handler::new(Does::Lets), Handler::new(Does::Lets));
    let hub = TestHub::start(builder().rule(asks("*", &join, &publish))).unwrap();
    let claims = json!({"sub": "ann"});
    let mut ann = connect(&hub, &claims).await;
    for (does, code) in [
        (Does::Refuses, "forbidden"),
        (Does::Fails, "unavailable"),
        (Does::Panics, "unavailable"),
        (Does::Hangs, "unavailable"),
    ] {
        join.set(Does::Lets);
        ann.join("a").await;
        refresh(&mut ann, &claims).await;
        assert_eq!(rooms(&mut ann).await, json!(["a"]));
        join.set(does);
        refresh(&mut ann, &claims).await;
        assert_eq!(taken_away(&mut ann).await, code);
        assert_eq!(rooms(&mut ann).await, json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_asks_the_handler_again_and_gives_up_after_one_that_hangs() {
    let (join, publish) = (Handler::new(Does::Lets), Handler::new(Does::Lets));
    let hub = TestHub::start(builder().rule(asks("*", &join, &publish))).unwrap();
    let mut ann = connect(&hub, &json!({"sub": "ann"})).await;
    let cursor: Vec<_> = (0..20).map(|number| format!("room-{number}@k3f9a1qz.1")).collect();
    let cursor = json!({"last_event_id": cursor.join(",")});
    for (does, expected, asked, seconds) in [
        (Does::Refuses, json!("forbidden"), 20, 0),
        (Does::Hangs, json!("unavailable"), 1, 5),
        (Does::Lets, Value::Null, 20, 0),
    ] {
        join.set(does);
        let begun = Instant::now();
        let resumed = ann.request("session.resume", cursor.clone()).await;
        for number in 0..20 {
            assert_eq!(resumed["data"]["rooms"][format!("room-{number}")]["error"], expected);
        }
        assert_eq!((join.asked(), begun.elapsed()), (asked, Duration::from_secs(seconds)));
    }
    assert_eq!(rooms(&mut ann).await.as_array().unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_the_old_token_allowed_counts_no_more_when_the_answer_comes() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let rules = RoomRules::new("*").join_if({
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        move |identity, _| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok(identity.claims::<Value>()?["role"] == "staff")
            }
        }
    });
    let hub = TestHub::start(builder().rule(rules)).unwrap();
    let mut ann = connect(&hub, &json!({"sub": "ann", "role": "staff"})).await;
    ann.send(json!({"event": "room.join", "room": "a", "id": "join"})).await;
    begun.notified().await;
    refresh(&mut ann, &json!({"sub": "ann", "role": "guest"})).await;
    go_on.notify_one();
    tokio::time::timeout(Duration::from_secs(60), begun.notified()).await.expect("it is asked again");
    go_on.notify_one();
    assert_eq!(ann.next_named("error").await["data"]["code"], "forbidden");
    assert_eq!(rooms(&mut ann).await, json!([]));
    // The lane is free again.
    go_on.notify_one();
    assert_eq!(answer(&mut ann, "a", "room.join").await, "forbidden");
}

/// Memberships that know a room which they don't join a user to, and that can be down.
struct Database {
    member: Arc<AtomicBool>,
}

impl Memberships for Database {
    fn rooms<'a>(&'a self, _identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn is_member<'a>(&'a self, _identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        match room.as_str() {
            "broken" => panic!("a bug of the application's"),
            _ => Box::pin(async { Ok(self.member.load(Ordering::SeqCst)) }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_memberships_are_asked_again_after_a_refresh_and_may_panic() {
    let member = Arc::new(AtomicBool::new(true));
    let database = Database { member: Arc::clone(&member) };
    let hub = TestHub::start(builder().rule(RoomRules::new("*")).memberships(database)).unwrap();
    let mut ann = hub.connect_as(identity("ann"), ConnectOptions::default()).await.unwrap();
    ann.join("team").await;
    assert_eq!(answer(&mut ann, "broken", "room.join").await, "unavailable");
    assert_eq!(answer(&mut ann, "broken", "room.join").await, "unavailable");
    refresh(&mut ann, &json!({"sub": "ann"})).await;
    assert_eq!(rooms(&mut ann).await, json!(["team"]));
    member.store(false, Ordering::SeqCst);
    refresh(&mut ann, &json!({"sub": "ann"})).await;
    assert_eq!(taken_away(&mut ann).await, "forbidden");
    assert_eq!(rooms(&mut ann).await, json!([]));
}

/// Memberships that let nobody in whose name they don't like.
struct Doorkeeper;

impl Memberships for Doorkeeper {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            match identity.user().as_str() {
                "banned" => Err(MembershipError::forbidden("not before Monday")),
                "unlucky" => Err(MembershipError::unavailable("nobody_home", "nobody could be asked")),
                "lost" => Err("the database has a password, hunter2".into()),
                _ => Ok(vec![room_id("a")]),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn memberships_that_do_not_let_somebody_in_refuse_his_handshake() {
    let hub = TestHub::start(builder().rule(RoomRules::new("*")).memberships(Doorkeeper)).unwrap();
    for (user, status, code, said) in [
        ("banned", 403, "forbidden", "not before Monday"),
        ("unlucky", 503, "nobody_home", "nobody could be asked"),
        ("lost", 503, "broker_unavailable", "could not be read"),
    ] {
        let refused = hub.connect_as(with_claims(&json!({"sub": user})), ConnectOptions::default()).await;
        let refusal = refused.map(|_| ()).unwrap_err();
        assert_eq!((refusal.status().as_u16(), refusal.code()), (status, code));
        assert!(refusal.to_string().contains(said), "{refusal}");
    }
    connect(&hub, &json!({"sub": "ann"})).await;
}
