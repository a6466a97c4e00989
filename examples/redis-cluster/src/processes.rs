//! The processes behind the balancer: a Redis and three nodes, each started again when it has ended.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::Fault;

/// What the nodes are called.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// A node that has ended comes back after this, so that it can be seen to be away.
const AWAY: Duration = Duration::from_secs(4);
/// How long a Redis may take to answer.
const REDIS_START_MAX: Duration = Duration::from_secs(10);

/// A server that ends when nobody holds its stdin any more, be it that this process was killed.
const WHILE_WANTED: &str = "redis-server \"$@\" & cat; kill $!";

/// A `redis-server` that keeps nothing, and ends with this value.
pub(crate) struct RedisProcess {
    port: u16,
    _child: Child,
    _folder: TempDir,
}

impl RedisProcess {
    pub(crate) async fn start() -> Result<Self, Fault> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args([
            "-c",
            WHILE_WANTED,
            "redis",
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command.arg("--dir").arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn()?;
        let answers = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                #[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(REDIS_START_MAX, answers).await.map_err(|_| {
            "redis-server does not answer: install it (apt-get install redis-server), or name one that runs with --redis redis://host:port"
        })?;
        Ok(Self { port, _child: child, _folder: folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// A node as the page shows it.
#[derive(Clone, Serialize)]
pub(crate) struct Shown {
    pub(crate) name: &'static str,
    /// None while it is away.
    pub(crate) address: Option<SocketAddr>,
    /// Connections that the balancer has led here, ever.
    pub(crate) led: u64,
}

/// The three nodes.
#[derive(Clone)]
pub(crate) struct Nodes(Arc<State>);

struct State {
    shown: Mutex<Vec<Shown>>,
    kill: Vec<mpsc::Sender<()>>,
}

impl Nodes {
    /// Starts all, and waits until they listen.
    pub(crate) async fn start(redis: &str, secret: [u8; 32]) -> Result<Self, Fault> {
        let (mut kill, mut wait_for_death) = (Vec::new(), Vec::new());
        for _ in NAMES {
            let (tell, told) = mpsc::channel(1);
            kill.push(tell);
            wait_for_death.push(told);
        }
        let shown = NAMES.iter().map(|name| Shown { name, address: None, led: 0 }).collect();
        let nodes = Self(Arc::new(State { shown: Mutex::new(shown), kill }));
        for (index, told) in wait_for_death.into_iter().enumerate() {
            let process = Process::start(index, redis, secret).await?;
            nodes.lock()[index].address = Some(process.address);
            tokio::spawn(nodes.clone().supervise(index, process, redis.to_owned(), secret, told));
        }
        Ok(nodes)
    }

    /// Keeps a node running.
    async fn supervise(
        self,
        index: usize,
        mut process: Process,
        redis: String,
        secret: [u8; 32],
        mut killed: mpsc::Receiver<()>,
    ) {
        loop {
            tokio::select! {
                _ = process.child.wait() => {}
                order = killed.recv() => {
                    // SIGKILL: it says goodbye to nobody.
                    drop(process.child.kill().await);
                    if order.is_none() {
                        return;
                    }
                }
            }
            info!(node = NAMES[index], "a node is gone");
            self.lock()[index].address = None;
            process = loop {
                #[expect(clippy::disallowed_methods, reason = "so that it can be seen to be away")]
                tokio::time::sleep(AWAY).await;
                match Process::start(index, &redis, secret).await {
                    Ok(process) => break process,
                    Err(error) => warn!(node = NAMES[index], %error, "a node could not be started"),
                }
            };
            self.lock()[index].address = Some(process.address);
        }
    }

    /// Kills a node; `false` if there is none of this name.
    pub(crate) fn kill(&self, name: &str) -> bool {
        let Some(index) = NAMES.iter().position(|known| *known == name) else { return false };
        // One order that waits is enough.
        let _ = self.0.kill[index].try_send(());
        true
    }

    /// All nodes, as they are now.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.lock().clone()
    }

    /// The next node that is there, in turn.
    pub(crate) fn next(&self, turn: usize) -> Option<SocketAddr> {
        let mut shown = self.lock();
        let count = shown.len();
        let index =
            (turn..turn + count).map(|turn| turn % count).find(|index| shown[*index].address.is_some())?;
        shown[index].led += 1;
        shown[index].address
    }

    /// Ends all.
    pub(crate) async fn end(&self) {
        for kill in &self.0.kill {
            let _ = kill.send(()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shown>> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Process {
    child: Child,
    address: SocketAddr,
    /// Open for as long as the node is wanted.
    _stdin: ChildStdin,
}

impl Process {
    async fn start(index: usize, redis: &str, secret: [u8; 32]) -> Result<Self, Fault> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--node", NAMES[index], "--redis", redis]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a node without stdin and stdout".into());
        };
        stdin.write_all(&secret).await?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let address = line.ok_or("a node ended before it listened")?.parse()?;
        Ok(Self { child, address, _stdin: stdin })
    }
}
