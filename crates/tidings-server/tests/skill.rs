//! The skill for coding agents: its frontmatter, what it refers to, and how it is laid down in a project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;
use server::{Client, Serve, run, tidings};
use tempfile::TempDir;

const SECRET: &str = "canary-bird of the skill's backend, 32 bytes";

const TRIGGERS: &[&str] = &[
    "WebSocket",
    "real-time",
    "live updates",
    "socket",
    "ws",
    "push notifications",
    "live chat",
    "streaming data",
    "bidirectional communication",
];

fn skill() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../skills/websocket-builder")
}

/// The files of a folder and of the folders in it, by their paths from there, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// `tidings skill install` in this folder: exit code, stdout and stderr.
async fn install(project: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = tidings(&home);
    let output = run(command.args(["skill", "install"]).args(arguments).current_dir(project.path())).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_frontmatter_has_each_of_its_fields() {
    let text = fs::read_to_string(skill().join("SKILL.md")).unwrap();
    assert!(text.lines().count() < 500);
    let (front, _) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let documents = Yaml::load_from_str(front).unwrap();
    let front = &documents[0];
    let keys = |yaml: &Yaml<'_>| -> Vec<String> {
        let keys = yaml.as_mapping().unwrap().keys();
        keys.map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(front), ["name", "description", "license", "compatibility", "metadata"]);
    assert_eq!(front["name"].as_str(), Some("websocket-builder"));
    let description = front["description"].as_str().unwrap();
    assert!(description.len() <= 1024, "agents read no more of it: {}", description.len());
    let words: Vec<_> = description.split(|sign: char| !sign.is_alphanumeric() && sign != '-').collect();
    for trigger in TRIGGERS {
        let trigger: Vec<_> = trigger.split(' ').collect();
        assert!(words.windows(trigger.len()).any(|window| window == trigger), "{trigger:?}");
    }
    assert!(description.contains("Not for: durable storage"));
    assert_eq!(front["license"].as_str(), Some("Apache-2.0"));
    let compatibility = front["compatibility"].as_str().unwrap();
    assert!(compatibility.len() <= 500);
    for tested in ["tidings 0.1", "Node.js 20", "Python 3.9 and 3.11", "Rust 1.95", "Redis 7.0"] {
        assert!(compatibility.contains(tested), "{tested}");
    }
    let metadata = &front["metadata"];
    assert_eq!(keys(metadata), ["version", "category", "tags"]);
    let version: Vec<_> = metadata["version"].as_str().unwrap().split('.').collect();
    assert!(version.len() == 3 && version.iter().all(|part| part.parse::<u32>().is_ok()), "{version:?}");
    assert_eq!(metadata["category"].as_str(), Some("development"));
    let tags: Vec<_> =
        metadata["tags"].as_sequence().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    assert!(tags.contains(&"websocket") && tags.contains(&"real-time"), "{tags:?}");
}

#[tokio::test]
async fn what_the_skill_refers_to_is_there() {
    let home = tempfile::tempdir().unwrap();
    for file in files(&skill()).iter().filter(|file| file.ends_with(".md")) {
        let path = skill().join(file);
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0) {
            let target = link.split('#').next().unwrap();
            assert!(path.parent().unwrap().join(target).is_file(), "{file}: {link}");
        }
        for asset in text.split("`assets/").skip(1).map(|rest| rest.split_once('`').unwrap().0) {
            assert!(skill().join("assets").join(asset).is_file(), "{file}: assets/{asset}");
        }
        for topic in text.split("`tidings docs ").skip(1).map(|rest| rest.split(['`', ' ']).next().unwrap()) {
            let output = run(tidings(&home).args(["docs", topic])).await;
            assert!(output.status.success(), "{file}: tidings docs {topic}");
        }
    }
}

