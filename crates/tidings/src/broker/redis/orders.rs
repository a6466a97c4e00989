//! What every node has to do for a user or a token, stored: so that a node which was away, or starts later, does it too.
//!
//! A node reads the lists whenever it has a new connection, before it takes anybody in through it; when another node says
//! that there is something; and every few seconds, since nobody's word for it is sure to arrive. What was revoked and is not
//! stored any more, because Redis has lost it, is stored again by the nodes that know it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use tidings_protocol::close::CloseCode;
use tidings_protocol::event_id::EventId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Shared;
use super::control::Control;
use super::error::CallError;
use super::link::{CALL_MAX, Connected, Link};
use super::routes::Routes;
use super::user_keys::tag_of;
use super::user_scripts::{Stored, StoredPage, ToStore};
use crate::auth::UserId;
use crate::broker::{ControlError, Order};
use crate::revocations::TooManyRevocations;

/// What nobody has told of is read this often.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a node that is away is waited for with what it has to disconnect. Later its connections stay.
const DISCONNECT_AGE_MAX: Duration = Duration::from_secs(600);
/// So many disconnected users are stored. More is `TooMany`.
const DISCONNECTS_MAX: usize = 100_000;
/// One call reads so many.
const PAGE_ORDERS_MAX: usize = 1000;
/// Whoever gives an order waits so long for a connection and an answer.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// Those that are too old are looked for this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// So many redacted events are stored. More is `TooMany`.
const REDACTED_MAX: usize = 100_000;

/// The lists.
const LISTS: [&str; 3] = ["revoked", "disconnected", "redacted"];
const REVOKED: usize = 0;
const DISCONNECTED: usize = 1;
/// What nodes may have read before it was redacted; a log that is read later has it no more.
const REDACTED: usize = 2;

/// What comes first in an order's id.
const USER: char = 'u';
const TOKEN: char = 't';

/// How far this node has read.
#[derive(Default)]
pub(super) struct Orders {
    read: Mutex<[Read; LISTS.len()]>,
    known: Mutex<Known>,
    /// Told when another node says that there is something to be read.
    pub(super) announced: Notify,
}

/// How far a list was read.
#[derive(Default)]
struct Read {
    until_ms: u64,
    /// Which list that was.
    list: String,
}

/// What was revoked, as it is stored.
#[derive(Default)]
struct Known {
    by_id: HashMap<String, Revocation>,
    /// Counts the times that the list is read from its beginning.
    reading: u64,
    /// The last reading that is known to have seen all.
    checked: u64,
    /// The server's clock when it was last read, and when those that are too old were last forgotten.
    now_ms: u64,
    pruned_ms: u64,
}

struct Revocation {
    at_ms: u64,
    value: Option<u64>,
    /// The reading that has seen it.
    seen_in: u64,
}

impl Known {
    /// Some of those that the present reading has not seen, and that are not too old by now.
    fn missing(&mut self, age_max: Duration) -> Vec<(String, Option<u64>)> {
        let (now_ms, reading) = (self.now_ms, self.reading);
        let is_checked = self.checked == reading;
        if !is_checked || Duration::from_millis(now_ms.abs_diff(self.pruned_ms)) >= PRUNE_INTERVAL {
            self.pruned_ms = now_ms;
            self.by_id.retain(|_, known| Duration::from_millis(now_ms.saturating_sub(known.at_ms)) < age_max);
        }
        if is_checked {
            return Vec::new();
        }
        let missing = self.by_id.iter().filter(|(_, known)| known.seen_in != reading);
        let missing: Vec<_> =
            missing.take(PAGE_ORDERS_MAX).map(|(id, known)| (id.clone(), known.value)).collect();
        if missing.is_empty() {
            self.checked = reading;
        }
        missing
    }
}

