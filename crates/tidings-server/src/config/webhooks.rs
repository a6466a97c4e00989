//! `[webhooks]`: which backend is asked and told what, signed with which secret, and where what is to be told waits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::files::Files;
use crate::failure::Failure;
use crate::webhook::{Backend, InvalidSecret, InvalidUrl, Kind, Settings, SigningKey};

/// How long one that is asked may take.
const TIMEOUT_SECONDS_MAX: u64 = 30;
/// An outbox that is smaller would be full at once.
const OUTBOX_BYTES_MIN: u64 = 1024 * 1024;

/// The backend that is asked and told what happens.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhooksSection {
    /// Where they go: `https://app.example/tidings`, or `http` on this machine.
    #[schemars(extend("examples" = ["http://127.0.0.1:8000/tidings"]))]
    url: String,
    /// Whether `http` may go to another machine.
    #[serde(default)]
    plain_http: bool,
    /// Which are sent.
    #[schemars(extend("examples" = [["connect", "disconnect"]]))]
    events: Vec<Kind>,
    /// `whsec_` and base64. Without it the key comes from the secret that signs the tokens.
    #[schemars(extend("examples" = ["webhook.secret"]))]
    secret_file: Option<PathBuf>,
    /// How long one that is asked may take; 1 to 30.
    #[serde(default = "default_timeout_seconds")]
    timeout_seconds: u64,
    /// A join's answer counts for so long.
    #[serde(default = "default_cache_seconds")]
    cache_seconds: u64,
    /// The directory of what waits to be told.
    #[serde(default = "default_outbox")]
    outbox: PathBuf,
    /// How large that may become, in bytes.
    #[serde(default = "default_outbox_bytes_max")]
    outbox_bytes_max: u64,
}

fn default_timeout_seconds() -> u64 {
    2
}

fn default_cache_seconds() -> u64 {
    5
}

fn default_outbox() -> PathBuf {
    "tidings-outbox".into()
}

fn default_outbox_bytes_max() -> u64 {
    256 * 1024 * 1024
}

impl WebhooksSection {
    /// What it says, with the secret of the tokens where it names none.
    ///
    /// # Errors
    /// When something of it is not what it has to be, or there is no key to sign with.
    pub(super) fn settings(
        &self,
        files: &Files,
        token_secret: impl FnOnce() -> Result<Option<SecretString>, Failure>,
    ) -> Result<Settings, Failure> {
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            return Err(wrong(
                "timeout_seconds",
                &format_args!("timeout_seconds is {}", self.timeout_seconds),
            )
            .fix(format_args!("a whole number from 1 to {TIMEOUT_SECONDS_MAX}")));
        }
        if self.outbox_bytes_max < OUTBOX_BYTES_MIN {
            return Err(wrong(
                "outbox_bytes_max",
                &format_args!("outbox_bytes_max is {}", self.outbox_bytes_max),
            )
            .fix(format_args!("{OUTBOX_BYTES_MIN} at least")));
        }
        if self.events.is_empty() {
            return Err(wrong("events", &"has no events")
                .fix("events = [\"connect\", \"disconnect\"]: docs/webhooks.md has them all"));
        }
        let key = match &self.secret_file {
            Some(file) => read_key(files, file)?,
            None => SigningKey::derive(&token_secret()?.ok_or_else(|| {
                wrong("secret_file", &"has no secret_file, and [auth] has no secret that it could come from")
                    .fix("(echo -n whsec_; openssl rand -base64 32) > webhook.secret, and secret_file = \"webhook.secret\"")
            })?),
        };
        let backend = Backend::new(&self.url, self.plain_http, key)
            .map_err(|InvalidUrl { message, fix }| wrong("url", &format_args!("url: {message}")).fix(fix))?;
        Ok(Settings {
            backend,
            kinds: self.events.clone(),
            wait: Duration::from_secs(self.timeout_seconds),
            kept_for: Duration::from_secs(self.cache_seconds),
            outbox: self.outbox(files),
            outbox_bytes_max: self.outbox_bytes_max,
        })
    }

    /// The outbox's directory.
    pub(super) fn outbox(&self, files: &Files) -> PathBuf {
        files.directory().join(&self.outbox)
    }

    pub(super) fn asks(&self, kind: Kind) -> bool {
        self.events.contains(&kind)
    }
}

fn read_key(files: &Files, file: &Path) -> Result<SigningKey, Failure> {
    let secret = files.read_secret("webhooks.secret_file", file)?;
    SigningKey::parse(&secret).map_err(|InvalidSecret| {
        let path = files.path(file);
        wrong("secret_file", &format_args!("secret_file {} holds no secret of webhooks", path.display()))
            .fix("(echo -n whsec_; openssl rand -base64 32) > webhook.secret")
    })
}

fn wrong(key: &str, what: &dyn std::fmt::Display) -> Failure {
    Failure::config(format_args!("[webhooks] {what}")).key(format_args!("webhooks.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str, configuration: &Path, token_secret: Option<&str>) -> Result<Settings, String> {
        let section: WebhooksSection = toml::from_str(toml).map_err(|error| error.message().to_owned())?;
        let token_secret = token_secret.map(SecretString::from);
        section
            .settings(&Files::of(Some(configuration), None), || Ok(token_secret))
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_section_says_where_what_and_with_which_key() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("tidings.toml");
        std::fs::write(directory.path().join("good"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        std::fs::write(directory.path().join("bad"), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let url = "url = 'http://127.0.0.1:1/'";
        let all = "events = ['connect', 'join', 'event', 'disconnect', 'room.occupied', 'room.vacated', 'presence']";
        let good = settings(&format!("{url}\n{all}\nsecret_file = 'good'"), &configuration, None).unwrap();
        assert_eq!(
            (good.kinds.len(), good.wait, good.kept_for),
            (7, Duration::from_secs(2), Duration::from_secs(5))
        );
        assert_eq!(good.outbox, directory.path().join("tidings-outbox"));
        let secret = "canary-bird of the tokens, 32 bytes and more";
        assert!(settings(&format!("{url}\n{all}"), &configuration, Some(secret)).is_ok());
        for (wrong, said) in [
            (format!("url = 'ftp://a/'\n{all}\nsecret_file = 'good'"), "neither https nor http"),
            (format!("{url}\nevents = []\nsecret_file = 'good'"), "has no events"),
            (format!("{url}\nevents = ['joins']"), "unknown variant"),
            (format!("{url}\n{all}"), "no secret that it could come from"),
            (format!("{url}\n{all}\nsecret_file = 'bad'"), "openssl rand -base64"),
            (format!("{url}\n{all}\nsecret_file = 'none'"), "No such file"),
            (format!("{url}\n{all}\nsecret_file = 'good'\ntimeout_seconds = 0"), "from 1 to 30"),
            (format!("{url}\n{all}\nsecret_file = 'good'\noutbox_bytes_max = 10"), "1048576 at least"),
        ] {
            let told = settings(&wrong, &configuration, None).err().unwrap_or_default();
            assert!(told.contains(said), "{wrong}: {told}");
        }
    }
}