#[tokio::test]
async fn the_configuration_that_it_brings_is_right() {
    let home = tempfile::tempdir().unwrap();
    for file in ["tidings.toml", "message.schema.json"] {
        fs::copy(skill().join("assets").join(file), home.path().join(file)).unwrap();
    }
    fs::write(home.path().join("tidings.secret"), "canary-bird of the skill's project, 32 bytes\n").unwrap();
    let output =
        run(tidings(&home).args(["config", "check", "--config", "tidings.toml"]).current_dir(home.path()))
            .await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn the_token_that_another_backend_is_shown_lets_its_user_in() {
    let home = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(skill().join("assets/tidings.toml")).unwrap();
    let config = config.replace("127.0.0.1:7777", "127.0.0.1:0");
    fs::write(home.path().join("tidings.toml"), format!("{config}\n[admin]\nlisten = \"127.0.0.1:0\"\n"))
        .unwrap();
    fs::copy(skill().join("assets/message.schema.json"), home.path().join("message.schema.json")).unwrap();
    fs::write(home.path().join("tidings.secret"), SECRET).unwrap();
    let serve = Serve::start(home).await;
    let text = fs::read_to_string(skill().join("references/other-backends.md")).unwrap();
    let (shown, _) = text.split_once("```json\n").unwrap().1.split_once("```").unwrap();
    let mut claims: Value = serde_json::from_str(shown).unwrap();
    claims["exp"] = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600).into();
    let token = tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap();
    let (_, welcome) = Client::connect_with_welcome(&serve.address, &token).await;
    assert_eq!(welcome["data"]["user"], claims["sub"]);
    let rooms = welcome["data"]["rooms"].as_array().unwrap();
    assert!(rooms.contains(&claims["rooms"][0]), "{rooms:?}");
}

#[tokio::test]
async fn install_lays_all_of_it_down() {
    let project = tempfile::tempdir().unwrap();
    let (code, told, _) = install(&project, &[]).await;
    assert_eq!(code, 0);
    let folder = project.path().join(".github/skills/websocket-builder");
    assert_eq!(files(&folder), files(&skill()));
    for file in files(&folder) {
        assert_eq!(fs::read(folder.join(&file)).unwrap(), fs::read(skill().join(&file)).unwrap(), "{file}");
        assert!(told.contains(&format!("written .github/skills/websocket-builder/{file}\n")), "{told}");
    }
}

#[tokio::test]
async fn install_changes_no_file_unless_it_is_told_to() {
    let project = tempfile::tempdir().unwrap();
    assert_eq!(install(&project, &["--dir", "skills"]).await.0, 0);
    let again = install(&project, &["--dir", "skills", "--json"]).await;
    let told: Value = serde_json::from_str(&again.1).unwrap();
    assert_eq!((again.0, told["skill"].as_str()), (0, Some("websocket-builder")));
    let became = told["files"].as_array().unwrap().iter().map(|file| file["became"].as_str().unwrap());
    assert!(became.clone().count() > 5 && became.clone().all(|became| became == "unchanged"), "{told}");

    let folder = project.path().join("skills/websocket-builder");
    fs::write(folder.join("SKILL.md"), "ours").unwrap();
    fs::remove_file(folder.join("assets/tidings.toml")).unwrap();
    let (code, told, fault) = install(&project, &["--dir", "skills"]).await;
    assert_eq!((code, told.as_str()), (1, ""));
    assert!(fault.contains("SKILL.md") && fault.contains("--force"), "{fault}");
    assert_eq!(fs::read_to_string(folder.join("SKILL.md")).unwrap(), "ours");
    assert!(!folder.join("assets/tidings.toml").exists(), "a refusal writes nothing");

    let (code, told, _) = install(&project, &["--dir", "skills", "--force"]).await;
    assert_eq!(code, 0);
    assert!(told.contains("replaced skills/websocket-builder/SKILL.md\n"), "{told}");
    assert!(told.contains("written skills/websocket-builder/assets/tidings.toml\n"), "{told}");
    assert_eq!(files(&folder), files(&skill()));
}
