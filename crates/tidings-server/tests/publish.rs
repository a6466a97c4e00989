//! `tidings publish` and `tidings key`: what goes to the HTTP API, and what its answers become for a script.
//!
//! The server is a stand-in that answers as docs/http-api.md says, and remembers what it was asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::process::{Output, Stdio};
use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use server::{Dev, keep, run, tidings, within};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const KEY: &str = "canary-bird-of-the-api-key-0123456789abcdef";

/// What the stand-in was asked.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    key: String,
    idempotency_key: String,
    body: String,
}

#[derive(Clone)]
struct Api {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: (StatusCode, Value),
}

async fn answer(State(api): State<Api>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    assert_eq!(header("content-type"), "application/json");
    api.asked.lock().push(Asked {
        path: uri.to_string(),
        key: header("authorization"),
        idempotency_key: header("idempotency-key"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let (status, answer) = api.answer;
    (status, [(header::CONTENT_TYPE, "application/problem+json")], answer.to_string()).into_response()
}

/// A server that always answers so: its URL, and what it was asked.
async fn api(status: u16, said: Value) -> (String, Arc<Mutex<Vec<Asked>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let api = Api { asked: Arc::clone(&asked), answer: (StatusCode::from_u16(status).unwrap(), said) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(api);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

async fn publish(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    run(tidings(&home).arg("publish").env("TIDINGS_KEY", KEY).args(arguments)).await
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_event_goes_as_the_api_takes_it_and_its_id_is_all_that_is_printed() {
    let event_id = "chat:lobby@k3f9a1qz.1";
    let (url, asked) = api(200, json!({"event_id": event_id, "duplicate": false})).await;
    let output = publish(&["chat:lobby", "news", r#" {"n": 1.50, "a": "é"} "#, "--url", &url]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), format!("{event_id}\n"));
    publish(&["a.b", "news", "--url", &(url.clone() + "/"), "--idempotency-key", "mine"]).await;
    publish(&["news", "[1]", "--user", "ann/é?", "--url", &(url.clone() + "/behind")]).await;
    let output = publish(&["chat:lobby", "news", "\"text\"", "--url", &url, "--json"]).await;
    assert_eq!(text(&output.stdout), format!("{{\"event_id\":\"{event_id}\",\"duplicate\":false}}\n"));

    let asked = asked.lock().clone();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/v1/rooms/chat:lobby/events",
            "/v1/rooms/a.b/events",
            "/behind/v1/users/ann%2F%C3%A9%3F/events",
            "/v1/rooms/chat:lobby/events"
        ]
    );
    assert_eq!(asked[0].body, r#"{"event":"news","data":{"n": 1.50, "a": "é"}}"#, "as it was typed");
    assert_eq!(asked[1].body, r#"{"event":"news","data":null}"#);
    assert_eq!(
        (asked[2].body.as_str(), asked[1].idempotency_key.as_str()),
        (r#"{"event":"news","data":[1]}"#, "mine")
    );
    assert!(asked.iter().all(|asked| asked.key == format!("Bearer {KEY}")));
    assert_eq!(asked[0].idempotency_key.len(), 32);
    assert_ne!(asked[0].idempotency_key, asked[3].idempotency_key);
}

#[tokio::test]
async fn data_comes_from_stdin_and_the_key_from_a_file_and_a_duplicate_is_told() {
    let (url, asked) = api(200, json!({"event_id": "a@k3f9a1qz.1", "duplicate": true})).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let mut command = tidings(&home);
    command.args(["publish", "a", "news", "-", "--url", &url, "--key-file"]).arg(&file);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{\"from\":\n \"stdin\"}\n").await.unwrap();
    drop(stdin);
    let output = within(child.wait_with_output()).await.unwrap();
    keep("server", &output.stderr);
    assert!(output.status.success() && text(&output.stderr).contains("already"), "{output:?}");
    assert_eq!(text(&output.stdout), "a@k3f9a1qz.1\n");
    let asked = asked.lock();
    assert_eq!(asked[0].key, format!("Bearer {KEY}"));
    assert_eq!(asked[0].body, "{\"event\":\"news\",\"data\":{\"from\":\n \"stdin\"}}");
}

#[tokio::test]
async fn a_refusal_has_the_servers_words_its_fix_and_a_fixed_code() {
    let problem = |status: u16, code: &str, fix: Option<&str>| json!({"type": format!("urn:tidings:{code}"), "title": "No", "status": status, "detail": format!("it is {code}"), "code": code, "fix": fix});
    for (status, code, fix, exit) in [
        (401, "key_unknown", Some("name another key"), 77),
        (403, "scope_missing", Some("add the scope publish"), 77),
        (404, "unknown_room", Some("write a rule for it"), 77),
        (409, "idempotency_conflict", None, 77),
        (413, "too_large", None, 77),
        (429, "rate_limited", None, 69),
        (503, "unavailable", None, 69),
    ] {
        let (url, _) = api(status, problem(status, code, fix)).await;
        let output = publish(&["a", "news", "--url", &url]).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{stderr}");
        assert!(stderr.contains(code) && stderr.contains(fix.unwrap_or("")), "{stderr}");
        assert_eq!(exit == 69, stderr.contains("--idempotency-key"), "{stderr}");
        assert!(output.stdout.is_empty() && !stderr.contains("canary-bird"), "{output:?}");
    }
    let (url, _) = api(404, json!("not found")).await;
    let output = publish(&["a", "news", "--url", &url]).await;
    assert!(output.status.code() == Some(77) && text(&output.stderr).contains("HTTP API"), "{output:?}");
    let (url, _) = api(200, json!({"hello": "world"})).await;
    let output = publish(&["a", "news", "--url", &url]).await;
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("Tidings server"), "{output:?}");
}

#[tokio::test]
async fn who_can_not_know_whether_it_was_published_is_told_how_to_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It takes the request and goes.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    });
    let output = publish(&["a", "news", "--url", &url]).await;
    within(server).await.unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("may have been published") && stderr.contains("--idempotency-key"), "{stderr}");
    let output = publish(&["a", "news", "--url", &url]).await;
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("refused") && !stderr.contains("may have been"), "{stderr}");
}

#[tokio::test]
async fn what_can_not_be_is_a_fault_of_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["a"], "the event's name is missing"),
        (&["a b", "news"], "a room is"),
        (&["a", "news", "hello"], "'\"hello\"'"),
        (&["a", "news", "{} {}"], "no JSON"),
        (&["a", "news", "1", "2"], "unexpected"),
        (&["a", "news", "1", "--user", "ann"], "there is no room"),
        (&["a", "news", "--url", "ws://127.0.0.1:1", "--key", KEY], "no server's URL"),
        (&["a", "news", "--url", "https://tidings.example"], "TIDINGS_KEY"),
    ];
    for (arguments, said) in cases {
        let output = run(tidings(&home).arg("publish").args(arguments)).await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

/// What any language's HMAC says.
fn derived(secret: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), b"tidings api key v1");
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn key(home: &TempDir, arguments: &[&str]) -> String {
    let output = run(tidings(home).arg("key").args(arguments).current_dir(home.path())).await;
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).trim_end().to_owned()
}

