//! docs/tidings.schema.json and docs/configuration.md say what the program says, and the examples of the repository fit it.
//!
//! `TIDINGS_TEST_UPDATE=1 cargo test -p tidings-server --test reference` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Where the part of docs/configuration.md begins that is made of the schema.
const EVERY_KEY: &str = "## Every key\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn schema_text() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings")).args(["config", "schema"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&schema_text()).unwrap()
}

/// Compares a file with what it has to be, or writes it.
fn assert_current(file: &str, expected: &str) {
    let path = repository().join(file);
    if std::env::var_os("TIDINGS_TEST_UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = current.lines().zip(expected.lines()).find(|(is, ought)| is != ought);
    assert!(
        current == expected,
        "{file} is out of date: TIDINGS_TEST_UPDATE=1 cargo test -p tidings-server --test reference\n{differs:#?}"
    );
}

#[test]
fn the_schema_in_docs_is_the_programs_own() {
    assert_current("docs/tidings.schema.json", &schema_text());
}

#[test]
fn docs_have_every_key_with_its_kind_default_and_description() {
    let page = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let (written, _) = page.split_once(EVERY_KEY).expect("the page has a part that is made of the schema");
    assert_current("docs/configuration.md", &format!("{written}{EVERY_KEY}{}", reference(&schema())));
}

#[test]
fn every_key_is_described() {
    let mut without = Vec::new();
    for section in sections(&schema()) {
        for (name, property) in section.keys() {
            if !property["description"].as_str().is_some_and(|text| text.ends_with(['.', '`', ')'])) {
                without.push(format!("{}{name}", section.path));
            }
        }
    }
    assert!(without.is_empty(), "a doc comment ends with a full stop: {without:?}");
}

#[test]
fn the_examples_of_the_repository_fit_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut seen = 0;
    let mut check = |what: &str, text: &str| {
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{what}: {error}"));
        let faults: Vec<_> = validator
            .iter_errors(&serde_json::to_value(&table).unwrap())
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{what}: {faults:?}");
        seen += 1;
    };
    for file in ["bench/tidings.toml", "deploy/tidings.toml", "crates/tidings-server/tests/config/sound.toml"]
    {
        check(file, &std::fs::read_to_string(repository().join(file)).unwrap());
    }
    for page in [
        "docs/configuration.md",
        "docs/redis.md",
        "docs/http-api.md",
        "docs/memberships.md",
        "docs/webhooks.md",
    ] {
        let text = std::fs::read_to_string(repository().join(page)).unwrap();
        for example in text.split("```toml\n").skip(1) {
            check(page, example.split_once("```").unwrap().0);
        }
    }
    assert!(seen >= 5, "{seen}");
    let wrong = serde_json::json!({"limits": {"hartbeat_seconds": 1}});
    assert!(!validator.is_valid(&wrong), "a schema that takes everything would say nothing");
}

/// A table of the reference.
struct Section<'s> {
    /// `limits.`, and nothing for what stands outside of all sections.
    path: String,
    heading: String,
    schema: &'s Value,
}

impl<'s> Section<'s> {
    /// Its own keys, without what has a table of its own.
    fn keys(&self) -> impl Iterator<Item = (&'s String, &'s Value)> {
        let properties = self.schema["properties"].as_object().into_iter().flatten();
        properties.filter(|(_, property)| nested(property).is_none())
    }
}

/// The section that a key is, or each entry of it.
fn nested(property: &Value) -> Option<(&Value, bool)> {
    let is_section = |schema: &Value| schema["properties"].is_object();
    if is_section(property) {
        return Some((property, false));
    }
    property.get("items").filter(|items| is_section(items)).map(|items| (items, true))
}

fn sections(schema: &Value) -> Vec<Section<'_>> {
    let mut sections =
        vec![Section { path: String::new(), heading: "### Outside of sections".to_owned(), schema }];
    collect(schema, "", &mut sections);
    sections
}

fn collect<'s>(schema: &'s Value, path: &str, sections: &mut Vec<Section<'s>>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some((schema, is_list)) = nested(property) else { continue };
        let path = format!("{path}{name}");
        let heading = if is_list { format!("### `[[{path}]]`") } else { format!("### `[{path}]`") };
        let described = property["description"].as_str().or(schema["description"].as_str());
        let heading = format!("{heading}\n\n{}", described.unwrap_or_default());
        sections.push(Section { path: format!("{path}."), heading, schema });
        collect(schema, &format!("{path}."), sections);
    }
}

/// Every key as Markdown.
fn reference(schema: &Value) -> String {
    let mut page = String::new();
    for section in sections(schema) {
        if section.keys().next().is_none() {
            continue;
        }
        let heading = section.heading.trim_end();
        write!(page, "\n{heading}\n\n| key | value | default | |\n| --- | --- | --- | --- |\n").unwrap();
        let required: Vec<_> = section.schema["required"].as_array().into_iter().flatten().collect();
        for (name, property) in section.keys() {
            let default = match property.get("default") {
                Some(default) => format!("`{}`", toml_of(default)),
                None if required.iter().any(|required| *required == name) => "required".to_owned(),
                None => "–".to_owned(),
            };
            let kind = match unit(name) {
                "" => kind(property),
                unit => format!("{}, {unit}", kind(property)),
            };
            let described = property["description"].as_str().unwrap_or_default().replace('|', "\\|");
            writeln!(page, "| `{name}` | {kind} | {default} | {described} |").unwrap();
        }
    }
    page
}

fn toml_of(value: &Value) -> String {
    toml::Value::try_from(value).unwrap().to_string()
}

/// What a value is, in words.
fn kind(schema: &Value) -> String {
    if schema["writeOnly"] == true {
        return "text, secret".to_owned();
    }
    if let Some(options) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let words: Option<Vec<_>> = options.iter().map(|option| option.get("const")).collect();
        return match words {
            Some(words) => words_of(words),
            None => options.iter().map(kind).collect::<Vec<_>>().join(" or "),
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        return words_of(words);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let keys: Vec<_> = properties.keys().map(|key| format!("{key} = …")).collect();
        return format!("`{{ {} }}`", keys.join(", "));
    }
    match schema["type"].as_str().unwrap_or_default() {
        "string" => "text",
        "integer" => "whole number",
        "number" => "number",
        "boolean" => "`true`, `false`",
        "array" => match kind(&schema["items"]) {
            words if words.starts_with('`') => return format!("list of {words}"),
            one => return format!("list of {one}s"),
        },
        other => panic!("what is {other:?} in words? {schema}"),
    }
    .to_owned()
}

fn words_of<'a>(words: impl IntoIterator<Item = &'a Value>) -> String {
    let words = words.into_iter().map(|word| format!("`{}`", toml_of(word)));
    words.collect::<Vec<_>>().join(", ")
}

/// The unit that a key's name ends with.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_max");
    match name.rsplit('_').next().unwrap_or(name) {
        "seconds" => "seconds",
        "milliseconds" => "milliseconds",
        "bytes" => "bytes",
        _ => "",
    }
}
