//! JSON Web Tokens: signature first, then expiry, then the other claims, so that nobody learns from a forged one.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

use super::keys::{Key, UnverifiedToken};
use super::{AuthError, AuthFuture, Authenticate, Identity, claims};

/// A shared secret shorter than this can be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// Verifies JWTs with one key or several.
///
/// ```
/// use tidings::auth::Jwt;
/// let jwt = Jwt::hs256(b"a secret of at least thirty-two bytes")?
///     .audience("my-app")
///     .or(Jwt::hs256(b"the secret before it, until its tokens end")?);
/// # Ok::<_, tidings::auth::InvalidKey>(())
/// ```
pub struct Jwt {
    pub(super) keys: Vec<Key>,
    audience: String,
    leeway: Duration,
}

/// A key that can't be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidKey(String);

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidKey {}

impl Jwt {
    /// Tokens signed with HMAC and SHA-256 under a shared secret.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes.
    pub fn hs256(secret: &[u8]) -> Result<Self, InvalidKey> {
        Self::hmac(secret, &[Algorithm::HS256])
    }

    /// Tokens signed with HMAC and SHA-384 under a shared secret.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes.
    pub fn hs384(secret: &[u8]) -> Result<Self, InvalidKey> {
        Self::hmac(secret, &[Algorithm::HS384])
    }

    /// Tokens signed with HMAC and SHA-512 under a shared secret.
    ///
    /// # Errors
    /// When the secret is shorter than 32 bytes.
    pub fn hs512(secret: &[u8]) -> Result<Self, InvalidKey> {
        Self::hmac(secret, &[Algorithm::HS512])
    }

    /// Tokens signed with RSA (RS256, RS384, RS512) by the owner of this public key, in PEM.
    ///
    /// # Errors
    /// When the PEM is not an RSA public key.
    pub fn rsa_pem(public_key: &[u8]) -> Result<Self, InvalidKey> {
        let key = DecodingKey::from_rsa_pem(public_key);
        Self::public(key, &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512], "an RSA")
    }

    /// Tokens signed with RSA-PSS (PS256, PS384, PS512) by the owner of this public key, in PEM.
    ///
    /// # Errors
    /// When the PEM is not an RSA public key.
    pub fn rsa_pss_pem(public_key: &[u8]) -> Result<Self, InvalidKey> {
        let key = DecodingKey::from_rsa_pem(public_key);
        Self::public(key, &[Algorithm::PS256, Algorithm::PS384, Algorithm::PS512], "an RSA")
    }

    /// Tokens signed with ECDSA on P-256 (ES256) by the owner of this public key, in PEM.
    ///
    /// # Errors
    /// When the PEM is not an EC public key.
    pub fn es256_pem(public_key: &[u8]) -> Result<Self, InvalidKey> {
        Self::public(DecodingKey::from_ec_pem(public_key), &[Algorithm::ES256], "an EC")
    }

    /// Tokens signed with ECDSA on P-384 (ES384) by the owner of this public key, in PEM.
    ///
    /// # Errors
    /// When the PEM is not an EC public key.
    pub fn es384_pem(public_key: &[u8]) -> Result<Self, InvalidKey> {
        Self::public(DecodingKey::from_ec_pem(public_key), &[Algorithm::ES384], "an EC")
    }

    /// Tokens signed with Ed25519 (EdDSA) by the owner of this public key, in PEM.
    ///
    /// # Errors
    /// When the PEM is not an Ed25519 public key.
    pub fn eddsa_pem(public_key: &[u8]) -> Result<Self, InvalidKey> {
        Self::public(DecodingKey::from_ed_pem(public_key), &[Algorithm::EdDSA], "an Ed25519")
    }

    fn hmac(secret: &[u8], algorithms: &'static [Algorithm]) -> Result<Self, InvalidKey> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(InvalidKey(format!(
                "the secret has {} bytes, and fewer than {SECRET_BYTES_MIN} can be guessed: make one with `openssl rand -hex 32`",
                secret.len()
            )));
        }
        Ok(Self::with_key(DecodingKey::from_secret(secret), algorithms))
    }

    fn public(
        key: jsonwebtoken::errors::Result<DecodingKey>,
        algorithms: &'static [Algorithm],
        what: &str,
    ) -> Result<Self, InvalidKey> {
        let key =
            key.map_err(|_| InvalidKey(format!("this is not {what} public key in PEM (BEGIN PUBLIC KEY)")))?;
        Ok(Self::with_key(key, algorithms))
    }

    fn with_key(key: DecodingKey, algorithms: &'static [Algorithm]) -> Self {
        Self {
            keys: vec![Key::new(key, algorithms)],
            audience: "tidings".to_owned(),
            leeway: tidings_protocol::limits::Limits::default().token_leeway,
        }
    }

    /// Names the last key: a token whose header has a `kid` is tried with the key of that name and the nameless ones.
    #[must_use]
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        if let Some(key) = self.keys.last_mut() {
            key.id = Some(id.into());
        }
        self
    }

    /// Accepts the tokens of another key as well: for rotation. Audience and leeway stay this one's.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
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
    /// Which of the five faults it has.
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<Identity, AuthError> {
        let token = UnverifiedToken::read(token)?;
        let claims = token.claims_signed_by(&self.keys)?;
        claims::identity(claims, &self.audience, self.leeway.as_secs(), now_unix_s)
    }
}

impl Authenticate for Jwt {
    fn authenticate<'a>(&'a self, token: &'a str, now_unix_s: u64) -> AuthFuture<'a> {
        Box::pin(std::future::ready(self.verify(token, now_unix_s)))
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys don't print.
        f.debug_struct("Jwt")
            .field("keys", &self.keys.len())
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Signs claims with HS256: for development, tests, and backends in Rust.
///
/// # Errors
/// When the secret is shorter than 32 bytes, or the claims can't be written as JSON.
pub fn mint_hs256(secret: &[u8], claims: &impl Serialize) -> Result<String, InvalidKey> {
    Jwt::hs256(secret)?;
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .map_err(|error| InvalidKey(format!("the claims can't be signed: {error}")))
}
