//! The keys that an issuer publishes: read from one place that is configured, kept, and read again when a token names one
//! that is new.
//!
//! What a token says never decides where keys come from. It takes `now` in seconds since 1970 from whoever asks, as
//! verification does, and keeps no clock of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_protocol::limits::{
    JWKS_AGE_MAX, JWKS_BYTES_MAX, JWKS_FETCH_DURATION_MAX, JWKS_REFETCH_INTERVAL, Limits,
};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::key_set::{self, FetchKeySet};
use super::keys::{Key, UnverifiedToken};
use super::{AuthError, AuthFuture, Authenticate, Identity, Jwt, TokenFault, claims};

/// Verifies JWTs with the keys that their issuer publishes (a JWKS), each found by its `kid`.
///
/// The set is read at the first token, again when a token names a key that is not in it (once in 30 s at most, and
/// handshakes that come meanwhile wait for the same answer), and anew every half an hour, so that a key which was taken
/// back verifies nothing an hour later. When it can't be read, the keys of before stay; without any, and for a token
/// that names one that may be new, the answer is [`AuthError::unavailable`].
///
/// Public keys alone count: RSA, P-256, P-384 and Ed25519.
pub struct Jwks {
    shared: Arc<Shared>,
    /// Keys that are known here, beside those of the set.
    fixed: Vec<Key>,
    audience: String,
    leeway: Duration,
}

struct Shared {
    fetcher: Box<dyn FetchKeySet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<[Key]>,
    /// When the set was read, in seconds since 1970; none before the first.
    read_at: Option<u64>,
    /// When it was last tried.
    tried_at: Option<u64>,
    /// The last try has failed, or is under way.
    failed: bool,
    /// Ends when the fetch that is under way does.
    under_way: Option<watch::Receiver<()>>,
}

impl Jwks {
    /// Tokens signed with a key of the set that `fetcher` reads.
    pub fn fetched_by(fetcher: impl FetchKeySet) -> Self {
        Self {
            shared: Arc::new(Shared { fetcher: Box::new(fetcher), state: Mutex::default() }),
            fixed: Vec::new(),
            audience: "tidings".to_owned(),
            leeway: Limits::default().token_leeway,
        }
    }

    /// Tokens signed with a key of the set at this URL: https, or http to this machine itself. Redirects are not followed.
    ///
    /// # Errors
    /// When it is no such URL, or the system has no certificates to trust.
    #[cfg(feature = "jwks")]
    pub fn from_url(url: &str) -> Result<Self, super::InvalidUrl> {
        super::https::HttpsKeySet::new(url).map(Self::fetched_by)
    }

    /// Accepts the tokens of keys that are known here as well: for moving from one to the other. Audience and leeway stay
    /// this one's.
    #[must_use]
    pub fn or(mut self, jwt: Jwt) -> Self {
        self.fixed.extend(jwt.keys);
        self
    }

    /// Whom tokens must be for: their `aud`. Until something else is said, `tidings`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// How far the clocks of those who mint and of this machine may differ. 30 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Verifies a token as of `now_unix_s`, seconds since 1970.
    ///
    /// # Errors
    /// Which of the five faults it has, or that the keys could not be read.
    pub async fn verify(&self, token: &str, now_unix_s: u64) -> Result<Identity, AuthError> {
        let token = UnverifiedToken::read(token)?;
        let claims = self.verify_signature(&token, now_unix_s).await?;
        claims::identity(claims, &self.audience, self.leeway.as_secs(), now_unix_s)
    }

    async fn verify_signature<'t>(
        &self,
        token: &'t UnverifiedToken<'_>,
        now: u64,
    ) -> Result<&'t str, AuthError> {
        let verified = token.claims_signed_by(&self.fixed);
        if !is_unverified(&verified) {
            return verified;
        }
        let keys = self.shared.keys(now).await;
        let verified = token.claims_signed_by(&*keys);
        // A key of that name is there, and has not signed this: reading the set again would only serve who asks for it.
        if !is_unverified(&verified) || keys.iter().chain(&self.fixed).any(|key| token.names(key)) {
            return verified;
        }
        self.shared.refetch(now).await;
        let (keys, failed) = self.shared.known();
        let verified = token.claims_signed_by(&*keys);
        if failed && is_unverified(&verified) {
            return Err(AuthError::unavailable("the keys that verify tokens could not be read"));
        }
        verified
    }
}

