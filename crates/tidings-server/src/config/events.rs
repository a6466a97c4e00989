//! `[[events]]`: what the data of each event has to look like, by a JSON Schema in a file of its own.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tidings::{HubBuilder, InvalidSchema};

use crate::failure::Failure;
use crate::webhook::Webhooks;

/// One `[[events]]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub(super) name: String,
    /// A JSON Schema, relative to the configuration's directory.
    schema_file: Option<PathBuf>,
    /// Comes as a binary frame, to which no schema can apply.
    #[serde(default)]
    binary: bool,
    /// The backend serves it. A schema is checked before.
    #[serde(default)]
    pub(super) webhook: bool,
}

impl Event {
    /// Tells the hub.
    pub(super) fn declare(
        &self,
        hub: HubBuilder,
        configuration: &Path,
        webhooks: Option<&Webhooks>,
    ) -> Result<HubBuilder, Failure> {
        let hub = match webhooks.filter(|_| self.webhook) {
            Some(webhooks) => webhooks.serve_event(hub, &self.name),
            None => hub,
        };
        match (self.path(configuration), self.binary) {
            (None, true) if self.webhook => Err(self
                .wrong(configuration, "is binary and has webhook = true")
                .fix("keep one of them: what a webhook is told is JSON")),
            (None, false) if self.webhook => Ok(hub),
            (Some(path), false) => Ok(hub.schema(&self.name, &read(&path)?)),
            (None, true) => Ok(hub.binary_event(&self.name)),
            (None, false) => Err(self
                .wrong(configuration, "has neither a schema_file nor binary = true nor webhook = true")
                .fix("schema_file = \"message.json\", whose whole text may be {} for any data")),
            (Some(_), true) => Err(self
                .wrong(configuration, "is binary and has a schema_file")
                .fix("keep one of them: a schema is for JSON")),
        }
    }

    /// The failure of a schema that the hub can't use, with the file and the place in it.
    pub(super) fn unusable(&self, fault: &InvalidSchema, configuration: &Path) -> Failure {
        let path = self.path(configuration).unwrap_or_default();
        Failure::config(format_args!("{}: {fault}", path.display()))
    }

    fn path(&self, configuration: &Path) -> Option<PathBuf> {
        let directory = configuration.parent().unwrap_or(Path::new(""));
        self.schema_file.as_ref().map(|file| directory.join(file))
    }

    fn wrong(&self, configuration: &Path, what: &str) -> Failure {
        Failure::config(format_args!("{}: [[events]] {:?} {what}", configuration.display(), self.name))
    }
}

/// A schema's file as JSON.
fn read(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::config(format_args!("[[events]] schema_file {}: {error}", path.display()))
            .fix("name a file that this user can read; the path is relative to the configuration")
    })?;
    serde_json::from_str(&text).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let said = error.to_string();
        let what = said.strip_suffix(&place).unwrap_or(&said);
        Failure::config(format_args!("{}:{}:{}: {what}", path.display(), error.line(), error.column()))
            .fix("a schema_file holds one JSON Schema")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings::Hub;

    fn declared(toml: &str, configuration: &Path) -> Result<HubBuilder, String> {
        let event: Event = toml::from_str(toml).unwrap();
        event.declare(Hub::builder(), configuration, None).map_err(|failure| format!("{failure:?}"))
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
            ("name = 'a'", "neither a schema_file"),
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
