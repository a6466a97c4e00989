//! The chat as its users see it.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use chat::database::Database;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;

use crate::person::Person;
use crate::server::Server;

#[tokio::test]
async fn two_people_talk_edit_and_type_and_what_is_stored_is_what_was_said() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    let wrong = json!({"name": "ann", "password": "another"});
    let wrong = server.ask("POST", "/login", "", wrong).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);

    ann.say("hello").await;
    bob.hears("ann: hello").await;
    bob.send("ch_1", "typing.start", Value::Null).await;
    assert_eq!(
        ann.takes("ch_1", "typing.start").await["data"]["user"],
        "bob"
    );
    let seq = bob.say("hi").await["seq"].clone();
    let edit = json!({"seq": seq, "content": "hi, ann"});
    bob.request("ch_1", "message.edit", edit.clone()).await;
    ann.hears("edited: bob: hi, ann").await;
    assert_eq!(ann.heard, ["ann: hello", "bob: hi", "edited: bob: hi, ann"]);
    assert_eq!(ann.stored().await, ["ann: hello", "bob: hi, ann"]);
    let refused = ann.request("ch_1", "message.edit", edit).await;
    assert_eq!(refused["code"], "forbidden");
    let heartbeat = ann.request("ch_1", "presence.heartbeat", Value::Null).await;
    assert!(heartbeat["seen_at"].is_i64(), "{heartbeat}");
}

#[tokio::test]
async fn connections_that_are_cut_in_a_message_lose_nothing_and_repeat_nothing() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    let mut expected = Vec::new();
    for round in 1..=6 {
        // In the first message, or between two, or in the last.
        server.line.cut_after(round * 40);
        let mut ids = Vec::new();
        for number in 1..=3 {
            let content = format!("{round}.{number}");
            ids.push(
                ann.send("ch_1", "message.send", json!({"content": content}))
                    .await,
            );
            expected.push(format!("ann: {content}"));
        }
        for id in ids {
            ann.answer(&id).await;
        }
        bob.hears(expected.last().unwrap()).await;
        ann.hears(expected.last().unwrap()).await;
    }
    // And while nothing is under way.
    server.line.cut();
    ann.say("still there?").await;
    expected.push("ann: still there?".to_owned());
    bob.hears("ann: still there?").await;
    ann.hears("ann: still there?").await;
    assert_eq!(bob.heard, expected);
    assert_eq!(ann.heard, expected);
    assert_eq!(bob.stored().await, expected);
    assert!(
        server.line.connections() >= 2 + 6,
        "nobody had to connect again"
    );
}

#[tokio::test]
async fn a_request_that_comes_again_is_stored_once_also_by_a_server_that_was_started_again() {
    let folder = TempDir::new().unwrap();
    let hello = json!({"content": "hello"});
    let first = Server::start(folder.path()).await;
    let mut ann = Person::connected(&first, "ann").await;
    ann.send_as("uuid", "ch_1", "message.send", hello.clone())
        .await;
    let stored = ann.answer("uuid").await;
    ann.disconnect();
    ann.connect().await;
    ann.send_as("uuid", "ch_1", "message.send", hello.clone())
        .await;
    assert_eq!(ann.answer("uuid").await, stored);

    let second = Server::start(folder.path()).await;
    let mut ann = Person::connected(&second, "ann").await;
    ann.send_as("uuid", "ch_1", "message.send", hello.clone())
        .await;
    assert_eq!(ann.answer("uuid").await, stored);
    assert_eq!(ann.stored().await, ["ann: hello"]);
    // In another channel it would be another message.
    ann.ask("POST", "/channels", json!({"name": "Workshop"}))
        .await;
    ann.takes("ch_2", "room.joined").await;
    ann.send_as("uuid", "ch_2", "message.send", hello).await;
    assert_eq!(ann.answer("uuid").await["code"], "idempotency_conflict");
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_into_a_foreign_channel_or_past_a_schema() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let Err(Error::Http(refused)) = connect_async(format!("ws://{}/ws", server.line.address)).await
    else {
        panic!("there was no token")
    };
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    for path in ["/me", "/token", "/channels/1/messages"] {
        let answer = server.ask("GET", path, "", Value::Null).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }

    let ann = Person::log_in(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    let channel = ann
        .ask("POST", "/channels", json!({"name": "Secret"}))
        .await;
    assert_eq!(
        (channel.status, &channel.body["room"]),
        (StatusCode::CREATED, &json!("ch_2"))
    );
    let foreign = bob.request("ch_2", "room.join", json!({})).await;
    assert_eq!(foreign["code"], "forbidden");
    let unheard = bob
        .request("ch_2", "message.send", json!({"content": "hello"}))
        .await;
    assert_eq!(unheard["code"], "not_joined");
    let messages = bob.ask("GET", "/channels/2/messages", Value::Null).await;
    assert_eq!(messages.status, StatusCode::FORBIDDEN);
    let longest = "x".repeat(4000);
    for bad in [
        json!({"content": 7}),
        json!({"content": ""}),
        json!({"content": longest.clone() + "x"}),
    ] {
        assert_eq!(
            bob.request("ch_1", "message.send", bad).await["code"],
            "schema"
        );
    }
    assert!(bob.say(&longest).await["seq"].is_i64());
    assert_eq!(
        bob.request("ch_1", "say.anything", Value::Null).await["code"],
        "forbidden"
    );

    bob.ask("POST", "/logout", Value::Null).await;
    let answer = bob.ask("GET", "/me", Value::Null).await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "the session is over"
    );
}

