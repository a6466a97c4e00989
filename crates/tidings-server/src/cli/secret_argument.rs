//! A secret that a command is given: on its line, in a file, or by an environment variable. Never printed again.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::failure::Failure;

/// What was given; none if nothing was. What stands on the command line counts before the variable.
///
/// # Errors
/// When the file can't be read, or what was given is empty.
pub(super) fn find(
    given: Option<&SecretString>,
    file: Option<&Path>,
    variable: &str,
) -> Result<Option<SecretString>, Failure> {
    let (secret, place) = match (given, file) {
        (Some(secret), _) => (secret.clone(), "the command line".to_owned()),
        (None, Some(file)) => (read(file)?, file.display().to_string()),
        (None, None) => match std::env::var(variable) {
            Ok(secret) => (SecretString::from(secret), variable.to_owned()),
            Err(_) => return Ok(None),
        },
    };
    if secret.expose_secret().is_empty() {
        return Err(Failure::usage(format_args!("{place} holds no secret, but nothing")));
    }
    Ok(Some(secret))
}

/// A file's secret, without the line break at its end.
///
/// # Errors
/// When it can't be read.
pub(super) fn read(file: &Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::failed(format_args!("{}: {error}", file.display()))
            .fix("name a file that this user can read")
    })?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}
