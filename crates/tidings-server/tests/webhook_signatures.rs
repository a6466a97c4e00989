//! Webhooks as the public libraries of Standard Webhooks for Node and Python verify them: tests/webhooks/README.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod backend;
mod server;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_lc_rs::hmac;
use backend::{SECRET, config, token};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use server::{Client, Node, kept_stderr, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ALL: &str =
    r#"events = ["connect", "join", "event", "disconnect", "room.occupied", "room.vacated", "presence"]"#;
const ROOMS: &str = r#"
    [[rooms]]
    pattern = "chat:*"
    [[rooms]]
    pattern = "asked:*"
    join = "webhook"
    [[events]]
    name = "say"
    webhook = true
    [limits]
    presence_grace_seconds = 0
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A backend in another language.
struct Verifier {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    process: Child,
}

impl Verifier {
    /// None where it is not installed, unless `./test` has seen to that and says so by `TIDINGS_SDKS`.
    async fn start(language: &str, secret: &str) -> Option<Self> {
        let is_here = root().join("target/webhooks").join(language).join("made-from").is_file();
        assert!(
            is_here || std::env::var_os("TIDINGS_SDKS").is_none(),
            "the {language} backend is not installed"
        );
        if !is_here {
            println!(
                "skipped: the {language} backend is not installed here (tests/webhooks/run --prepare {language})"
            );
            return None;
        }
        let mut command = Command::new(root().join("tests/webhooks/run"));
        command.arg(language).env("WEBHOOK_SECRET", secret).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(kept_stderr());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut verifier = Self { url: String::new(), lines, process };
        verifier.url = verifier.next().await["url"].as_str().unwrap().to_owned();
        Some(verifier)
    }

    async fn next(&mut self) -> Value {
        let line = within(self.lines.next_line()).await.unwrap().expect("it runs");
        serde_json::from_str(&line).unwrap()
    }

    async fn verifies(&mut self, kinds: &[&str]) {
        let mut verified = Vec::new();
        while verified.len() < kinds.len() {
            let line = self.next().await;
            verified.push(line["verified"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned());
        }
        verified.sort_unstable();
        assert_eq!(verified, kinds.iter().map(|kind| format!("dev.tidings.{kind}")).collect::<Vec<_>>());
    }

    /// Lets go of it.
    async fn end(mut self) {
        drop(self.process.stdin.take());
        assert_eq!(within(self.process.wait()).await.unwrap().code(), Some(0));
    }
}

/// Plays a visit of which every kind of webhook is sent, and leaves what came of it for `./test` to count.
async fn play(language: &str) {
    // As docs/webhooks.md says it.
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), b"tidings webhook v1");
    let derived = format!("whsec_{}", STANDARD.encode(derived));
    let own = format!("whsec_{}", STANDARD.encode(b"canary-bird of the webhooks, 32 bytes"));
    let mut played = String::new();
    for (secret, file, what) in [(derived, false, "the derived secret"), (own, true, "a secret of its own")] {
        let Some(mut verifier) = Verifier::start(language, &secret).await else { return };
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("webhook.secret"), format!("{secret}\n")).unwrap();
        let secret_file = format!("secret_file = \"{}\"", home.path().join("webhook.secret").display());
        let webhooks = if file { format!("{ALL}\n{secret_file}") } else { ALL.to_owned() };
        let node =
            Node::start(&config(&verifier.url, &home.path().join("outbox"), &webhooks, ROOMS), &[]).await;
        // Let in, so the backend has believed it.
        let mut ann = Client::connect(&node.address, &token("ann")).await;
        verifier.verifies(&["connect", "presence", "room.occupied"]).await;
        ann.send(r#"{"event":"say","room":"chat:lobby","data":{"text":"hé \u2028"},"id":"s"}"#).await;
        assert_eq!(ann.until("ack").await["data"]["verified_by"], language);
        verifier.verifies(&["event"]).await;
        ann.send(r#"{"event":"room.join","room":"asked:a","id":"j"}"#).await;
        assert!(ann.until("ack").await["data"]["top"].is_string());
        verifier.verifies(&["join", "presence", "room.occupied"]).await;
        ann.close().await;
        let ends = ["disconnect", "presence", "presence", "room.vacated", "room.vacated"];
        verifier.verifies(&ends).await;
        verifier.end().await;
        played += &format!("{language} verifies every kind of webhook with {what}\n");
    }
    let passed = played.lines().count();
    let log = format!("{played}{passed} passed, 0 failed, 0 skipped\n");
    std::fs::write(root().join("target/webhooks").join(format!("{language}.log")), log).unwrap();
}

#[tokio::test]
async fn the_library_for_node_verifies_them() {
    play("node").await;
}

#[tokio::test]
async fn the_library_for_python_verifies_them() {
    play("python").await;
}
