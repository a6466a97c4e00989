//! `[memberships]`: which rooms users belong to, by a query on the application's own database.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::files::Files;
use super::secret::Secret;
use crate::failure::Failure;
use crate::membership_sql::{Address, Settings};

const POOL_CONNECTIONS_MAX: u32 = 5;
const USERS_MAX: usize = 100_000;
/// A handshake waits for 3 s in all, so a longer time would never be told apart from it.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.05..=2.5;

/// Which rooms users belong to, by a query on the application's own database.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipsSection {
    /// `sqlite://app.db`, relative to the configuration's directory, or `postgres://user:password@host/database`.
    /// Secret, because a password may be in it.
    #[schemars(extend("examples" = ["sqlite://app.db"]))]
    url: Option<Secret>,
    /// A file that holds the URL, so that a password is not in this one.
    #[schemars(extend("examples" = ["database.url"]))]
    url_file: Option<PathBuf>,
    /// A SELECT of the names of a user's rooms, where `$1` is the user's id. One column, and a row a room.
    #[serde(default = "default_query")]
    query: String,
    /// How long an answer may take, with all that it waits for; 0.05 to 2.5, fractions allowed.
    #[serde(default = "default_timeout_seconds")]
    timeout_seconds: f64,
    /// For so long an answer counts again. 0 asks each time. That somebody is no member is asked each time anyway.
    #[serde(default = "default_cache_seconds")]
    cache_seconds: u64,
    /// How many connections to the database a node may have open, besides one that looks whether it is there. 5, if unset.
    #[schemars(extend("examples" = [5]))]
    pool_connections_max: Option<NonZeroU32>,
    /// What becomes of users while the database gives no answer.
    #[serde(default)]
    when_down: WhenDown,
    /// For `when_down = "last_known"`: for so long a user's last answer counts.
    #[serde(default = "default_last_known_seconds")]
    last_known_seconds: u64,
    /// Users whose last answers are kept; of more, those that were asked for last. 100,000, if unset.
    #[schemars(extend("examples" = [100_000]))]
    users_max: Option<NonZeroUsize>,
}

/// What becomes of users while the database gives no answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
enum WhenDown {
    /// A handshake is refused with 503, a join with `unavailable`.
    #[default]
    Refuse,
    /// What the database said last of a user counts, for `last_known_seconds`; of whom it said nothing yet is refused.
    LastKnown,
}

fn default_query() -> String {
    "SELECT room FROM memberships WHERE user_id = $1".to_owned()
}

fn default_timeout_seconds() -> f64 {
    2.0
}

fn default_cache_seconds() -> u64 {
    5
}

fn default_last_known_seconds() -> u64 {
    3600
}

