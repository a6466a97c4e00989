//! A cluster's slots: which one a room is in, and which master has it, as the cluster's servers say.

use std::time::Duration;

use crc::{CRC_16_XMODEM, Crc};
use redis::{Client, ConnectionInfo, Value};
use tokio::task::JoinSet;

use super::address;
use super::error::CallError;

/// A cluster has so many.
pub(super) const SLOTS: usize = 16_384;
/// A server has so long to say how the slots are spread.
const ASK_MAX: Duration = Duration::from_millis(500);
/// And so long when another has said it.
const ASK_MORE_MAX: Duration = Duration::from_millis(50);
/// So many servers are asked at once.
const ASKED_MAX: usize = 8;
/// Of so many hash tags one is looked for: a master of one slot is not found with a chance of 1 in 400.
const TAGS_TRIED_MAX: usize = 100_000;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a hash tag.
pub(super) fn slot_of(tag: &str) -> usize {
    usize::from(CRC.checksum(tag.as_bytes())) % SLOTS
}

/// A server of a cluster, as the others name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Server {
    /// How it is reached.
    pub(super) fn info(&self, like: &ConnectionInfo) -> ConnectionInfo {
        address::at(like, self.host.clone(), self.port)
    }
}

/// Which master has which slot, as one server knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SlotMap {
    /// From the first slot to the last, in order.
    ranges: Vec<(usize, usize, Server)>,
    /// Whether the cluster takes commands, as that server thinks.
    pub(super) is_up: bool,
    /// It grows with every change.
    epoch: u64,
}

impl SlotMap {
    /// The master of a slot.
    pub(super) fn master(&self, slot: usize) -> Option<&Server> {
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        self.ranges.get(at).filter(|(first, ..)| *first <= slot).map(|(.., server)| server)
    }

    /// Every master that has slots.
    pub(super) fn masters(&self) -> Vec<Server> {
        let mut masters: Vec<_> = self.ranges.iter().map(|(.., server)| server.clone()).collect();
        masters.sort_unstable();
        masters.dedup();
        masters
    }

    /// Whether this is how the cluster was before.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.epoch < other.epoch
    }

    /// How many slots have no master.
    pub(super) fn slots_without_master(&self) -> usize {
        SLOTS - self.ranges.iter().map(|(first, last, _)| last - first + 1).sum::<usize>().min(SLOTS)
    }

    /// A hash tag whose slot is this master's, out of `tags`.
    pub(super) fn tag_at(&self, server: &Server, tags: impl Iterator<Item = String>) -> Option<String> {
        tags.take(TAGS_TRIED_MAX).find(|tag| self.master(slot_of(tag)) == Some(server))
    }

    /// Reads the answers to `CLUSTER INFO` and `CLUSTER SLOTS`; `asked` is who gave them, for it may leave itself out.
    fn parse(info: &str, slots: Value, asked: &str) -> Result<Self, CallError> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let malformed = || CallError::Malformed("a cluster's slots");
        let Value::Array(slots) = slots else { return Err(malformed()) };
        let ranges: Option<Vec<_>> = slots.into_iter().map(|range| parse_range(range, asked)).collect();
        let mut ranges = ranges.ok_or_else(malformed)?;
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(malformed());
        }
        Ok(Self {
            ranges,
            is_up: field("cluster_state").is_some_and(|state| state.trim() == "ok"),
            epoch: field("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0),
        })
    }
}

fn parse_range(range: Value, asked: &str) -> Option<(usize, usize, Server)> {
    let Value::Array(range) = range else { return None };
    let mut range = range.into_iter();
    let number = |value: Option<Value>| match value {
        Some(Value::Int(number)) => usize::try_from(number).ok(),
        _ => None,
    };
    let (first, last) = (number(range.next())?, number(range.next())?);
    let Some(Value::Array(master)) = range.next() else { return None };
    let mut master = master.into_iter();
    let host = match master.next()? {
        Value::BulkString(host) if !host.is_empty() => String::from_utf8(host).ok()?,
        Value::BulkString(_) | Value::Nil => asked.to_owned(),
        _ => return None,
    };
    let port = u16::try_from(number(master.next())?).ok()?;
    (first <= last && last < SLOTS).then_some((first, last, Server { host, port }))
}

