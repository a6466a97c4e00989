//! The tokens that a command asks a server with: signed with the secret, or fetched from the application.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tidings::Limits;
use tidings::auth::mint_hs256;

use super::{secret_argument, token};
use crate::config::Sources;
use crate::failure::Failure;
use crate::{dev_secret, http_client};

/// Longer than any check takes.
const TTL_S: u64 = 10 * 60;
/// What stands for the user's name in the URL that tokens are fetched from.
const USER: &str = "{user}";

/// The options that say which tokens a server takes.
#[derive(Args, Debug)]
pub(super) struct TokenOptions {
    /// The secret that tokens are signed with. Better in a file: other users of this machine can read a command line
    #[arg(long, value_name = "SECRET", conflicts_with_all = ["secret_file", "config"])]
    secret: Option<SecretString>,
    /// A file with the secret
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    secret_file: Option<PathBuf>,
    /// The server's configuration, whose [auth] names the secret
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// For whom the tokens are: the configuration's [auth] audience, else tidings
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

/// What signs tokens.
pub(super) struct Signer {
    pub(super) secret: SecretString,
    pub(super) audience: String,
    /// Where the secret is from, for people.
    pub(super) place: String,
}

/// Where tokens come from.
pub(super) enum Tokens {
    Signed(Signer),
    /// By a GET of this URL.
    Fetched(String),
}

impl TokenOptions {
    /// What signs; of `tidings dev` for this machine, if nothing is named. None if there is nothing that could.
    ///
    /// # Errors
    /// When what is named can't be read, or has no secret.
    pub(super) fn signer(&self, is_loopback: bool) -> Result<Option<Signer>, Failure> {
        let audience = |of_config: Option<&str>| {
            let audience = self.audience.as_deref().or(of_config);
            audience.unwrap_or(token::AUDIENCE).to_owned()
        };
        if let Some(file) = &self.config {
            let config = Sources { file: Some(file.clone()), flags: Vec::new() }.load()?.config;
            let place = format!("[auth] of {}", file.display());
            let audience = audience(Some(config.audience()));
            return Ok(config.secret()?.map(|secret| Signer { secret, audience, place }));
        }
        let given =
            secret_argument::find(self.secret.as_ref(), self.secret_file.as_deref(), "TIDINGS_SECRET")?;
        let (secret, place) = match (given, &self.secret_file) {
            (Some(secret), Some(file)) => (secret, file.display().to_string()),
            (Some(secret), None) => (secret, "--secret or TIDINGS_SECRET".to_owned()),
            // No other machine is shown what is for this one.
            (None, _) if is_loopback => (dev_secret::load()?, "tidings dev".to_owned()),
            (None, _) => return Ok(None),
        };
        Ok(Some(Signer { secret, audience: audience(None), place }))
    }

    /// The server's limits, where its configuration is named.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub(super) fn limits(&self) -> Result<Option<Limits>, Failure> {
        let Some(file) = &self.config else { return Ok(None) };
        let config = Sources { file: Some(file.clone()), flags: Vec::new() }.load()?.config;
        Ok(Some(config.limits(Limits::default())))
    }
}

impl Signer {
    /// A good token.
    pub(super) fn token(&self, user: &str, room: Option<&str>) -> Result<String, String> {
        self.token_until(user, room, now_s().saturating_add(TTL_S))
    }

    /// A token that ends at `exp`, seconds since 1970.
    pub(super) fn token_until(&self, user: &str, room: Option<&str>, exp: u64) -> Result<String, String> {
        let mut claims =
            json!({"sub": user, "aud": self.audience, "iat": exp.saturating_sub(TTL_S), "exp": exp});
        if let Some(room) = room {
            claims["rooms"] = json!([room]);
        }
        mint_hs256(self.secret.expose_secret().as_bytes(), &claims).map_err(|error| error.to_string())
    }
}

impl Tokens {
    /// Whether each user can be somebody else.
    pub(super) fn is_for_anyone(&self) -> bool {
        match self {
            Self::Signed(_) => true,
            Self::Fetched(url) => url.contains(USER),
        }
    }

    /// A good token for this user, who belongs to this room.
    pub(super) async fn token(&self, user: &str, room: &str) -> Result<String, String> {
        match self {
            Self::Signed(signer) => signer.token(user, Some(room)),
            Self::Fetched(url) => fetched(&url.replace(USER, user)).await,
        }
    }
}

/// The token that an application answers with: JSON with `token`, or the text.
async fn fetched(url: &str) -> Result<String, String> {
    let request = Request::get(url).body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
    let answer = http_client::send(request).await.map_err(|error| format!("{url}: {error}"))?;
    if !answer.status.is_success() {
        return Err(format!("{url} answered {}", answer.status));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let token = json["token"].as_str().unwrap_or(text.trim());
    if token.split('.').count() == 3 {
        return Ok(token.to_owned());
    }
    Err(format!("{url} answered with no token: neither JSON with \"token\", nor a JWT alone"))
}

pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
