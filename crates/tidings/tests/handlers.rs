//! What handlers see and do, and what becomes of their calls.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use log_capture::TestHub;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidings::auth::Identity;
use tidings::testing::{ConnectOptions, TestFrame, identity};
use tidings::{Access, AckError, Context, Hub, HubBuilder, RoomId, RoomRules};
use tokio::sync::{Notify, Semaphore};

#[derive(Serialize, Deserialize)]
struct Said {
    #[serde(rename = "channelId")]
    channel: RoomId,
    content: String,
}

fn chat() -> HubBuilder {
    let open = RoomRules::new("*").join(Access::Anyone).publish(Access::Anyone).any_event();
    Hub::builder().rule(open).on("message.send", |ctx: Context, said: Said| async move {
        let event_id = ctx.broadcast(&said.channel, "message.send", &said).await?;
        Ok(json!({"stored": true, "event_id": event_id}))
    })
}

#[tokio::test(start_paused = true)]
async fn the_founding_documents_message_letter_for_letter() {
    let hub = TestHub::start(chat()).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    bob.join("ch_1").await;
    ann.send_text(
        r#"{"event":"message.send","data":{"channelId":"ch_1","content":"Hello"},"id":"client-uuid"}"#,
    )
    .await;
    let ack = ann.next_named("ack").await;
    assert_eq!((&ack["id"], &ack["data"]["stored"]), (&json!("client-uuid"), &json!(true)));
    let event = bob.next_event().await;
    assert_eq!(event["data"], json!({"channelId": "ch_1", "content": "Hello"}));
    assert_eq!(
        (&event["from"], &event["re"], &event["room"]),
        (&json!("ann"), &json!("client-uuid"), &json!("ch_1"))
    );
    assert_eq!(event["id"], ack["data"]["event_id"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_stored_ack_and_broadcasts_nothing() {
    let hub = TestHub::start(chat()).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    bob.join("a").await;
    let message = json!({"event": "message.send", "data": {"channelId": "a", "content": "1"}, "id": "x-1"});
    let first = ann.ask(message.clone()).await;
    assert_eq!(ann.ask(message.clone()).await, first);
    // Another connection of the same user, as after a reconnect.
    assert_eq!(hub.connect("ann").await.ask(message).await, first);
    let other = json!({"event": "message.send", "data": {"channelId": "a", "content": "2"}, "id": "x-1"});
    assert_eq!(ann.ask(other.clone()).await["data"]["code"], "idempotency_conflict");
    // The id is the user's own: another's is another.
    assert_eq!(hub.connect("cid").await.ask(other).await["event"], "ack");
    assert_eq!(bob.next_event().await["data"]["content"], "1");
    assert_eq!(bob.next_event().await["from"], "cid");
}

#[tokio::test(start_paused = true)]
async fn a_retry_joins_the_call_that_still_runs() {
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, gated) = (Arc::clone(&runs), Arc::clone(&gate));
    let builder = Hub::builder().on("slow", move |_: Context, (): ()| {
        let (runs, gate) = (Arc::clone(&counted), Arc::clone(&gated));
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await?.forget();
            Ok("done")
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let (mut first, mut second) = (hub.connect("ann").await, hub.connect("ann").await);
    let message = json!({"event": "slow", "id": "x-1"});
    first.send(message.clone()).await;
    second.send(message).await;
    // Answered only after everything before it was: so both calls have been begun.
    second.request("room.list", json!(null)).await;
    first.request("room.list", json!(null)).await;
    gate.add_permits(1);
    for client in [&mut first, &mut second] {
        assert_eq!(client.next_named("ack").await["data"], "done");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// After a cut a client sends what it has no ack for again, in its order: the first may still run for the connection before.
#[tokio::test(start_paused = true)]
async fn what_follows_a_retry_waits_for_the_call_that_the_retry_joins() {
    let (begun, gate, order) =
        (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let seen = (Arc::clone(&begun), Arc::clone(&gate), Arc::clone(&order));
    let builder = chat().on("write", move |_: Context, line: u32| {
        let (begun, gate, order) = seen.clone();
        async move {
            if line == 1 {
                begun.notify_one();
                gate.acquire().await?.forget();
            }
            order.lock().push(line);
            Ok(line)
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let write = |line: u32| json!({"event": "write", "room": "a", "id": format!("x-{line}"), "data": line});
    ann.send(write(1)).await;
    begun.notified().await;
    drop(ann);
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    for line in 1..=3 {
        ann.send(write(line)).await;
    }
    // Answered only after everything before it was begun or waits.
    ann.request("room.list", json!(null)).await;
    assert_eq!(*order.lock(), [0; 0]);
    gate.add_permits(1);
    for line in 1..=3 {
        assert_eq!(ann.next_named("ack").await["data"], line);
    }
    assert_eq!(*order.lock(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_does_not_use_its_id_up() {
    let tries = Arc::new(AtomicU32::new(0));
    let builder = Hub::builder().rule(RoomRules::new("*").join(Access::Anyone)).on(
        "flaky",
        move |ctx: Context, room: RoomId| {
            let nth = tries.fetch_add(1, Ordering::SeqCst);
            async move {
                ctx.broadcast(&room, "begun", &nth).await?;
                if nth == 0 { Err(AckError::unavailable("not yet")) } else { Ok(nth) }
            }
        },
    );
    let hub = TestHub::start(builder).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    bob.join("a").await;
    let message = json!({"event": "flaky", "data": "a", "id": "x-1"});
    assert_eq!(ann.ask(message.clone()).await["data"]["code"], "unavailable");
    assert_eq!(ann.ask(message).await["data"], 1);
    // The first try's publish was stored, so the second's is the same event.
    assert_eq!(bob.next_event().await["data"], 0);
    hub.hub().room(&RoomId::parse("a").unwrap()).broadcast("end", &()).await.unwrap();
    assert_eq!(bob.next_event().await["event"], "end");
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_that_call() {
    let builder = chat().on("panic", |_: Context, how: String| {
        assert_ne!(how, "at once", "before the first await");
        async move {
            assert_ne!(how, "later", "inside the future");
            Ok(how)
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    for how in ["at once", "later"] {
        let error = ann.request("panic", json!(how)).await;
        assert_eq!((&error["event"], &error["data"]["code"]), (&json!("error"), &json!("internal")));
    }
    assert_eq!(ann.request("panic", json!("no")).await["data"], "no");
    assert_eq!(hub.hub().metrics().panics, 2);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_sends_of_one_socket_reach_their_handler_in_order() {
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let mut builder = Hub::builder().on("count", move |_: Context, number: u32| {
        let heard = Arc::clone(&heard);
        async move {
            // Every call yields differently often, so only the lane keeps the order.
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            heard.lock().push(number);
            Ok(number)
        }
    });
    let mut limits = tidings::Limits::default();
    (limits.messages_per_second, limits.messages_burst) = (1000, 1000);
    limits.messages_per_second_per_user = 1000;
    builder = builder.limits(limits);
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    for number in 0..200 {
        ann.send(json!({"event": "count", "data": number, "id": format!("x-{number}")})).await;
    }
    for number in 0..200 {
        assert_eq!(ann.next_named("ack").await["data"], number);
    }
    assert_eq!(*seen.lock(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_call_keeps_its_place_and_others_pass() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let builder = chat().on("slow", move |_: Context, (): ()| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await?.forget();
            Ok(())
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    ann.join("b").await;
    for message in [
        json!({"event": "slow", "room": "a", "id": "1"}),
        json!({"event": "note", "room": "a", "id": "2"}),
        json!({"event": "room.leave", "room": "a", "id": "3"}),
        json!({"event": "note", "room": "a", "id": "4"}),
        json!({"event": "note", "room": "b", "id": "5"}),
    ] {
        ann.send(message).await;
    }
    assert_eq!(ann.next_named("ack").await["id"], "5", "another room does not wait");
    gate.add_permits(1);
    // Served in order; the ack of a publish may come after a later answer.
    for id in ["1", "2", "3"] {
        ann.next_where(|message| message["event"] == "ack" && message["id"] == id).await;
    }
    let error = ann.next_named("error").await;
    assert_eq!((&error["id"], &error["data"]["code"]), (&json!("4"), &json!("not_joined")));
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_stops_the_reading_and_loses_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let mut limits = tidings::Limits::default();
    (limits.messages_per_second, limits.messages_burst) = (10_000, 10_000);
    limits.messages_per_second_per_user = 10_000;
    let builder = Hub::builder().limits(limits).on("slow", move |_: Context, number: u32| {
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await?.forget();
            Ok(number)
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    for number in 0..500 {
        ann.send(json!({"event": "slow", "data": number, "id": format!("x-{number}")})).await;
    }
    // Longer than the silence limit: what we do not read is not the client's silence.
    tokio::time::advance(std::time::Duration::from_secs(200)).await;
    gate.add_permits(500);
    for number in 0..500 {
        assert_eq!(ann.next_named("ack").await["data"], number);
    }
}

#[tokio::test(start_paused = true)]
async fn binary_goes_in_and_out() {
    let builder = chat().on_binary("image.send", |ctx: Context, payload: Bytes| async move {
        let room = ctx.room().cloned().ok_or_else(|| AckError::invalid("a room is needed"))?;
        ctx.broadcast_binary(&room, "image.send", payload.clone()).await?;
        Ok(payload.len())
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.join("a").await;
    let payload: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    ann.send_binary(json!({"event": "image.send", "room": "a", "id": "x-1"}), &payload).await;
    ann.send_binary(json!({"event": "raw", "room": "a", "id": "x-2"}), &payload).await;
    let mut got = Vec::new();
    while got.len() < 2 {
        if let TestFrame::Binary(header, payload) = ann.next().await {
            got.push((header["event"].clone(), header["from"].clone(), payload));
        }
    }
    for (index, event) in ["image.send", "raw"].into_iter().enumerate() {
        assert_eq!(got[index].0, event);
        assert_eq!(got[index].1, "ann");
        assert!(got[index].2 == payload, "byte for byte");
    }
    let error = ann.request_in("a", "image.send", json!(1)).await;
    assert_eq!(error["data"]["code"], "invalid");
    let history = ann.request_in("a", "room.history", json!({})).await;
    assert_eq!(history["data"]["events"][1]["encoding"], "base64");
    assert_eq!(history["data"]["events"][1]["data"].as_str().map(str::len), Some(80_000));
}

#[tokio::test(start_paused = true)]
async fn identity_is_at_the_handlers_hand() {
    let builder = Hub::builder().on("whoami", |ctx: Context, (): ()| async move {
        let claims: Value = ctx.claims()?;
        Ok(json!({"user": ctx.user(), "team": claims["team"], "session": ctx.session().to_string(), "id": ctx.request_id()}))
    });
    let hub = TestHub::start(builder).unwrap();
    let identity: Identity = identity("ann").with_claims(r#"{"team":"red"}"#);
    let mut ann = hub.connect_as(identity, ConnectOptions::default()).await.unwrap();
    let session = ann.session().to_string();
    let answer = ann.ask(json!({"event": "whoami", "id": "x-1"})).await;
    assert_eq!(answer["data"], json!({"user": "ann", "team": "red", "session": session, "id": "x-1"}));
}

#[tokio::test(start_paused = true)]
async fn the_application_reaches_connections_users_and_rooms_from_outside() {
    let hub = TestHub::start(chat()).unwrap();
    let (mut ann, mut tab, mut bob) =
        (hub.connect("ann").await, hub.connect("ann").await, hub.connect("bob").await);
    let room = RoomId::parse("a").unwrap();
    let handle = hub.hub().room(&room);
    assert!(handle.join(ann.session()).await && handle.join(bob.session()).await);
    assert_eq!(hub.hub().rooms_of(ann.session()).await, std::slice::from_ref(&room));
    let members = handle.members().await.unwrap();
    assert_eq!(members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(hub.hub().send_to_user("ann", "ping", &1).unwrap(), 2);
    assert!(hub.hub().send_to_connection(bob.session(), "ping", &2).unwrap());
    for (client, data) in [(&mut ann, 1), (&mut tab, 1), (&mut bob, 2)] {
        let event = client.next_event().await;
        assert_eq!(
            (&event["event"], &event["data"], &event["id"]),
            (&json!("ping"), &json!(data), &Value::Null)
        );
    }
    let id = handle.broadcast_excluding("ann", ann.session(), "news", &3).await.unwrap();
    assert_eq!(bob.next_event().await["id"], id.to_string());
    let skip = ann.next_named("room.skip").await;
    assert_eq!((&skip["id"], &skip["data"]["reason"]), (&json!(id.to_string()), &json!("excluded")));
    assert!(handle.leave(ann.session()).await && !handle.leave(ann.session()).await);
    assert!(handle.broadcast("room.reset", &()).await.is_err(), "reserved");
    assert_eq!(hub.hub().disconnect_user("ann").await, Ok(2));
    assert_eq!(tab.closed().await.map(|code| code.0), Some(4006));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_application_joins_is_told_so_before_anything_of_the_room() {
    let hub = TestHub::start(chat()).unwrap();
    let (mut ann, mut bob) = (hub.connect("ann").await, hub.connect("bob").await);
    let room = RoomId::parse("a").unwrap();
    let handle = hub.hub().room(&room);
    bob.join("a").await;
    let before = handle.broadcast("news", &0).await.unwrap();
    assert!(handle.join(ann.session()).await);
    let first = handle.broadcast("news", &1).await.unwrap();
    let told = json!({"recovery": "fresh", "last_event_id": before.to_string(), "top": before.to_string(), "members": 2});
    assert_eq!(ann.next_message().await, json!({"event": "room.joined", "room": "a", "data": told}));
    assert_eq!(ann.next_message().await["id"], first.to_string());
    // Who is in the room already is told nothing, and misses nothing of what is on its way.
    let publishing = async {
        for number in 2..50 {
            handle.broadcast("news", &number).await.unwrap();
        }
    };
    let joining = async {
        for _ in 2..50 {
            assert!(handle.join(ann.session()).await);
        }
    };
    tokio::join!(publishing, joining);
    for number in 2..50 {
        assert_eq!(ann.next_message().await["data"], number);
    }
    assert!(handle.leave(ann.session()).await && !handle.leave(ann.session()).await);
    handle.broadcast("news", &50).await.unwrap();
    let left = json!({"event": "room.left", "room": "a", "data": {"reason": "removed"}});
    assert_eq!(ann.next_message().await, left);
    ann.send(json!({"event": "room.list", "id": "l"})).await;
    assert_eq!(ann.next_message().await["data"], json!({"rooms": []}), "and nothing else");
    // By the user, on every connection, it is the same.
    assert_eq!(hub.hub().join_user("ann", &room).await.found, 1);
    assert_eq!(ann.next_message().await["event"], "room.joined");
    assert_eq!(hub.hub().leave_user("ann", &room).await.found, 1);
    assert_eq!(ann.next_message().await, left);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_away_does_not_stop_its_call() {
    let (begun, ended, gate) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let seen = (Arc::clone(&begun), Arc::clone(&ended), Arc::clone(&gate));
    let builder = Hub::builder().on("slow", move |_: Context, (): ()| {
        let (begun, ended, gate) = seen.clone();
        async move {
            begun.notify_one();
            gate.acquire().await?.forget();
            ended.notify_one();
            Ok("done")
        }
    });
    let hub = TestHub::start(builder).unwrap();
    let mut ann = hub.connect("ann").await;
    ann.send(json!({"event": "slow", "id": "x-1"})).await;
    begun.notified().await;
    drop(ann);
    gate.add_permits(1);
    ended.notified().await;
    let mut again = hub.connect("ann").await;
    assert_eq!(again.ask(json!({"event": "slow", "id": "x-1"})).await["data"], "done");
}
