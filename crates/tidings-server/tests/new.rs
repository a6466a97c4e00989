//! `tidings new`: what it writes, what it says, and when it writes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use server::{run, tidings};
use tempfile::TempDir;

/// Runs it in a folder, without a terminal.
async fn new(folder: &TempDir, arguments: &[&str]) -> Output {
    run(tidings(folder).current_dir(folder.path()).arg("new").args(arguments)).await
}

fn read(folder: &TempDir, path: &str) -> String {
    std::fs::read_to_string(folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn an_application_is_written_and_what_to_do_next_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let made = new(&folder, &["my-chat", "--template", "express-chat"]).await;
    assert!(made.status.success(), "{}", stderr(&made));
    let said = String::from_utf8(made.stdout).unwrap();
    for line in ["  cd my-chat", "  npm install", "  tidings serve --config tidings.toml"] {
        assert!(said.lines().any(|said| said.starts_with(line)), "no {line} in {said}");
    }
    for path in
        ["ws/server.ts", "ws/rooms.ts", "ws/middleware/auth.ts", "ws/handlers/index.ts", "compose.yaml"]
    {
        assert!(!read(&folder, &format!("my-chat/{path}")).is_empty(), "{path}");
    }
    let package: Value = serde_json::from_str(&read(&folder, "my-chat/package.json")).unwrap();
    assert_eq!(package["name"], "my-chat");
    assert!(read(&folder, "my-chat/README.md").contains("not published yet"));
    // What it says is a configuration that is right.
    std::fs::write(folder.path().join("my-chat/tidings.secret"), "canary-bird of the test of tidings new")
        .unwrap();
    let mut check = tidings(&folder);
    let checked = run(check.current_dir(folder.path().join("my-chat")).args(["config", "check"])).await;
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[tokio::test]
async fn a_program_is_told_in_json_and_redis_and_packages_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let packages = folder.path().join("packed");
    std::fs::create_dir(&packages).unwrap();
    let options = ["board", "--template", "fastapi-dashboard", "--redis", "--dir", "a b", "--json"];
    let with_sdk = [&options[..], &["--sdk-from", "packed"]].concat();
    let missing = new(&folder, &with_sdk).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("pip wheel"), "{}", stderr(&missing));
    assert!(!folder.path().join("a b").exists());

    std::fs::write(packages.join("tidings_client-0.1.0-py3-none-any.whl"), "a wheel").unwrap();
    let made = new(&folder, &with_sdk).await;
    assert!(made.status.success(), "{}", stderr(&made));
    let told: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&told["template"], &told["dir"]), (&"fastapi-dashboard".into(), &"a b".into()));
    let next: Vec<_> = told["next"].as_array().unwrap().iter().map(|next| next.as_str().unwrap()).collect();
    assert_eq!(next[0], "cd 'a b'");
    assert_eq!(next.last(), Some(&"python -m dashboard.pump"));
    assert!(next.iter().all(|next| !next.contains('#')), "{next:?}");
    for path in told["files"].as_array().unwrap() {
        assert!(folder.path().join("a b").join(path.as_str().unwrap()).is_file(), "{path}");
    }
    assert_eq!(read(&folder, "a b/sdks/tidings_client-0.1.0-py3-none-any.whl"), "a wheel");
    assert!(
        read(&folder, "a b/requirements.txt")
            .contains("./sdks/tidings_client-0.1.0-py3-none-any.whl[server]")
    );
    assert!(read(&folder, "a b/.env.example").contains("\nREDIS_URL="));
    assert!(read(&folder, "a b/tests/test_two_nodes.py").contains("Two nodes"));

    std::fs::write(packages.join("tidings_client-0.2.0-py3-none-any.whl"), "another").unwrap();
    let unclear = new(&folder, &["b", "--template", "fastapi-dashboard", "--sdk-from", "packed"]).await;
    assert!(stderr(&unclear).contains("more than one"), "{}", stderr(&unclear));
}

/// What is real-time is where its readers look for it, in every language.
#[tokio::test]
async fn each_template_has_its_parts_where_they_are_looked_for() {
    const EXPRESS: [&str; 4] =
        ["ws/server.ts", "ws/middleware/auth.ts", "ws/rooms.ts", "ws/handlers/presence_heartbeat.ts"];
    const FASTAPI: [&str; 3] = ["realtime/server.py", "realtime/broadcaster.py", "realtime/redis_pubsub.py"];
    const AXUM: [&str; 3] = ["src/realtime/mod.rs", "src/realtime/auth.rs", "src/realtime/rooms.rs"];
    let folder = tempfile::tempdir().unwrap();
    for (framework, parts) in [("express", &EXPRESS[..]), ("fastapi", &FASTAPI), ("axum", &AXUM)] {
        for kind in ["chat", "dashboard"] {
            let template = format!("{framework}-{kind}");
            let made = new(&folder, &[&template, "--template", &template, "--redis"]).await;
            assert!(made.status.success(), "{}", stderr(&made));
            for part in parts {
                assert!(!read(&folder, &format!("{template}/{part}")).is_empty(), "{template} {part}");
            }
            if kind == "chat" {
                let handlers = ["message_send", "message_edit", "typing_start", "presence_heartbeat"];
                let found = walk(&folder.path().join(&template));
                for handler in handlers {
                    assert!(found.iter().any(|path| path.contains(handler)), "{template}: {handler}");
                }
            }
        }
    }
}

/// The paths of all files in a folder.
fn walk(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

#[tokio::test]
async fn a_template_that_is_none_is_told_with_those_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["a"][..], &["a", "--template", "rails-chat"], &["a", "--json"]] {
        let refused = new(&folder, arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let told = stderr(&refused);
        for framework in ["axum", "express", "fastapi"] {
            assert!(told.contains(&format!("{framework}-chat")), "{told}");
            assert!(told.contains(&format!("{framework}-dashboard")), "{told}");
        }
    }
    for name in ["", "Chat", "1a", "../a", "a b", &"a".repeat(65)] {
        let refused = new(&folder, &[name, "--template", "express-chat"]).await;
        assert_eq!(refused.status.code(), Some(2), "{name}");
        assert!(stderr(&refused).contains("a letter of a-z"), "{}", stderr(&refused));
    }
    assert!(is_empty(folder.path()));
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("README.md"), "mine").unwrap();
    let refused = new(&folder, &["full", "--template", "express-chat"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--dir"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    assert_eq!(read(&folder, "full/README.md"), "mine");
    // A file is no folder, and an empty folder is as good as none.
    let in_a_file = new(&folder, &["a", "--template", "express-chat", "--dir", "full/README.md"]).await;
    assert_eq!(in_a_file.status.code(), Some(1));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let made = new(&folder, &["a", "--template", "express-chat", "--dir", "empty"]).await;
    assert!(made.status.success(), "{}", stderr(&made));
}
