//! The scripts of what holds for all nodes, as calls.

use std::time::Duration;

use redis::Value;
use redis::aio::ConnectionLike;

use super::answer::texts;
use super::error::CallError;
use super::script::{Script, script};
use super::user_keys::Pair;
use crate::broker::{NodeInfo, Wanted};
use crate::session_id::SessionId;
use tidings_protocol::limits::ConnectionLimitPolicy;

/// Also where there is no memory left for events.
macro_rules! user_script {
    ($file:literal) => {
        Script::new(script!(" flags=allow-oom", "head.lua", "clock.lua", $file))
    };
}

pub(super) struct UserScripts {
    take: Script,
    renew: Script,
    order: Script,
    orders: Script,
    nodes: Script,
    lineage: &'static str,
}

/// What became of a place that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// There is none.
    Full,
    Place {
        /// When it was taken, by the server's clock.
        since_ms: u64,
        /// Those who have lost theirs.
        lost: Vec<SessionId>,
        /// Whether that is because the limit was reached.
        limit_reached: bool,
    },
}

/// A session's place: when it was taken if it is kept, none if it is given back.
pub(super) type Kept = (SessionId, Option<u64>);

/// An order that is to be stored.
#[derive(Clone, Copy)]
pub(super) struct ToStore<'a> {
    pub(super) id: &'a str,
    /// Of several under one id the highest counts.
    pub(super) value: Option<u64>,
    pub(super) age_max: Duration,
    /// So many are stored at most.
    pub(super) max: usize,
    /// Whether it stays as it is where it is stored already.
    pub(super) only_if_missing: bool,
    /// Names the list, if this is its first.
    pub(super) fresh: u64,
}

/// One stored order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) at_ms: u64,
    pub(super) value: Option<u64>,
}

/// Orders after a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredPage {
    pub(super) now_ms: u64,
    /// The newest of all.
    pub(super) newest_ms: u64,
    /// The list's name: one that was lost and has begun anew has another.
    pub(super) list: String,
    pub(super) orders: Vec<Stored>,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl UserScripts {
    pub(super) fn new(lineage: &'static str) -> Self {
        Self {
            take: user_script!("take.lua"),
            renew: user_script!("renew.lua"),
            order: user_script!("order.lua"),
            orders: user_script!("orders.lua"),
            nodes: user_script!("nodes.lua"),
            lineage,
        }
    }

    pub(super) fn all(&self) -> [&Script; 5] {
        [&self.take, &self.renew, &self.order, &self.orders, &self.nodes]
    }

    /// Takes a place, or only looks whether there is one.
    pub(super) async fn take(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        wanted: &Wanted<'_>,
        lease: Duration,
        look_only: bool,
    ) -> Result<Taken, CallError> {
        let answer = self.take.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage);
            command.arg(if look_only { "look" } else { "take" }).arg(wanted.session.to_string());
            command.arg(wanted.takes_over.map_or_else(String::new, |old| old.to_string()));
            command.arg(wanted.limit.max).arg(match wanted.limit.policy {
                ConnectionLimitPolicy::RefuseNewest => "refuse",
                ConnectionLimitPolicy::CloseOldest => "oldest",
            });
            command.arg(ms(lease));
        });
        taken(answer.await?).ok_or(CallError::Malformed("whether there is a place"))
    }

    /// Renews and gives back the places of several users; who has lost his.
    pub(super) async fn renew(
        &self,
        connection: &mut impl ConnectionLike,
        users: &[(Pair, Vec<Kept>)],
        lease: Duration,
    ) -> Result<Vec<SessionId>, CallError> {
        let answer = self.renew.call(connection, |command| {
            command.arg(users.len() * 2);
            for (keys, _) in users {
                command.arg(&keys.0[..]);
            }
            command.arg(self.lineage).arg(ms(lease));
            for (_, sessions) in users {
                command.arg(sessions.len());
                for (session, since_ms) in sessions {
                    command.arg(session.to_string());
                    command.arg(since_ms.map_or_else(String::new, |since_ms| since_ms.to_string()));
                }
            }
        });
        sessions(answer.await?).ok_or(CallError::Malformed("who has lost his place"))
    }

    /// Stores what all nodes have to do; `false` where as much is stored as may be.
    pub(super) async fn order(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        order: &ToStore<'_>,
    ) -> Result<bool, CallError> {
        let answer = self.order.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage).arg(order.id);
            command.arg(order.value.map_or_else(String::new, |value| value.to_string()));
            command.arg(ms(order.age_max)).arg(order.max);
            command.arg(if order.only_if_missing { "missing" } else { "" });
            command.arg(format!("{:016x}", order.fresh));
        });
        match answer.await? {
            Value::BulkString(text) => Ok(text != b"f"),
            _ => Err(CallError::Malformed("when something was stored")),
        }
    }

    /// What was stored after a moment.
    pub(super) async fn orders(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        after_ms: u64,
        max: usize,
    ) -> Result<StoredPage, CallError> {
        let answer = self.orders.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage).arg(after_ms).arg(max);
        });
        page(answer.await?).ok_or(CallError::Malformed("what is to be done"))
    }

    /// Says that this node is there, for so long.
    pub(super) async fn stay(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        node: u64,
        entry: &str,
        ttl: Duration,
    ) -> Result<(), CallError> {
        let answer = self.nodes.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage);
            command.arg("stay").arg(format!("{node:016x}")).arg(entry).arg(ms(ttl));
        });
        answer.await.map(drop)
    }

    /// Says that it is not any more.
    pub(super) async fn leave(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        node: u64,
    ) -> Result<(), CallError> {
        let answer = self.nodes.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage).arg("leave").arg(format!("{node:016x}"));
        });
        answer.await.map(drop)
    }

    /// The nodes that there are.
    pub(super) async fn nodes(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &Pair,
        this: u64,
    ) -> Result<Vec<NodeInfo>, CallError> {
        let answer = self.nodes.call(connection, |command| {
            command.arg(2).arg(&keys.0[..]).arg(self.lineage).arg("list");
        });
        nodes(answer.await?, this).ok_or(CallError::Malformed("the nodes"))
    }
}

