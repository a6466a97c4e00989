//! `tidings doctor`: set-ups that are broken in one way each, and the cause that it names first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod middle;
#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
mod server;

use std::process::{Output, Stdio};

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use middle::{Middle, with, without};
use redis_servers::RedisServer;
use serde_json::{Value, json};
use server::{Dev, Serve, run, tidings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

const SECRET: &str = "canary-bird of the doctor, more than 32 bytes";

fn lines(output: &Output) -> Vec<Value> {
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn doctor(arguments: &[&str]) -> Output {
    doctor_in(&tempfile::tempdir().unwrap(), arguments).await
}

/// In a home, in which it also is.
async fn doctor_in(home: &TempDir, arguments: &[&str]) -> Output {
    run(tidings(home).current_dir(home.path()).args(["doctor", "--json"]).args(arguments)).await
}

/// Asserts which cause is named first, and that it comes with evidence and a fix that holds `fix`.
fn assert_first(output: &Output, cause: &str, fix: &str) {
    let lines = lines(output);
    let first = &lines[0];
    assert_eq!(first["finding"], cause, "{lines:#?} {}", String::from_utf8_lossy(&output.stderr));
    assert!(first["fix"].as_str().unwrap().contains(fix), "{first:#?}");
    assert!(!first["evidence"].as_str().unwrap().is_empty(), "{first:#?}");
    assert_eq!(output.status.code(), Some(1));
}

fn assert_none(output: &Output) {
    assert_eq!(lines(output).last(), Some(&json!({"findings": 0})), "{:#?}", lines(output));
    assert_eq!(output.status.code(), Some(0));
}

fn token(secret: &str, audience: &str, exp: u64) -> String {
    let claims = json!({"sub": "ann", "aud": audience, "exp": exp});
    tidings::auth::mint_hs256(secret.as_bytes(), &claims).unwrap()
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A configuration, with more in it.
fn configured(listen: &str, more: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "listen = \"{listen}\"\n{more}\n[auth]\nsecret = \"{SECRET}\"\naudience = \"app\"\n[[rooms]]\npattern = \"*\"\njoin = \"anyone\"\n"
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    home
}

/// A server of its own, with more in its configuration; what it was made of stands beside it.
async fn served(more: &str) -> (Serve, String) {
    let home = configured("127.0.0.1:0", more);
    let file = home.path().join("tidings.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[admin]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    let serve = Serve::start(home).await;
    (serve, file.display().to_string())
}

/// An application that answers everything so.
async fn application(status: u16, headers: &'static [(&'static str, &'static str)]) -> String {
    let answer = move |_: Uri| {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (header::HeaderName::from_static(name), *value)).collect();
        let mut answer = (StatusCode::from_u16(status).unwrap(), "an application").into_response();
        for (name, value) in headers {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        std::future::ready(answer)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    address
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() {
    let dev = Dev::start().await;
    let url = format!("http://{}", dev.address);
    assert_none(&doctor_in(&dev.home, &[&url]).await);
    let (serve, config) = served("").await;
    let url = format!("ws://{}/ws", serve.address);
    assert_none(&doctor(&[&url, "--config", &config]).await);
    let told = run(tidings(&dev.home).args(["doctor", &url, "--config", &config])).await;
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("fine        handshake: ") && told.contains("welcome tidings-doctor"), "{told}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_from_a_server_that_is_wrong() {
    let (serve, config) = served("").await;
    let url = format!("ws://{}/ws", serve.address);
    // The server has another secret.
    let output =
        doctor(&[&url, "--secret", "canary-bird of another secret, 32 bytes", "--audience", "app"]).await;
    assert_first(&output, "secret_mismatch", "the same secret");
    // So has whoever signed the token.
    let foreign = token("canary-bird of another secret, 32 bytes", "app", now_s() + 60);
    assert_first(&doctor(&[&url, "--token", &foreign]).await, "secret_mismatch", "the same secret");
    let output = doctor(&[&url, "--token", &foreign, "--config", &config]).await;
    assert_first(&output, "secret_mismatch", "sign with the secret");
    assert_eq!(lines(&output).last(), Some(&json!({"findings": 1})), "it is told once");
    // A token that is past, with and without the secret in hand.
    let past = token(SECRET, "app", now_s() - 600);
    assert_first(&doctor(&[&url, "--token", &past]).await, "token_expired", "fetch a new token");
    assert_first(
        &doctor(&[&url, "--token", &past, "--config", &config]).await,
        "token_expired",
        "fetch a new token",
    );
    // For another audience; and no token at all.
    let other = token(SECRET, "other", now_s() + 60);
    assert_first(&doctor(&[&url, "--token", &other]).await, "token_claims", "aud");
    assert_first(&doctor(&[&url, "--token", "none"]).await, "token_malformed", "JWT");
    let output = doctor(&[&url, "--token", &token(SECRET, "app", now_s() + 60)]).await;
    assert_none(&output);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("canary-bird"));
}

#[tokio::test]
async fn what_stands_between_is_told_from_what_is_behind() {
    let dev = Dev::start().await;
    let looked = async |middle: Middle, more: &[&str]| {
        let url = format!("http://{}", middle.before(&dev.address).await);
        let mut arguments = vec![url.as_str()];
        arguments.extend(more);
        doctor_in(&dev.home, &arguments).await
    };
    assert_none(&looked(Middle::new(), &[]).await);
    // A proxy that does not upgrade, in both the ways that there are.
    let plain = Middle::new().request(|head| without(&head, &["upgrade", "connection"]));
    assert_first(&looked(plain, &[]).await, "proxy_no_upgrade", "proxy_set_header Upgrade");
    let half = Middle::new().request(|head| with(&without(&head, &["connection"]), "connection: close"));
    assert_first(&looked(half, &[]).await, "proxy_no_upgrade", "proxy_set_header Upgrade");
    // One that upgrades, and holds what follows.
    let held = Middle::new().down(|_| Vec::new());
    assert_first(&looked(held, &[]).await, "proxy_holds_frames", "proxy_buffering off");
    let dropped = Middle::new().request(|head| without(&head, &["authorization"]));
    assert_first(&looked(dropped, &[]).await, "header_dropped", "Authorization");
    // Clocks that are apart: the token that is made here seems to be past there.
    let late =
        Middle::new().answer(|head| with(&without(&head, &["date"]), "date: Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_first(&looked(late, &[]).await, "clock_skew", "NTP");
    // A page of another origin.
    let output = looked(Middle::new(), &["--origin", "https://app.example"]).await;
    assert_first(&output, "origin", "allowed_origins = [\"https://app.example\"]");
}

#[tokio::test]
async fn who_answers_in_the_place_of_the_server_is_told() {
    let (serve, config) = served("[socket]\npath = \"/realtime\"").await;
    let url = format!("ws://{}/ws", serve.address);
    let output = doctor(&[&url, "--config", &config]).await;
    assert_first(&output, "wrong_path", "/realtime");
    let secret = ["--secret", SECRET];
    for (status, headers, cause, fix) in [
        (200, &[][..], "not_tidings", "deploy/nginx.conf"),
        (404, &[], "not_tidings", "attach it"),
        (426, &[], "proxy_no_upgrade", "proxy_http_version"),
        (502, &[("server", "nginx")], "backend_down", "is tidings serve running"),
        (301, &[("location", "https://app.example/ws")], "redirect", "the address that it leads to"),
        (401, &[("www-authenticate", "Basic")], "foreign_login", "without asking"),
        (418, &[], "refused", "whoever answers there"),
    ] {
        let url = format!("http://{}", application(status, headers).await);
        assert_first(&doctor(&[&url, secret[0], secret[1]]).await, cause, fix);
    }
    let nobody = format!("http://{}", free_address());
    assert_first(&doctor(&[&nobody, secret[0], secret[1]]).await, "unreachable", "start the server");
    let nowhere = "ws://no-such-host.invalid/ws";
    assert_first(&doctor(&[nowhere, secret[0], secret[1]]).await, "unknown_host", "DNS");
    let tls = format!("wss://{}/ws", serve.address);
    assert_first(&doctor(&[&tls, secret[0], secret[1]]).await, "tls_mismatch", "ws://");
}

#[tokio::test]
async fn a_proxy_that_is_not_believed_makes_all_clients_one() {
    let (serve, config) = served("trusted_proxies = []").await;
    let proxy = Middle::new().answer(|head| with(&head, "server: nginx/1.22.1"));
    let url = format!("http://{}", proxy.clone().before(&serve.address).await);
    let output = doctor(&[&url, "--config", &config]).await;
    assert_first(&output, "one_address", "trusted_proxies");
    let (serve, config) = served("").await;
    let url = format!("http://{}", proxy.before(&serve.address).await);
    assert_none(&doctor(&[&url, "--config", &config]).await);
}

#[tokio::test]
async fn a_configuration_its_ports_and_the_open_files_are_looked_at_before_a_server_runs() {
    assert_first(&doctor_in(&configured("127.0.0.1:0", "shard = 3"), &[]).await, "configuration", "shards");
    // A port that somebody else has.
    let other = application(200, &[]).await;
    assert_first(&doctor_in(&configured(&other, ""), &[]).await, "port_in_use", "ss -ltnp");
    // Few open files, and many connections that are wanted.
    let (serve, config) = served("").await;
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let script = "ulimit -n 256; exec \"$0\" doctor --json \"$1\" --config \"$2\"";
    command.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_tidings"),
        &format!("ws://{}/ws", serve.address),
        &config,
    ]);
    let output = run(command.env("TIDINGS_HOME", home.path()).stdin(Stdio::null()).kill_on_drop(true)).await;
    assert_first(&output, "open_files", "LimitNOFILE");
}

#[tokio::test]
async fn a_backend_that_no_webhook_reaches_is_told_though_clients_get_in() {
    let to = |address: &str| {
        format!("[webhooks]\nurl = \"http://{address}/tidings\"\nevents = [\"disconnect\"]\n")
    };
    let (serve, config) = served(&to(&free_address())).await;
    let url = format!("ws://{}/ws", serve.address);
    let output = doctor(&[&url, "--config", &config]).await;
    assert_first(&output, "webhook_unreachable", "the application's own port");
    let (serve, config) = served(&to(&application(200, &[]).await)).await;
    assert_none(&doctor(&[&format!("ws://{}/ws", serve.address), "--config", &config]).await);
}

#[tokio::test]
async fn the_redis_that_is_named_is_asked() {
    let absent = format!("[broker]\nurl = \"redis://{}\"", free_address());
    assert_first(&doctor_in(&configured(&free_address(), &absent), &[]).await, "redis", "start it");
    // What is left with the second is that the server itself does not run.
    for (policy, cause, fix) in [
        ("allkeys-lru", "redis_settings", "maxmemory-policy noeviction"),
        ("noeviction", "unreachable", "start the server"),
    ] {
        let redis = RedisServer::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", policy]).await;
        let there = format!("[broker]\nurl = \"redis://{}\"", redis.address());
        assert_first(&doctor_in(&configured(&free_address(), &there), &[]).await, cause, fix);
    }
}
