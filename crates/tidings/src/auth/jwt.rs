//! JSON Web Tokens: signature first, then expiry, then the other claims, so that nobody learns from a forged one.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use tidings_protocol::limits::TOKEN_BYTES_MAX;

use super::{AuthError, AuthFuture, Authenticate, Identity, TokenFault, claims};

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
    keys: Vec<Key>,
    audience: String,
    leeway: Duration,
}

/// A key, bound to the algorithms of one family: what a token says can't make it another's.
struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
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
        install_crypto();
        Self {
            keys: vec![Key { id: None, algorithms, key }],
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
        let claims = self.verify_signature(token)?;
        claims::identity(&claims, &self.audience, self.leeway.as_secs(), now_unix_s)
    }

    /// The claims of a token that one of our keys has signed.
    fn verify_signature(&self, token: &str) -> Result<String, AuthError> {
        let malformed = |detail: &str| AuthError::new(TokenFault::Malformed, detail);
        if token.is_empty() {
            return Err(AuthError::new(TokenFault::Missing, "the token is empty"));
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("the token is longer than 8192 bytes"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(malformed("a JWT has three parts joined by dots"));
        };
        let decode = |part: &str| BASE64URL.decode(part).map_err(|_| malformed("a part is not base64url"));
        let (header_bytes, claims_bytes) = (decode(header)?, decode(claims)?);
        let signature_is_text = BASE64URL.decode(signature).is_ok();
        if !signature_is_text {
            return Err(malformed("the signature is not base64url"));
        }
        let no_header = || malformed("the header is not that of a JWT");
        if !header_bytes.trim_ascii_start().starts_with(b"{") {
            // A list of the fields' values would be read as well.
            return Err(no_header());
        }
        let header: TokenHeader = serde_json::from_slice(&header_bytes).map_err(|_| no_header())?;
        if header.crit.is_some() {
            return Err(malformed("the header has critical extensions (crit), and we know none"));
        }
        let unverified = || AuthError::new(TokenFault::Signature, "no key of this server verifies the token");
        // An algorithm that we don't know, `none` above all, is one that none of our keys has signed with.
        let algorithm: Algorithm = header.alg.parse().map_err(|_| unverified())?;
        let signed = &token[..token.len() - signature.len() - 1];
        let verifies = |key: &&Key| {
            let named = key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            named
                && key.algorithms.contains(&algorithm)
                && jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm)
                    .unwrap_or(false)
        };
        self.keys.iter().find(verifies).ok_or_else(unverified)?;
        String::from_utf8(claims_bytes).map_err(|_| malformed("the claims are not UTF-8"))
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

/// What a token's header may say that matters here. Keys that it carries (`jwk`, `jku`, `x5c`) don't.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    #[serde(default, deserialize_with = "claims::present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "claims::present")]
    crit: Option<serde_json::Value>,
}

/// Installs the cryptography when the first key is made, so that no handshake is the one to find it missing.
fn install_crypto() {
    // A second key finds it installed, and an application may have installed its own.
    let _ = CryptoProvider::install_default(&jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER);
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
