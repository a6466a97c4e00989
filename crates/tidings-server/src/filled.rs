//! Sources that are embedded in the program, and filled in with what an application is.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

/// What the name of a source that is filled in ends with.
pub(crate) const FILLED_IN: &str = ".jinja";

/// What a name that has no value, or is misspelt, fails in.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // What is filled in is no HTML.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment
}

/// A source with its values.
///
/// # Errors
/// The source's own, with its path.
pub(crate) fn in_with(
    environment: &Environment<'_>,
    path: &str,
    text: &str,
    values: &minijinja::Value,
) -> Result<String, String> {
    let filled =
        environment.render_named_str(path, text, values).map_err(|error| format!("{path}: {error}"))?;
    // What is filled in has lost the end of its last line.
    Ok(filled + "\n")
}
