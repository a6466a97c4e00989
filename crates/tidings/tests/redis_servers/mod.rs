//! Real Redis servers for tests: each on a free port with a folder of its own, gone with the value that stands for it.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each of the test files that share this uses a part of it"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod cluster;
mod forwarder;
mod sentinels;
mod store;
mod tls;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, IntoConnectionInfo as _, ToRedisArgs};

pub use cluster::{RedisCluster, SLOTS};
pub use forwarder::Forwarder;
pub use sentinels::Sentinels;
pub use store::Store;
pub use tls::Certificates;

/// How long a server may take to start, to stop or to follow another.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `redis-server`, or one that was stopped and can be started again with what it has on disk.
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more arguments, such as `["--appendonly", "yes"]`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidings-redis-{}-{number}", std::process::id()));
        let asked: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        loop {
            let mut arguments = asked.clone();
            if arguments.iter().any(|argument| argument == "--cluster-enabled") {
                // By itself it would be a port 10,000 above, which there may not be.
                arguments.extend(["--cluster-port".to_owned(), free_port().to_string()]);
            }
            std::fs::create_dir_all(&folder).unwrap();
            let mut server = Self { port: free_port(), folder: folder.clone(), arguments, process: None };
            match server.try_to_start().await {
                Ok(()) => return server,
                // Somebody else has taken it since it was free: another one.
                Err(fault) if fault.contains("Address already in use") => drop(server),
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    /// A server that follows `master` and has all that it has.
    pub async fn replica_of(master: &Self) -> Self {
        let server = Self::start().await;
        server.follow(master).await;
        server
    }

    /// A cluster of so many masters, who share the slots evenly and in their order.
    pub async fn cluster(masters: usize) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..masters {
            servers.push(Self::start_with(&["--cluster-enabled", "yes"]).await);
        }
        for (index, server) in servers.iter().enumerate() {
            let slots = [index, index + 1].map(|index| index * 16_384 / masters);
            let range = [slots[0].to_string(), (slots[1] - 1).to_string()];
            let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            let bus = server.arguments.last().unwrap();
            // Two of one configuration epoch would dispute it first.
            let () = server.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            let () = servers[0].run(&["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string(), bus]).await;
        }
        let began = Instant::now();
        for server in &servers {
            let known = format!("cluster_known_nodes:{masters}\r");
            loop {
                let info: String = server.run(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains(&known) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "no cluster: {info}");
                pause().await;
            }
        }
        servers
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Its address as the `redis` crate takes it, with RESP3.
    pub fn url(&self) -> String {
        url_of(self.address())
    }

    /// Whether it was not stopped.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its folder: `dump.rdb` is there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new connection.
    pub async fn connect(&self) -> MultiplexedConnection {
        connect_to(self.address()).await.unwrap()
    }

    /// A new connection of the default user, by a password.
    pub async fn connect_as(&self, password: &str) -> MultiplexedConnection {
        let info = url_of(self.address()).into_connection_info().unwrap();
        let settings = info.redis_settings().clone().set_password(password);
        let client = redis::Client::open(info.set_redis_settings(settings)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Runs one command: `server.run(&["SET", "key", "value"])`.
    pub async fn run<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> T {
        redis::Cmd::new().arg(command).query_async(&mut self.connect().await).await.unwrap()
    }

    /// Starts it where it was, and waits until it answers.
    pub async fn start_again(&mut self) {
        self.try_to_start().await.unwrap_or_else(|fault| panic!("{fault}"));
    }

    async fn try_to_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
        command.arg(&self.folder).args(["--logfile", "redis.log", "--repl-diskless-sync-delay", "0"]);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                panic!("these tests need a Redis server: apt-get install redis-server")
            }
            _ => panic!("redis-server does not start: {error}"),
        }));
        let began = Instant::now();
        while !self.answers().await {
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().unwrap()) {
                self.process = None;
                return Err(format!("redis-server ended with {status}: {}", self.log()));
            }
            assert!(began.elapsed() < PATIENCE, "redis-server does not answer: {}", self.log());
            pause().await;
        }
        Ok(())
    }

    /// Ends it in good order, as an operator would, and starts it again.
    pub async fn restart(&mut self) {
        self.stop();
        self.start_again().await;
    }

    /// Ends it in good order.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        let mut process = self.process.take().expect("it runs");
        // Waiting for a child has no deadline of its own.
        while process.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                process.kill().unwrap();
            }
            std::thread::yield_now();
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stands still with its connections open, until [`RedisServer::go_on`].
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Goes on after [`RedisServer::pause`].
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Makes it a replica and waits until it has all that `master` has.
    pub async fn follow(&self, master: &Self) {
        let () = self.run(&["REPLICAOF".to_owned(), "127.0.0.1".to_owned(), master.port.to_string()]).await;
        self.has_all_of(master).await;
    }

    /// Waits until this replica has all that `master` has written so far.
    pub async fn has_all_of(&self, master: &Self) {
        let offset = |info: &str, name: &str| -> Option<u64> {
            info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let written: String = master.run(&["INFO", "replication"]).await;
        let written = offset(&written, "master_repl_offset:").unwrap();
        let began = Instant::now();
        loop {
            let info: String = self.run(&["INFO", "replication"]).await;
            let up = info.contains("master_link_status:up");
            if up && offset(&info, "slave_repl_offset:").is_some_and(|read| read >= written) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the replica does not catch up: {info}");
            pause().await;
        }
    }

    /// Makes it a master.
    pub async fn promote(&self) {
        let () = self.run(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Whether it has loaded what it had on disk and answers, and not one of another test's that has taken its port
    /// meanwhile.
    async fn answers(&self) -> bool {
        let (Some(process), Ok(mut connection)) = (&self.process, connect_to(self.address()).await) else {
            return false;
        };
        let own = format!("process_id:{}\r\n", process.id());
        let info = redis::cmd("INFO").query_async::<String>(&mut connection).await;
        info.is_ok_and(|info| info.contains(&own) && info.contains("\nloading:0\r"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("redis.log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill").arg(signal).arg(process.id().to_string()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An address as the `redis` crate takes it, with RESP3.
pub fn url_of(address: SocketAddr) -> String {
    format!("redis://{address}/?protocol=resp3")
}

async fn connect_to(address: SocketAddr) -> redis::RedisResult<MultiplexedConnection> {
    redis::Client::open(url_of(address))?.get_multiplexed_async_connection().await
}

/// A port of the range that the system gives out, and so never that of a Redis which is installed here.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn pause() {
    #[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is ready")]
    tokio::time::sleep(Duration::from_millis(10)).await;
}
