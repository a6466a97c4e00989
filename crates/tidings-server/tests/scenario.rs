//! What a client has to live through, the same for every SDK: `sdks/scenario/scenario.json`, played with a real server,
//! and a proxy that cuts, holds and blackholes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "scenario/driver.rs"]
mod driver;
#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
#[path = "scenario/rust_driver.rs"]
mod rust_driver;
mod server;
#[path = "scenario/soak.rs"]
mod soak;
#[path = "scenario/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use driver::Driver;
use redis_servers::Certificates;
use serde_json::{Map, Value, json};
use stage::Stage;
use tokio::task::JoinSet;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Those that show what a client makes of a cut and of a refusal, for when what is beneath is another thing.
const CUTS_AND_REFUSALS: [&str; 4] = [
    "a talk",
    "a cut in the middle of a frame",
    "a publish whose ack is lost counts once",
    "a token that is none",
];

fn acts() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("sdks/scenario/scenario.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Plays every act at once, since most of them wait.
async fn play(driver: impl Fn() -> Driver) {
    play_acts(acts(), None, driver).await;
}

/// Plays some acts over TLS, by an authority of the test's own.
async fn play_over_tls(driver: impl Fn(&Certificates) -> Driver) {
    let certificates = Arc::new(Certificates::make());
    let mut acts = acts();
    acts.retain(|act| CUTS_AND_REFUSALS.iter().any(|name| act["name"] == *name));
    assert_eq!(acts.len(), CUTS_AND_REFUSALS.len());
    play_acts(acts, Some(Arc::clone(&certificates)), || driver(&certificates)).await;
}

async fn play_acts(acts: Vec<Value>, certificates: Option<Arc<Certificates>>, driver: impl Fn() -> Driver) {
    let mut playing = JoinSet::new();
    for act in acts {
        let (driver, certificates) = (driver(), certificates.clone());
        playing.spawn(async move {
            let transcript = transcript(&play_one(&act, driver, certificates).await);
            (act, transcript)
        });
    }
    let mut played = 0;
    while let Some(ended) = playing.join_next().await {
        let (act, transcript) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let expected = &act["expect"];
        let name = &act["name"];
        assert_eq!(transcript["states"], expected["states"], "{name}: {transcript:#}");
        assert_eq!(transcript["rooms"], expected["rooms"], "{name}: {transcript:#}");
        let answers = expected["answers"].as_object().unwrap();
        let known = transcript["answers"].as_object().unwrap();
        assert_eq!(known.len(), answers.len(), "{name}: {transcript:#}");
        for (label, answer) in answers {
            let fits =
                known[label] == *answer || answer.as_array().is_some_and(|any| any.contains(&known[label]));
            assert!(fits, "{name}: {label}: {transcript:#}");
        }
        played += 1;
    }
    println!("{played} acts");
    assert!(played > 0);
}

async fn play_one(act: &Value, mut driver: Driver, certificates: Option<Arc<Certificates>>) -> Vec<Value> {
    let mut stage = Stage::set(act["server"] == "redis", certificates).await;
    for step in act["steps"].as_array().unwrap() {
        println!("{}: {step}", act["name"]);
        if step["do"].is_string() {
            let mut command = step.clone();
            if command["do"] == "connect" || command["do"] == "token" {
                stage.fill(&mut command);
            }
            driver.tell(&command).await;
        } else if step["await"].is_object() {
            driver.sees(&step["await"]).await;
        } else if let Some(what) = step["publish"].as_array() {
            stage.publish(what).await;
        } else if let Some(what) = step.get("sees") {
            stage.bob_sees(what).await;
        } else if let Some(what) = step.get("net") {
            stage.on_the_net(what);
        } else if let Some(what) = step["server"].as_str() {
            stage.with_the_server(what).await;
        } else {
            stage.with_redis(step["redis"].as_str().unwrap()).await;
        }
    }
    let seen = driver.end().await;
    stage.end().await;
    seen
}

/// What was seen, in the words of the scenario's file.
fn transcript(seen: &[Value]) -> Value {
    let mut epochs: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut place = |id: &Value| {
        let (room, position) = id.as_str()?.split_once('@')?;
        let (epoch, offset) = position.split_once('.')?;
        let known = epochs.keys().filter(|(of, _)| of == room).count();
        let number = *epochs.entry((room.to_owned(), epoch.to_owned())).or_insert(known + 1);
        Some(format!("{number}.{offset}"))
    };
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or("null").to_owned();
    let (mut states, mut answers, mut rooms) =
        (Vec::new(), Map::new(), BTreeMap::<String, Vec<String>>::new());
    for line in seen {
        let room = match line["saw"].as_str().unwrap() {
            "state" if line["state"] == "refused" => {
                states.push(format!("refused {}", text(line, "code")));
                continue;
            }
            "state" => {
                states.push(text(line, "state"));
                continue;
            }
            "answer" => {
                let mut answer = match line["error"].as_str() {
                    Some(error) => error.to_owned(),
                    None => place(&line["event_id"]).unwrap_or_else(|| "ok".to_owned()),
                };
                if line["duplicate"] == true {
                    answer += " duplicate";
                }
                assert!(answers.insert(text(line, "as"), answer.into()).is_none(), "two answers: {line}");
                continue;
            }
            "members" | "degraded" => continue,
            "event" => {
                let head = format!("{} {}", text(line, "event"), text(line, "from"));
                let head = place(&line["id"]).map_or(head.clone(), |place| format!("{place} {head}"));
                match line["base64"].as_str() {
                    Some(bytes) => format!("{head} base64 {bytes}"),
                    None => format!("{head} {}", line["data"]),
                }
            }
            "reset" => format!("reset {} {}", text(line, "reason"), place(&line["id"]).unwrap()),
            "caught_up" => format!("caught up {} {}", line["events"], text(line, "recovery")),
            "lost" => format!("lost {}", text(line, "code")),
            other => panic!("{other}"),
        };
        rooms.entry(text(line, "room")).or_default().push(room);
    }
    json!({"states": states, "answers": answers, "rooms": rooms})
}

/// An SDK whose driver is a program. Where its packages are not installed it is passed over, unless `./test` has seen to
/// that and says so by `TIDINGS_SDKS`.
struct Sdk {
    name: &'static str,
    folder: &'static str,
    /// By its name, or below the project's root.
    program: &'static str,
    arguments: &'static [&'static str],
    /// In which variable it is told of an authority beside, or in the place of, those of the system.
    authority_variable: &'static str,
    /// What shows whether it can be run, as arguments of the same program.
    tried_by: &'static [&'static str],
}

