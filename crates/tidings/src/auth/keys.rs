//! Keys, each bound to the algorithms of one family, and the one way in which a token is verified with them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tidings_protocol::limits::TOKEN_BYTES_MAX;

use super::{AuthError, TokenFault, claims};

/// A key, bound to the algorithms of one family: what a token says can't make it another's.
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithms: &'static [Algorithm],
    key: DecodingKey,
}

impl Key {
    pub(super) fn new(key: DecodingKey, algorithms: &'static [Algorithm]) -> Self {
        // Installed when the first key is made, so that no handshake is the one to find it missing. A second key finds
        // it installed, and an application may have installed its own.
        let _ = CryptoProvider::install_default(&jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER);
        Self { id: None, algorithms, key }
    }
}

/// A token taken apart, of which nothing is believed yet.
pub(super) struct UnverifiedToken<'a> {
    signed: &'a str,
    signature: &'a str,
    /// None for one that we don't know, `none` above all: none of our keys has signed with it.
    algorithm: Option<Algorithm>,
    key_id: Option<String>,
    claims: Vec<u8>,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a token apart.
    pub(super) fn read(token: &'a str) -> Result<Self, AuthError> {
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
        let (header_bytes, claims) = (decode(header)?, decode(claims)?);
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
        let signed = &token[..token.len() - signature.len() - 1];
        let algorithm = header.alg.parse().ok();
        Ok(Self { signed, signature, algorithm, key_id: header.kid, claims })
    }

    /// The claims, if one of these keys has signed them. A key that has another name than the token's `kid` is not tried.
    pub(super) fn claims_signed_by<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> Result<&str, AuthError> {
        let unverified = || AuthError::new(TokenFault::Signature, "no key of this server verifies the token");
        let algorithm = self.algorithm.ok_or_else(unverified)?;
        let verifies = |key: &&Key| {
            let named = key.id.is_none() || self.key_id.is_none() || key.id == self.key_id;
            named
                && key.algorithms.contains(&algorithm)
                && jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), &key.key, algorithm)
                    .unwrap_or(false)
        };
        keys.into_iter().find(verifies).ok_or_else(unverified)?;
        std::str::from_utf8(&self.claims).map_err(|_| malformed("the claims are not UTF-8"))
    }

    /// Whether the token's `kid` is this key's name.
    pub(super) fn names(&self, key: &Key) -> bool {
        self.key_id.is_some() && self.key_id == key.id
    }
}

fn malformed(detail: &str) -> AuthError {
    AuthError::new(TokenFault::Malformed, detail)
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
