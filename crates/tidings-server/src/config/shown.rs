//! The configuration as it counts: every key with its value, defaults included, and no secret.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tidings::Limits;

use super::load::Loaded;
use super::{limits, schema};
use crate::logs;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// Every key that has a value, in the sections of a file.
pub(crate) fn effective(loaded: &Loaded, of_machine: Limits) -> Value {
    let limits = loaded.config.limits(of_machine);
    let mut all = section(&loaded.schema, &loaded.said);
    if let Some(told) = all.get_mut("limits").and_then(Value::as_object_mut) {
        // What the program sets by the machine.
        for (key, value) in told {
            *value = limits::value_of(&limits, key).unwrap_or_default();
        }
    }
    if let (Some((_, level)), Some(log)) = (logs::variable(), all.get_mut("log")) {
        log["level"] = level.into();
    }
    Value::Object(all)
}

/// The value of each key, and where it comes from.
pub(crate) fn origins(loaded: &Loaded, effective: &Value) -> Vec<(String, Value, String)> {
    let keys = schema::keys(&loaded.schema).into_iter();
    keys.filter_map(|key| {
        let value = effective.pointer(&format!("/{}", key.path.replace('.', "/")))?.clone();
        let origin = origin(loaded, &key.path, &value);
        Some((key.path, value, origin))
    })
    .collect()
}

/// Where a value comes from: `tidings.toml:3:1`, a variable, an option, `default`, or what the machine allows.
fn origin(loaded: &Loaded, path: &str, value: &Value) -> String {
    if let Some((name, _)) = logs::variable().filter(|_| path == "log.level") {
        return name.to_owned();
    }
    if let Some(place) = loaded.places.of(path) {
        return place.to_string();
    }
    let default = schema::at(&loaded.schema, path).and_then(|schema| schema.get("default"));
    if default == Some(value) { "default" } else { "this machine" }.to_owned()
}

/// The same as a file, with where each comes from behind it if that is asked for.
pub(crate) fn toml(loaded: &Loaded, effective: &Value, with_origin: bool) -> String {
    let remark = |path: &str, value: &Value| match with_origin {
        true => origin(loaded, path, value),
        false => String::new(),
    };
    let mut text = String::new();
    write_section(&mut text, effective, "", &remark);
    text.trim_start().to_owned()
}

/// What is said of a section, and what its keys have by default. What has neither is left out.
fn section(schema: &Value, said: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let value = match (property["properties"].is_object(), said.get(name)) {
            (true, None) if property.get("required").is_some() => continue,
            (true, said) => Value::Object(section(property, said.unwrap_or(&Value::Null))),
            (false, Some(said)) => hidden(property, said),
            (false, None) => match property.get("default") {
                Some(default) => default.clone(),
                None => continue,
            },
        };
        all.insert(name.clone(), value);
    }
    all
}

/// The value without what is secret in it.
fn hidden(schema: &Value, value: &Value) -> Value {
    match value {
        _ if schema["writeOnly"] == true => HIDDEN.into(),
        Value::Array(items) => items.iter().map(|item| hidden(&schema["items"], item)).collect(),
        Value::Object(entries) => {
            let hide =
                |(name, value): (&String, &Value)| (name.clone(), hidden(&schema["properties"][name], value));
            Value::Object(entries.iter().map(hide).collect())
        }
        other => other.clone(),
    }
}

/// Writes values, then sections: what stands behind a section's name is of that section.
fn write_section(text: &mut String, section: &Value, prefix: &str, remark: &dyn Fn(&str, &Value) -> String) {
    let entries = || {
        section
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, format!("{prefix}{name}"), value))
    };
    for (name, path, value) in
        entries().filter(|(.., value)| !value.is_object() && !is_list_of_sections(value))
    {
        let Some(written) = schema::toml_of(value) else { continue };
        line(text, &format!("{name} = {written}"), &remark(&path, value));
    }
    for (_, path, value) in entries() {
        if is_list_of_sections(value) {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                let of_item = format!("{path}[{index}]");
                line(text, &format!("\n[[{path}]]"), &remark(&of_item, item));
                write_item(text, item, &of_item, remark);
            }
        } else if value.is_object() {
            // A section without a key of its own needs no line.
            if value.as_object().is_some_and(|section| section.values().any(|value| !value.is_object())) {
                let _ = writeln!(text, "\n[{path}]");
            }
            write_section(text, value, &format!("{path}."), remark);
        }
    }
}

/// Writes a section of a list, sections in it in braces.
fn write_item(text: &mut String, item: &Value, path: &str, remark: &dyn Fn(&str, &Value) -> String) {
    for (name, value) in item.as_object().into_iter().flatten() {
        let Some(written) = schema::toml_of(value) else { continue };
        line(text, &format!("{name} = {written}"), &remark(&format!("{path}.{name}"), value));
    }
}

fn is_list_of_sections(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// A line, and behind it what is said of it. Writing to a string can't fail.
fn line(text: &mut String, line: &str, remark: &str) {
    let _ = match remark {
        "" => writeln!(text, "{line}"),
        _ => writeln!(text, "{line:<48}  # {remark}"),
    };
}
