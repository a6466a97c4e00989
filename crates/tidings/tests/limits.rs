//! The limits of one connection and of its token, a test each: what is answered when it is hit, and that it is counted.
//!
//! Those of users, rooms and nodes are in `limits_of_node.rs`; those that a listener keeps before there is a request
//! (the head of a handshake, its time, pending handshakes) in the server's `listen.rs` and `pending.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod limit_support;
mod log_capture;

use std::sync::Arc;
use std::time::Duration;

use limit_support::{ask, broadcast, handshake, hits, hub, hub_with, open, pass, refused, room};
use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::auth::Jwt;
use tidings::protocol::close::CloseCode;
use tidings::protocol::frame::Opcode;
use tidings::testing::{ConnectOptions, identity};
use tidings::{BuildError, Context, Hub, Limits, RoomRules};
use tokio::sync::Semaphore;

/// A message of so many bytes at least.
fn message(bytes: usize) -> Value {
    json!({"event": "say", "room": "a", "data": "x".repeat(bytes)})
}

#[tokio::test(start_paused = true)]
async fn a_text_message_of_more_than_64_kib_closes_with_1009() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    ann.send(message(64 * 1024)).await;
    assert_eq!(ann.closed().await, Some(CloseCode::TOO_LARGE));
    assert_eq!((hits(&hub, "text_message_bytes_max"), hits(&hub, "binary_message_bytes_max")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_binary_message_of_more_than_64_kib_closes_with_1009() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    ann.send_binary(json!({"event": "say", "room": "a"}), &[0; 64 * 1024]).await;
    assert_eq!(ann.closed().await, Some(CloseCode::TOO_LARGE));
    assert_eq!((hits(&hub, "text_message_bytes_max"), hits(&hub, "binary_message_bytes_max")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_more_than_64_fragments_closes_with_1008() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    // A text that is not final, and empty continuations: masked, as a client's frames are.
    ann.send_bytes(&[0x01, 0x80, 0, 0, 0, 0]).await;
    for _ in 0..64 {
        ann.send_bytes(&[0x00, 0x80, 0, 0, 0, 0]).await;
    }
    assert_eq!(ann.closed().await, Some(CloseCode::POLICY));
    assert_eq!(hits(&hub, "fragments_max"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_more_than_10_s_closes_with_1008() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    ann.send_bytes(&[0x81, 0xfe, 0x01]).await;
    pass(Duration::from_millis(9900)).await;
    assert_eq!(hits(&hub, "message_duration_max"), 0);
    assert_eq!(ann.closed().await, Some(CloseCode::POLICY));
    assert_eq!(hits(&hub, "message_duration_max"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_21st_ping_at_once_closes_with_1008() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    for _ in 0..21 {
        ann.send_frame(Opcode::Ping, b"").await;
    }
    assert_eq!(ann.closed().await, Some(CloseCode::POLICY));
    assert_eq!(hits(&hub, "control_frames_per_second"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_41st_message_at_once_is_rate_limited_and_10_s_of_that_close_with_4108() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    for _ in 0..40 {
        assert_eq!(ask(&mut ann).await["event"], "ack");
    }
    assert_eq!(refused(&ask(&mut ann).await), ("rate_limited", Some(50)));
    assert_eq!(hits(&hub, "messages_per_second"), 1);
    // Twice the rate from here on, which is still within the user's.
    for _ in 0..420 {
        pass(Duration::from_millis(25)).await;
        ann.send(json!({"event": "room.list"})).await;
    }
    assert_eq!(ann.closed().await, Some(CloseCode::RATE_LIMITED));
    assert_eq!((hits(&hub, "rate_limited_duration_max"), hits(&hub, "messages_per_second_per_user")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_11th_join_at_once_is_rate_limited() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    for _ in 0..10 {
        ann.join("a").await;
    }
    let answer = ann.request_in("a", "room.join", json!({})).await;
    assert_eq!((refused(&answer), hits(&hub, "joins_per_second")), (("rate_limited", Some(100)), 1));
}

#[tokio::test(start_paused = true)]
async fn the_101st_room_of_a_connection_is_refused() {
    let hub = hub();
    let rooms = (0..101).map(|number| room(&format!("r{number:03}"))).collect();
    let member = identity("ann").with_rooms(rooms);
    let mut ann = hub.connect_as(member, ConnectOptions::default()).await.unwrap();
    assert_eq!(
        ann.welcome()["rooms"].as_array().unwrap().len(),
        100,
        "those of the token, as far as they go"
    );
    assert_eq!(hits(&hub, "rooms_per_connection_max"), 1);
    let answer = ann.request_in("one.more", "room.join", json!({})).await;
    assert_eq!((refused(&answer).0, hits(&hub, "rooms_per_connection_max")), ("room_limit", 2));
}

#[tokio::test(start_paused = true)]
async fn behind_32_waiting_calls_the_socket_is_not_read() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let builder = open().on("slow", move |_: Context, number: u32| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await?.forget();
            Ok(number)
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    for number in 0..40 {
        ann.send(json!({"event": "slow", "data": number, "id": format!("s-{number}")})).await;
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(hits(&hub, "waiting_calls_max"), 1);
    gate.add_permits(40);
    for number in 0..40 {
        assert_eq!(ann.next_named("ack").await["data"], number);
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_1_mib_that_waits_closes_with_4109_and_a_second_later_the_socket_is_gone() {
    let hub = hub();
    let mut slow = hub.connect("slow").await;
    slow.join("a").await;
    for _ in 0..12 {
        broadcast(&hub, "a", 100).await;
    }
    pass(Duration::from_millis(1)).await;
    let metrics = hub.hub().metrics();
    assert_eq!((metrics.closed[&CloseCode::SLOW_CONSUMER], metrics.connections), (1, 1));
    assert_eq!((hits(&hub, "outbound_bytes_max"), hits(&hub, "outbound_messages_max")), (1, 0));
    pass(Duration::from_secs(1)).await;
    assert_eq!((hits(&hub, "close_duration_max"), hub.hub().metrics().connections), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn more_than_1024_messages_that_wait_close_with_4109() {
    let hub = hub_with(|limits| limits.publishes_per_second_per_room = 10_000);
    let mut slow = hub.connect("slow").await;
    slow.join("a").await;
    // More than the pipe takes.
    broadcast(&hub, "a", 100).await;
    for _ in 0..1030 {
        broadcast(&hub, "a", 0).await;
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(hub.hub().metrics().closed[&CloseCode::SLOW_CONSUMER], 1);
    assert_eq!((hits(&hub, "outbound_bytes_max"), hits(&hub, "outbound_messages_max")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_socket_that_takes_nothing_for_10_s_closes_with_4109() {
    let hub = hub();
    let mut slow = hub.connect("slow").await;
    slow.join("a").await;
    broadcast(&hub, "a", 100).await;
    pass(Duration::from_millis(9900)).await;
    assert_eq!(hits(&hub, "stalled_duration_max"), 0);
    pass(Duration::from_millis(200)).await;
    assert_eq!(hub.hub().metrics().closed[&CloseCode::SLOW_CONSUMER], 1);
    assert_eq!(hits(&hub, "stalled_duration_max"), 1);
}

#[tokio::test(start_paused = true)]
async fn ninety_seconds_of_silence_close_with_4110() {
    let hub = hub();
    let mut ann = hub.connect("ann").await;
    ann.ignore_pings();
    let start = tokio::time::Instant::now();
    assert_eq!(ann.closed().await, Some(CloseCode::HEARTBEAT_TIMEOUT));
    assert_eq!((start.elapsed().as_secs(), hits(&hub, "silence_max")), (90, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_more_than_8_kib_is_401_and_one_that_has_ended_closes_with_4300() {
    let jwt = Jwt::hs256(b"canary-bird of the tests, 32 bytes and more").unwrap();
    let hub = TestHub::start(open().authenticate(jwt)).unwrap();
    let (status, code, _) = handshake(&hub, None, &"x".repeat(8 * 1024)).await;
    assert_eq!((status, &*code, hits(&hub, "token_bytes_max")), (401, "token_malformed", 0));
    let (status, code, _) = handshake(&hub, None, &"x".repeat(8 * 1024 + 1)).await;
    assert_eq!((status, &*code, hits(&hub, "token_bytes_max")), (401, "token_malformed", 1));
    // The kit's calendar begins here; thirty seconds of leeway follow.
    let ends = identity("ann").with_expiry(1_795_468_800 + 60);
    let mut ann = hub.connect_as(ends, ConnectOptions::default()).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(ann.closed().await, Some(CloseCode::TOKEN_EXPIRED));
    assert_eq!(start.elapsed(), Duration::from_secs(90));
    assert_eq!(hub.hub().metrics().closed[&CloseCode::TOKEN_EXPIRED], 1);
}

#[tokio::test(start_paused = true)]
async fn limits_that_do_not_fit_each_other_make_no_hub() {
    let refused = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        match TestHub::start(open().limits(limits)) {
            Err(BuildError::Limits(fault)) => fault,
            other => panic!("{other:?}"),
        }
    };
    let queue = refused(|limits| limits.binary_message_bytes_max = limits.outbound_bytes_max / 2 + 1);
    assert!(queue.contains("outbound_bytes_max must be at least twice"), "{queue}");
    let history = refused(|limits| {
        limits.outbound_bytes_max = 1 << 20;
        limits.text_message_bytes_max = 1 << 19;
        limits.history_bytes_max = 4 * limits.text_message_bytes_max - 1;
    });
    assert!(history.contains("history_bytes_max must be at least four times"), "{history}");
    let history = refused(|limits| limits.history_bytes_max = 8 * limits.outbound_bytes_max - 1);
    assert!(history.contains("history_bytes_max must be at least eight times"), "{history}");
    let node = refused(|limits| limits.outbound_node_bytes_max = limits.outbound_bytes_max - 1);
    assert!(node.contains("outbound_node_bytes_max must be at least outbound_bytes_max"), "{node}");
    let silence = refused(|limits| limits.silence_max = limits.heartbeat);
    assert!(silence.contains("silence_max must be longer than heartbeat"), "{silence}");
}

#[test]
fn all_that_makes_no_hub_is_told_at_once() {
    let mut limits = Limits::default();
    (limits.silence_max, limits.presence_grace) = (limits.heartbeat, Duration::MAX);
    let wrong = Hub::builder()
        .limits(limits)
        .allow_origin("app")
        .rule(RoomRules::new("a b"))
        .rule(RoomRules::new("*"))
        .rule(RoomRules::new("c").key("no-pointer"));
    let faults = wrong.check().err().unwrap();
    let [
        BuildError::Origin(_),
        BuildError::Limits(silence),
        BuildError::Limits(grace),
        BuildError::NoAuthentication,
        BuildError::Pattern(pattern, _),
        BuildError::Key(key),
    ] = &faults[..]
    else {
        panic!("{faults:?}")
    };
    assert!(silence.starts_with("silence_max") && grace.starts_with("presence_grace"), "{faults:?}");
    assert_eq!((pattern.as_str(), key.as_str()), ("a b", "no-pointer"));
    assert!(open().authenticate(Jwt::hs256(&[7; 32]).unwrap()).check().is_ok());
}