fn strings(answer: Value) -> Option<impl Iterator<Item = String>> {
    let strings: Option<Vec<_>> = texts(answer)?.map(|text| String::from_utf8(text.into()).ok()).collect();
    Some(strings?.into_iter())
}

fn sessions(answer: Value) -> Option<Vec<SessionId>> {
    strings(answer)?.map(|session| SessionId::parse(&session)).collect()
}

fn taken(answer: Value) -> Option<Taken> {
    let mut strings = strings(answer)?;
    let limit_reached = match &*strings.next()? {
        "n" => return Some(Taken::Full),
        "y" => false,
        "o" => true,
        _ => return None,
    };
    let since_ms = strings.next()?.parse().ok()?;
    let lost = strings.map(|session| SessionId::parse(&session)).collect::<Option<_>>()?;
    Some(Taken::Place { since_ms, lost, limit_reached })
}

fn page(answer: Value) -> Option<StoredPage> {
    let mut strings = strings(answer)?;
    let (now_ms, newest_ms) = (strings.next()?.parse().ok()?, strings.next()?.parse().ok()?);
    let list = strings.next()?;
    let mut orders = Vec::new();
    while let Some(id) = strings.next() {
        let at_ms = strings.next()?.parse().ok()?;
        let value = strings.next()?;
        let value = if value.is_empty() { None } else { Some(value.parse().ok()?) };
        orders.push(Stored { id, at_ms, value });
    }
    Some(StoredPage { now_ms, newest_ms, list, orders })
}

fn nodes(answer: Value, this: u64) -> Option<Vec<NodeInfo>> {
    let (mut strings, this) = (strings(answer)?, format!("{this:016x}"));
    let mut nodes = Vec::new();
    while let Some(id) = strings.next() {
        let entry = strings.next()?;
        let (since, connections) = entry.split_once(' ')?;
        nodes.push(NodeInfo {
            is_this: id == this,
            id,
            since_unix_ms: since.parse().ok()?,
            connections: connections.parse().ok()?,
        });
    }
    Some(nodes)
}
