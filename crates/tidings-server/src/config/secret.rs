//! A secret in the configuration: it does not print, and the schema says of its key that it is one.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::Deserialize;

/// What stands in the file or the environment. `tidings config show` prints asterisks for whatever has this type.
#[derive(Deserialize, Debug)]
#[serde(transparent)]
pub(crate) struct Secret(SecretString);

impl Deref for Secret {
    type Target = SecretString;

    fn deref(&self) -> &SecretString {
        &self.0
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }
}
