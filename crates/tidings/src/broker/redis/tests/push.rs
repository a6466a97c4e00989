//! What one RESP3 connection does with a room's messages and with answers, in which order.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, Value};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::redis_servers::Forwarder;
use super::*;
use crate::broker::redis::message::Published;

/// What the push sender was given, in its order.
type Seen = Arc<Mutex<Vec<PushInfo>>>;

/// A connection whose driver runs in a task of ours: its end is the one sign of a lost connection that never fails.
async fn listening(address: SocketAddr) -> (MultiplexedConnection, Seen, JoinHandle<()>) {
    let seen = Seen::default();
    let pushes = seen.clone();
    let config = AsyncConnectionConfig::new().set_push_sender(move |push: PushInfo| {
        pushes.lock().push(push);
        Ok::<_, redis::aio::SendError>(())
    });
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&settings, stream, config).await.unwrap();
    (connection, seen, tokio::spawn(driver))
}

fn messages(seen: &Seen) -> Vec<Published> {
    let seen = seen.lock();
    let messages = seen.iter().filter(|push| matches!(push.kind, PushKind::Message | PushKind::SMessage));
    messages
        .map(|push| match &push.data[..] {
            [Value::BulkString(channel), Value::BulkString(message)] => {
                assert_eq!(channel, b"tidings:1:{chat:lobby}");
                Published::parse(&Bytes::copy_from_slice(message)).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn what_a_call_stored_is_one_message_and_what_it_did_not_is_none() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let (mut listener, seen, _) = listening(server.address()).await;
    listener.subscribe(desk.keys.channel()).await.unwrap();
    let records = ["a b\n", "", "\0"];
    let at_ms = {
        let call: Vec<_> = records.iter().map(|record| plain(record)).collect();
        desk.submit(&call).await.unwrap().at_ms
    };
    let id = [1; 16];
    desk.publish_as(&id, 1, "d").await;
    desk.publish_as(&id, 1, "d").await;
    desk.publish_as(&id, 2, "e").await;
    // Whatever was pushed to this connection by now comes before this answer.
    let _: String = redis::cmd("PING").query_async(&mut listener).await.unwrap();
    let [batch, single] = &messages(&seen)[..] else { panic!("{:?}", seen.lock()) };
    let read = desk.read_after(None).await;
    assert_eq!(batch.first, Position { epoch: read.state.epoch, offset: 1 });
    assert_eq!(batch.records, records.map(str::as_bytes));
    assert_eq!((batch.at_ms, read.events[0].at_ms), (at_ms, at_ms));
    assert_eq!((single.first.offset, &single.records[..]), (4, &[Bytes::from_static(b"d")][..]));
    assert_eq!(single.at_ms, read.events[3].at_ms);
}

#[tokio::test]
async fn a_sharded_channel_is_the_same_with_another_name() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let (mut connection, seen, _) = listening(server.address()).await;
    let scripts = Scripts::new(Lineage::ReplicationId, Channels::Sharded);
    scripts.load(&mut connection).await.unwrap();
    let keys = Keyspace::default().room(&RoomId::parse("chat:lobby").unwrap());
    while !redis::cmd("CLUSTER")
        .arg("INFO")
        .query_async::<String>(&mut connection)
        .await
        .unwrap()
        .contains("state:ok")
    {}
    // One channel a command: a confirmation more than there are answers would be taken for the next one.
    let confirmed: Value =
        redis::cmd("SSUBSCRIBE").arg(keys.channel()).query_async(&mut connection).await.unwrap();
    assert!(matches!(confirmed, Value::Push { kind: PushKind::SSubscribe, .. }), "{confirmed:?}");
    let receipts = scripts.publish(&mut connection, &keys, fresh(), &WIDE, &[plain("a")]).await.unwrap();
    let _: String = redis::cmd("PING").query_async(&mut connection).await.unwrap();
    let [message] = &messages(&seen)[..] else { panic!("{:?}", seen.lock()) };
    assert_eq!(Outcome::Stored(message.first), receipts.outcomes[0]);
    assert_eq!(scripts.positions(&mut connection, &[&keys], fresh()).await.unwrap(), [message.first]);
    assert_eq!(scripts.read(&mut connection, &keys, fresh(), None, 10, 1000).await.unwrap().events.len(), 1);
}

/// Redis 7.0 sends a publisher's own message before the answer of its call, 7.2 and Valkey after it: nothing may
/// depend on which. What was stored before it is seen before it everywhere.
#[tokio::test]
async fn what_others_stored_before_is_seen_before_the_answer() {
    let server = RedisServer::start().await;
    let info: String = server.run(&["INFO", "server"]).await;
    let own_comes_first = info.contains("redis_version:7.0.");
    let (connection, seen, _) = listening(server.address()).await;
    let mut desk = Desk { connection, ..Desk::at(&server).await };
    let mut other = Desk::at(&server).await;
    let channel = desk.keys.channel().to_owned();
    desk.connection.subscribe(&channel).await.unwrap();
    let offsets = || messages(&seen).iter().map(|message| message.first.offset).collect::<Vec<_>>();
    for round in 0..100_u64 {
        other.publish(&["theirs"]).await;
        let mine = desk.publish(&["mine"]).await[0].offset;
        let at_the_answer = offsets();
        assert_eq!(mine, 2 * round + 2);
        let expected = if own_comes_first { mine } else { mine - 1 };
        assert!(at_the_answer.contains(&expected), "{at_the_answer:?}");
        let _: String = desk.run(&["PING"]).await;
        assert_eq!(offsets(), (1..=mine).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_closed_connection_tells_its_push_sender_and_ends_its_driver() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let (mut connection, seen, driver) = listening(forwarder.address()).await;
    forwarder.cut();
    driver.await.unwrap();
    assert_eq!(seen.lock().last().unwrap().kind, PushKind::Disconnection);
    let failed = redis::cmd("PING").query_async::<String>(&mut connection).await.unwrap_err();
    assert!(matches!(CallError::from(failed), CallError::Io(_)));
}

/// What a server says too much is taken for the answer of whatever is waiting. A cluster that moves a slot says it of
/// every sharded channel there: then the connection is not to be used any more.
#[tokio::test]
async fn an_unsubscription_that_nobody_asked_for_shifts_the_answers() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let (mut connection, _, _) = listening(server.address()).await;
    while !redis::cmd("CLUSTER")
        .arg("INFO")
        .query_async::<String>(&mut connection)
        .await
        .unwrap()
        .contains("state:ok")
    {}
    let _: Value = redis::cmd("SSUBSCRIBE").arg("{a}").query_async(&mut connection).await.unwrap();
    let slot: String = redis::cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg("a")
        .query_async::<u64>(&mut connection)
        .await
        .unwrap()
        .to_string();
    let mut other = connection.clone();
    let mut delete = redis::cmd("CLUSTER");
    delete.arg("DELSLOTS").arg(&slot);
    let mut echo = redis::cmd("ECHO");
    echo.arg("mine");
    let answers = futures_util::join!(
        delete.query_async::<Value>(&mut connection),
        echo.query_async::<Value>(&mut other)
    );
    assert!(!matches!(answers.1, Ok(Value::BulkString(ref echo)) if echo == b"mine"));
}

#[tokio::test]
async fn an_answer_that_came_too_late_is_nobody_elses() {
    let server = RedisServer::start().await;
    let forwarder = Forwarder::start(server.address()).await;
    let (connection, _, _) = listening(forwarder.address()).await;
    let mut desk = Desk { connection, ..Desk::at(&server).await };
    desk.publish(&["a"]).await;
    desk.connection.set_response_timeout(Duration::from_millis(50));
    for silent in [true, false] {
        if silent {
            server.pause();
        } else {
            forwarder.hold();
        }
        // It may have been carried out: this one is, as soon as the server can.
        let late = desk.submit(&[plain("b")]).await;
        assert!(matches!(late, Err(CallError::Io(error)) if error.is_timeout()));
        server.go_on();
        forwarder.release();
    }
    desk.connection.set_response_timeout(Duration::from_secs(20));
    assert_eq!(desk.position().await.offset, 3);
    assert_eq!(desk.log().await.len(), 3);
}
