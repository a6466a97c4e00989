//! `[[events]]`: what the data of each event has to look like, by a JSON Schema in a file of its own.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tidings::HubBuilder;

use super::files::Files;
use crate::failure::Failure;

/// What the data of an event has to look like.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// The event, as clients publish it.
    #[schemars(extend("examples" = ["message.send"]))]
    pub(super) name: String,
    /// A file with the JSON Schema of its data.
    #[schemars(extend("examples" = ["message.json"]))]
    pub(super) schema_file: Option<PathBuf>,
    /// Whether it comes as a binary frame, to which no schema can apply.
    #[serde(default)]
    binary: bool,
    /// Whether the backend serves it, by a webhook. A schema is checked before.
    #[serde(default)]
    pub(super) webhook: bool,
}

/// What the hub is told of an event.
#[derive(Debug)]
pub(super) enum Declaration {
    Schema(Value),
    Binary,
    /// The backend takes any data.
    Any,
}

impl Declaration {
    pub(super) fn declare(self, hub: HubBuilder, event: &str) -> HubBuilder {
        match self {
            Self::Schema(schema) => hub.schema(event, &schema),
            Self::Binary => hub.binary_event(event),
            Self::Any => hub,
        }
    }
}

impl Event {
    /// What the event is, which is the one at `index`.
    ///
    /// # Errors
    /// When it has not exactly one of a schema and `binary`, or its schema is not to be read.
    pub(super) fn declaration(&self, index: usize, files: &Files) -> Result<Declaration, Failure> {
        let wrong = |key: &str, what: &str| {
            Failure::config(format_args!("[[events]] {:?} {what}", self.name))
                .key(format_args!("events[{index}]{key}"))
        };
        match (&self.schema_file, self.binary) {
            (Some(file), false) => {
                let key = format!("events[{index}].schema_file");
                let text = files.read_text(&key, file)?;
                let schema = serde_json::from_str(&text).map_err(|error| {
                    let place = format!(" at line {} column {}", error.line(), error.column());
                    let (said, path) = (error.to_string(), files.path(file));
                    let what = said.strip_suffix(&place).unwrap_or(&said);
                    Failure::config(format_args!(
                        "{}:{}:{}: {what}",
                        path.display(),
                        error.line(),
                        error.column()
                    ))
                    .key(key)
                    .fix("a schema_file holds one JSON Schema")
                })?;
                Ok(Declaration::Schema(schema))
            }
            (None, true) if self.webhook => Err(wrong(".webhook", "is binary and has webhook = true")
                .fix("keep one of them: what a webhook is told is JSON")),
            (None, true) => Ok(Declaration::Binary),
            (None, false) if self.webhook => Ok(Declaration::Any),
            (None, false) => Err(wrong("", "has neither a schema_file nor binary = true nor webhook = true")
                .fix("schema_file = \"message.json\", whose whole text may be {} for any data")),
            (Some(_), true) => Err(wrong(".binary", "is binary and has a schema_file")
                .fix("keep one of them: a schema is for JSON")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn declared(toml: &str, configuration: &Path) -> Result<Declaration, String> {
        let event: Event = toml::from_str(toml).unwrap();
        let files = Files::of(Some(configuration), None);
        event.declaration(7, &files).map_err(|failure| failure.texts().concat())
    }

    #[test]
    fn an_event_has_a_schema_or_is_binary() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("tidings.toml");
        std::fs::write(directory.path().join("good.json"), "{}").unwrap();
        std::fs::write(directory.path().join("bad.json"), "{\n  \"type\": }").unwrap();
        for good in ["name = 'a'\nschema_file = 'good.json'", "name = 'a'\nbinary = true"] {
            assert!(declared(good, &configuration).is_ok(), "{good}");
        }
        for (wrong, said) in [
            ("name = 'a'", "key: events[7]\n"),
            ("name = 'a'\nschema_file = 'good.json'\nbinary = true", "keep one"),
            ("name = 'a'\nbinary = true\nwebhook = true", "keep one"),
            ("name = 'a'\nschema_file = 'none.json'", "none.json: No such file"),
            ("name = 'a'\nschema_file = 'bad.json'", "bad.json:2:11: expected value"),
        ] {
            let told = declared(wrong, &configuration).err().unwrap_or_default();
            assert!(told.contains(said), "{wrong}: {told}");
        }
    }
}
