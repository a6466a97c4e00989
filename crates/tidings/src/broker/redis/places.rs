//! A user's places on all nodes, as a handshake asks for them.

use tracing::warn;

use super::control::Control;
use super::error::CallError;
use super::orders::WAIT_MAX;
use super::routes::Routes;
use super::user_keys::tag_of;
use super::user_scripts::Taken;
use crate::broker::{NoPlace, Place, Wanted};
use crate::local_users::Lost;

/// Takes a place; who loses his by it is told, wherever he is.
pub(super) async fn take(routes: &Routes, wanted: Wanted<'_>) -> Result<Place, NoPlace> {
    let (shared, user) = (&routes.shared, wanted.identity.user());
    let lease = shared.leases.lease(user, wanted.session);
    match ask(routes, wanted, false).await? {
        Taken::Full => {
            lease.refused();
            Err(NoPlace::LimitReached)
        }
        Taken::Place { since_ms, lost, limit_reached } => {
            lease.hold(since_ms, shared);
            let why = if limit_reached { Lost::AsTheOldest } else { Lost::ToItsOwn };
            for session in &lost {
                shared.local_users.replace(user.as_str(), *session, why);
            }
            if !lost.is_empty() {
                routes.control.tell(&Control::Replaced { user: user.clone(), sessions: lost, lost: why });
            }
            Ok(Place { lease: Box::new(lease), limit_reached })
        }
    }
}

/// Whether there is one.
pub(super) async fn find(routes: &Routes, wanted: Wanted<'_>) -> Result<(), NoPlace> {
    match ask(routes, wanted, true).await? {
        Taken::Full => Err(NoPlace::LimitReached),
        Taken::Place { .. } => Ok(()),
    }
}

async fn ask(routes: &Routes, wanted: Wanted<'_>, look_only: bool) -> Result<Taken, NoPlace> {
    let (shared, user) = (&routes.shared, wanted.identity.user());
    let keys = shared.keyspace.places_of(user);
    let asking = async {
        // Before it is made nobody knows a cluster's slots.
        routes.control.connection_made().await;
        let link = routes.link_of_user(&tag_of(user)).ok_or(NoPlace::Silent)?;
        let connected = link.connection_made().await;
        // What was revoked while there was none is known now, before anybody loses his place by it.
        routes.control.connection_made().await;
        if shared.local_users.revocations.has_revoked(wanted.identity) {
            return Err(NoPlace::Revoked);
        }
        let mut connection = connected.connection.clone();
        let call = shared.scripts.users.take(&mut connection, &keys, &wanted, shared.leases.lease, look_only);
        link.call(&connected, call).await.map_err(|error| {
            if let CallError::Refused(_) | CallError::Malformed(_) = error {
                warn!(%error, "nobody can connect: a user's connections could not be counted");
            }
            NoPlace::Silent
        })
    };
    tokio::time::timeout(WAIT_MAX, asking).await.unwrap_or(Err(NoPlace::Silent))
}
