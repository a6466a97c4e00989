//! Who may use the API, and for what: keys, each with a name, its scopes and its rate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::{digest, hmac};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::protocol::token_bucket::TokenBucket;

use super::problem::Problem;
use crate::dev_secret::hex;
use crate::pace::{Pace, Told};

/// What the key of a backend that has the tokens' secret is made of, beside that secret.
const DERIVED_FROM: &[u8] = b"tidings api key v1";
/// The name of the derived key in the log.
pub(crate) const DERIVED_NAME: &str = "derived";
/// A key has at least so many bytes.
pub(crate) const KEY_BYTES_MIN: usize = 32;

/// What a key may do.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Publish events.
    Publish,
    /// Read rooms, members, histories and users.
    Read,
    /// Send users away, join them, take events back.
    Admin,
}

impl Scope {
    pub(crate) const ALL: [Self; 3] = [Self::Publish, Self::Read, Self::Admin];

    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// How many requests a second a key has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) requests_per_second: u32,
    pub(crate) burst: u32,
}

/// Every key.
#[derive(Debug)]
pub(crate) struct Keys {
    /// By a hash, so that looking one up tells nothing of how much of it was right.
    by_hash: HashMap<Vec<u8>, Arc<Key>>,
    rate: Rate,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    name: String,
    scopes: Vec<Scope>,
    requests: Mutex<TokenBucket>,
}

/// Which key a request had, for the log.
#[derive(Clone)]
pub(super) struct KeyName(pub(super) String);

/// The key that a backend makes of the secret which signs the tokens: 64 hexadecimal digits.
pub(crate) fn derived(secret: &SecretString) -> SecretString {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let tag = hmac::sign(&key, DERIVED_FROM);
    SecretString::from(hex(tag.as_ref()))
}

impl Keys {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { by_hash: HashMap::new(), rate }
    }

    /// One more; the name of the one that has the same key, if there is one, which stays.
    pub(crate) fn add(&mut self, name: &str, key: &SecretString, scopes: &[Scope]) -> Result<(), String> {
        let key_of = Key {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            requests: Mutex::new(TokenBucket::full(Instant::now())),
        };
        match self.by_hash.entry(hash(key.expose_secret())) {
            Entry::Occupied(other) => Err(other.get().name.clone()),
            Entry::Vacant(place) => {
                place.insert(Arc::new(key_of));
                Ok(())
            }
        }
    }

    /// How many there are; with none there is no API.
    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    fn find(&self, headers: &HeaderMap) -> Result<Arc<Key>, Problem> {
        let fix = "send Authorization: Bearer and a key of [[api.keys]], or what `tidings key` prints";
        let missing = |detail| Problem::new(StatusCode::UNAUTHORIZED, "key_missing", detail, fix);
        let mut sent = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(authorization), None) = (sent.next(), sent.next()) else {
            return Err(missing("the request has no Authorization header, or several"));
        };
        let text = authorization.to_str().unwrap_or_default();
        let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, key)) = bearer else { return Err(missing("the Authorization header is not Bearer")) };
        self.by_hash.get(&hash(key.trim())).cloned().ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "key_unknown", "no such key is known here", fix)
        })
    }
}

fn hash(key: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, key.as_bytes()).as_ref().to_vec()
}

impl Key {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn take(&self, rate: Rate) -> Result<(), Problem> {
        let taken = self.requests.lock().take(rate.requests_per_second, rate.burst, Instant::now());
        taken.map_err(|wait| {
            let message = format!("{} requests a second at most", rate.requests_per_second);
            Problem::rate_limited(message, wait)
        })
    }
}

/// Lets a request through whose key has the scope, and gives it its [`Key`].
pub(super) async fn permit(
    State((keys, scope)): State<(Arc<Keys>, Scope)>,
    mut request: Request,
    next: Next,
) -> Response {
    let key = match keys.find(request.headers()) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    let name = KeyName(key.name.clone());
    let refused = if key.scopes.contains(&scope) {
        key.take(keys.rate).err()
    } else {
        let detail = format!("the key {:?} has not the scope {}", key.name, scope.name());
        let fix = match scope {
            Scope::Publish => "add \"publish\" to the key's scopes",
            Scope::Read => "add \"read\" to the key's scopes",
            Scope::Admin => "add \"admin\" to the key's scopes",
        };
        Some(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail, fix))
    };
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None => {
            request.extensions_mut().insert(key);
            // A large body may take longer than whoever shows no key has.
            let request = match request.extensions().get::<Arc<Pace>>().cloned() {
                Some(pace) => request.map(|body| Body::new(Told::new(body, pace, ()))),
                None => request,
            };
            next.run(request).await
        }
    };
    response.extensions_mut().insert(name);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derived_key_is_what_any_language_makes_of_the_secret() {
        // printf 'tidings api key v1' | openssl dgst -sha256 -hmac 'canary-bird-0123456789-0123456789'
        let secret = SecretString::from("canary-bird-0123456789-0123456789");
        assert_eq!(
            derived(&secret).expose_secret(),
            "801075ebc5950020dbd33d127f3648a9b2289964e2e1ff60a5554f469fcb590b"
        );
    }

    #[test]
    fn a_key_is_found_by_a_bearer_header_alone() {
        let mut keys = Keys::new(Rate { requests_per_second: 1, burst: 1 });
        keys.add("a", &SecretString::from("canary-bird-key"), &Scope::ALL).unwrap();
        let again = keys.add("b", &SecretString::from("canary-bird-key"), &[Scope::Read]);
        assert_eq!(again, Err("a".to_owned()));
        let code = |values: &[&'static str]| {
            let values =
                values.iter().map(|value| (header::AUTHORIZATION, http::HeaderValue::from_static(value)));
            keys.find(&values.collect()).map(|key| key.name.clone()).map_err(|problem| problem.code)
        };
        assert_eq!(code(&["Bearer canary-bird-key"]), Ok("a".to_owned()));
        assert_eq!(code(&["bearer  canary-bird-key"]), Ok("a".to_owned()));
        assert_eq!(code(&["Bearer canary-bird-ke"]), Err("key_unknown"));
        assert_eq!(code(&["Basic canary-bird-key"]), Err("key_missing"));
        assert_eq!(code(&["Bearer canary-bird-key", "Bearer canary-bird-key"]), Err("key_missing"));
        assert_eq!(code(&[]), Err("key_missing"));
        assert!(!format!("{keys:?}").contains("canary-bird"));
    }
}
