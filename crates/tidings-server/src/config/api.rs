//! `[api]`: the keys of the HTTP API, and how much of it there is.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::files::Files;
use super::secret::Secret;
use crate::api::{DERIVED_NAME, KEY_BYTES_MIN, Keys, Rate, Scope, derived};
use crate::failure::{Failure, Failures};

const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(1000).unwrap();
const REQUESTS_BURST: NonZeroU32 = NonZeroU32::new(2000).unwrap();
const BODY_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(8 * 1024 * 1024).unwrap();

/// The HTTP API at `/v1`: its keys, and how much of it there is.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiSection {
    /// Keys, with what each may do.
    keys: Vec<ApiKey>,
    /// Whether the key counts that comes from the secret which signs the tokens. It does, unless there are others.
    #[schemars(extend("examples" = [true]))]
    derived_key: Option<bool>,
    /// Whether the API is on the public listener. On that of `[admin]` it always is.
    pub(crate) public: bool,
    /// Requests a second that a key has.
    requests_per_second: NonZeroU32,
    /// Requests that it may make at once.
    requests_burst: NonZeroU32,
    /// The largest body of a request, in bytes.
    pub(crate) body_bytes_max: NonZeroUsize,
}

/// One key of the API.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
struct ApiKey {
    /// What the log calls it.
    #[schemars(extend("examples" = ["dashboard-pump"]))]
    name: String,
    /// The key itself, of at least 32 bytes. `key_file` keeps it out of this file.
    key: Option<Secret>,
    /// The file that holds it.
    #[schemars(extend("examples" = ["pump.key"]))]
    key_file: Option<PathBuf>,
    /// What it may do.
    #[schemars(extend("examples" = [["publish"]]))]
    scopes: Vec<Scope>,
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            derived_key: None,
            public: true,
            requests_per_second: REQUESTS_PER_SECOND,
            requests_burst: REQUESTS_BURST,
            body_bytes_max: BODY_BYTES_MAX,
        }
    }
}

impl ApiSection {
    /// Every key; `secret` is what signs the tokens, where that is one secret.
    ///
    /// # Errors
    /// Each that is none.
    pub(super) fn keys(&self, secret: Option<&SecretString>, files: &Files) -> Result<Keys, Failure> {
        let rate =
            Rate { requests_per_second: self.requests_per_second.get(), burst: self.requests_burst.get() };
        let (mut keys, mut failures) = (Keys::new(rate), Failures::default());
        for (index, key) in self.keys.iter().enumerate() {
            if key.name == DERIVED_NAME || self.keys[..index].iter().any(|other| other.name == key.name) {
                failures.add(
                    Failure::config(format_args!("[api] has two keys named {:?}", key.name))
                        .key(format_args!("api.keys[{index}].name"))
                        .fix("give each key a name of its own"),
                );
            }
            if key.name.is_empty() || key.name.chars().any(char::is_control) {
                failures.add(
                    Failure::config(format_args!("[api] has a key named {:?}", key.name))
                        .key(format_args!("api.keys[{index}].name"))
                        .fix("name = \"dashboard-pump\": what the log is to call it"),
                );
            }
            if key.scopes.is_empty() {
                failures.add(
                    Failure::config(format_args!("[[api.keys]] {:?} may do nothing", key.name))
                        .key(format_args!("api.keys[{index}].scopes"))
                        .fix("scopes = [\"publish\"], and perhaps \"read\" and \"admin\""),
                );
            }
            if let Some(text) = failures.take(key.read(index, files))
                && let Err(other) = keys.add(&key.name, &text, &key.scopes)
            {
                failures.add(
                    Failure::config(format_args!("[api] has the key of {other:?} again, for {:?}", key.name))
                        .key(format_args!("api.keys[{index}]"))
                        .fix("give each a key of its own: openssl rand -hex 32"),
                );
            }
        }
        let derives = self.derived_key.unwrap_or(self.keys.is_empty());
        match (derives, secret) {
            (true, Some(secret)) => {
                if let Err(other) = keys.add(DERIVED_NAME, &derived(secret), &Scope::ALL) {
                    failures.add(
                        Failure::config(format_args!("[api] names the derived key {other:?}"))
                            .key("api.derived_key")
                            .fix("remove that key, or derived_key: they are the same"),
                    );
                }
            }
            (true, None) if self.derived_key.is_some() => failures.add(
                Failure::config("[api] derived_key wants a secret in [auth], and there is none")
                    .key("api.derived_key")
                    .fix("remove derived_key, and name keys by [[api.keys]]"),
            ),
            _ => {}
        }
        failures.none().map(|()| keys)
    }
}

impl ApiKey {
    fn read(&self, index: usize, files: &Files) -> Result<SecretString, Failure> {
        let wrong = |key: &str, what: &dyn std::fmt::Display| {
            Failure::config(format_args!("[[api.keys]] {:?} {what}", self.name)).key(key)
        };
        let (of_file, of_text) = (format!("api.keys[{index}].key_file"), format!("api.keys[{index}].key"));
        let (place, key) = match (&self.key, &self.key_file) {
            (Some(key), None) => (of_text, SecretString::clone(key)),
            (None, Some(file)) => {
                let key = files.read_secret(&of_file, file)?;
                (of_file, key)
            }
            _ => {
                return Err(wrong(&format!("api.keys[{index}]"), &"needs exactly one of key and key_file")
                    .fix("openssl rand -hex 32 > api.key, and key_file = \"api.key\""));
            }
        };
        if key.expose_secret().len() < KEY_BYTES_MIN {
            return Err(wrong(&place, &format_args!("is shorter than {KEY_BYTES_MIN} bytes"))
                .fix("openssl rand -hex 32 makes a good one"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(toml: &str, secret: Option<&str>) -> Result<Keys, String> {
        let section: ApiSection = toml::from_str(toml).unwrap();
        let secret = secret.map(SecretString::from);
        section.keys(secret.as_ref(), &Files::default()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn the_derived_key_counts_where_there_is_no_other() {
        let secret = Some("canary-bird-0123456789-0123456789");
        let own = "[[keys]]\nname = 'a'\nkey = 'canary-bird-0123456789-0123456789'\nscopes = ['read']\n";
        for (toml, secret, count) in [
            ("", secret, 1),
            ("", None, 0),
            ("derived_key = false", secret, 0),
            (own, secret, 1),
            (&format!("derived_key = true\n{own}"), secret, 2),
        ] {
            assert_eq!(keys(toml, secret).unwrap().len(), count, "{toml}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_told_how_to_be_one() {
        for (toml, said) in [
            ("[[keys]]\nname = 'a'\nkey = 'short'\nscopes = ['read']", "shorter than 32 bytes"),
            ("[[keys]]\nname = 'a'\nscopes = ['read']", "exactly one of key and key_file"),
            (
                "[[keys]]\nname = 'a'\nkey_file = 'nowhere.key'\nscopes = ['read']",
                "nowhere.key: No such file",
            ),
            (
                "[[keys]]\nname = 'a'\nkey = 'canary-bird-0123456789-0123456789'\nscopes = []",
                "may do nothing",
            ),
            ("derived_key = true", "wants a secret in [auth]"),
        ] {
            let told = keys(toml, None).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
    }
}
