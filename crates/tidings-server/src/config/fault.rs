//! A configuration's fault as a person wants it told: file, line, column, and the key that was meant.
//!
//! Of the file's own text it shows keys alone: a line may hold a secret.

use std::path::Path;

use crate::failure::Failure;

/// The failure of a file that TOML or the schema refuses.
pub(super) fn failure(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let (line, column) = error.span().map_or((1, 1), |span| line_and_column(text, span.start));
    let message = error.message();
    let place = format!("{}:{line}:{column}", path.display());
    let Some((kind, key, known)) = unknown_name(message) else {
        return Failure::config(format_args!("{place}: {message}"));
    };
    let failure = Failure::config(format_args!("{place}: unknown {kind} `{key}`"));
    match nearest(key, &known) {
        Some(meant) => failure.fix(format_args!("did you mean `{meant}`?")),
        None => failure.fix(format_args!("known here: {}", known.join(", "))),
    }
}

/// Both count from 1; columns count characters, as editors do.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
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
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(key, name);
    let nearest = known.iter().copied().min_by_key(|name| distance(name))?;
    (distance(nearest) <= key.chars().count().max(3) / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn told(text: &str) -> String {
        let error = toml::from_str::<Config>(text).unwrap_err();
        format!("{:?}", failure(Path::new("tidings.toml"), text, &error))
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
    fn a_key_like_no_other_is_told_what_there_is() {
        let told = told("[auth]\n[[rooms]]\npattern = 'a'\ncolour = 'red'");
        assert!(told.contains("known here: pattern, join, publish"), "{told}");
    }

    #[test]
    fn other_faults_have_a_place_and_show_no_line() {
        let told = told("[auth]\nsecret = \"never-to-be-shown\nx");
        assert!(told.contains("tidings.toml:3:2:"), "{told}");
        assert!(!told.contains("never-to-be-shown"), "{told}");
        assert!(self::told("listen = 'here'\n[auth]").contains("tidings.toml:1:10"));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("a\né = x", 5), (2, 3));
        assert_eq!(line_and_column("", 0), (1, 1));
    }
}