/// Asks several servers at once, and believes the one that has seen the most changes.
pub(super) async fn ask(servers: &[ConnectionInfo]) -> Result<SlotMap, CallError> {
    let mut asked = JoinSet::new();
    for server in servers.iter().take(ASKED_MAX) {
        let server = server.clone();
        asked.spawn(async move {
            let answer = tokio::time::timeout(ASK_MAX, ask_one(&server)).await;
            answer.unwrap_or(Err(CallError::Late))
        });
    }
    let mut best: Option<SlotMap> = None;
    let mut failed = CallError::Nowhere("no server of the cluster answers");
    loop {
        let wait = if best.is_some() { ASK_MORE_MAX } else { ASK_MAX * 2 };
        match tokio::time::timeout(wait, asked.join_next()).await {
            Ok(Some(Ok(Ok(map)))) => {
                let known = best.as_ref().map(|best| (best.is_up, best.epoch));
                if known.is_none_or(|known| known < (map.is_up, map.epoch)) {
                    best = Some(map);
                }
            }
            // What one refuses says more than that others don't answer.
            Ok(Some(Ok(Err(error @ CallError::Refused(_))))) => failed = error,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return best.ok_or(failed),
        }
    }
}

async fn ask_one(server: &ConnectionInfo) -> Result<SlotMap, CallError> {
    let mut connection = Client::open(server.clone())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let host = match server.addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => host,
        _ => "",
    };
    SlotMap::parse(&info, slots, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let text = |text: &str| Value::BulkString(text.into());
        let master = Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let replica = Value::Array(vec![text("replica"), Value::Int(1), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    const INFO: &str = "cluster_state:ok\r\ncluster_current_epoch:6\r\n";

    #[test]
    fn a_slot_is_what_redis_says_it_is() {
        // The check value of its specification, and what `CLUSTER KEYSLOT` says.
        assert_eq!(CRC.checksum(b"123456789"), 0x31C3);
        assert_eq!((slot_of("foo"), slot_of("chat:lobby"), slot_of("a")), (12182, 9590, 15495));
    }

    #[test]
    fn a_map_knows_the_master_of_each_slot() {
        let slots = Value::Array(vec![
            range(10, 16383, text("b"), 2),
            range(0, 5, text("a"), 1),
            range(7, 7, Value::Nil, 3),
        ]);
        let map = SlotMap::parse(INFO, slots, "asked").unwrap();
        let host = |slot| map.master(slot).map(|server| &*server.host);
        assert_eq!(
            [0, 5, 6, 7, 8, 10, 16383].map(host),
            [Some("a"), Some("a"), None, Some("asked"), None, Some("b"), Some("b")]
        );
        assert_eq!((map.masters().len(), map.slots_without_master(), map.is_up, map.epoch), (3, 3, true, 6));
    }

    #[test]
    fn a_tag_is_found_on_every_master() {
        let slots = Value::Array(vec![range(0, 99, text("few"), 1), range(100, 16383, text("most"), 1)]);
        let map = SlotMap::parse(INFO, slots, "").unwrap();
        for server in map.masters() {
            let tag = map.tag_at(&server, (0..).map(|number: u32| number.to_string())).unwrap();
            assert_eq!(map.master(slot_of(&tag)), Some(&server));
        }
        let nobody = Server { host: "nobody".to_owned(), port: 1 };
        assert_eq!(map.tag_at(&nobody, (0..).map(|number: u32| number.to_string())), None);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for slots in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, text("a"), 1)]),
            Value::Array(vec![range(5, 4, text("a"), 1)]),
            Value::Array(vec![range(0, 5, text("a"), 70_000)]),
            Value::Array(vec![range(0, 5, text("a"), 1), range(5, 9, text("b"), 1)]),
        ] {
            assert!(SlotMap::parse(INFO, slots.clone(), "").is_err(), "{slots:?}");
        }
    }
}
