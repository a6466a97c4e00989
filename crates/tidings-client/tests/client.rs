//! The client against a real hub on a port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tidings::auth::{Jwt, mint_hs256};
use tidings::protocol::limits::Limits;
use tidings::{Access, AckError, Context, Hub, RoomRules};
use tidings_client::{
    Client, ErrorCode, EventId, LeftReason, Recovery, RequestError, ResetReason, RoomEvent, RoomEvents,
    RoomId, RoomLoss, State, TokenAsk,
};
use tokio::net::TcpListener;

#[path = "../../tidings/tests/redis_servers/forwarder.rs"]
mod forwarder;
#[path = "../../tidings/tests/log_capture/mod.rs"]
mod log_capture;
use forwarder::Forwarder;

const SECRET: &[u8] = b"a canary-bird in the secret of the client's tests";
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    hub: Hub,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        log_capture::keep();
        let mut limits = Limits::default();
        limits.publishes_per_second_per_room = 100_000;
        let hub = Hub::builder()
            .authenticate(Jwt::hs256(SECRET).unwrap())
            .limits(limits)
            .rule(RoomRules::new("closed").join(Access::Nobody))
            .rule(RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event())
            .on("add", |_context: Context, numbers: Vec<i64>| async move {
                if numbers.is_empty() {
                    return Err(AckError::invalid("nothing to add"));
                }
                Ok(numbers.iter().sum::<i64>())
            })
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/ws", hub.route());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { hub, address }
    }

    fn client(&self, user: &str) -> Client {
        client(self.address, user)
    }

    async fn publish(&self, room: &str, number: u32) {
        let room = RoomId::parse(room).unwrap();
        self.hub.room(&room).broadcast("number", &number).await.unwrap();
    }
}

fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    mint_hs256(SECRET, &json!({"sub": user, "aud": "tidings", "exp": now + 3600, "iat": now})).unwrap()
}

fn client(address: SocketAddr, user: &str) -> Client {
    Client::builder(format!("ws://{address}/ws")).token(token(user)).connect().unwrap()
}

async fn next(events: &mut RoomEvents) -> RoomEvent {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("an open client")
}

