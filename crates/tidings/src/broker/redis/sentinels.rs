//! The sentinels, which know the server that is the master: asked all at once, and the one that knows the newest
//! configuration is believed.
//!
//! The scripts' own question is not enough. A master that an operator fails over takes writes for about ten seconds
//! more, until the sentinels make it a replica, and then forgets them; so the sentinels are asked again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, ConnectionInfo, RedisResult};
use tokio::task::JoinSet;

use super::address;
use super::routes::Routes;

/// A sentinel has so long to answer.
const ASK_MAX: Duration = Duration::from_millis(500);
/// How often they are asked while a node runs.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Where the sentinels are, and the name of the master that is asked for.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) servers: Vec<ConnectionInfo>,
    pub(super) name: String,
    /// How the master is reached; its host is what the sentinels say.
    pub(super) master: ConnectionInfo,
}

/// Connections to sentinels that were asked before, by their place in the list.
type Kept = HashMap<usize, MultiplexedConnection>;

/// What a sentinel says.
struct Answer {
    /// It grows with every failover.
    epoch: u64,
    host: String,
    port: u16,
}

impl Sentinels {
    /// The master, as the best informed of them says.
    pub(super) async fn master(&self) -> Option<ConnectionInfo> {
        self.ask(&mut Kept::new()).await
    }

    async fn ask(&self, kept: &mut Kept) -> Option<ConnectionInfo> {
        let mut asked = JoinSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            let (connection, server, name) = (kept.remove(&index), server.clone(), self.name.clone());
            asked.spawn(async move {
                let answer = tokio::time::timeout(ASK_MAX, ask_one(connection, server, &name)).await;
                Some((index, answer.ok()?.ok()?))
            });
        }
        let mut best: Option<Answer> = None;
        while let Some(answer) = asked.join_next().await {
            let Ok(Some((index, (connection, answer)))) = answer else { continue };
            kept.insert(index, connection);
            if let Some(answer) = answer
                && best.as_ref().is_none_or(|best| best.epoch < answer.epoch)
            {
                best = Some(answer);
            }
        }
        best.map(|best| address::at(&self.master, best.host, best.port))
    }

    /// Has every link connect anew that leads to another server than the one that is the master now.
    pub(super) async fn follow(self, routes: Arc<Routes>) {
        let mut kept = Kept::new();
        loop {
            #[expect(
                clippy::disallowed_methods,
                reason = "who is asked again and again is asked at intervals"
            )]
            tokio::time::sleep(ASK_INTERVAL).await;
            if let Some(master) = self.ask(&mut kept).await {
                routes.leave_all_but(master.addr());
            }
        }
    }
}

/// Whether two addresses are the same server's, as far as their texts say.
pub(super) fn is_same(one: &ConnectionAddr, other: &ConnectionAddr) -> bool {
    one.to_string() == other.to_string()
}

async fn ask_one(
    connection: Option<MultiplexedConnection>,
    server: ConnectionInfo,
    name: &str,
) -> RedisResult<(MultiplexedConnection, Option<Answer>)> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => Client::open(server)?.get_multiplexed_async_connection().await?,
    };
    // The one that fails over names the new master here before it does there.
    let mut address = redis::cmd("SENTINEL");
    address.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let address: Option<(String, u16)> = address.query_async(&mut connection).await?;
    let Some((host, port)) = address else { return Ok((connection, None)) };
    let mut known = redis::cmd("SENTINEL");
    known.arg("MASTER").arg(name);
    let known: HashMap<String, String> = known.query_async(&mut connection).await?;
    let epoch = known.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok((connection, Some(Answer { epoch, host, port })))
}
