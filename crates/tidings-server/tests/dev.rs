//! `tidings dev` and `tidings token`, as a new user meets them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::time::Duration;

use server::{Dev, get, run, tidings};

#[tokio::test]
async fn it_listens_within_a_second_and_greets_with_all_that_is_needed() {
    let dev = Dev::start_in(tempfile::tempdir().unwrap(), &[]).await;
    assert!(dev.started_in < Duration::from_secs(1), "{:?}", dev.started_in);
    let (address, token) = (&dev.address, &dev.token);
    assert!(
        dev.greeting.contains(&format!("wscat -c 'ws://{address}/ws?token={token}'")),
        "{}",
        dev.greeting
    );
    assert!(dev.greeting.contains("tidings token --user ID"));
    dev.connect(token).await;
}

#[tokio::test]
async fn the_page_runs_no_script_but_its_own_and_its_token_is_taken() {
    let dev = Dev::start().await;
    let page = dev.get("/").await;
    assert_eq!(page.status, 200);
    let policy = page.head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("script-src 'self';") && policy.contains("default-src 'none'"), "{policy}");
    for (name, kind) in [("/chat.js", "text/javascript"), ("/chat.css", "text/css")] {
        assert!(page.body.contains(name));
        let part = dev.get(name).await;
        assert!(
            part.status == 200 && part.head.contains(&format!("content-type: {kind}")),
            "{name}: {}",
            part.head
        );
    }
    let answer = dev.get("/dev/token?user=ada%20l").await;
    let token: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    dev.connect(token["token"].as_str().unwrap()).await;
    for bad in ["/dev/token?user=", "/dev/token"] {
        assert_eq!(dev.get(bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_name_rebound_to_this_machine_gets_neither_page_nor_token_nor_socket() {
    let dev = Dev::start().await;
    for path in ["/", "/dev/token?user=ada"] {
        assert_eq!(get(&dev.address, path, "evil.example").await.status, 403, "{path}");
    }
    let socket = format!("/ws?token={}", dev.token);
    assert_eq!(get(&dev.address, &socket, "localhost").await.status, 426, "the token is good");
    let refused = get(&dev.address, &socket, "evil.example").await;
    assert!(refused.status == 400 && refused.body.contains("localhost"), "{refused:?}");
    assert_eq!(get(&dev.address, "/", "localhost:1").await.status, 200);
}

#[tokio::test]
async fn two_users_join_a_room_and_what_one_publishes_reaches_both() {
    let dev = Dev::start().await;
    let ada = dev.token_of(&["--user", "ada", "--ttl", "30s"]).await;
    let bob = dev.token_of(&["--user", "bob", "--rooms", "chat:lobby,news"]).await;
    let (mut ada, mut bob) = (dev.connect(&ada).await, dev.connect(&bob).await);
    ada.send(r#"{"event":"room.join","room":"chat:lobby","id":"1"}"#).await;
    assert_eq!(ada.until("ack").await["data"]["members"], 2);
    ada.send(r#"{"event":"message.send","room":"chat:lobby","data":{"content":"hi"},"id":"2"}"#).await;
    for client in [&mut ada, &mut bob] {
        let event = client.until("message.send").await;
        assert_eq!(event["data"]["content"], "hi");
        assert_eq!(event["from"], "ada");
        assert!(event["id"].as_str().unwrap().starts_with("chat:lobby@"), "{event}");
    }
}

#[tokio::test]
async fn only_named_pages_of_other_origins_may_connect() {
    let dev = Dev::start_with(&["--allow-origin", "http://localhost:5173"]).await;
    let mut answers = Vec::new();
    for origin in ["http://localhost:5173", "http://localhost:5174"] {
        let path = format!("/ws?token={} HTTP/1.1\r\nOrigin: {origin}\r\nX:", dev.token);
        answers.push(get(&dev.address, &path, &dev.address).await.status);
    }
    assert_eq!(answers, [426, 403]);
}

#[tokio::test]
async fn health_and_a_refusal_are_readable() {
    let dev = Dev::start().await;
    assert_eq!(dev.get("/health/live").await.status, 200);
    assert_eq!(dev.get("/health/ready").await.status, 200);
    let refusal = dev.get("/ws").await;
    assert_eq!(refusal.status, 401);
    let problem: serde_json::Value = serde_json::from_str(&refusal.body).unwrap();
    assert_eq!(problem["code"], "token_missing");
}

#[tokio::test]
async fn what_can_not_be_is_refused_with_its_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["dev", "--listen", "0.0.0.0:0"], 2, "tidings serve"),
        (&["token", "--user", "ada", "--ttl", "10"], 2, "30s"),
        (&["token", "--user", ""], 2, "128 bytes"),
        (&["token", "--user", "ada", "--rooms", "a b"], 2, "a b"),
        (&["serve", "--config", "nowhere.toml"], 78, "--config"),
        (&["no-such-command"], 2, "Usage"),
    ];
    for (arguments, code, said) in cases {
        let output = run(tidings(&home).args(arguments)).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[cfg(not(feature = "conformance"))]
#[tokio::test]
async fn there_is_no_echo_in_a_release() {
    let home = tempfile::tempdir().unwrap();
    let output = run(tidings(&home).arg("echo")).await;
    assert_eq!(output.status.code(), Some(2));
    let help = run(tidings(&home).arg("--help")).await;
    assert!(!String::from_utf8(help.stdout).unwrap().contains("echo"));
}
