//! How many publishes with history a hub gets out of a Redis, beside what `redis-benchmark` gets for the same script: what
//! lies between is ours. Asked for with `./test --long redis-speed`, alone on the machine and in a release build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::process::Command;
use std::time::{Duration, Instant};

use redis_servers::RedisServer;
use serde_json::json;
use tidings::protocol::limits::Limits;
use tidings::{Hub, Redis, RoomId, RoomRules};

/// Rooms that are published to, so many at a time in each.
const ROOMS: usize = 50;
const AT_ONCE: usize = 16;
const ROUNDS: usize = 3;
const MEASURED: Duration = Duration::from_secs(5);
/// Bytes of a record beside the event's data, about.
const RECORD_BYTES: usize = 40;
/// Bytes of an event's data.
const DATA_BYTES: usize = 200;

/// The last call of the publish script, as its arguments.
async fn last_call(server: &RedisServer) -> Vec<String> {
    let log: Vec<(i64, i64, i64, Vec<redis::Value>, String, String)> =
        server.run(&["SLOWLOG", "GET", "128"]).await;
    let texts = |arguments: Vec<redis::Value>| -> Vec<String> {
        let text = |argument| match argument {
            redis::Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        arguments.into_iter().map(text).collect()
    };
    let calls = log.into_iter().map(|(_, _, _, arguments, ..)| texts(arguments));
    calls
        .filter(|arguments| {
            arguments[0] == "EVALSHA" && arguments.iter().any(|argument| argument == "PUBLISH")
        })
        .find(|arguments| arguments.len() == 3 + 4 + 8 + 3)
        .expect("a call with one publication")
}

/// What `redis-benchmark` gets for the same call, as many of them on their way.
fn bare(server: &RedisServer, call: &[String]) -> f64 {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &server.address().port().to_string(), "-n", "100000", "-r", "50", "--csv"]);
    command.args(["-c", &ROOMS.to_string(), "-P", &AT_ONCE.to_string()]);
    for argument in call {
        command.arg(argument.replace("{bare}", "{bare__rand_int__}"));
    }
    let output = command.output().expect("redis-benchmark comes with redis-tools");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap();
    // "command","publishes a second",latencies…
    line.split("\",\"").nth(1).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// What the hub gets.
async fn ours(hub: &Hub) -> f64 {
    let until = Instant::now() + MEASURED;
    let publishing = (0..ROOMS * AT_ONCE).map(|index| {
        let room = hub.room(&RoomId::parse(&format!("ours{}", index % ROOMS)).unwrap());
        tokio::spawn(async move {
            let data = json!("x".repeat(DATA_BYTES));
            let mut count = 0_u64;
            while Instant::now() < until {
                room.broadcast("e", &data).await.unwrap();
                count += 1;
            }
            count
        })
    });
    let began = Instant::now();
    let mut count = 0;
    for publisher in publishing.collect::<Vec<_>>() {
        count += publisher.await.unwrap();
    }
    count as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: ./test --long redis-speed"]
async fn publishes_with_history_beside_the_bare_script() {
    let server = RedisServer::start_with(&["--slowlog-log-slower-than", "0"]).await;
    let mut limits = Limits::default();
    limits.publishes_per_second_per_room = 1_000_000;
    let builder = Hub::builder()
        .authenticate(tidings::auth::Jwt::hs256(b"canary-bird of a hub that is measured").unwrap())
        .rule(RoomRules::new("*").history_events(1000))
        .limits(limits)
        .broker(Redis::new(&server.url()).unwrap());
    let hub = builder.build().unwrap();
    redis_nodes::until("the node is ready", || hub.is_ready()).await;
    // One call, to see what it is.
    let bare_room = hub.room(&RoomId::parse("bare").unwrap());
    bare_room.broadcast("e", &json!("x".repeat(DATA_BYTES))).await.unwrap();
    let mut call = last_call(&server).await;
    // What a command line can't carry is replaced by as many bytes that it can.
    let of_publication = call.len() - 2;
    call[of_publication] = "12345678".to_owned();
    call[of_publication + 1] = "x".repeat(DATA_BYTES + RECORD_BYTES);
    let () = server.run(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]).await;
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let (bare, ours) = (bare(&server, &call), ours(&hub).await);
        println!("redis-benchmark {bare:.0} publishes/s, the hub {ours:.0}: {:.0} %", 100.0 * ours / bare);
        shares.push(ours / bare);
    }
    shares.sort_by(f64::total_cmp);
    assert!(shares[ROUNDS / 2] >= 0.8, "{shares:?}");
}