#[tokio::test]
async fn an_invitation_is_told_and_its_end_counts_at_once() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    ann.ask("POST", "/channels", json!({"name": "Secret"}))
        .await;
    let nobody = ann
        .ask("PUT", "/channels/2/members/nobody", Value::Null)
        .await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    let added = ann.ask("PUT", "/channels/2/members/bob", Value::Null).await;
    assert_eq!(added.status, StatusCode::NO_CONTENT);
    assert_eq!(
        bob.takes("user:bob", "channels.changed").await["data"]["room"],
        "ch_2"
    );
    ann.request("ch_2", "message.send", json!({"content": "welcome"}))
        .await;
    bob.hears("ann: welcome").await;

    ann.ask("DELETE", "/channels/2/members/bob", Value::Null)
        .await;
    bob.takes("ch_2", "room.left").await;
    let again = bob.request("ch_2", "room.join", json!({})).await;
    assert_eq!(again["code"], "forbidden", "his page does not help him");
    ann.request("ch_2", "message.send", json!({"content": "he is gone"}))
        .await;
    ann.say("and this is for all").await;
    bob.hears("ann: and this is for all").await;
    assert_eq!(bob.heard, ["ann: welcome", "ann: and this is for all"]);
}

#[tokio::test]
async fn what_the_history_does_not_have_comes_from_the_database() {
    let folder = TempDir::new().unwrap();
    let first = Server::start(folder.path()).await;
    let mut ann = Person::connected(&first, "ann").await;
    ann.say("before").await;
    ann.hears("ann: before").await;

    let second = Server::start(folder.path()).await;
    ann.server = &second;
    ann.connect().await;
    let reset = ann.takes("ch_1", "room.reset").await;
    let messages = &reset["data"]["state"]["messages"];
    assert_eq!(
        (&messages[0]["content"], &messages[1]),
        (&json!("before"), &Value::Null)
    );
}

#[tokio::test]
async fn other_processes_publish_with_the_key_and_once() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let mut ann = Person::connected(&server, "ann").await;
    let publish = async |room: &str, key: &str| {
        let request = Request::post(format!("/v1/rooms/{room}/events"))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "deploy-1");
        let body = json!({"event": "deployed", "data": {"version": 2}}).to_string();
        server.send(request.body(Body::from(body)).unwrap()).await
    };
    // printf 'tidings api key v1' | openssl dgst -sha256 -hmac 'canary-bird of the tests of this chat'
    let key = "7c5cfc4ce1ced853ecd140e202a50e2fb080febb1833cc0efb53cf756ee1f766";
    assert_eq!(
        publish("ch_1", "another key").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        publish("no_channel", key).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(publish("ch_1", key).await.body["duplicate"], false);
    assert_eq!(publish("ch_1", key).await.body["duplicate"], true);
    assert_eq!(ann.takes("ch_1", "deployed").await["data"]["version"], 2);
    ann.say("no more of them").await;
    ann.hears("ann: no more of them").await;
    assert!(
        ann.came
            .iter()
            .all(|message| message["event"] != "deployed")
    );
}

#[tokio::test]
async fn the_page_asks_for_nothing_that_is_not_there() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path()).await;
    let page = server.ask("GET", "/", "", Value::Null).await;
    let page = page.body.as_str().unwrap();
    let asked = page
        .split(['"', ' '])
        .filter(|text| text.starts_with("chat."));
    let asked: Vec<&str> = asked.collect();
    assert_eq!(asked, ["chat.css", "chat.js"]);
    for name in [asked[0], asked[1], "tidings-client.js"] {
        let answer = server
            .ask("GET", &format!("/{name}"), "", Value::Null)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_is_opened_by_several_at_once() {
    for _ in 0..20 {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("chat.db");
        let open = || {
            let file = file.clone();
            tokio::spawn(async move { Database::open(&file).await.map(drop) })
        };
        let opening: Vec<_> = (0..10).map(|_| open()).collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
    }
}