const TYPESCRIPT: Sdk = Sdk {
    name: "TypeScript",
    folder: "sdks/typescript",
    program: "node",
    arguments: &["--import", "tsx", "test/driver.ts"],
    authority_variable: "NODE_EXTRA_CA_CERTS",
    tried_by: &["--import", "tsx", "--eval", "import('ws')"],
};
const PYTHON: Sdk = Sdk {
    name: "Python",
    folder: "sdks/python",
    program: "target/python/bin/python",
    arguments: &["tests/driver.py"],
    authority_variable: "SSL_CERT_FILE",
    tried_by: &["-c", "import tidings_client, websockets"],
};

impl Sdk {
    fn program(&self) -> PathBuf {
        if self.program.contains('/') { root().join(self.program) } else { self.program.into() }
    }

    fn is_here(&self) -> bool {
        let folder = root().join(self.folder);
        let tried = Command::new(self.program()).args(self.tried_by).current_dir(folder).output();
        let is_here = tried.is_ok_and(|output| output.status.success());
        assert!(is_here || std::env::var_os("TIDINGS_SDKS").is_none(), "{} can't be run", self.name);
        if !is_here {
            println!("skipped: the {} client is not installed here", self.name);
        }
        is_here
    }

    fn start(&self) -> Driver {
        Driver::start(&self.program(), self.arguments, &root().join(self.folder), None)
    }

    fn start_believing(&self, certificates: &Certificates) -> Driver {
        let authority = certificates.path("ca.pem");
        let authority = (self.authority_variable, authority.as_path());
        Driver::start(&self.program(), self.arguments, &root().join(self.folder), Some(authority))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client() {
    play(|| Driver::rust(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_over_tls() {
    play_over_tls(|certificates| Driver::rust(Some(certificates.read("ca.pem")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client() {
    if TYPESCRIPT.is_here() {
        play(|| TYPESCRIPT.start()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_over_tls() {
    if TYPESCRIPT.is_here() {
        play_over_tls(|certificates| TYPESCRIPT.start_believing(certificates)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client() {
    if PYTHON.is_here() {
        play(|| PYTHON.start()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_over_tls() {
    if PYTHON.is_here() {
        play_over_tls(|certificates| PYTHON.start_believing(certificates)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asked for with ./test --long rust-soak"]
async fn the_rust_client_for_long() {
    soak::soak().await;
}