/// Stores an order and tells the others.
pub(super) async fn give(routes: &Routes, order: Order<'_>) -> Result<(), ControlError> {
    let (shared, link) = (&routes.shared, &routes.control);
    let limits = &shared.limits;
    let (list, id) = match order {
        Order::Disconnect(user) => (DISCONNECTED, format!("{USER}{user}")),
        Order::RevokeUser { user, .. } => (REVOKED, format!("{USER}{user}")),
        Order::RevokeToken(id) => (REVOKED, format!("{TOKEN}{id}")),
        Order::Redact { room, event } => (REDACTED, event.of(room).to_string()),
    };
    let (age_max, max) = match list {
        DISCONNECTED => (DISCONNECT_AGE_MAX, DISCONNECTS_MAX),
        // A node that is away for longer has let go of its rooms, and reads them anew.
        REDACTED => (DISCONNECT_AGE_MAX, REDACTED_MAX),
        _ => (limits.revocation_age_max, limits.revocations_max),
    };
    let keys = shared.keyspace.orders(LISTS[list]);
    let storing = async {
        let connected = link.connection_made().await;
        let value = match order {
            Order::Disconnect(user) => time_of_places(routes, user).await?,
            Order::RevokeUser { until_unix_s, .. } => Some(until_unix_s),
            Order::RevokeToken(_) | Order::Redact { .. } => None,
        };
        let mut connection = connected.connection.clone();
        let fresh = shared.env.random();
        let order = ToStore { id: &id, value, age_max, max, only_if_missing: false, fresh };
        let call = shared.scripts.users.order(&mut connection, &keys, &order);
        link.call(&connected, call).await
    };
    match tokio::time::timeout(WAIT_MAX, storing).await {
        Ok(Ok(true)) => {
            link.tell(&Control::Orders);
            // This node reads what it has given like any other, and stores it again if it has to.
            shared.orders.announced.notify_one();
            Ok(())
        }
        Ok(Ok(false)) => Err(ControlError::TooMany(TooManyRevocations)),
        Ok(Err(error)) => {
            warn!(%error, "what every node has to do may not be stored");
            Err(ControlError::Unavailable)
        }
        Err(_) => Err(ControlError::Unavailable),
    }
}

/// The time in ms by the clock that dates a user's places, if it is another one than that which dates orders.
async fn time_of_places(routes: &Routes, user: &UserId) -> Result<Option<u64>, CallError> {
    let link = routes.link_of_user(&tag_of(user));
    let link = link.ok_or(CallError::Nowhere("no server of the cluster is known to have the user's slot"))?;
    if Arc::ptr_eq(&link, &routes.control) {
        return Ok(None);
    }
    let connected = link.connection_made().await;
    let mut connection = connected.connection.clone();
    let call = async { Ok(redis::cmd("TIME").query_async(&mut connection).await?) };
    let (seconds, micros): (u64, u64) = link.call(&connected, call).await?;
    Ok(Some(seconds * 1000 + micros / 1000))
}

/// Reads and does what was stored since the last time.
pub(super) async fn catch_up(shared: &Shared, connection: &mut impl ConnectionLike) -> Result<(), CallError> {
    for (list, name) in LISTS.iter().enumerate() {
        let keys = shared.keyspace.orders(name);
        loop {
            let after_ms = shared.orders.read.lock()[list].until_ms;
            let reading = shared.scripts.users.orders(connection, &keys, after_ms, PAGE_ORDERS_MAX);
            let page = tokio::time::timeout(CALL_MAX, reading).await.map_err(|_| CallError::Late)??;
            let is_other = shared.orders.read.lock()[list].list != page.list;
            // Redis has lost some: what it has may be dated before those, and new.
            if after_ms > 0 && (is_other || page.newest_ms < after_ms) {
                shared.orders.known.lock().reading += u64::from(list == REVOKED);
                shared.orders.read.lock()[list] = Read::default();
                continue;
            }
            carry_out(shared, list, &page);
            let (until_ms, done) = match page.orders.last() {
                Some(last) => (last.at_ms, page.orders.len() < PAGE_ORDERS_MAX),
                None => (page.newest_ms, true),
            };
            shared.orders.read.lock()[list] = Read { until_ms, list: page.list };
            if done {
                break;
            }
        }
    }
    Ok(())
}

/// Reads all of it again: what is known is done already, and does no harm.
pub(super) fn read_all_again(shared: &Shared) {
    shared.orders.known.lock().reading += 1;
    *shared.orders.read.lock() = Default::default();
}

