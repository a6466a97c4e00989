//! What may be in a configuration, as a JSON Schema, and each key of it with its kind, default and name in the environment.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Config, limits};

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "TIDINGS_";
/// What stands in a variable's name where a key has a dot.
pub(super) const SEPARATOR: &str = "__";

/// The schema of a whole file, for editors and for whoever checks files.
pub(crate) fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<Config>());
    simplify(&mut schema);
    let limits = schema.pointer_mut("/properties/limits/properties").and_then(Value::as_object_mut);
    for (name, property) in limits.into_iter().flatten() {
        if let Some(default) = limits::default_of(name) {
            property["default"] = default;
        }
    }
    schema
}

/// Takes out what is of Rust and not of TOML: nulls, how many bits a number has, where a comment's lines end.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(simplify);
            simplify_one(object);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn simplify_one(schema: &mut Map<String, Value>) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    // A comment's lines are broken for the source.
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && (format.starts_with("uint") || format.starts_with("int"))
    {
        schema.remove("format");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(mut options)) = schema.remove("anyOf") {
        options.retain(|option| option["type"] != "null");
        match &mut options[..] {
            [Value::Object(only)] => {
                for (name, value) in std::mem::take(only) {
                    schema.entry(name).or_insert(value);
                }
            }
            _ => {
                schema.insert("anyOf".to_owned(), Value::Array(options));
            }
        }
    }
}

/// A key that has a value of its own: no section, and of a list the whole.
#[derive(Debug)]
pub(crate) struct Key {
    /// `listen`, `limits.heartbeat_seconds`, `rooms`
    pub(crate) path: String,
    /// What its value may be.
    pub(crate) schema: Value,
}

/// All keys, in the order of the schema.
pub(crate) fn keys(schema: &Value) -> Vec<Key> {
    let mut keys = Vec::new();
    collect(schema, "", &mut keys);
    keys
}

fn collect(section: &Value, prefix: &str, keys: &mut Vec<Key>) {
    for (name, property) in section["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        if property["properties"].is_object() {
            collect(property, &format!("{path}."), keys);
        } else {
            keys.push(Key { path, schema: property.clone() });
        }
    }
}

/// Whether a value may be a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Texts {
    /// Nothing else.
    Only,
    /// That too.
    Also,
    Never,
}

impl Key {
    /// Its variable: `TIDINGS_LIMITS__HEARTBEAT_SECONDS`.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.to_uppercase().replace('.', SEPARATOR))
    }

    /// Whether its value may be a text.
    pub(super) fn texts(&self) -> Texts {
        let kinds = kinds(&self.schema);
        match (kinds.contains(&"string"), kinds.iter().all(|kind| *kind == "string")) {
            (true, true) => Texts::Only,
            (true, false) => Texts::Also,
            (false, _) => Texts::Never,
        }
    }
}

/// The kinds of values that a schema takes.
fn kinds(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => ["anyOf", "oneOf"]
            .into_iter()
            .filter_map(|several| schema[several].as_array())
            .flatten()
            .flat_map(kinds)
            .collect(),
    }
}

/// What the schema says of the value at a path like `rooms[0].join`; nothing of what it does not know.
pub(super) fn at<'s>(schema: &'s Value, path: &str) -> Option<&'s Value> {
    let mut here = schema;
    for step in path.split('.') {
        let (name, indices) = step.split_once('[').unwrap_or((step, ""));
        here = here["properties"].get(name)?;
        for _ in indices.matches(']') {
            here = here.get("items")?;
        }
    }
    Some(here)
}

/// What a value would look like, for whoever has written another: `30`, `"chat:*"`, `"anyone" or "members"`.
pub(super) fn example(schema: &Value) -> String {
    if let Some(example) = schema["examples"].get(0).or_else(|| schema.get("default")).and_then(toml_of) {
        return example;
    }
    let words: Vec<_> = words(schema).iter().map(|word| format!("\"{word}\"")).collect();
    if !words.is_empty() {
        return words.join(" or ");
    }
    match kinds(schema).first() {
        Some(&"string") => "\"…\"".to_owned(),
        Some(&"integer") => "10".to_owned(),
        Some(&"boolean") => "true or false".to_owned(),
        Some(&"array") => "[…]".to_owned(),
        _ => "{ … }".to_owned(),
    }
}

/// The words of which a value has to be one.
fn words(schema: &Value) -> Vec<&str> {
    let own = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
    let nested = ["anyOf", "oneOf"].into_iter().filter_map(|several| schema[several].as_array()).flatten();
    own.filter_map(Value::as_str).chain(nested.flat_map(words)).collect()
}

/// The value as TOML writes it; none for what TOML has no word for.
pub(crate) fn toml_of(value: &Value) -> Option<String> {
    toml::Value::try_from(value).ok().map(|value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_variables_and_kinds() {
        let schema = schema();
        let keys = keys(&schema);
        let key = |path: &str| keys.iter().find(|key| key.path == path).unwrap();
        assert_eq!(key("listen").variable(), "TIDINGS_LISTEN");
        assert_eq!(key("limits.heartbeat_seconds").variable(), "TIDINGS_LIMITS__HEARTBEAT_SECONDS");
        for (path, texts) in [
            ("auth.secret", Texts::Only),
            ("auth.algorithm", Texts::Only),
            ("log.format", Texts::Only),
            ("limits.heartbeat_seconds", Texts::Never),
            ("rooms", Texts::Never),
        ] {
            assert_eq!(key(path).texts(), texts, "{path}");
        }
    }

    #[test]
    fn a_key_that_holds_a_secret_is_marked_as_one() {
        let schema = schema();
        let mut open = Vec::new();
        find_open_secrets(&schema, "", &mut open);
        assert!(open.is_empty(), "their type is Secret: {open:?}");
        assert_eq!(at(&schema, "auth.secret").unwrap()["writeOnly"], true);
        assert_eq!(at(&schema, "auth.keys[0].secret").unwrap()["writeOnly"], true);
        assert_eq!(at(&schema, "broker.url").unwrap()["writeOnly"], true);
    }

    fn find_open_secrets(schema: &Value, path: &str, open: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let ends_like_one = ["secret", "password"].iter().any(|end| name.ends_with(end));
            if ends_like_one && property["type"] == "string" && property["writeOnly"] != true {
                open.push(path.clone());
            }
            find_open_secrets(property, &path, open);
            find_open_secrets(&property["items"], &path, open);
        }
    }

    #[test]
    fn an_example_is_what_may_be_written() {
        let schema = schema();
        let example = |path: &str| example(at(&schema, path).unwrap());
        assert_eq!(example("limits.heartbeat_seconds"), "30");
        assert_eq!(example("rooms[3].pattern"), "\"chat:*\"");
        assert_eq!(example("rooms[0].overflow"), "\"disconnect\" or \"drop_oldest\" or \"conflate\"");
        assert!(at(&schema, "rooms[0].colour").is_none());
    }

    #[test]
    fn nothing_in_the_schema_is_null() {
        let text = schema().to_string();
        assert!(!text.contains("null"), "{text}");
    }
}
