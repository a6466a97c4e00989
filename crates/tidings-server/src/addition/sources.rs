//! What is added as files of their own: the folders `additions/` at the top of the repository, filled in.

use minijinja::{Environment, Value};
use rust_embed::RustEmbed;

use crate::failure::Failure;
use crate::filled::{self, FILLED_IN};

#[derive(RustEmbed)]
#[folder = "../../additions"]
struct Embedded;

/// The folder of the events' schemas, beside the configuration.
pub(crate) const SCHEMAS: &str = "schemas";

/// How sources are filled in here: a line with a condition alone leaves none behind.
///
/// # Errors
/// A syntax that is none.
pub(crate) fn environment() -> Result<Environment<'static>, Failure> {
    let mut environment = filled::environment();
    let syntax = environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(Failure::failed)?);
    Ok(environment)
}

/// Every file of a folder, by its path there.
///
/// # Errors
/// A source's own, with its path.
pub(crate) fn filled_in(
    folder: &str,
    environment: &Environment<'_>,
    values: &Value,
) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    for path in Embedded::iter() {
        let Some(path_there) = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/')) else {
            continue;
        };
        let Some(embedded) = Embedded::get(&path) else { continue };
        let text = std::str::from_utf8(&embedded.data).map_err(|error| format!("{path}: {error}"))?;
        let (path_there, text) = match path_there.strip_suffix(FILLED_IN) {
            Some(path) => (path, filled::in_with(environment, path, text, values)?),
            None => (path_there, text.to_owned()),
        };
        files.push((path_there.to_owned(), text));
    }
    Ok(files)
}