#[tokio::test]
async fn the_key_is_of_the_secret_that_signs_the_tokens() {
    let secret = "canary-bird of the key's secret, 32 bytes";
    let dev = Dev::start().await;
    let home = &dev.home;
    let own = std::fs::read_to_string(home.path().join("dev-secret")).unwrap();
    assert_eq!(key(home, &[]).await, derived(&own));
    std::fs::write(home.path().join("secret"), format!("{secret}\n")).unwrap();
    for (name, auth) in [
        ("a.toml", "[auth]\nsecret_file = 'secret'".to_owned()),
        ("b.toml", format!("[auth]\nsecret = \"{secret}\"")),
        (
            "c.toml",
            "[auth]\njwks_url = 'https://issuer.example/keys'\n[[auth.keys]]\nsecret_file = 'secret'"
                .to_owned(),
        ),
    ] {
        std::fs::write(home.path().join(name), auth).unwrap();
        assert_eq!(key(home, &["--config", name]).await, derived(secret), "{name}");
    }
    assert_eq!(key(home, &["--secret", secret]).await, derived(secret));
    assert_eq!(key(home, &["--secret-file", "secret"]).await, derived(secret));
    std::fs::write(home.path().join("d.toml"), "[auth]\njwks_url = 'https://issuer.example/keys'").unwrap();
    let output = run(tidings(home).args(["key", "--config", "d.toml"]).current_dir(home.path())).await;
    assert!(output.status.code() == Some(78) && text(&output.stderr).contains("[[api.keys]]"), "{output:?}");
    let output = run(tidings(home).args(["key", "--secret-file", "none"]).current_dir(home.path())).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    // To this machine it goes unasked: with a key of `tidings dev` nobody has to name one.
    let (url, asked) = api(200, json!({"event_id": null, "duplicate": false})).await;
    let output = run(tidings(home).args(["publish", "a", "news", "--url", &url])).await;
    assert!(output.status.success() && output.stdout == b"\n", "{output:?}");
    assert_eq!(asked.lock()[0].key, format!("Bearer {}", derived(&own)));
}
