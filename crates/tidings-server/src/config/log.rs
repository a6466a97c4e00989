//! `[log]`: what is logged to stderr, and how.

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// What is logged to stderr, and how.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// How lines are written: `human` for eyes, `json` an object each, `auto` for eyes on a terminal and JSON for everything else.
    pub(crate) format: LogFormat,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels of parts of the program:
    /// `tidings=debug,warn`. The variables TIDINGS_LOG and RUST_LOG go before it.
    pub(crate) level: String,
}

/// How lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Auto,
    Human,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl Log {
    /// What is wrong with the level.
    pub(super) fn fault(&self) -> Option<String> {
        EnvFilter::try_new(&self.level).err().map(|fault| fault.to_string())
    }
}
