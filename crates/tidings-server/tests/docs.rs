//! The documents that the program carries: every page is a topic, and `llms.txt` leads to what is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use server::{run, tidings};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `tidings docs` says with these arguments: its exit code, stdout and stderr.
async fn docs(arguments: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let output = run(tidings(&home).arg("docs").args(arguments).current_dir(home.path())).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn topics() -> Vec<Value> {
    let (code, told, _) = docs(&["--json"]).await;
    assert_eq!(code, 0);
    serde_json::from_str::<Value>(&told).unwrap()["topics"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_page_of_the_documentation_is_a_topic() {
    let carried: BTreeSet<_> =
        topics().await.iter().map(|topic| topic["path"].as_str().unwrap().to_owned()).collect();
    let pages = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages =
        pages.filter_map(|name| name.to_str().filter(|name| name.ends_with(".md")).map(str::to_owned));
    let readmes = ["sdks", "examples"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        entries.map(move |entry| format!("{folder}/{}/README.md", entry.unwrap().file_name().display()))
    });
    // What an SDK has to live through is for whoever writes one.
    let readmes =
        readmes.filter(|path| repository().join(path).exists() && path != "sdks/scenario/README.md");
    let there: BTreeSet<_> = pages.map(|name| format!("docs/{name}")).chain(readmes).collect();
    let missing: Vec<_> = there.difference(&carried).collect();
    assert!(missing.is_empty(), "not in src/manual.rs: {missing:?}");
}

#[tokio::test]
async fn a_page_is_printed_as_it_stands_in_the_repository() {
    let page = fs::read_to_string(repository().join("docs/http-api.md")).unwrap();
    assert_eq!(docs(&["http-api"]).await, (0, page.clone(), String::new()));
    assert_eq!(docs(&["docs/http-api.md"]).await.1, page);
    let told: Value = serde_json::from_str(&docs(&["http-api", "--json"]).await.1).unwrap();
    assert_eq!((told["topic"].as_str(), told["text"].as_str()), (Some("http-api"), Some(page.as_str())));
}

#[tokio::test]
async fn topics_are_listed_a_line_each() {
    let (code, list, _) = docs(&[]).await;
    assert_eq!(code, 0);
    let lines: Vec<_> = list.lines().collect();
    let topics = topics().await;
    assert_eq!(lines.len(), topics.len());
    for (line, topic) in lines.iter().zip(&topics) {
        let (name, about) = line.split_once("  ").unwrap();
        assert_eq!(
            (name, about.trim_start()),
            (topic["topic"].as_str().unwrap(), topic["about"].as_str().unwrap())
        );
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[tokio::test]
async fn a_typo_is_told_what_was_meant() {
    let (code, told, fault) = docs(&["htpp-api"]).await;
    assert_eq!((code, told.as_str()), (2, ""));
    assert!(fault.contains("did you mean `http-api`?"), "{fault}");
    let (code, _, fault) = docs(&["quaternions", "--json"]).await;
    let fault: Value = serde_json::from_str(&fault).unwrap();
    assert_eq!((code, fault["code"].as_str()), (2, Some("usage")));
    assert_eq!(fault["fix"], "tidings docs lists what there is");
}

#[tokio::test]
async fn llms_txt_leads_to_what_is_there() {
    let text = fs::read_to_string(repository().join("llms.txt")).unwrap();
    let links: BTreeSet<_> =
        text.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0.to_owned()).collect();
    let broken: Vec<_> = links.iter().filter(|link| !repository().join(link).is_file()).collect();
    assert!(broken.is_empty(), "{broken:?}");
    let topics = topics().await;
    let unnamed: Vec<_> = topics
        .iter()
        .map(|topic| topic["path"].as_str().unwrap())
        .filter(|path| !links.contains(*path))
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?} are topics that llms.txt does not name");
}