fn carry_out(shared: &Shared, list: usize, page: &StoredPage) {
    let now = shared.env.now();
    if list == REVOKED {
        let mut known = shared.orders.known.lock();
        known.now_ms = page.now_ms;
        let seen_in = known.reading;
        // A user's without a value has lost it, and nobody could be kept out by what is left.
        let whole = page.orders.iter().filter(|order| order.value.is_some() || !order.id.starts_with(USER));
        known.by_id.extend(whole.map(|Stored { id, at_ms, value }| {
            (id.clone(), Revocation { at_ms: *at_ms, value: *value, seen_in })
        }));
    }
    let mut anybody_revoked = false;
    for Stored { id, at_ms, value } in &page.orders {
        if list == REDACTED {
            if let (Some(node), Ok(event)) = (shared.asking.node(), EventId::parse(id)) {
                node.redact(&event);
            }
            continue;
        }
        let age = Duration::from_millis(page.now_ms.saturating_sub(*at_ms));
        let ends_at = now + shared.limits.revocation_age_max.saturating_sub(age);
        let (kind, name) = id.split_at_checked(1).unwrap_or_default();
        let local = &shared.local_users;
        match (list, kind.chars().next(), value) {
            (REVOKED, Some(USER), Some(until_unix_s)) => {
                let is_new = local.revocations.learn_user(name, *until_unix_s, ends_at);
                // Most nodes have no connection of his.
                anybody_revoked |= is_new && !local.users.connections_of(name).is_empty();
            }
            (REVOKED, Some(TOKEN), _) => {
                anybody_revoked |= local.revocations.learn_token(name, ends_at);
            }
            (DISCONNECTED, Some(USER), _) => {
                let until_ms = value.unwrap_or(*at_ms);
                for session in shared.leases.sessions_until(name, until_ms) {
                    local.close_session(session, CloseCode::KICKED, "disconnected by the application");
                }
            }
            // Of a later version.
            _ => debug!(list = LISTS[list], "an order that this version does not know"),
        }
    }
    if anybody_revoked {
        shared.local_users.close_revoked();
    }
}

/// Stores again what was revoked and is not stored any more.
async fn store_again(link: &Arc<Link>, connected: &Connected) -> Result<(), CallError> {
    let shared = &link.shared;
    let (age_max, max) = (shared.limits.revocation_age_max, shared.limits.revocations_max);
    let keys = shared.keyspace.orders(LISTS[REVOKED]);
    let missing = shared.orders.known.lock().missing(age_max);
    for (id, value) in &missing {
        let mut connection = connected.connection.clone();
        let fresh = shared.env.random();
        let order = ToStore { id, value: *value, age_max, max, only_if_missing: true, fresh };
        let call = shared.scripts.users.order(&mut connection, &keys, &order);
        link.call(connected, call).await?;
        let mut known = shared.orders.known.lock();
        let reading = known.reading;
        if let Some(stored) = known.by_id.get_mut(id) {
            stored.seen_in = reading;
        }
    }
    if !missing.is_empty() {
        warn!(revocations = missing.len(), "Redis had lost what was revoked: it is stored again");
        link.tell(&Control::Orders);
    }
    Ok(())
}

/// Reads what was stored, and says that this node is there, for as long as the node lives.
pub(super) async fn follow(link: Arc<Link>) {
    let shared = &link.shared;
    let mut poll_at = Instant::now();
    loop {
        let _ = tokio::time::timeout_at(poll_at, shared.orders.announced.notified()).await;
        let connected = link.connection_made().await;
        poll_at = Instant::now() + POLL_INTERVAL;
        let mut connection = connected.connection.clone();
        let read = catch_up(shared, &mut connection).await;
        // It is late by itself; the link is to know what else was wrong.
        let read = match link.call(&connected, std::future::ready(read)).await {
            Ok(()) => store_again(&link, &connected).await,
            read => read,
        };
        if let Err(error) = read {
            // The next round goes on from there.
            debug!(%error, "what every node has to do was not read");
        }
        shared.nodes.stay(&link, &connected).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_to_be_stored_is_forgotten_though_nothing_was_lost() {
        let age_max = Duration::from_secs(3600);
        let mut known = Known::default();
        for at_ms in [1, 3_000_000] {
            known.by_id.insert(format!("u{at_ms}"), Revocation { at_ms, value: None, seen_in: 0 });
        }
        known.now_ms = 3_600_000;
        assert_eq!(known.missing(age_max), []);
        assert_eq!(known.by_id.len(), 2);
        known.now_ms = 3_700_000;
        assert_eq!(known.missing(age_max), []);
        assert_eq!(known.by_id.keys().collect::<Vec<_>>(), ["u3000000"]);
    }
}