/// The next event's number; what else comes is passed over.
async fn next_number(events: &mut RoomEvents) -> u32 {
    loop {
        match next(events).await {
            RoomEvent::Event(event) => return event.data.json().unwrap(),
            RoomEvent::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn state(client: &Client, wanted: impl Fn(&State) -> bool) -> State {
    let mut states = client.watch_state();
    let reached = tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await.expect("in time");
    reached.unwrap().clone()
}

#[tokio::test]
async fn the_rooms_that_the_server_joins_are_known_as_soon_as_it_is_connected() {
    let server = Server::start().await;
    let claims = json!({"sub": "ann", "aud": "tidings", "exp": 4_000_000_000u64, "rooms": ["b", "a"]});
    let token = mint_hs256(SECRET, &claims).unwrap();
    let client = Client::builder(format!("ws://{}/ws", server.address)).token(token).connect().unwrap();
    assert_eq!(client.joined_rooms(), []);
    client.watch_state().wait_for(|state| *state == State::Connected).await.unwrap();
    let mut rooms = client.joined_rooms();
    rooms.sort_unstable();
    assert_eq!(rooms, ["a", "b"].map(|room| RoomId::parse(room).unwrap()));
    client.join("c").await.unwrap();
    assert_eq!(client.joined_rooms().len(), 3);
}

#[tokio::test]
async fn a_room_that_the_application_joins_comes_with_its_events_and_is_lost_when_it_takes_the_client_out() {
    let server = Server::start().await;
    let forwarder = Forwarder::start(server.address).await;
    let ann = client(forwarder.address(), "ann");
    let mut rooms = ann.server_rooms();
    state(&ann, |state| *state == State::Connected).await;
    let name = RoomId::parse("a").unwrap();
    assert_eq!(server.hub.join_user("ann", &name).await.found, 1);
    server.publish("a", 1).await;
    let (room, mut events) = tokio::time::timeout(PATIENCE, rooms.next()).await.unwrap().unwrap();
    assert_eq!((room.name(), room.is_joined()), ("a", true));
    assert_eq!(next_number(&mut events).await, 1);
    // It is resumed like a room that was joined.
    forwarder.cut();
    state(&ann, |state| *state == State::Reconnecting).await;
    server.publish("a", 2).await;
    ann.reconnect();
    assert_eq!(next_number(&mut events).await, 2);
    server.hub.leave_user("ann", &name).await;
    let lost = loop {
        match next(&mut events).await {
            RoomEvent::CaughtUp(_) => {}
            RoomEvent::Lost(why) => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((lost, room.is_joined()), (RoomLoss::Left(LeftReason::Removed), false));
    // Its streams go on if the application joins it again.
    server.hub.join_user("ann", &name).await;
    server.publish("a", 3).await;
    assert_eq!(next_number(&mut events).await, 3);
}

#[tokio::test]
async fn a_publish_comes_to_everyone_and_its_ack_names_the_event() {
    let server = Server::start().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (lobby, mut own) = ann.join("lobby").await.unwrap();
    let (_, mut other) = bob.join("lobby").await.unwrap();
    let request = lobby.request("say", &json!({"text": "hello"}));
    let id = request.id().to_owned();
    let answer = request.await.unwrap();
    assert!(!answer.is_duplicate);
    for events in [&mut own, &mut other] {
        assert!(
            matches!(next(events).await, RoomEvent::CaughtUp(caught_up) if caught_up.recovery == Recovery::Fresh)
        );
        let RoomEvent::Event(event) = next(events).await else { panic!("no event") };
        assert_eq!(
            (&*event.event, event.from.as_deref(), event.re.as_deref()),
            ("say", Some("ann"), Some(&*id))
        );
        assert_eq!(event.data.json::<Value>().unwrap(), json!({"text": "hello"}));
        assert_eq!(event.id, answer.event_id);
    }
    assert_eq!(ann.user().as_deref(), Some("ann"));
    assert_eq!(ann.limits().text_message_bytes, 65_536);
}

#[tokio::test]
async fn bytes_go_as_they_are() {
    let server = Server::start().await;
    let client = server.client("ann");
    let (room, mut events) = client.join("images").await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    room.request_bytes("image", &bytes).await.unwrap();
    next(&mut events).await;
    let RoomEvent::Event(event) = next(&mut events).await else { panic!("no event") };
    assert_eq!(event.data.as_bytes(), bytes);
    assert!(event.data.json::<Value>().is_err());
}

#[tokio::test]
async fn a_handlers_answer_is_the_requests_and_so_is_its_refusal() {
    let server = Server::start().await;
    let client = server.client("ann");
    assert_eq!(client.request("add", &[1, 2, 39]).await.unwrap().json::<i64>().unwrap(), 42);
    let error = client.request("add", &[0; 0]).await.unwrap_err();
    assert!(
        matches!(&error, RequestError::Refused { code: ErrorCode::Invalid, message, .. } if message == "nothing to add"),
        "{error}"
    );
    let error = client.join("closed").await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
    for (error, code) in [
        (client.request("room.join", &()).await.unwrap_err(), "invalid"),
        (client.join("no room").await.unwrap_err(), "invalid"),
        (
            client
                .room("r")
                .unwrap()
                .request("e", &f64::NAN)
                .await
                .map(drop)
                .err()
                .unwrap_or(RequestError::Closed),
            "not_joined",
        ),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn what_was_missed_comes_after_a_cut_and_a_request_counts_once() {
    let server = Server::start().await;
    let forwarder = Forwarder::start(server.address).await;
    let client = client(forwarder.address(), "ann");
    let (room, mut events) = client.join("lobby").await.unwrap();
    server.publish("lobby", 1).await;
    assert_eq!(next_number(&mut events).await, 1);
    forwarder.point_nowhere();
    forwarder.cut();
    state(&client, |state| *state == State::Reconnecting).await;
    server.publish("lobby", 2).await;
    let request = room.request("number", &3);
    forwarder.point_to(server.address);
    client.reconnect();
    assert_eq!(next_number(&mut events).await, 2);
    assert!(request.await.is_ok());
    assert_eq!(next_number(&mut events).await, 3);
    assert!(room.is_joined());
}

#[tokio::test]
async fn a_backlog_comes_in_order_and_none_of_it_is_refused() {
    const REQUESTS: u32 = 256;
    let server = Server::start().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (_, mut events) = bob.join("lobby").await.unwrap();
    let (lobby, _own) = ann.join("lobby").await.unwrap();
    // Twenty a second is what the server takes: it is twelve seconds' worth.
    let requests: Vec<_> = (0..REQUESTS).map(|number| lobby.request("number", &number)).collect();
    for number in 0..REQUESTS {
        assert_eq!(next_number(&mut events).await, number);
    }
    for request in requests {
        assert!(!request.await.unwrap().is_duplicate);
    }
    let hits = server.hub.metrics().limit_hits;
    assert!(hits.values().all(|hits| *hits == 0), "{hits:?}");
    assert_eq!(ann.state(), State::Connected);
}

#[tokio::test]
async fn a_program_goes_on_where_an_earlier_run_of_it_was() {
    let server = Server::start().await;
    let first = server.client("ann");
    let (_, mut events) = first.join("jobs").await.unwrap();
    server.publish("jobs", 1).await;
    next(&mut events).await;
    let RoomEvent::Event(event) = next(&mut events).await else { panic!("no event") };
    first.close();
    assert!(events.next().await.is_none(), "nothing comes any more");
    server.publish("jobs", 2).await;
    let second = server.client("ann");
    let (_, mut events) = second.join("jobs").after(&event.id.unwrap()).await.unwrap();
    assert_eq!(next_number(&mut events).await, 2);
    let elsewhere = EventId::parse("other@k3f9a1qz.1").unwrap();
    assert_eq!(second.join("jobs").after(&elsewhere).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn a_reset_says_why() {
    let server = Server::start().await;
    let client = server.client("ann");
    let stale = EventId::parse("jobs@k3f9a1qz.7").unwrap();
    let (_, mut events) = client.join("jobs").after(&stale).await.unwrap();
    assert!(
        matches!(next(&mut events).await, RoomEvent::Reset(reset) if reset.reason == ResetReason::UnknownEpoch)
    );
}

#[tokio::test]
async fn who_takes_events_slower_than_they_come_gets_all_of_them() {
    const EVENTS: u32 = 5_000;
    let server = Server::start().await;
    let client = server.client("ann");
    let (room, mut slow) = client.join("numbers").await.unwrap();
    for number in 0..EVENTS {
        server.publish("numbers", number).await;
    }
    // An answer comes through, whatever waits.
    room.request("number", &EVENTS).await.unwrap();
    for number in 0..=EVENTS {
        assert_eq!(next_number(&mut slow).await, number);
    }
}

#[tokio::test]
async fn who_is_here_is_kept_up_to_date() {
    let server = Server::start().await;
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let (room, _events) = ann.join("lobby").await.unwrap();
    let mut presence = room.presence();
    let here = |members: &tidings_client::Members| {
        members.users.keys().map(|user| user.to_string()).collect::<Vec<_>>()
    };
    while here(&presence.members()) != ["ann"] {
        presence.changed().await.unwrap();
    }
    let (bobs, _events) = bob.join("lobby").await.unwrap();
    while here(&presence.members()) != ["ann", "bob"] {
        presence.changed().await.unwrap();
    }
    bobs.presence().update(&json!({"status": "away"})).await.unwrap();
    while presence.members().users["bob"].get() != r#"{"status":"away"}"# {
        presence.changed().await.unwrap();
    }
    assert_eq!(room.members(None, Some(1)).await.unwrap().members[0].user, "ann");
    bobs.leave().await.unwrap();
    while here(&presence.members()) != ["ann"] {
        presence.changed().await.unwrap();
    }
    assert_eq!(presence.members().len(), 1);
    ann.close();
    while presence.changed().await.is_some() {}
}

#[tokio::test]
async fn who_is_here_is_known_again_though_all_places_for_requests_are_taken() {
    let server = Server::start().await;
    let forwarder = Forwarder::start(server.address).await;
    let ann = client(forwarder.address(), "ann");
    let (room, _events) = ann.join("lobby").await.unwrap();
    let mut presence = room.presence();
    while presence.members().is_empty() {
        presence.changed().await.unwrap();
    }
    forwarder.point_nowhere();
    forwarder.cut();
    state(&ann, |state| *state == State::Reconnecting).await;
    let mut requests = vec![];
    let refused = loop {
        let request = room.request("number", &0);
        if request.id().is_empty() {
            break request.await.unwrap_err();
        }
        requests.push(request);
    };
    assert_eq!((refused, requests.len()), (RequestError::QueueFull, 256));
    let _bob = server.client("bob").join("lobby").await.unwrap();
    forwarder.point_to(server.address);
    ann.reconnect();
    let knows_bob = async {
        while !presence.members().users.contains_key("bob") {
            presence.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, knows_bob).await.expect("in time");
}

#[tokio::test]
async fn a_refused_token_is_asked_for_anew_once_and_then_the_reason_is_told() {
    let server = Server::start().await;
    let asked: Arc<AtomicUsize> = Arc::default();
    let counts = Arc::clone(&asked);
    let client = Client::builder(format!("ws://{}/ws", server.address))
        .token_from(move |ask: TokenAsk| {
            let before = counts.fetch_add(1, Ordering::Relaxed);
            assert_eq!(ask.fresh, before > 0);
            std::future::ready(Ok::<_, std::io::Error>(Some(if before < 2 {
                "no.good.token".to_owned()
            } else {
                token("ann")
            })))
        })
        .connect()
        .unwrap();
    let State::Refused(refusal) = state(&client, |state| matches!(state, State::Refused(_))).await else {
        panic!("not refused");
    };
    assert_eq!((refusal.status, refusal.code.as_deref()), (Some(401), Some("token_malformed")));
    assert!(refusal.message.is_some_and(|message| !message.is_empty()));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    client.reconnect();
    state(&client, |state| *state == State::Connected).await;
}

#[tokio::test]
async fn one_connection_too_many_is_tried_again_and_says_so() {
    let server = Server::start().await;
    let mut clients = vec![];
    for _ in 0..5 {
        let client = server.client("ann");
        state(&client, |state| *state == State::Connected).await;
        clients.push(client);
    }
    let (asked, mut asks) = tokio::sync::mpsc::channel(64);
    let sixth = Client::builder(format!("ws://{}/ws", server.address))
        .token_from(move |_| {
            asked.try_send(()).unwrap();
            std::future::ready(Ok::<_, std::io::Error>(Some(token("ann"))))
        })
        .connect()
        .unwrap();
    // Asked for its second connection, it has seen the first one fail.
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, asks.recv()).await.expect("in time");
    }
    let fault = sixth.fault().expect("a fault");
    assert_eq!((fault.status, fault.code.as_deref()), (Some(429), Some("connection_limit")));
    assert!(!fault.message.is_empty());
    clients.pop().unwrap().close();
    state(&sixth, |state| *state == State::Connected).await;
    assert_eq!(sixth.fault(), None);
}

#[tokio::test]
async fn nobody_who_is_logged_in_is_no_connection() {
    let server = Server::start().await;
    let client = Client::builder(format!("ws://{}/ws", server.address))
        .token_from(|_| std::future::ready(Ok::<_, std::io::Error>(None)))
        .connect()
        .unwrap();
    let refused = state(&client, |state| matches!(state, State::Refused(_))).await;
    assert!(matches!(refused, State::Refused(refusal) if refusal.code.as_deref() == Some("token_missing")));
    assert_eq!(server.hub.metrics().connections, 0);
}

#[tokio::test]
async fn what_is_for_a_user_alone_has_no_room() {
    let server = Server::start().await;
    let client = server.client("ann");
    let mut events = client.events();
    state(&client, |state| *state == State::Connected).await;
    server.hub.send_to_user("ann", "notice", &json!(7)).unwrap();
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    assert_eq!((&*event.event, event.room), ("notice", None));
}

#[tokio::test]
async fn a_closed_client_is_closed_for_good_and_so_is_one_that_nobody_holds() {
    let server = Server::start().await;
    let client = server.client("ann");
    let (room, events) = client.join("lobby").await.unwrap();
    client.close();
    assert_eq!(state(&client, |state| *state == State::Closed).await, State::Closed);
    client.reconnect();
    assert_eq!(client.state(), State::Closed);
    assert_eq!(room.request("say", &1).await.unwrap_err(), RequestError::Closed);

    let dropped = server.client("bob");
    let (room_of_bob, events_of_bob) = dropped.join("lobby").await.unwrap();
    let mut states = dropped.watch_state();
    drop((dropped, room_of_bob));
    assert_eq!(*states.borrow(), State::Connected, "its events still come");
    drop(events_of_bob);
    tokio::time::timeout(PATIENCE, states.wait_for(|state| *state == State::Closed)).await.unwrap().unwrap();
    drop((room, events));
}

#[tokio::test]
async fn what_is_opened_on_a_closed_client_has_ended() {
    let server = Server::start().await;
    let client = server.client("ann");
    let (room, _events) = client.join("lobby").await.unwrap();
    client.close();
    state(&client, |state| *state == State::Closed).await;
    let ends = async {
        assert!(room.events().next().await.is_none());
        assert!(client.room("other").unwrap().events().next().await.is_none());
        assert!(client.events().next().await.is_none());
        assert!(client.server_rooms().next().await.is_none());
        assert!(room.presence().changed().await.is_none());
        assert!(client.room("other").unwrap().presence().changed().await.is_none());
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("in time");
    assert_eq!(client.joined_rooms(), []);
}

#[tokio::test]
async fn a_server_that_kicks_is_not_connected_to_again() {
    let server = Server::start().await;
    let client = server.client("ann");
    let (room, _events) = client.join("lobby").await.unwrap();
    server.hub.disconnect_user("ann").await.unwrap();
    state(&client, |state| *state == State::Closed).await;
    assert_eq!(client.fault().and_then(|fault| fault.status), Some(4006));
    assert_eq!(room.request("say", &1).await.unwrap_err(), RequestError::Closed);
}
