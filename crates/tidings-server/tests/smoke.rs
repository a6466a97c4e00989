//! `tidings smoke`: green on servers that are right, and each check fails where its promise is broken, with a fix.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod backend;
mod middle;
mod server;

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backend::{Backend, Reply};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use middle::{Middle, signed_anew, with};
use serde_json::{Value, json};
use server::{Dev, Node, Serve, run, tidings};
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "canary-bird of the smoke, more than 32 bytes";

fn lines(output: &Output) -> Vec<Value> {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn smoke(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    run(tidings(&home).arg("smoke").args(arguments)).await
}

/// A server whose rooms and limits are chosen, and where its configuration is.
async fn served(rooms: &str) -> (Serve, String) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tidings.toml");
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        audience = "app"
        {rooms}
        [limits]
        connections_per_user_max = 3
        heartbeat_seconds = 1
        [admin]
        listen = "127.0.0.1:0"
        "#
    );
    std::fs::write(&file, config).unwrap();
    (Serve::start(home).await, file.display().to_string())
}

const CHAT: &str = "
[[rooms]]
pattern = 'chat:*'
publish = 'members'
any_event = true
[[rooms]]
pattern = 'closed'
";

#[tokio::test]
async fn a_server_for_development_is_green_and_what_can_not_be_judged_is_told() {
    let dev = Dev::start().await;
    let url = format!("http://{}", dev.address);
    // Without TLS nobody's certificates are asked for, which this system may not have.
    let mut command = tidings(&dev.home);
    command
        .args(["smoke", &url, "--quick"])
        .envs(["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| (name, "/nowhere")));
    let output = run(&mut command).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("skipped  foreign_room") && told.contains("--foreign-room NAME"), "{told}");
    assert!(told.contains("skipped  heartbeat") && told.contains("--quick"), "{told}");
    assert!(told.contains("429 connection_limit for connection 6"), "{told}");
    assert!(told.ends_with("12 passed, 2 skipped, 0 failed\n") && !told.contains('\x1b'), "{told}");
    let fetched = format!("http://{}/dev/token?user={{user}}", dev.address);
    let output = smoke(&[&url, "--quick", "--token-from", &fetched, "--json"]).await;
    assert_eq!(lines(&output).last().unwrap()["failed"], 0, "{:?}", lines(&output));
    assert_eq!(lines(&output)[2]["result"], "skipped", "the application gives no token that is past");
}

#[tokio::test]
async fn a_configured_server_passes_all_and_a_room_for_the_backend_is_published_to_by_its_api() {
    let (serve, config) = served(CHAT).await;
    let url = format!("ws://{}/ws", serve.address);
    let output =
        smoke(&[&url, "--config", &config, "--room", "chat:a", "--foreign-room", "closed", "--json"]).await;
    let told = lines(&output);
    assert_eq!(
        told.last().unwrap(),
        &json!({"passed": 14, "skipped": 0, "failed": 0, "not_run": 0}),
        "{told:#?}"
    );
    assert_eq!(output.status.code(), Some(0));
    let (serve, config) = served("[[rooms]]\npattern = 'live:*'\npresence = false\n").await;
    let url = format!("ws://{}/ws", serve.address);
    let output = smoke(&[&url, "--config", &config, "--room", "live:a", "--quick", "--json"]).await;
    let told = lines(&output);
    assert_eq!(output.status.code(), Some(0), "{told:#?}");
    let of = |check: &str| told.iter().find(|line| line["check"] == check).unwrap();
    assert!(of("delivery")["told"].as_str().unwrap().contains("HTTP API"));
    assert_eq!((&of("ack")["result"], &of("presence")["result"]), (&json!("skipped"), &json!("skipped")));
    // A room that keeps its newest event and gives it to whoever joins: who resumes has it once.
    let (serve, config) = served("[[rooms]]\npattern = 'board:*'\nkey = '/series'\nretain = true\n").await;
    let url = format!("ws://{}/ws", serve.address);
    let output = smoke(&[&url, "--config", &config, "--room", "board:a", "--quick", "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{:#?}", lines(&output));
}

#[tokio::test]
async fn somebody_who_is_there_already_can_not_be_seen_to_come() {
    let (serve, config) = served(CHAT).await;
    let token = json!({"sub": "ben", "aud": "app", "exp": 9_999_999_999_u64, "rooms": ["chat:a"]});
    let token = tidings::auth::mint_hs256(SECRET.as_bytes(), &token).unwrap();
    let url = format!("ws://{}/ws", serve.address);
    let (mut page, _) = tokio_tungstenite::connect_async(format!("{url}?token={token}")).await.unwrap();
    page.next().await.unwrap().unwrap();
    let named = [&url, "--config", &config, "--room", "chat:a", "--users", "ann,ben", "--quick", "--json"];
    let told = lines(&smoke(&named).await);
    let presence = told.iter().find(|line| line["check"] == "presence").unwrap();
    assert_eq!(presence["result"], "skipped", "{told:#?}");
    assert!(presence["told"].as_str().unwrap().contains("by another connection"), "{presence}");
}

#[tokio::test]
async fn each_check_fails_where_its_promise_is_broken() {
    let (serve, config) = served(CHAT).await;
    let is_event = |message: &Value| message["room"].is_string() && message["event"] == "smoke.test";
    let users = Arc::new(AtomicU64::new(0));
    let good = json!({"sub": "anyone", "aud": "app", "exp": 9_999_999_999_u64});
    let good = tidings::auth::mint_hs256(SECRET.as_bytes(), &good).unwrap();
    let middle = Middle::new;
    let broken: Vec<(&str, &str, Middle)> = vec![
        (
            "no_token",
            "granted",
            middle().request(move |head| match head.contains("authorization") {
                true => head,
                false => with(&head, &format!("authorization: Bearer {good}")),
            }),
        ),
        ("forged_token", "granted", middle().request(|head| signed_anew(&head, SECRET, |_| true))),
        (
            "expired_token",
            "an hour ago",
            middle().request(|head| {
                signed_anew(&head, SECRET, |claims| {
                    let is_past = claims["exp"].as_u64().unwrap() + 60 < now_s();
                    claims["exp"] = json!(now_s() + 60);
                    is_past
                })
            }),
        ),
        ("welcome", "no session.welcome came", middle().down(|_| Vec::new())),
        (
            "foreign_room",
            "could join",
            middle().down_json(|mut message| {
                if message["data"]["code"] == "forbidden" {
                    message = json!({"event": "ack", "id": message["id"], "data": {"recovery": "fresh"}});
                }
                vec![message]
            }),
        ),
        (
            "delivery",
            "no answer to room.join",
            middle().up_json(|message| if message["room"] == "chat:a" { vec![] } else { vec![message] }),
        ),
        (
            "delivery",
            "arrived 2 times",
            middle().down_json(move |message| match is_event(&message) {
                true => vec![message.clone(), message],
                false => vec![message],
            }),
        ),
        (
            "delivery",
            "0 of 2 events arrived",
            middle().down_json(move |message| if is_event(&message) { vec![] } else { vec![message] }),
        ),
        (
            "ack",
            "the event says it answers",
            middle().down_json(|mut message| {
                if message["re"].is_string() {
                    message["re"] = json!("another");
                }
                vec![message]
            }),
        ),
        (
            "duplicate",
            "not a duplicate",
            middle().down_json(|mut message| {
                if message["data"]["duplicate"] == true {
                    message["data"]["duplicate"] = json!(false);
                }
                vec![message]
            }),
        ),
        (
            "resume",
            "\"complete\" is due",
            middle().down_json(|mut message| {
                if message["event"] == "ack"
                    && let Some(rooms) = message["data"]["rooms"].as_object_mut()
                {
                    rooms.values_mut().for_each(|room| room["recovery"] = json!("fresh"));
                }
                vec![message]
            }),
        ),
        (
            "presence",
            "has left",
            middle().down_json(
                |message| if message["event"] == "presence.leave" { vec![] } else { vec![message] },
            ),
        ),
        (
            "too_large",
            "are taken",
            middle().up(|message| if message.len() > 60_000 { vec![] } else { vec![message] }),
        ),
        (
            "rate_limited",
            "are all taken",
            middle().down_json(|mut message| {
                if message["data"]["code"] == "rate_limited" {
                    message = json!({"event": "ack", "id": message["id"], "data": {}});
                }
                vec![message]
            }),
        ),
        (
            "connection_limit",
            "33 connections",
            middle().request(move |head| {
                signed_anew(&head, SECRET, |claims| {
                    let is_crowd = claims["sub"].as_str().unwrap().ends_with("-crowd");
                    claims["sub"] = json!(format!("crowd-{}", users.fetch_add(1, Ordering::Relaxed)));
                    is_crowd
                })
            }),
        ),
        (
            "heartbeat",
            "no ping came",
            middle().down(|message| if matches!(message, Message::Ping(_)) { vec![] } else { vec![message] }),
        ),
        (
            "heartbeat",
            "every 60s",
            middle().down_json(|mut message| {
                if message["event"] == "session.welcome" {
                    message["data"]["heartbeat_ms"] = json!(60_000);
                }
                vec![message]
            }),
        ),
    ];
    let config = config.as_str();
    let address = serve.address.as_str();
    let judged = broken.into_iter().map(async |(check, told, middle)| {
        let url = format!("ws://{}", middle.before(address).await);
        let room = ["--room", "chat:a", "--foreign-room", "closed"];
        let mut arguments = vec![url.as_str(), "--json", "--config", config];
        arguments.extend(room);
        if told != "no ping came" {
            arguments.push("--quick");
        }
        let output = smoke(&arguments).await;
        let lines = lines(&output);
        let failed = lines.iter().find(|line| line["result"] == "failed");
        let failed = failed.unwrap_or_else(|| panic!("{check}: {lines:#?}"));
        assert_eq!(failed["check"], check, "{failed:#?}");
        assert!(failed["told"].as_str().unwrap().contains(told), "{check}: {failed:#?}");
        assert!(!failed["fix"].as_str().unwrap().is_empty(), "{failed:#?}");
        assert_eq!(output.status.code(), Some(1), "{check}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(check));
    });
    // A few at a time: each is two programs, and one opens many connections.
    let mut judged: Vec<_> = judged.collect();
    while !judged.is_empty() {
        join_all(judged.drain(..judged.len().min(4))).await;
    }
}

/// As `tidings add` writes it, behind the rooms: the application is asked what a message and a heartbeat lead to.
const ASKED: &str = "
[[events]]
name = 'message.send'
webhook = true
[[events]]
name = 'presence.heartbeat'
webhook = true
";

#[tokio::test]
async fn an_application_that_is_asked_hears_one_heartbeat_and_one_that_does_not_answer_is_told() {
    let backend = Backend::start(|_| Reply::Json(json!({}))).await;
    let outbox = tempfile::tempdir().unwrap();
    let config =
        backend::config(&backend.url, outbox.path(), "events = [\"event\"]", &format!("{CHAT}{ASKED}"));
    let node = Node::start(&config, &[]).await;
    let url = format!("ws://{}/ws", node.address);
    let smoke = async |more: &[&str]| {
        let named = [&url, "--secret", backend::SECRET, "--room", "chat:a", "--foreign-room", "closed"];
        lines(&smoke(&[&named[..], &["--quick", "--json"], more].concat()).await)
    };
    let told = smoke(&[]).await;
    assert_eq!(told.last().unwrap()["failed"], 0, "{told:#?}");
    let seen = backend.seen_of("event");
    assert!(seen.len() == 1 && seen[0]["data"]["event"] == "presence.heartbeat", "{seen:#?}");
    // Its login wants one of Tidings too.
    backend.answers(|_| Reply::Status(401));
    for (more, check) in [(&[][..], "heartbeat"), (&["--event", "message.send"], "delivery")] {
        let told = smoke(more).await;
        let failed = told.iter().find(|line| line["result"] == "failed").unwrap();
        assert_eq!(failed["check"], check, "{told:#?}");
        assert!(failed["told"].as_str().unwrap().contains("unavailable"), "{failed}");
        assert!(failed["fix"].as_str().unwrap().contains("[webhooks] url"), "{failed}");
    }
}

#[tokio::test]
async fn another_secret_and_nobody_there_are_told_as_what_they_are() {
    let dev = Dev::start().await;
    let url = format!("http://{}", dev.address);
    let output = smoke(&[&url, "--secret", SECRET]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("the server has another secret"), "{stderr}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = smoke(&[&format!("http://{nobody}"), "--secret", SECRET]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("tidings doctor"), "{stderr}");
    for (arguments, told) in [
        (vec!["http://192.0.2.1"], "--secret-file"),
        (vec!["192.0.2.1"], "is no server's URL"),
        (vec![url.as_str(), "--users", "ann"], "two users"),
    ] {
        let output = smoke(&arguments).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(told), "{arguments:?}: {stderr}");
    }
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
