//! A Redis Cluster of a few servers, whose slots can be moved and whose masters can be killed.

use std::ops::RangeInclusive;
use std::time::Instant;

use redis::FromRedisValue;

use super::{PATIENCE, RedisServer, pause};

/// Masters that have a third of the slots each, and then a replica of each, if there are any.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
    ids: Vec<String>,
}

/// The slots that each master has at first.
pub const SLOTS: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10922, 10923..=16383];

impl RedisCluster {
    /// Three masters.
    pub async fn of_masters() -> Self {
        Self::start(3).await
    }

    /// Three masters and their replicas: the servers 3, 4 and 5 follow 0, 1 and 2.
    pub async fn with_replicas() -> Self {
        let cluster = Self::start(6).await;
        for replica in 3..6 {
            let () = cluster.servers[replica].run(&["CLUSTER", "REPLICATE", &cluster.ids[replica - 3]]).await;
        }
        for replica in 3..6 {
            cluster.servers[replica].has_all_of(&cluster.servers[replica - 3]).await;
        }
        // Everybody has to have heard of it: who has not promotes nobody.
        cluster.until("all know the replicas", |nodes| nodes.matches("slave ").count() == 3).await;
        cluster
    }

    async fn start(count: usize) -> Self {
        let (mut servers, mut ids, mut bus_ports) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=count {
            let arguments = ["--cluster-enabled", "yes"];
            let timing = ["--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0"];
            let steady = ["--cluster-allow-replica-migration", "no"];
            let server = RedisServer::start_with(&[&arguments[..], &timing, &steady].concat()).await;
            let () = server.run(&["CLUSTER", "SET-CONFIG-EPOCH", &number.to_string()]).await;
            ids.push(server.run::<String>(&["CLUSTER", "MYID"]).await);
            bus_ports.push(server.arguments.last().unwrap().clone());
            servers.push(server);
        }
        for (server, slots) in servers.iter().zip(SLOTS) {
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        for (server, bus_port) in servers.iter().zip(&bus_ports).skip(1) {
            let port = server.address().port().to_string();
            let () = servers[0].run(&["CLUSTER", "MEET", "127.0.0.1", &port, bus_port]).await;
        }
        let cluster = Self { servers, ids };
        cluster
            .until("all know each other", |nodes| {
                nodes.lines().filter(|line| line.contains(" connected")).count() == count
                    && !nodes.contains("handshake")
            })
            .await;
        for server in &cluster.servers {
            let began = Instant::now();
            while !server.run::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
                assert!(began.elapsed() < PATIENCE, "the cluster is not ok");
                pause().await;
            }
        }
        cluster
    }

