//! `[api]`: the keys of the HTTP API, and how much of it there is.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::api::{DERIVED_NAME, KEY_BYTES_MIN, Keys, Rate, Scope, derived};
use crate::failure::Failure;

/// `[api]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiSection {
    /// Keys, with what each may do: `[[api.keys]]`.
    keys: Vec<ApiKey>,
    /// Whether the key counts that comes from the secret which signs the tokens. Yes, unless there are other keys.
    derived_key: Option<bool>,
    /// Whether the API is on the public listener. Yes; on that of `[admin]` it is always.
    pub(crate) public: bool,
    /// Requests a second that a key has.
    requests_per_second: u32,
    /// Requests that it may make at once.
    requests_burst: u32,
    /// The largest body.
    pub(crate) body_bytes_max: usize,
}

/// One `[[api.keys]]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct ApiKey {
    /// What the log calls it.
    name: String,
    /// The key itself, of at least 32 bytes. `key_file` keeps it out of this file.
    key: Option<SecretString>,
    /// The file that holds it.
    key_file: Option<PathBuf>,
    /// What it may do: `publish`, `read`, `admin`.
    scopes: Vec<Scope>,
}

impl Default for ApiSection {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            derived_key: None,
            public: true,
            requests_per_second: 1000,
            requests_burst: 2000,
            body_bytes_max: 8 * 1024 * 1024,
        }
    }
}

impl ApiSection {
    /// Every key; `secret` is what signs the tokens, where that is one secret.
    pub(super) fn keys(&self, secret: Option<&SecretString>, configuration: &Path) -> Result<Keys, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::config(format_args!("{}: [api] {what}", configuration.display()))
        };
        let rate = Rate { requests_per_second: self.requests_per_second, burst: self.requests_burst };
        let mut keys = Keys::new(rate);
        for (index, key) in self.keys.iter().enumerate() {
            if key.name == DERIVED_NAME || self.keys[..index].iter().any(|other| other.name == key.name) {
                return Err(wrong(&format_args!("has two keys named {:?}", key.name))
                    .fix("give each key a name of its own"));
            }
            if key.scopes.is_empty() {
                return Err(wrong(&format_args!("the key {:?} may do nothing", key.name))
                    .fix("scopes = [\"publish\"], and perhaps \"read\" and \"admin\""));
            }
            keys.add(&key.name, &key.read(configuration)?, &key.scopes);
        }
        match (self.derived_key, secret) {
            (Some(false), _) | (None, None) => {}
            (Some(true), None) => {
                return Err(wrong(&"derived_key wants a secret in [auth], and there is none")
                    .fix("remove derived_key, and name keys by [[api.keys]]"));
            }
            (Some(true), Some(secret)) => keys.add(DERIVED_NAME, &derived(secret), &Scope::ALL),
            (None, Some(secret)) if self.keys.is_empty() => {
                keys.add(DERIVED_NAME, &derived(secret), &Scope::ALL);
            }
            (None, Some(_)) => {}
        }
        Ok(keys)
    }
}

impl ApiKey {
    fn read(&self, configuration: &Path) -> Result<SecretString, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::config(format_args!("{}: [[api.keys]] {:?} {what}", configuration.display(), self.name))
        };
        let key = match (&self.key, &self.key_file) {
            (Some(key), None) => key.clone(),
            (None, Some(file)) => {
                let file = configuration.parent().unwrap_or(Path::new("")).join(file);
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    wrong(&format_args!("key_file {}: {error}", file.display()))
                        .fix("name a file that this user can read; the path is relative to the configuration")
                })?;
                SecretString::from(text.trim_end_matches(['\r', '\n']))
            }
            _ => {
                return Err(wrong(&"needs exactly one of key and key_file")
                    .fix("openssl rand -hex 32 > api.key, and key_file = \"api.key\""));
            }
        };
        if key.expose_secret().len() < KEY_BYTES_MIN {
            return Err(wrong(&format_args!("is shorter than {KEY_BYTES_MIN} bytes"))
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
        section.keys(secret.as_ref(), Path::new("tidings.toml")).map_err(|failure| format!("{failure:?}"))
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
