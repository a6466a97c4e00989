//! A Redis that nodes share, whether it is one server or a cluster.

use std::collections::BTreeSet;

use redis::FromRedisValue;

use super::{RedisCluster, RedisServer};

/// Where nodes keep what they share.
pub enum Store {
    One(RedisServer),
    Cluster(RedisCluster),
}

impl Store {
    /// One server.
    pub async fn one() -> Self {
        Self::One(RedisServer::start().await)
    }

    /// As a node takes it.
    pub fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(&[0, 1, 2]),
        }
    }

    /// The cluster that it is.
    pub fn cluster(&self) -> &RedisCluster {
        match self {
            Self::One(_) => panic!("it is one server"),
            Self::Cluster(cluster) => cluster,
        }
    }

    /// The same, to do something to it.
    pub fn cluster_mut(&mut self) -> &mut RedisCluster {
        match self {
            Self::One(_) => panic!("it is one server"),
            Self::Cluster(cluster) => cluster,
        }
    }

    /// Those servers that run.
    fn servers(&self) -> Vec<&RedisServer> {
        match self {
            Self::One(server) => vec![server],
            Self::Cluster(cluster) => cluster.servers.iter().filter(|server| server.runs()).collect(),
        }
    }

    async fn masters(&self) -> Vec<&RedisServer> {
        let mut masters = Vec::new();
        for server in self.servers() {
            if server.run::<String>(&["INFO", "replication"]).await.contains("role:master") {
                masters.push(server);
            }
        }
        masters
    }

    /// The server that has a key.
    pub async fn server_of(&self, key: &str) -> &RedisServer {
        match self {
            Self::One(server) => server,
            Self::Cluster(cluster) => &cluster.servers[cluster.master_of(key).await],
        }
    }

    /// Runs a command on the server that has the key, which is the command's first argument.
    pub async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.server_of(command[1]).await.run(command).await
    }

    /// The keys that begin so; each has an end.
    pub async fn keys(&self, beginning: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for master in self.masters().await {
            let keys: Vec<String> = master.run(&["KEYS", &format!("{beginning}*")]).await;
            for key in &keys {
                let ttl_ms: i64 = master.run(&["PTTL", key]).await;
                // -2: it has ended meanwhile.
                assert!(ttl_ms > 0 || ttl_ms == -2, "{key} never ends");
            }
            all.extend(keys);
        }
        all
    }

    /// It loses everything.
    pub async fn flush(&self) {
        for master in self.masters().await {
            let () = master.run(&["FLUSHALL"]).await;
        }
    }

    /// Every connection that subscribes is lost.
    pub async fn end_subscriptions(&self) {
        for server in self.servers() {
            let _: u64 = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
    }

    /// A way to it that can be closed: that of a user of its own.
    pub async fn url_of_user(&self, user: &str) -> String {
        for server in self.servers() {
            let rule = ["ACL", "SETUSER", user, "reset", "on", ">canary-bird", "~*", "&*", "+@all"];
            let () = server.run(&rule).await;
        }
        self.url().replace("://", &format!("://{user}:canary-bird@"))
    }

    /// Whoever has come as that user is cut off.
    pub async fn cut_off(&self, user: &str) {
        for server in self.servers() {
            let () = server.run(&["ACL", "SETUSER", user, "off"]).await;
            let _: u64 = server.run(&["CLIENT", "KILL", "USER", user]).await;
        }
    }

    /// And may come back.
    pub async fn let_back(&self, user: &str) {
        for server in self.servers() {
            let () = server.run(&["ACL", "SETUSER", user, "on"]).await;
        }
    }
}