    /// Waits until all servers say so of the others.
    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        for server in &self.servers {
            loop {
                let nodes: String = server.run(&["CLUSTER", "NODES"]).await;
                if holds(&nodes) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "not in time: {what}: {nodes}");
                pause().await;
            }
        }
    }

    /// As a node takes it; it begins with these servers.
    pub fn url(&self, seeds: &[usize]) -> String {
        let seeds: Vec<_> = seeds.iter().map(|seed| self.servers[*seed].address().to_string()).collect();
        format!("redis+cluster://{}", seeds.join(","))
    }

    /// The slot of a room, or of any other key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        self.run(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// Which server is the master of a key's slot, once one that runs is known to be.
    pub async fn master_of(&self, key: &str) -> usize {
        let slot = self.slot_of(key).await;
        let began = Instant::now();
        loop {
            let nodes: String = self.run(&["CLUSTER", "NODES"]).await;
            let master = self
                .ids
                .iter()
                .position(|id| nodes.lines().any(|line| line.starts_with(&**id) && has_slot(line, slot)));
            if let Some(master) = master.filter(|master| self.servers[*master].runs()) {
                return master;
            }
            assert!(began.elapsed() < PATIENCE, "nobody has slot {slot}: {nodes}");
            pause().await;
        }
    }

    /// Asks one that runs.
    async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.servers.iter().find(|server| server.runs()).expect("one of them").run(command).await
    }

    /// Names of rooms whose slots are among these, each beginning with `name`.
    pub async fn rooms(&self, name: &str, slots: &RangeInclusive<u16>, count: usize) -> Vec<String> {
        let mut connection = self.servers[0].connect().await;
        let mut rooms = Vec::new();
        for number in 0.. {
            let room = format!("{name}{number}");
            let mut command = redis::cmd("CLUSTER");
            let slot: u16 = command.arg("KEYSLOT").arg(&room).query_async(&mut connection).await.unwrap();
            if slots.contains(&slot) {
                rooms.push(room);
            }
            if rooms.len() == count {
                break;
            }
        }
        rooms
    }

    /// The first steps of moving a slot: from now on it is on its way.
    pub async fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let () = target.run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]).await;
        let () = source.run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]).await;
    }

    /// Moves one key of the slot, if it has any left; whether it had.
    pub async fn move_key(&self, slot: u16, from: usize, to: usize) -> bool {
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let keys: Vec<String> = source.run(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1"]).await;
        let Some(key) = keys.first() else { return false };
        let port = target.address().port().to_string();
        let _: String = source.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        true
    }

    /// The slot is the other's now.
    pub async fn end_move(&self, slot: u16, from: usize, to: usize) {
        for server in [to, from] {
            let server = &self.servers[server];
            let () = server.run(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.ids[to]]).await;
        }
    }

    /// Moves a slot with all that is in it.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to).await;
        while self.move_key(slot, from, to).await {}
        self.end_move(slot, from, to).await;
    }

    /// Moves so many slots by Redis's own tool, as an operator does.
    pub async fn reshard(&self, slots: usize, from: usize, to: usize) {
        let arguments = [
            "--cluster".to_owned(),
            "reshard".to_owned(),
            self.servers[0].address().to_string(),
            "--cluster-from".to_owned(),
            self.ids[from].clone(),
            "--cluster-to".to_owned(),
            self.ids[to].clone(),
            "--cluster-slots".to_owned(),
            slots.to_string(),
            "--cluster-yes".to_owned(),
        ];
        let resharded = tokio::process::Command::new("redis-cli").args(arguments).output().await.unwrap();
        assert!(resharded.status.success(), "{}", String::from_utf8_lossy(&resharded.stdout));
    }

    /// From now on a master's replica hears nothing of what it does.
    pub async fn cut_off_replicas(&self, master: usize) {
        let master = &self.servers[master];
        let () = master.run(&["CONFIG", "SET", "requirepass", "nobody knows"]).await;
        let mut still_known = master.connect_as("nobody knows").await;
        let kill = ["CLIENT", "KILL", "TYPE", "replica"];
        let _: u64 = redis::Cmd::new().arg(&kill).query_async(&mut still_known).await.unwrap();
    }

    /// Promotes a replica without loss, and waits until it is the master.
    pub async fn fail_over(&self, master: usize, replica: usize) {
        self.servers[replica].has_all_of(&self.servers[master]).await;
        let () = self.servers[replica].run(&["CLUSTER", "FAILOVER"]).await;
        self.is_master(replica).await;
    }

    /// Waits until all have heard that these have changed their places: before that they elect nobody again.
    pub async fn know_of_failover(&self, master: usize, replica: usize) {
        let is = |nodes: &str, server: usize, role: &str| {
            nodes.lines().any(|line| line.starts_with(&*self.ids[server]) && line.contains(role))
        };
        self.until("all know who is the master", |nodes| {
            is(nodes, replica, "master") && is(nodes, master, "slave")
        })
        .await;
    }

    /// Waits until a server is a master.
    pub async fn is_master(&self, server: usize) {
        let began = Instant::now();
        while !self.servers[server].run::<String>(&["INFO", "replication"]).await.contains("role:master") {
            assert!(began.elapsed() < PATIENCE, "it is not promoted");
            pause().await;
        }
    }
}

/// Whether a line of `CLUSTER NODES` is that of the slot's master.
fn has_slot(line: &str, slot: u16) -> bool {
    line.split(' ').skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u16>(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    })
}