impl MembershipsSection {
    /// What the memberships are made of.
    ///
    /// # Errors
    /// When there is not exactly one URL, or it is none, or a number is out of its range.
    pub(super) fn settings(&self, files: &Files) -> Result<Settings, Failure> {
        let wrong = |key: &str, what: &dyn std::fmt::Display| {
            let failure = Failure::config(format_args!("[memberships] {what}"));
            failure.key(if key.is_empty() { "memberships".to_owned() } else { format!("memberships.{key}") })
        };
        let (key, url) = match (&self.url, &self.url_file) {
            (Some(url), None) => ("url", SecretString::clone(url)),
            (None, Some(file)) => ("url_file", files.read_secret("memberships.url_file", file)?),
            (None, None) => {
                return Err(wrong("", &"has neither url nor url_file")
                    .fix("url = \"sqlite://app.db\", or \"postgres://user@host/database\""));
            }
            (Some(_), Some(_)) => {
                return Err(wrong("url", &"has both url and url_file").fix("keep one of them"));
            }
        };
        if !TIMEOUT_SECONDS.contains(&self.timeout_seconds) {
            return Err(wrong(
                "timeout_seconds",
                &format_args!("timeout_seconds is {}", self.timeout_seconds),
            )
            .fix("0.05 to 2.5: a handshake waits for 3 s in all"));
        }
        // PostgreSQL takes one parameter more than a query has, and everybody would be in every room.
        if !self.query.contains("$1") {
            return Err(wrong("query", &"query does not name the user")
                .fix("write $1 where his id belongs: SELECT room FROM memberships WHERE user_id = $1"));
        }
        let timeout = Duration::from_secs_f64(self.timeout_seconds);
        let address = Address::parse(url.expose_secret(), files.directory(), timeout)
            .map_err(|what| wrong(key, &format_args!("url {what}")).fix(
                "url = \"sqlite://app.db\", or \"postgres://user@host/database\"; what is special in a password is percent-encoded",
            ))?;
        let last_known = Duration::from_secs(self.last_known_seconds);
        Ok(Settings {
            address,
            query: self.query.as_str().into(),
            timeout,
            cache: Duration::from_secs(self.cache_seconds),
            pool_connections_max: self.pool_connections_max.map_or(POOL_CONNECTIONS_MAX, NonZeroU32::get),
            last_known: (self.when_down == WhenDown::LastKnown).then_some(last_known),
            users_max: self.users_max.map_or(USERS_MAX, NonZeroUsize::get),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(toml: &str, configuration: &str) -> Result<Settings, String> {
        let section: MembershipsSection = toml::from_str(toml).map_err(|error| error.message().to_owned())?;
        section
            .settings(&Files::of(Some(Path::new(configuration)), None))
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn what_is_not_said_is_as_documented() {
        let settings = settings("url = 'sqlite://app.db'", "/etc/tidings.toml").unwrap();
        assert_eq!(&*settings.query, "SELECT room FROM memberships WHERE user_id = $1");
        assert_eq!((settings.timeout.as_secs(), settings.cache.as_secs()), (2, 5));
        assert_eq!((settings.pool_connections_max, settings.users_max), (5, 100_000));
        assert_eq!(settings.last_known, None);
    }

    #[test]
    fn a_password_may_be_in_a_file_and_does_not_print() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("tidings.toml");
        let url = "postgres://app:canary-bird-of-the-memberships-database@db/shop";
        std::fs::write(directory.path().join("database.url"), format!("{url}\n")).unwrap();
        let toml = "url_file = 'database.url'\nwhen_down = 'last_known'\ntimeout_seconds = 0.5\nlast_known_seconds = 60";
        let settings = settings(toml, configuration.to_str().unwrap()).unwrap();
        assert_eq!(settings.timeout.as_millis(), 500);
        assert_eq!(settings.last_known, Some(Duration::from_secs(60)));
        let section: MembershipsSection = toml::from_str(&format!("url = '{url}'")).unwrap();
        assert!(!format!("{section:?}").contains("canary-bird"), "{section:?}");
    }

    #[test]
    fn what_can_not_be_is_told_with_a_fix() {
        for (toml, said) in [
            ("", "neither url nor url_file"),
            ("url = 'sqlite://a'\nurl_file = 'b'", "keep one"),
            ("url_file = 'none'", "relative to the configuration"),
            ("url = 'mysql://a/b'", "neither sqlite://FILE nor postgres://"),
            ("url = 'sqlite::memory:'", "names no file"),
            ("url = 'sqlite://a'\nquery = 'SELECT room FROM memberships'", "$1"),
            ("url = 'sqlite://a'\ntimeout_seconds = 3", "0.05 to 2.5"),
            ("url = 'sqlite://a'\ntimeout_seconds = nan", "0.05 to 2.5"),
            ("url = 'sqlite://a'\npool_connections_max = 0", "nonzero"),
            ("url = 'sqlite://a'\nwhen_down = 'lastknown'", "unknown variant"),
        ] {
            let told = settings(toml, "nowhere/tidings.toml").unwrap_err();
            assert!(told.contains(said), "{toml}: {told}");
        }
    }
}
