//! Three sentinels that watch a master and its replicas.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{PATIENCE, RedisServer, connect_to, free_port, pause};

/// The name under which they know the master.
pub const NAME: &str = "main";

/// Running sentinels; two of them agree that a master is down.
pub struct Sentinels {
    processes: Vec<Child>,
    addresses: Vec<SocketAddr>,
    folder: std::path::PathBuf,
}

impl Sentinels {
    /// Three that have found each other and the master's replica.
    pub async fn of(master: &RedisServer) -> Self {
        let folder = master.folder().join("sentinels");
        std::fs::create_dir_all(&folder).unwrap();
        let mut sentinels = Self { processes: Vec::new(), addresses: Vec::new(), folder };
        for number in 0..3 {
            let port = free_port();
            let file = sentinels.folder.join(format!("{number}.conf"));
            let master = master.address().port();
            let folder = sentinels.folder.display();
            let lines = [
                format!("port {port}\nbind 127.0.0.1\ndir \"{folder}\"\nlogfile \"{folder}/{number}.log\""),
                format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
                format!("sentinel down-after-milliseconds {NAME} 1000"),
                format!("sentinel failover-timeout {NAME} 5000\n"),
            ];
            std::fs::write(&file, lines.join("\n")).unwrap();
            let mut command = Command::new("redis-sentinel");
            command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let process =
                command.spawn().expect("these tests need sentinels: apt-get install redis-sentinel");
            sentinels.processes.push(process);
            sentinels.addresses.push(([127, 0, 0, 1], port).into());
        }
        for address in &sentinels.addresses {
            let began = Instant::now();
            while !knows_all(*address).await {
                assert!(began.elapsed() < PATIENCE, "the sentinels do not find each other");
                pause().await;
            }
        }
        sentinels
    }

    /// As a node takes it.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// Has them promote the replica, as an operator does; when they say that it is the master.
    pub async fn fail_over_to(&self, replica: &RedisServer) {
        let mut connection = connect_to(self.addresses[0]).await.unwrap();
        let mut command = redis::cmd("SENTINEL");
        let () = command.arg("FAILOVER").arg(NAME).query_async(&mut connection).await.unwrap();
        self.say_that_it_is(replica).await;
    }

    /// Waits until all of them say that this is the master.
    pub async fn say_that_it_is(&self, master: &RedisServer) {
        let began = Instant::now();
        for address in &self.addresses {
            loop {
                let mut connection = connect_to(*address).await.unwrap();
                let mut command = redis::cmd("SENTINEL");
                command.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
                let known: (String, u16) = command.query_async(&mut connection).await.unwrap();
                if known.1 == master.address().port() {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "the sentinels do not promote it");
                pause().await;
            }
        }
    }

    /// Waits until they have made a former master a replica of `master`: they close its clients' connections then.
    pub async fn have_demoted(&self, former: &RedisServer, master: &RedisServer) {
        let began = Instant::now();
        while !follows(former.address(), master.address().port()).await {
            assert!(began.elapsed() < PATIENCE, "the former master does not follow");
            pause().await;
        }
        former.has_all_of(master).await;
    }

    /// `kill -9` of one of them.
    pub fn kill(&mut self, sentinel: usize) {
        self.processes[sentinel].kill().unwrap();
        self.processes[sentinel].wait().unwrap();
    }
}

async fn follows(address: SocketAddr, master: u16) -> bool {
    let Ok(mut connection) = connect_to(address).await else { return false };
    let info: redis::RedisResult<String> =
        redis::cmd("INFO").arg("replication").query_async(&mut connection).await;
    info.is_ok_and(|info| {
        info.contains(&format!("master_port:{master}\r")) && info.contains("master_link_status:up")
    })
}

async fn knows_all(address: SocketAddr) -> bool {
    let Ok(mut connection) = connect_to(address).await else { return false };
    let info: redis::RedisResult<String> =
        redis::cmd("INFO").arg("sentinel").query_async(&mut connection).await;
    info.is_ok_and(|info| info.contains("status=ok") && info.contains("slaves=1,sentinels=3"))
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
