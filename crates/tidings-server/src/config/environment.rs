//! The environment as a source of the configuration: which variable is which key, and what its text says.

use std::ffi::OsString;

use serde_json::Value;

use super::document::Setting;
use super::fault::nearest;
use super::schema::{self, Key, PREFIX, SEPARATOR, Texts};
use crate::failure::{Failure, Failures, Place};

/// Variables that are no keys: what the log shows, and where `tidings dev` keeps its secret.
const OTHERS: [&str; 2] = ["TIDINGS_LOG", "TIDINGS_HOME"];
/// What begins like this is of the project's own tests.
const OF_TESTS: &str = "TIDINGS_TEST_";

/// The keys that these variables set; the variables that are none or say nothing are told.
pub(super) fn settings(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    keys: &[Key],
    failures: &mut Failures,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
        let place = Place::Variable(name.to_owned());
        match keys.iter().find(|key| key.variable() == name) {
            Some(key) => match text.to_str().ok_or("is no UTF-8".to_owned()).and_then(|text| toml(key, text))
            {
                Ok(text) => settings.push(Setting { place, path: key.path.clone(), text }),
                Err(fault) => failures.add(
                    Failure::config(fault)
                        .key(&key.path)
                        .place(place)
                        .fix(format_args!("as in {name}='{}'", schema::example(&key.schema))),
                ),
            },
            None => failures.add(match meant(name, keys) {
                Meant::Other => continue,
                Meant::Key(key) => {
                    unknown(place).key(&key.path).fix(format_args!("did you mean {}?", key.variable()))
                }
                Meant::Section(section) => unknown(place)
                    .fix(format_args!("its keys are set one by one, as {}", variables_of(&section, keys))),
                Meant::Nothing => unknown(place)
                    .fix("a key's variable is TIDINGS_SECTION__KEY: tidings config show has them all"),
            }),
        }
    }
    // The order of an environment means nothing.
    settings.sort_by(|a, b| a.path.cmp(&b.path));
    settings
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && !name.starts_with(OF_TESTS) && !OTHERS.contains(&name)
}

fn unknown(place: Place) -> Failure {
    Failure::config("this variable is no key of the configuration").place(place)
}

/// What a name that is no key's was to be.
enum Meant<'k> {
    /// Whoever sets it does not mean us: an orchestrator tells every program of services by names like TIDINGS_PORT.
    Other,
    Key(&'k Key),
    Section(String),
    Nothing,
}

fn meant<'k>(name: &str, keys: &'k [Key]) -> Meant<'k> {
    let is_section =
        |name: &str| keys.iter().any(|key| key.variable().starts_with(&format!("{name}{SEPARATOR}")));
    if is_section(name) {
        return Meant::Section(name.to_owned());
    }
    // Without what is common to all of them, which would make any two look alike.
    let variables: Vec<_> = keys.iter().map(Key::variable).collect();
    let near = nearest(&name[PREFIX.len()..], variables.iter().map(|variable| &variable[PREFIX.len()..]));
    if let Some(near) = near.and_then(|near| keys.iter().find(|key| key.variable()[PREFIX.len()..] == *near))
    {
        return Meant::Key(near);
    }
    match name.split_once(SEPARATOR) {
        None => Meant::Other,
        Some((section, _)) if is_section(section) => Meant::Section(section.to_owned()),
        Some(_) => Meant::Nothing,
    }
}

/// The variables of a section, as far as a line can hold them.
fn variables_of(section: &str, keys: &[Key]) -> String {
    const SHOWN: usize = 4;
    let mut variables: Vec<_> = keys
        .iter()
        .map(Key::variable)
        .filter(|name| name.starts_with(&format!("{section}{SEPARATOR}")))
        .collect();
    let more = variables.len() > SHOWN;
    variables.truncate(SHOWN);
    variables.join(", ") + if more { " …" } else { "" }
}

