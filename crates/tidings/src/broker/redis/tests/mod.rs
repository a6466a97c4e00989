//! The scripts against real servers.

mod bounds;
mod cluster;
mod failover;
mod ids;
mod log;
mod presence;
mod push;
#[path = "../../../../tests/redis_servers/mod.rs"]
mod redis_servers;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ToRedisArgs};
use tidings_protocol::event_id::{Epoch, Offset, Position, RoomId};
use tidings_protocol::follower::Page;
use tidings_protocol::room_log::LogBounds;

use super::answer::{Outcome, Receipts};
use super::error::CallError;
use super::keys::{Keyspace, RoomKeys};
use super::script::{Channels, Lineage, READ_BYTES_MAX, READ_EVENTS_MAX, RoomBounds, Scripts, Submitted};
use redis_servers::RedisServer;

const WIDE: RoomBounds = RoomBounds {
    log: LogBounds { age_max: Duration::from_secs(3600), events_max: 1000, bytes_max: 1 << 20 },
    ids_max: 1000,
};

/// One room on one server, as a node sees it.
struct Desk {
    connection: MultiplexedConnection,
    scripts: Scripts,
    keys: RoomKeys,
    bounds: RoomBounds,
}

impl Desk {
    async fn at(server: &RedisServer) -> Self {
        Self::with(server, Lineage::ReplicationId).await
    }

    async fn with(server: &RedisServer, lineage: Lineage) -> Self {
        let mut connection = server.connect().await;
        let scripts = Scripts::new(lineage, Channels::Classic);
        scripts.load(&mut connection).await.unwrap();
        let keys = Keyspace::default().room(&RoomId::parse("chat:lobby").unwrap());
        Self { connection, scripts, keys, bounds: WIDE }
    }

    async fn submit(&mut self, publications: &[Submitted<'_>]) -> Result<Receipts, CallError> {
        self.scripts.publish(&mut self.connection, &self.keys, fresh(), &self.bounds, publications).await
    }

    /// Publishes in one call what has to be stored.
    async fn publish(&mut self, records: &[&str]) -> Vec<Position> {
        let publications: Vec<_> = records.iter().map(|record| plain(record)).collect();
        let receipts = self.submit(&publications).await.unwrap();
        receipts.outcomes.into_iter().map(stored).collect()
    }

    /// Publishes one under an id.
    async fn publish_as(&mut self, id: &[u8; 16], fingerprint: u64, record: &str) -> Outcome {
        let publication = Submitted { id: Some(id), fingerprint, record: record.as_bytes() };
        self.submit(&[publication]).await.unwrap().outcomes[0]
    }

    async fn read_after(&mut self, after: Option<Offset>) -> Page<Bytes> {
        self.read_some(after, READ_EVENTS_MAX, READ_BYTES_MAX).await.unwrap()
    }

    async fn read_some(
        &mut self,
        after: Option<Offset>,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Page<Bytes>, CallError> {
        let Self { connection, scripts, keys, .. } = self;
        scripts.read(connection, keys, fresh(), after, events_max, bytes_max).await
    }

    async fn position(&mut self) -> Position {
        let Self { connection, scripts, keys, .. } = self;
        scripts.positions(connection, &[keys], fresh()).await.unwrap()[0]
    }

    /// What the whole log holds, with its offsets, which have to be contiguous up to the top.
    async fn log(&mut self) -> Vec<(Offset, String)> {
        let Page { state, events } = self.read_after(None).await;
        let offsets: Vec<_> = events.iter().map(|event| event.offset).collect();
        assert_eq!(offsets, (state.oldest..=state.top).collect::<Vec<_>>());
        let text = |record: &[u8]| String::from_utf8(record.to_vec()).unwrap();
        events.into_iter().map(|event| (event.offset, text(&event.record))).collect()
    }

    async fn run<T: FromRedisValue>(&mut self, command: &[impl ToRedisArgs]) -> T {
        redis::Cmd::new().arg(command).query_async(&mut self.connection).await.unwrap()
    }

    fn key(&self, part: &str) -> String {
        format!("{}:{part}", self.keys.channel())
    }

    async fn meta(&mut self) -> HashMap<String, String> {
        let key = self.key("meta");
        self.run(&["HGETALL", &key]).await
    }

    /// The bytes of the log as meta counts them are those that it has.
    async fn bytes_are_counted_right(&mut self) {
        let key = self.key("log");
        let members: Vec<Vec<u8>> = self.run(&["ZRANGE", &key, "0", "-1"]).await;
        let bytes: usize = members.iter().map(Vec::len).sum();
        assert_eq!(self.meta().await["bytes"], bytes.to_string());
    }
}

fn fresh() -> Epoch {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    Epoch::from_random(u64::from_le_bytes(random))
}

fn plain(record: &str) -> Submitted<'_> {
    Submitted { id: None, fingerprint: 0, record: record.as_bytes() }
}

fn stored(outcome: Outcome) -> Position {
    match outcome {
        Outcome::Stored(position) => position,
        other => panic!("not stored: {other:?}"),
    }
}

fn is_not_master<T: std::fmt::Debug>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::NotMaster))
}
