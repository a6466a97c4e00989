//! Who may connect: a token in, an identity out, before the upgrade and never after it.

mod claims;
#[cfg(feature = "jwks")]
mod https;
mod identity;
mod jwks;
mod jwt;
mod key_set;
mod keys;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

#[cfg(feature = "jwks")]
pub use https::InvalidUrl;
pub use identity::{Identity, InvalidUserId, UserId};
pub use jwks::Jwks;
pub use jwt::{InvalidKey, Jwt, mint_hs256};
pub use key_set::{FetchError, FetchFuture, FetchKeySet};

/// A boxed answer of [`Authenticate`].
pub type AuthFuture<'a> = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>>;

/// Tells who a token names: [`Jwt`] with keys that are known here, [`Jwks`] with those that an issuer publishes.
pub trait Authenticate: Send + Sync + 'static {
    /// Verifies `token` as of `now_unix_s`, seconds since 1970.
    ///
    /// # Errors
    /// Which of the five faults it has; the handshake is refused with 401 and that code. [`AuthError::unavailable`] is none
    /// of the token's: the handshake is refused with 503.
    fn authenticate<'a>(&'a self, token: &'a str, now_unix_s: u64) -> AuthFuture<'a>;
}

/// The five ways in which a token fails, told apart. PROTOCOL.md §1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenFault {
    /// There is none.
    Missing,
    /// It is not a token: not three base64url parts with a JSON header and JSON claims, or above 8 KiB.
    Malformed,
    /// Its `exp` is past.
    Expired,
    /// No key of ours verifies it; that includes `alg: none` and every algorithm that we have no key for.
    Signature,
    /// It is genuine, and a claim is missing, of the wrong type, or not for us.
    Claims,
}

impl TokenFault {
    /// The refusal's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::Expired => "token_expired",
            Self::Signature => "token_signature",
            Self::Claims => "token_claims",
        }
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Missing => {
                "send the token as Authorization: Bearer, as the subprotocol tidings.token.<jwt> beside tidings.v1, or as ?token="
            }
            Self::Malformed => {
                "send a signed JWT (three base64url parts joined by dots) of at most 8192 bytes"
            }
            Self::Expired => {
                "fetch a new token and connect again; if it is new, compare the clocks of both machines"
            }
            Self::Signature => {
                "sign with the secret or key, and the algorithm, that this server is configured with"
            }
            Self::Claims => {
                "mint the token with sub (the user), exp (seconds since 1970) and aud (this server's audience)"
            }
        }
    }
}

/// Why a token is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthError {
    fault: TokenFault,
    unavailable: bool,
    detail: String,
}

impl AuthError {
    /// A refusal with a sentence of its own. The sentence goes to whoever sent the token.
    pub fn new(fault: TokenFault, detail: impl Into<String>) -> Self {
        Self { fault, unavailable: false, detail: detail.into() }
    }

    /// The token may be good: what would verify it can't be reached. The handshake is refused with 503, and
    /// `session.refresh` with `unavailable`.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { fault: TokenFault::Signature, unavailable: true, detail: detail.into() }
    }

    /// Whether it is no fault of the token's.
    pub fn is_unavailable(&self) -> bool {
        self.unavailable
    }

    /// Which of the five; a token that can't be verified for now counts as one that is not.
    pub fn fault(&self) -> TokenFault {
        self.fault
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.unavailable { "unavailable" } else { self.fault.code() };
        write!(f, "{code}: {}", self.detail)
    }
}

impl std::error::Error for AuthError {}
