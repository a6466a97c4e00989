//! A configuration's fault as a person wants it told: file, line, column, and the key that was meant.
//!
//! Of the file's own text it shows keys alone: a line may hold a secret.

use serde_json::Value;

use super::schema;
use crate::failure::{Failure, Place};

/// The failure of what does not fit the configuration: what serde says of the value at `path`, the whole if there is none.
pub(super) fn failure(message: &str, path: Option<&str>, place: Option<Place>, schema: &Value) -> Failure {
    let failure = told(message, path, schema);
    let failure = path.into_iter().fold(failure, Failure::key);
    place.into_iter().fold(failure, Failure::place)
}

fn told(message: &str, path: Option<&str>, schema: &Value) -> Failure {
    if let Some((kind, name, known)) = unknown_name(message) {
        let failure = Failure::config(format_args!("unknown {kind} `{name}`"));
        return match nearest(name, known.iter().copied()) {
            Some(meant) => failure.fix(format_args!("did you mean `{meant}`?")),
            None => failure.fix(format_args!("known here: {}", known.join(", "))),
        };
    }
    let failure = Failure::config(message);
    if let Some(name) = missing(message) {
        let path = path.map_or_else(|| name.to_owned(), |path| format!("{path}.{name}"));
        return match schema::at(schema, &path) {
            Some(schema) => failure.fix(format_args!("add {name} = {}", schema::example(schema))),
            None => failure.fix(format_args!("add {name}")),
        };
    }
    match path.and_then(|path| Some((path, schema::at(schema, path)?))) {
        Some((path, schema)) => {
            let name = path.rsplit('.').next().unwrap_or(path);
            failure.fix(format_args!("as in {name} = {}", schema::example(schema)))
        }
        None => failure.fix("tidings config schema says what may stand here"),
    }
}

/// The failure of what is no TOML.
pub(super) fn syntax(message: &str, place: Option<Place>) -> Failure {
    let failure = Failure::config(message).fix(match message {
        "duplicate key" => "keep one of the two: each key stands once in its section",
        _ => "write it as TOML: name = value, texts in quotes, lists in brackets",
    });
    place.into_iter().fold(failure, Failure::place)
}

/// The field that serde misses.
pub(super) fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Both count from 1; columns count characters, as editors do.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// What serde says of a field or a variant that does not exist, taken apart: its kind, its name, those that do exist.
fn unknown_name(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let (kind, rest) = match message.strip_prefix("unknown field ") {
        Some(rest) => ("key", rest),
        None => ("value", message.strip_prefix("unknown variant ")?),
    };
    // Names stand between backticks: every second piece is one.
    let mut names = rest.split('`').skip(1).step_by(2);
    let name = names.next()?;
    Some((kind, name, names.collect()))
}

/// The name that is like enough to have been meant: a third of its letters may be wrong.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.chars().count().max(3) / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Document;
    use crate::config::{Config, schema};
    use crate::failure::Failures;
    use std::path::Path;

    fn told(text: &str) -> String {
        let mut failures = Failures::default();
        match Document::new(Some((Path::new("tidings.toml"), text)), &[]) {
            Ok(document) => drop(document.read::<Config>(&schema::schema(), &mut failures)),
            Err(failure) => failures.add(failure),
        }
        failures.into_failure().unwrap().texts().concat()
    }

    #[test]
    fn a_typo_is_told_with_its_line_and_what_was_meant() {
        let cases = [
            ("\nlisen = '127.0.0.1:1'\n", "tidings.toml:2:1: unknown key `lisen`", "did you mean `listen`?"),
            (
                "[auth]\nsecrets_file = 'x'",
                "tidings.toml:2:1: unknown key `secrets_file`",
                "did you mean `secret_file`?",
            ),
            (
                "[auth]\n[[rooms]]\npattern = 'a'\n  hsitory_events = 1",
                "tidings.toml:4:3: unknown key `hsitory_events`",
                "did you mean `history_events`?",
            ),
            (
                "[auth]\n[[rooms]]\npattern = 'a'\njoin = 'anione'",
                "tidings.toml:4:8: unknown value `anione`",
                "did you mean `anyone`?",
            ),
            (
                "[auth]\n[limits]\nmesages_per_second = 1",
                "tidings.toml:3:1: unknown key `mesages_per_second`",
                "did you mean `messages_per_second`?",
            ),
        ];
        for (text, place, fix) in cases {
            let told = told(text);
            assert!(told.contains(place) && told.contains(fix), "{told}");
        }
    }

    #[test]
    fn one_fault_does_not_hide_the_next() {
        let told = told(
            "lisen = 'x'\nshards = 0\n[limits]\nheartbeat_seconds = '10s'\n[[rooms]]\n[[rooms]]\npattern = 1\n\
             [[rooms]]\npattern = 'a'\njoin = 'anione'\npublish = { claim = '/a', equal = 1 }\n[admin]\nlisten = 7",
        );
        for expected in [
            "tidings.toml:1:1: unknown key `lisen`\n  key: lisen\n  fix: did you mean `listen`?",
            "tidings.toml:2:10: invalid value: integer `0`",
            "tidings.toml:4:21: invalid type: string \"10s\", expected u64\n  key: limits.heartbeat_seconds\n  \
             fix: as in heartbeat_seconds = 30",
            "tidings.toml:5:1: missing field `pattern`\n  key: rooms[0]\n  fix: add pattern = \"chat:*\"",
            "tidings.toml:7:11: invalid type: integer `1`, expected a string\n  key: rooms[1].pattern",
            "tidings.toml:10:8: unknown value `anione`\n  key: rooms[2].join",
            "unknown key `equal`\n  key: rooms[2].publish.equal\n  fix: did you mean `equals`?",
            "tidings.toml:13:10: invalid type: integer `7`",
        ] {
            assert!(told.contains(expected), "no {expected:?} in {told}");
        }
        assert_eq!(told.matches("error: ").count(), 8, "{told}");
    }

    #[test]
    fn a_key_like_no_other_is_told_what_there_is() {
        let told = told("[auth]\n[[rooms]]\npattern = 'a'\ncolour = 'red'");
        assert!(told.contains("known here: pattern, join, publish"), "{told}");
    }

    #[test]
    fn what_is_no_toml_has_a_place_and_shows_no_line() {
        let told = told("[auth]\nsecret = \"never-to-be-shown\nx");
        assert!(told.contains("tidings.toml:2:"), "{told}");
        assert!(!told.contains("never-to-be-shown"), "{told}");
        assert!(self::told("listen = 'here'\n[auth]").contains("tidings.toml:1:10"));
        let twice = self::told("[auth]\nsecret = 'a'\nsecret = 'b'");
        assert!(twice.contains("tidings.toml:3:1: duplicate key") && twice.contains("keep one"), "{twice}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("a\né = x", 5), (2, 3));
        assert_eq!(line_and_column("", 0), (1, 1));
    }
}
