//! `tidings config`: what is wrong with a configuration is told with its place and what to do, and what counts is shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use server::{run, tidings};

const SECRET: &str = "canary-bird of the environment, and 32 bytes";

fn broken(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// What the command says to these arguments, in a directory without a configuration of its own.
async fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = tidings(&home);
    command.arg("config").args(arguments).envs(variables.iter().copied()).current_dir(home.path());
    run(&mut command).await
}

async fn check(file: &str, more: &[&str]) -> Output {
    let path = broken(file);
    config(&[&["check", "--config", path.to_str().unwrap()], more].concat(), &[]).await
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn each_broken_file_is_told_with_its_line_its_key_and_a_fix() {
    for (file, place, key, fix) in [
        ("unknown_key.toml", "5:1", "limits.hartbeat_seconds", "did you mean `heartbeat_seconds`?"),
        ("unknown_section.toml", "4:2", "limit", "did you mean `limits`?"),
        ("wrong_type.toml", "6:21", "limits.heartbeat_seconds", "as in heartbeat_seconds = 30"),
        ("wrong_word.toml", "6:8", "rooms[0].join", "did you mean `members`?"),
        ("missing_key_file.toml", "3:1", "auth.secret_file", "name a file that this user can read"),
        ("broken_schema.toml", "10:1", "events[1].schema_file", "holds one JSON Schema"),
        ("two_secrets.toml", "3:1", "auth.secret", "keep one here"),
        ("contradicting_limits.toml", "6:1", "limits.silence_max_seconds", "or heartbeat_seconds (now 30)"),
        ("bad_pattern.toml", "9:1", "rooms[1].pattern", "as in pattern = \"chat:*\""),
        ("behind_a_wider_rule.toml", "9:1", "rooms[1].pattern", "put this rule before that of \"*\""),
        ("bad_origin.toml", "3:5", "allowed_origins[1]", "scheme and host, and no path"),
        ("duplicate_key.toml", "4:1", "", "keep one of the two"),
        ("no_certificate.toml", "6:1", "broker.ca_file", "name a file with PEM"),
        ("bad_address.toml", "1:10", "listen", "as in listen = \"127.0.0.1:7777\""),
        ("one_key_twice.toml", "11:1", "api.keys[1]", "openssl rand -hex 32"),
        ("no_requests.toml", "7:18", "api.requests_burst", "as in requests_burst = 2000"),
        ("one_port_for_both.toml", "6:1", "admin.listen", "a port of its own"),
        ("without_a_name.toml", "4:1", "events[0]", "add name = \"message.send\""),
    ] {
        let output = check(file, &[]).await;
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), ""), "{told}");
        assert!(told.starts_with(&format!("error: {}:{place}: ", broken(file).display())), "{told}");
        assert!(key.is_empty() || told.contains(&format!("\n  key: {key}\n")), "{told}");
        assert!(told.lines().any(|line| line.starts_with("  fix: ") && line.contains(fix)), "{told}");
        assert_eq!(told.matches("error: ").count(), 1, "{told}");
        assert!(!told.contains("canary"), "{told}");

        let output = check(file, &["--json"]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let told: Value = serde_json::from_slice(&output.stderr).unwrap();
        let (line, column) = place.split_once(':').unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(answer, json!({"ok": false, "faults": [told]}));
        assert_eq!((&told["code"], told["line"].to_string().as_str()), (&"config".into(), line), "{told}");
        assert_eq!(told["column"].to_string(), column, "{told}");
        assert!(told["fix"].as_str().unwrap().contains(fix) && told["message"].is_string(), "{told}");
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_by_serve_too() {
    let checked = check("several.toml", &[]).await;
    let told = text(&checked.stderr);
    for line in ["1:10", "2:20", "8:1", "12:12", "15:1"] {
        assert!(told.contains(&format!("several.toml:{line}: ")), "no {line}: {told}");
    }
    assert_eq!(told.matches("error: ").count(), 5, "{told}");
    let home = tempfile::tempdir().unwrap();
    let served = run(tidings(&home).arg("serve").arg("--config").arg(broken("several.toml"))).await;
    assert_eq!(served.status.code(), Some(78));
    for error in told.lines().filter(|line| line.starts_with("error: ")) {
        assert!(text(&served.stderr).contains(error), "{error}");
    }
}

#[tokio::test]
async fn a_sound_file_is_ok() {
    let output = check("sound.toml", &[]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ok\n"), "{output:?}");
    let output = check("sound.toml", &["--json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), answer), (Some(0), json!({"ok": true, "faults": []})));
}

#[tokio::test]
async fn the_environment_alone_is_enough_and_its_slips_are_told() {
    let rooms = ("TIDINGS_ROOMS", r#"[{"pattern": "chat:*", "join": "anyone"}]"#);
    let secret = ("TIDINGS_AUTH__SECRET", SECRET);
    let output = config(&["check"], &[secret, rooms, ("TIDINGS_PORT", "tcp://10.0.0.1:7777")]).await;
    assert_eq!(text(&output.stdout), "ok\n", "{output:?}");
    for (variable, fix) in [
        (("TIDINGS_LIMITS__HARTBEAT_SECONDS", "10"), "did you mean TIDINGS_LIMITS__HEARTBEAT_SECONDS?"),
        (("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "10s"), "TIDINGS_LIMITS__HEARTBEAT_SECONDS='30'"),
        (("TIDINGS_LIMITS__SILENCE_MAX_SECONDS", "10"), "heartbeat_seconds (now 30)"),
        (("TIDINGS_ROOMS", "[{ pattern = 'a b' }]"), "as in pattern = \"chat:*\""),
    ] {
        let output = config(&["check"], &[secret, variable]).await;
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.starts_with(&format!("error: {}: ", variable.0)) && told.contains(fix), "{told}");
    }
    let nothing = config(&["check"], &[]).await;
    assert!(text(&nothing.stderr).contains("tidings dev, which needs none"), "{nothing:?}");
}

#[tokio::test]
async fn a_secret_may_be_a_credential_of_the_unit() {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("tidings.secret"), SECRET).unwrap();
    let directory = ("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap());
    let file = ("TIDINGS_AUTH__SECRET_FILE", "tidings.secret");
    assert_eq!(text(&config(&["check"], &[directory, file]).await.stdout), "ok\n");
    let without = config(&["check"], &[file]).await;
    assert!(text(&without.stderr).starts_with("error: TIDINGS_AUTH__SECRET_FILE: "), "{without:?}");
}

#[tokio::test]
async fn what_counts_is_shown_with_where_it_comes_from_and_without_secrets() {
    let path = broken("sound.toml");
    let file = path.to_str().unwrap();
    let arguments = ["show", "--origin", "--config", file, "--listen", "127.0.0.1:9"];
    let variables = [("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "10"), ("TIDINGS_AUTH__SECRET", SECRET)];
    let shown = config(&arguments, &variables).await;
    let lines: Vec<_> = text(&shown.stdout)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "listen = \"127.0.0.1:9\" # --listen".to_owned(),
        "drain_window_seconds = 30 # default".to_owned(),
        "[auth]".to_owned(),
        format!("audience = \"app\" # {file}:5:1"),
        "secret = \"***\" # TIDINGS_AUTH__SECRET".to_owned(),
        format!("[[auth.keys]] # {file}:7:1"),
        format!("secret = \"***\" # {file}:9:1"),
        format!("join = {{ claim = \"/role\", equals = \"staff\" }} # {file}:13:1"),
        "heartbeat_seconds = 10 # TIDINGS_LIMITS__HEARTBEAT_SECONDS".to_owned(),
        format!("url = \"***\" # {file}:25:1"),
        "level = \"trace\" # TIDINGS_LOG".to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line} in {lines:#?}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("history_node_bytes_max") && line.ends_with("# this machine"))
    );
    // What is shown says the same again, but for what it hides.
    let home = tempfile::tempdir().unwrap();
    let plain = config(&["show", "--config", file], &[]).await;
    std::fs::write(home.path().join("tidings.toml"), text(&plain.stdout).replace("***", SECRET)).unwrap();
    let again = config(&["show", "--config", home.path().join("tidings.toml").to_str().unwrap()], &[]).await;
    assert_eq!(text(&again.stdout), text(&plain.stdout), "{again:?}");

    let json: Value =
        serde_json::from_slice(&config(&[&arguments[..], &["--json"]].concat(), &variables).await.stdout)
            .unwrap();
    assert_eq!(json["listen"], json!({"value": "127.0.0.1:9", "origin": "--listen"}));
    assert_eq!(json["auth.keys"]["value"][0]["secret"], "***");
    let json: Value =
        serde_json::from_slice(&config(&["show", "--json", "--config", file], &[]).await.stdout).unwrap();
    assert_eq!(json["limits"]["heartbeat_seconds"], 20);
    for output in [shown.stdout, plain.stdout] {
        assert!(!text(&output).contains("canary"));
    }
}

#[tokio::test]
async fn errors_are_json_where_that_is_asked_for() {
    for (arguments, code, exit_code) in [
        (&["serve", "--config", "none.toml", "--json"][..], "config", 78),
        (&["--json", "serve", "--colour"], "usage", 2),
        (&["--json", "dev", "--listen", "0.0.0.0:0"], "usage", 2),
        (&["--json", "bench", "ws://127.0.0.1:9", "--secret-file", "none"], "failed", 1),
    ] {
        let home = tempfile::tempdir().unwrap();
        let output = run(tidings(&home).args(arguments).current_dir(home.path())).await;
        let told: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!((output.status.code(), told["code"].as_str()), (Some(exit_code), Some(code)), "{told}");
        assert!(told["message"].is_string() && told["fix"].is_string(), "{told}");
    }
}

#[tokio::test]
async fn the_log_is_as_configured_and_as_the_environment_says_before_that() {
    let home = tempfile::tempdir().unwrap();
    let served = async |variables: &[(&str, &str)]| {
        // A port that is taken ends it before it serves.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut command = tidings(&home);
        command.args(["serve", "--listen", &address]).env_remove("TIDINGS_LOG").current_dir(home.path());
        let output = run(command.env("TIDINGS_AUTH__SECRET", SECRET).envs(variables.iter().copied())).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let (human, warn) = (("TIDINGS_LOG__FORMAT", "human"), ("TIDINGS_LOG__LEVEL", "warn"));
    assert!(served(&[]).await.starts_with('{'), "it is no terminal");
    let lines = served(&[human]).await;
    assert!(
        !lines.starts_with('{') && lines.contains(" INFO open files") && !lines.contains('\x1b'),
        "{lines}"
    );
    assert!(served(&[warn]).await.starts_with("error: can't listen"));
    assert!(served(&[warn, ("TIDINGS_LOG", "info")]).await.starts_with('{'));
    let level =
        config(&["check"], &[("TIDINGS_AUTH__SECRET", SECRET), ("TIDINGS_LOG__LEVEL", "tidings=loud")]).await;
    assert!(text(&level.stderr).starts_with("error: TIDINGS_LOG__LEVEL: "), "{level:?}");
}

#[tokio::test]
async fn completions_and_the_manual_know_all_commands() {
    let home = tempfile::tempdir().unwrap();
    for arguments in
        [&["completions", "bash"][..], &["completions", "zsh"], &["completions", "fish"], &["man"]]
    {
        let output = run(tidings(&home).args(arguments)).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        // A manual writes hyphens in its own way.
        let told = text(&output.stdout).replace('\\', "");
        for word in ["serve", "config", "drain-window", "schema"] {
            assert!(told.contains(word), "{arguments:?} does not know {word}");
        }
    }
}