fn is_unverified(verified: &Result<&str, AuthError>) -> bool {
    verified.as_ref().is_err_and(|error| error.fault() == TokenFault::Signature)
}

impl Shared {
    fn known(&self) -> (Arc<[Key]>, bool) {
        let state = self.state.lock();
        (Arc::clone(&state.keys), state.failed)
    }

    /// The keys, read anew if they are too old. From half of that age on they are read anew while nobody waits.
    async fn keys(self: &Arc<Self>, now: u64) -> Arc<[Key]> {
        let read_at = self.state.lock().read_at;
        // A clock that was set back makes them young, and they grow old again.
        match read_at.map(|read_at| now.saturating_sub(read_at)) {
            Some(age) if age < JWKS_AGE_MAX.as_secs() / 2 => {}
            Some(age) if age < JWKS_AGE_MAX.as_secs() => drop(self.begin(now)),
            _ => self.refetch(now).await,
        }
        self.known().0
    }

    /// Reads the set anew, or waits for the fetch that is under way. Does nothing if the last one was a moment ago.
    async fn refetch(self: &Arc<Self>, now: u64) {
        if let Some(mut under_way) = self.begin(now) {
            // Nothing is ever sent: it ends when the other half is gone.
            while under_way.changed().await.is_ok() {}
        }
    }

    /// Starts a fetch unless one is under way or was a moment ago.
    fn begin(self: &Arc<Self>, now: u64) -> Option<watch::Receiver<()>> {
        let mut state = self.state.lock();
        if let Some(under_way) = &state.under_way {
            return Some(under_way.clone());
        }
        // A clock that was set back does not put the next one off.
        let wait_s = JWKS_REFETCH_INTERVAL.as_secs();
        if state.tried_at.is_some_and(|tried_at| tried_at <= now && now - tried_at < wait_s) {
            return None;
        }
        let (ended, under_way) = watch::channel(());
        state.tried_at = Some(now);
        state.failed = true;
        state.under_way = Some(under_way.clone());
        drop(state);
        // A task of its own: whoever asked first may go away, and others wait for it too.
        let fetch = Fetch { shared: Arc::clone(self), _ended: ended };
        drop(tokio::spawn(async move { fetch.run(now).await }));
        Some(under_way)
    }
}

/// A fetch that is under way; dropping it, also by a panic, ends it.
struct Fetch {
    shared: Arc<Shared>,
    _ended: watch::Sender<()>,
}

impl Fetch {
    async fn run(self, now: u64) {
        let fetched = tokio::time::timeout(JWKS_FETCH_DURATION_MAX, self.shared.fetcher.fetch()).await;
        let read = match fetched {
            Ok(Ok(text)) if text.len() <= JWKS_BYTES_MAX => {
                key_set::parse(&text).map_err(|error| format!("it is not a JSON Web Key Set: {error}"))
            }
            Ok(Ok(_)) => Err(format!("it has more than {JWKS_BYTES_MAX} bytes")),
            Ok(Err(error)) => Err(error.message()),
            Err(_) => Err(format!("no answer in {JWKS_FETCH_DURATION_MAX:?}")),
        };
        let mut state = self.shared.state.lock();
        match read {
            Ok(keys) => {
                debug!(keys = keys.len(), "the key set was read");
                state.keys = keys.into();
                state.read_at = Some(now);
                state.failed = false;
            }
            Err(cause) => {
                warn!(
                    cause,
                    keys = state.keys.len(),
                    "the key set could not be read: the keys of before stay"
                );
            }
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.shared.state.lock().under_way = None;
    }
}

impl Authenticate for Jwks {
    fn authenticate<'a>(&'a self, token: &'a str, now_unix_s: u64) -> AuthFuture<'a> {
        Box::pin(self.verify(token, now_unix_s))
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("audience", &self.audience).finish_non_exhaustive()
    }
}
