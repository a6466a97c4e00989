//! A backend that is told what happened: from disk, in order, until it has taken it, whatever becomes of the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod backend;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backend::{Backend, Reply, config, of, token};
use rustix::process::Signal;
use serde_json::{Value, json};
use server::{Client, Node, get, run, signal, tidings, within};

const ROOMS: &str = "[[rooms]]\npattern = '*'\njoin = 'anyone'\n[limits]\n";
const ALL: &str = r#"events = ["disconnect", "room.occupied", "room.vacated", "presence"]"#;

const DRAIN: [&str; 2] = ["--drain-window", "1s"];

fn taken(_: &Value) -> Reply {
    Reply::Status(204)
}

fn in_words(event: &Value) -> String {
    let data = &event["data"];
    let word = |field: &str| data[field].as_str().unwrap_or_default();
    match event["type"].as_str().unwrap().strip_prefix("dev.tidings.").unwrap() {
        "presence" => format!("{} {}s {}", word("user"), word("change"), data["info"]),
        kind => kind.to_owned(),
    }
}

async fn join(client: &mut Client, room: &str) {
    client.send(&format!(r#"{{"event":"room.join","room":"{room}","id":"{room}"}}"#)).await;
    client.until("ack").await;
}

async fn leave(client: &mut Client, room: &str) {
    client.send(&format!(r#"{{"event":"room.leave","room":"{room}","id":"leave {room}"}}"#)).await;
    client.until("ack").await;
}

/// A number on the page of metrics, as soon as it is what is wanted.
async fn until_metric(node: &Node, name: &str, is_wanted: impl Fn(u64) -> bool) -> u64 {
    within(async {
        loop {
            let page = get(&node.admin, "/metrics", "anything").await.body;
            let line = page.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
            let value = line.trim().parse().unwrap();
            if is_wanted(value) {
                return value;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a thing is looked at again, and each look is kept"
            )]
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn end(mut node: Node) {
    signal(&node.child, Signal::TERM);
    assert_eq!(within(node.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn comings_and_goings_are_told_in_the_order_of_each_room() {
    let (backend, outbox) = (Backend::start(taken).await, tempfile::tempdir().unwrap());
    let node = Node::start(&config(&backend.url, outbox.path(), ALL, ROOMS), &DRAIN).await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    let mut bob = Client::connect(&node.address, &token("bob")).await;
    join(&mut ann, "a").await;
    join(&mut bob, "a").await;
    ann.send(r#"{"event":"presence.update","room":"a","data":{"info":{"mood":"fine"}},"id":"p"}"#).await;
    ann.until("ack").await;
    leave(&mut ann, "a").await;
    // His other rooms go with his connection, which closes for good.
    bob.close().await;
    drop(ann);
    // Who has only been lost stays for his grace, which the end of the server ends.
    let mut cid = Client::connect(&node.address, &token("cid")).await;
    join(&mut cid, "b").await;
    drop(cid);
    backend.until(|seen| of(seen, "disconnect").len() == 3).await;
    end(node).await;
    let seen = backend.seen();
    let of_room = |room: &str| -> Vec<String> {
        seen.iter().filter(|event| event["data"]["room"] == room).map(in_words).collect()
    };
    assert_eq!(
        of_room("a"),
        [
            "room.occupied",
            "ann joins null",
            "bob joins null",
            r#"ann updates {"mood":"fine"}"#,
            r#"ann leaves {"mood":"fine"}"#,
            "bob leaves null",
            "room.vacated"
        ]
    );
    assert_eq!(of_room("b"), ["room.occupied", "cid joins null", "cid leaves null", "room.vacated"]);
    let codes: BTreeSet<_> = of(&seen, "disconnect")
        .iter()
        .map(|event| {
            (event["data"]["user"].as_str().unwrap().to_owned(), event["data"]["code"].as_u64().unwrap())
        })
        .collect();
    assert!(
        codes.contains(&("bob".to_owned(), 1005)) || codes.contains(&("bob".to_owned(), 1000)),
        "{codes:?}"
    );
    assert!(codes.contains(&("cid".to_owned(), 1006)), "{codes:?}");
    for event in of(&seen, "disconnect") {
        assert!(event["data"]["connected_ms"].is_number() && event["data"]["session"].is_string(), "{event}");
    }
    let ids: BTreeSet<_> = seen.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), seen.len(), "each was told once");
}

#[tokio::test]
async fn kill_9_takes_nothing_of_what_waits_and_no_rooms_order() {
    let (backend, outbox) = (Backend::start(|_| Reply::Status(503)).await, tempfile::tempdir().unwrap());
    let config = config(&backend.url, outbox.path(), ALL, &format!("{ROOMS}presence_grace_seconds = 0"));
    let mut node = Node::start(&config, &DRAIN).await;
    let rooms = ["a", "b", "c", "d"];
    let mut clients = Vec::new();
    for user in ["ann", "bob", "cid"] {
        let mut client = Client::connect(&node.address, &token(user)).await;
        for room in rooms {
            join(&mut client, room).await;
        }
        clients.push(client);
    }
    for client in &mut clients {
        for room in rooms {
            leave(client, room).await;
        }
    }
    for client in clients {
        client.close().await;
    }
    // In each room three come and three go, and it is occupied and vacated; and three connections have ended.
    until_metric(&node, "tidings_webhook_waiting", |waiting| waiting == 4 * 8 + 3).await;
    node.child.kill().await.unwrap();
    let before = backend.seen().len();
    backend.answers(taken);
    let node = Node::start(&config, &DRAIN).await;
    until_metric(&node, "tidings_webhook_waiting", |waiting| waiting == 0).await;
    let after = backend.seen().split_off(before);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &after {
        let room = event["data"]["room"].as_str().unwrap_or("none");
        told.entry(room.to_owned()).or_default().push(in_words(event));
    }
    for room in rooms {
        assert_eq!(
            told[room],
            [
                "room.occupied",
                "ann joins null",
                "bob joins null",
                "cid joins null",
                "ann leaves null",
                "bob leaves null",
                "cid leaves null",
                "room.vacated"
            ]
        );
    }
    assert_eq!(told["none"], ["disconnect"; 3]);
    end(node).await;
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_as_it_was_while_other_rooms_go_on() {
    let refused = |event: &Value| match event["subject"].as_str() {
        Some("a") => Reply::Status(500),
        _ => Reply::Status(200),
    };
    let (backend, outbox) = (Backend::start(refused).await, tempfile::tempdir().unwrap());
    let node = Node::start(&config(&backend.url, outbox.path(), ALL, ROOMS), &DRAIN).await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    join(&mut ann, "a").await;
    let first = backend.until(|seen| !seen.is_empty()).await.remove(0);
    assert_eq!(in_words(&first), "room.occupied");
    join(&mut ann, "b").await;
    leave(&mut ann, "b").await;
    let seen = backend.until(|seen| of(seen, "room.vacated").len() == 1).await;
    assert!(seen.iter().filter(|event| event["subject"] == "a").all(|event| *event == first), "{seen:?}");
    // Of room `a` the first is tried on, as it was, and what follows waits for it.
    let is_of_a = |seen: &Vec<Value>| seen.iter().filter(|event| event["subject"] == "a").count() >= 2;
    let seen = backend.until(is_of_a).await;
    assert!(seen.iter().filter(|event| event["subject"] == "a").all(|event| *event == first), "{seen:?}");
    backend.answers(taken);
    let seen =
        backend.until(|seen| seen.iter().any(|event| event["subject"] == "a" && *event != first)).await;
    assert_eq!(in_words(seen.last().unwrap()), "ann joins null");
    let failures =
        until_metric(&node, "tidings_webhook_told_failures_total{type=\"room.occupied\"}", |_| true).await;
    assert!(failures >= 2, "{failures}");
    end(node).await;
}

#[tokio::test]
async fn a_dead_letter_is_listed_and_sent_again() {
    let gone = |event: &Value| match event["type"].as_str() {
        Some("dev.tidings.room.occupied") => Reply::Status(410),
        _ => Reply::Status(200),
    };
    let (backend, outbox) = (Backend::start(gone).await, tempfile::tempdir().unwrap());
    let config = config(&backend.url, outbox.path(), ALL, ROOMS);
    let node = Node::start(&config, &DRAIN).await;
    let mut ann = Client::connect(&node.address, &token("ann")).await;
    join(&mut ann, "a").await;
    // What follows in the room does not wait for what is dead.
    backend.until(|seen| of(seen, "presence").len() == 1).await;
    until_metric(&node, "tidings_webhook_dead", |dead| dead == 1).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tidings.toml");
    std::fs::write(&file, config).unwrap();
    let command = async |arguments: &[&str]| {
        let output = run(tidings(&home).arg("outbox").args(arguments).arg("--config").arg(&file)).await;
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, line) = command(&["list", "--json"]).await;
    let letter: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!((&letter["type"], &letter["key"]), (&json!("dev.tidings.room.occupied"), &json!("room:a")));
    assert_eq!(letter["event"], backend.seen_of("room.occupied")[0]);
    let (_, line) = command(&["list"]).await;
    assert!(line.starts_with(letter["id"].as_str().unwrap()) && line.contains("410"), "{line}");
    assert_eq!(command(&["retry", "msg_unknown"]).await.0, Some(1));
    backend.answers(taken);
    assert_eq!(command(&["retry", "--all"]).await.0, Some(0));
    let seen = backend.until(|seen| of(seen, "room.occupied").len() == 2).await;
    assert_eq!(of(&seen, "room.occupied")[0], of(&seen, "room.occupied")[1], "as it was");
    assert_eq!(command(&["list"]).await, (Some(0), String::new()));
    drop(ann);
    end(node).await;
}

#[tokio::test]
async fn an_outbox_has_one_server() {
    let (backend, outbox) = (Backend::start(taken).await, tempfile::tempdir().unwrap());
    let config = config(&backend.url, outbox.path(), ALL, ROOMS);
    let node = Node::start(&config, &DRAIN).await;
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    let second = run(tidings(&home).arg("serve").arg("--config").arg(home.path().join("tidings.toml"))).await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(78) && said.contains("an outbox of its own"), "{said}");
    end(node).await;
}