/// A variable's text as a TOML value. Who sets a text need not put it into quotes, and a list may be JSON.
fn toml(key: &Key, text: &str) -> Result<String, String> {
    let quoted = || toml::Value::from(text).to_string();
    let texts = key.texts();
    if texts == Texts::Only {
        return Ok(quoted());
    }
    if toml::de::DeValue::parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    let json = serde_json::from_str::<Value>(text).ok();
    match json.as_ref().and_then(schema::toml_of) {
        Some(toml) => Ok(toml),
        None if texts == Texts::Also => Ok(quoted()),
        // What it said is not told: it may be a secret under a wrong name.
        None => Err("is neither a value of TOML nor of JSON".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<String>) {
        let keys = schema::keys(&schema::schema());
        let mut failures = Failures::default();
        let variables = variables.iter().map(|(name, text)| (name.into(), text.into()));
        let settings = settings(variables, &keys, &mut failures);
        let told = failures.into_failure().map(|failure| failure.texts()).unwrap_or_default();
        (settings.into_iter().map(|setting| (setting.path, setting.text)).collect(), told)
    }

    #[test]
    fn a_variable_says_what_its_key_can_be() {
        for (name, text, path, toml) in [
            ("TIDINGS_LISTEN", "[::]:80", "listen", "\"[::]:80\""),
            ("TIDINGS_AUTH__SECRET", "true", "auth.secret", "\"true\""),
            ("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "10", "limits.heartbeat_seconds", "10"),
            ("TIDINGS_ALLOWED_ORIGINS", "['https://a']", "allowed_origins", "['https://a']"),
            ("TIDINGS_ROOMS", "[{ pattern = 'a' }]", "rooms", "[{ pattern = 'a' }]"),
            ("TIDINGS_ROOMS", "[{\"pattern\":\"a\"}]", "rooms", "[{ pattern = \"a\" }]"),
        ] {
            let (settings, told) = read(&[(name, text)]);
            assert_eq!((settings, told), (vec![(path.to_owned(), toml.to_owned())], vec![]), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_no_keys_is_told_what_was_meant() {
        for (name, fix) in [
            ("TIDINGS_LIMITS__HARTBEAT_SECONDS", "did you mean TIDINGS_LIMITS__HEARTBEAT_SECONDS?"),
            ("TIDINGS_LIMITS_HEARTBEAT_SECONDS", "did you mean TIDINGS_LIMITS__HEARTBEAT_SECONDS?"),
            ("TIDINGS_LISEN", "did you mean TIDINGS_LISTEN?"),
            ("TIDINGS_AUTH", "one by one, as TIDINGS_AUTH__"),
            ("TIDINGS_BROKER__COLOUR_OF_THE_SKY", "one by one, as TIDINGS_BROKER__"),
            ("TIDINGS_KITCHEN__SINK_IN_THE_CORNER", "TIDINGS_SECTION__KEY"),
        ] {
            let (_, told) = read(&[(name, "1")]);
            assert!(told.concat().contains(&format!("{name}: ")) && told.concat().contains(fix), "{told:?}");
        }
    }

    #[test]
    fn what_is_not_meant_for_us_is_left_alone() {
        let names = [
            "TIDINGS_LOG",
            "TIDINGS_HOME",
            "TIDINGS_TEST_LOGS",
            "TIDINGS_BIN",
            "TIDINGS_SDKS",
            "TIDINGS_TARGET",
        ];
        let service =
            ["TIDINGS_PORT", "TIDINGS_SERVICE_HOST", "TIDINGS_ADMIN_SERVICE_PORT", "TIDINGS_PORT_7777_TCP"];
        for name in names.into_iter().chain(service).chain(["PATH", "tidings_listen"]) {
            assert_eq!(read(&[(name, "1")]), (vec![], vec![]), "{name}");
        }
    }

    #[test]
    fn a_bad_value_names_the_variable_and_not_what_it_says() {
        let (_, told) = read(&[("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "canary-bird soon")]);
        let told = told.concat();
        assert!(
            told.contains("TIDINGS_LIMITS__HEARTBEAT_SECONDS='30'") && !told.contains("canary"),
            "{told}"
        );
    }
}
