//! `tidings serve`: what its configuration says counts, and what is wrong in it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use server::{Client, Serve, get, run, tidings};
use tempfile::TempDir;

const SECRET: &str = "canary-bird of the configuration, and 32 bytes";

/// A home with a configuration in it.
fn configured(config: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    std::fs::write(home.path().join("secret"), SECRET).unwrap();
    home
}

fn token(user: &str, rooms: &[&str]) -> String {
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = serde_json::json!({"sub": user, "aud": "app", "exp": exp, "rooms": rooms, "note": "canary-bird of the claims"});
    tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

#[tokio::test]
async fn rooms_limits_and_audience_are_as_configured() {
    let home = configured(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret_file = "secret"
        audience = "app"
        [[rooms]]
        pattern = "chat:*"
        join = "members"
        publish = "members"
        [[rooms]]
        pattern = "news"
        join = "anyone"
        [[events]]
        name = "post"
        schema_file = "post.json"
        [limits]
        connections_per_user_max = 1
        [admin]
        listen = "127.0.0.1:0"
        "#,
    );
    std::fs::write(
        home.path().join("post.json"),
        r#"{"properties": {"lines": {"items": {"type": "integer"}}}}"#,
    )
    .unwrap();
    let serve = Serve::start(home).await;
    let address = &serve.address;

    let mut ada = Client::connect(address, &token("ada", &["chat:a"])).await;
    let mut said = async |message: &str| {
        ada.send(message).await;
        loop {
            let answer = ada.next().await.unwrap();
            if answer["event"] == "ack" || answer["event"] == "error" {
                break answer["data"].clone();
            }
        }
    };
    assert!(said(r#"{"event":"post","room":"chat:a","data":1,"id":"1"}"#).await["event_id"].is_string());
    let refused = said(r#"{"event":"post","room":"chat:a","data":{"lines":[1,"2"]},"id":"6"}"#).await;
    assert_eq!((&refused["code"], &refused["pointer"]), (&"schema".into(), &"/lines/1".into()));
    let unknown = said(r#"{"event":"shout","room":"chat:a","data":1,"id":"7"}"#).await;
    assert!(
        unknown["code"] == "unknown_event" && unknown["message"].as_str().unwrap().contains("[[events]]")
    );
    assert_eq!(said(r#"{"event":"room.join","room":"chat:b","id":"2"}"#).await["code"], "forbidden");
    assert_eq!(said(r#"{"event":"room.join","room":"else","id":"3"}"#).await["code"], "unknown_room");
    assert!(said(r#"{"event":"room.join","room":"news","id":"4"}"#).await["top"].is_string());
    assert_eq!(said(r#"{"event":"post","room":"news","id":"5"}"#).await["code"], "forbidden");

    let second = get(address, &format!("/ws?token={}", token("ada", &[])), address).await;
    assert!(second.status == 429 && second.body.contains("connection_limit"), "{second:?}");
    assert_eq!(get(address, "/", address).await.status, 404, "the page is for development");
    assert_eq!(get(address, "/dev/token?user=ada", address).await.status, 404);

    ada.close().await;
    serve.end().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place_and_exit_code_78() {
    let cases = [
        (
            "[auth]\nsecret_file = 'secret'\n\n[limits]\nhartbeat_seconds = 1",
            "tidings.toml:5:1",
            "`heartbeat_seconds`",
        ),
        ("[auth]\nsecret_file = 'secret'\n[[rooms]]\npattern = 'a b'", "tidings.toml", "a b"),
        (
            "[auth]\nsecret_file = 'secret'\n[limits]\nsilence_max_seconds = 1",
            "tidings.toml",
            "longer than heartbeat",
        ),
        ("allowed_origins = ['app']\n[auth]\nsecret_file = 'secret'", "tidings.toml", "app"),
        ("[auth]\nsecret = 'short'", "tidings.toml", "openssl rand"),
        ("", "tidings.toml:1:1", "auth"),
        (
            "[auth]\nsecret_file = 'secret'\n[[events]]\nname = 'a'\nschema_file = 'none.json'",
            "none.json",
            "relative",
        ),
        (
            "[auth]\nsecret_file = 'secret'\n[[events]]\nname = 'a'\nschema_file = 'tidings.toml'",
            "tidings.toml:1:2",
            "JSON",
        ),
        (
            "[auth]\nsecret_file = 'secret'\n[[events]]\nname = 'a'\nschema_file = 'wrong.json'",
            "wrong.json",
            "/properties/a/type",
        ),
        (
            "[auth]\nsecret_file = 'secret'\n[[events]]\nname = 'a'\nschema_file = 'remote.json'",
            "remote.json",
            "$defs",
        ),
        (
            "[auth]\nsecret_file = 'secret'\n[[events]]\nname = 'room.x'\nbinary = true",
            "tidings.toml",
            "room.x",
        ),
    ];
    for (config, place, said) in cases {
        let home = configured(config);
        std::fs::write(home.path().join("wrong.json"), r#"{"properties": {"a": {"type": "strin"}}}"#)
            .unwrap();
        std::fs::write(home.path().join("remote.json"), r#"{"$ref": "https://example.com/a.json"}"#).unwrap();
        let path = home.path().join("tidings.toml");
        let output = run(tidings(&home).arg("serve").arg("--config").arg(path)).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(place) && stderr.contains(said), "{stderr}");
    }
}
