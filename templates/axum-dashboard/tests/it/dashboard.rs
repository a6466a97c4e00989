//! The dashboard as its viewers see it.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use dashboard::realtime::rooms::room_of;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::person::Person;
use crate::server::Server;

const ROOM: &str = "board:machine";

fn begin_of(seen: &[Value], stored: &[Value]) -> usize {
    let begin = stored.iter().position(|sample| *sample == seen[0]);
    begin.expect("what is seen is stored")
}

#[tokio::test]
async fn a_viewer_sees_what_is_stored() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    let wrong = json!({"name": "ann", "password": "another"});
    let wrong = server.ask("POST", "/login", "", wrong).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let me = ann.ask("GET", "/me", Value::Null).await;
    let boards = json!([{"name": "machine", "room": ROOM}]);
    assert_eq!(me.body, json!({"user": "ann", "boards": boards}));
    ann.sees(9).await;
    let stored = ann.stored().await;
    assert!(ann.seen.iter().all(|sample| stored.contains(sample)));
    for series in ["cpu", "memory", "load"] {
        let of_series = |sample: &&Value| sample["series"] == series;
        let of_series: Vec<_> = ann.seen.iter().filter(of_series).collect();
        assert!(of_series.len() > 1 && of_series.iter().all(|sample| sample["value"].is_f64()));
    }
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing_and_repeat_nothing() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    for round in 1..=4 {
        ann.sees(10).await;
        // In a heartbeat, or at once.
        server.line.cut_after(round * 20);
        ann.request(ROOM, "presence.heartbeat", Value::Null).await;
        ann.sees(5).await;
        server.line.cut();
    }
    ann.sees(10).await;
    assert!(server.line.connections() > 8, "nobody had to connect again");
    let stored = ann.stored().await;
    let begin = begin_of(&ann.seen, &stored);
    assert_eq!(ann.seen, stored[begin..begin + ann.seen.len()]);
}

#[tokio::test]
async fn nobody_watches_what_is_not_his_and_viewers_only_listen() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let Err(Error::Http(refused)) = connect_async(format!("ws://{}/ws", server.address)).await
    else {
        panic!("there was no token")
    };
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    for path in ["/me", "/token", "/boards/machine/samples"] {
        let answer = server.ask("GET", path, "", Value::Null).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }

    let mut ann = Person::connected(&server, "ann").await;
    let bob = Person::log_in(&server, "bob").await;
    let secret = ann.ask("GET", "/boards/secret/samples", Value::Null).await;
    assert_eq!(secret.status, StatusCode::FORBIDDEN);
    let foreign = ann.request("board:secret", "room.join", json!({})).await;
    assert_eq!(foreign["code"], "forbidden");
    let sample = json!({"series": "cpu", "value": 0.5, "unit": "ratio", "at": 0.0});
    assert_eq!(
        ann.request(ROOM, "sample", sample).await["code"],
        "forbidden"
    );

    // Who is taken out sees nothing more at once, and can't come back.
    let watchers = "/boards/machine/watchers";
    let removed = bob
        .ask("DELETE", &format!("{watchers}/ann"), Value::Null)
        .await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    ann.takes(ROOM, "room.left").await;
    assert_eq!(
        ann.request(ROOM, "room.join", json!({})).await["code"],
        "forbidden"
    );
    let samples = ann.ask("GET", "/boards/machine/samples", Value::Null).await;
    assert_eq!(samples.status, StatusCode::FORBIDDEN);
    let nobody = bob
        .ask("PUT", &format!("{watchers}/nobody"), Value::Null)
        .await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    let added = bob
        .ask("PUT", &format!("{watchers}/ann"), Value::Null)
        .await;
    assert_eq!(added.status, StatusCode::NO_CONTENT);
    ann.sees(3).await;

    ann.ask("POST", "/logout", Value::Null).await;
    let answer = ann.ask("GET", "/me", Value::Null).await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "the session is over"
    );
}

#[tokio::test]
async fn who_reads_too_slowly_gets_the_newest_and_not_a_backlog() {
    const SENT: usize = 400;
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), None).await;
    let ann = Person::log_in(&server, "ann").await;
    let token = ann.ask("GET", "/token", Value::Null).await.body["token"].clone();
    let url = format!(
        "ws://{}/ws?token={}",
        server.address,
        token.as_str().unwrap()
    );
    let (mut socket, _) = connect_async(url).await.unwrap();
    let (rooms, room) = (&server.app.realtime.rooms, room_of("machine").unwrap());
    let filling = "x".repeat(100_000);
    for number in 1..=SENT {
        let data = json!({"series": "large", "value": number, "filling": filling});
        rooms.broadcast(&room, "sample", &data, None).await.unwrap();
    }
    let (mut seen, mut skips) = (Vec::new(), 0);
    while seen.last() != Some(&SENT) {
        let message = socket.next().await.unwrap().unwrap();
        let Ok(text) = message.to_text() else {
            continue;
        };
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        if let Some(value) = message["data"]["value"].as_u64() {
            seen.push(value as usize);
        }
        skips += usize::from(message["data"]["reason"] == "conflated");
    }
    assert!(
        seen.is_sorted() && seen.len() < SENT / 2,
        "{} were sent",
        seen.len()
    );
    assert!(skips > 0, "what was left out is told");
}

#[tokio::test]
async fn other_processes_publish_with_the_key_and_once() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), None).await;
    let mut ann = Person::connected(&server, "ann").await;
    let publish = async |room: &str, key: &str| {
        let request = Request::post(format!("/v1/rooms/{room}/events"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "order-1");
        let data = json!({"series": "orders", "value": 7.0, "unit": "count", "at": 1.5});
        let body = json!({"event": "sample", "data": data}).to_string();
        server.send(request.body(Body::from(body)).unwrap()).await
    };
    // printf 'tidings api key v1' | openssl dgst -sha256 -hmac 'canary-bird of the tests of this dashboard'
    let key = "89554dffb3fe57f1c87aca79b0512a72d0594d40aa2e3ca2cbe910fa424fc4d8";
    assert_eq!(
        publish(ROOM, "another key").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(publish("no_board", key).await.status, StatusCode::NOT_FOUND);
    assert_eq!(publish(ROOM, key).await.body["duplicate"], false);
    assert_eq!(publish(ROOM, key).await.body["duplicate"], true);
    ann.sees(1).await;
    assert_eq!(ann.seen[0]["series"], "orders");
    server.sample();
    ann.sees(3).await;
    assert!(
        ann.seen[1..]
            .iter()
            .all(|sample| sample["series"] != "orders")
    );
}

#[tokio::test]
async fn the_page_asks_for_nothing_that_is_not_there() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), None).await;
    let page = server.ask("GET", "/", "", Value::Null).await;
    let page = page.body.as_str().unwrap();
    let asked = page
        .split(['"', ' '])
        .filter(|text| text.starts_with("dashboard."));
    let asked: Vec<&str> = asked.collect();
    assert_eq!(asked, ["dashboard.css", "dashboard.js"]);
    for name in [asked[0], asked[1], "tidings-client.js"] {
        let answer = server
            .ask("GET", &format!("/{name}"), "", Value::Null)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
    }
}
