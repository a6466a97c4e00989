//! Who may connect, as the backend says: memberships around those that there are, with whom it lets in and where it joins him.

use std::sync::Arc;
use std::time::Duration;

use tidings::auth::Identity;
use tidings::{MembershipError, MembershipFuture, Memberships, RoomId};
use tracing::warn;

use super::answers::{self, Answers};
use super::asking::{self, Asking, Connect, MayConnect};

/// A handshake waits for its memberships no longer than 3 s, of which others have their part.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_millis(2500);
/// What a client is told when the backend gives no reason.
const NO_REASON: &str = "the application does not let this user in";
/// And when it gives no answer.
const NO_ANSWER: &str = "whether this user may connect could not be found out";

/// The memberships of a backend that is asked.
pub(crate) struct Connecting {
    asking: Arc<Asking>,
    inner: Option<Arc<dyn Memberships>>,
    /// What it has said of a user with these claims, for joins and refreshes that follow.
    kept: Answers<Arc<MayConnect>>,
}

impl Connecting {
    pub(crate) fn new(asking: Arc<Asking>, inner: Option<Arc<dyn Memberships>>, kept_for: Duration) -> Self {
        Self { asking, inner, kept: Answers::new(kept_for) }
    }

    /// What the backend says now, or has said a moment ago if that will do.
    async fn ask(&self, identity: &Identity, anew: bool) -> Result<Arc<MayConnect>, MembershipError> {
        let (user, claims) = (identity.user().as_str(), asking::claims(identity));
        let key = answers::key(&[user, claims.get()]);
        let known = if anew { None } else { self.kept.get(&key) };
        let answer = match known {
            Some(answer) => answer,
            None => {
                let question = Connect { user, claims: &claims };
                let asked = self.asking.may_connect(&question, HANDSHAKE_WAIT_MAX).await;
                let answer = Arc::new(asked.map_err(|error| {
                    warn!(%error, "nobody could say who may connect");
                    MembershipError::unavailable("webhook_unavailable", NO_ANSWER)
                })?);
                self.kept.keep(key, Arc::clone(&answer), answer.bytes());
                answer
            }
        };
        if answer.allow {
            return Ok(answer);
        }
        Err(MembershipError::forbidden(answer.reason.as_deref().unwrap_or(NO_REASON)))
    }
}

impl Memberships for Connecting {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let mut rooms = self.ask(identity, true).await?.rooms.clone();
            if let Some(inner) = &self.inner {
                rooms.extend(inner.rooms(identity).await?);
            }
            Ok(rooms)
        })
    }

    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        Box::pin(async move {
            if self.ask(identity, false).await?.rooms.contains(room) {
                return Ok(true);
            }
            match &self.inner {
                Some(inner) => inner.is_member(identity, room).await,
                None => Ok(false),
            }
        })
    }
}
