//! The skill for coding agents that the program carries: `skills/websocket-builder`, laid down in a project.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The folder's name, and the skill's.
pub(crate) const NAME: &str = "websocket-builder";

/// Where in the skill a file stands, and what is in it.
type Embedded = (&'static str, &'static str);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../skills/websocket-builder/", $path)))),*]
    };
}

const FILES: &[Embedded] = files![
    "SKILL.md",
    "references/axum.md",
    "references/express.md",
    "references/fastapi.md",
    "references/other-backends.md",
    "references/production.md",
    "references/troubleshooting.md",
    "assets/message.schema.json",
    "assets/realtime.mjs",
    "assets/realtime.py",
    "assets/tidings.toml",
];

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Became {
    /// It was not there.
    Written,
    /// It was there as it is to be.
    Unchanged,
    /// It was another, which is gone.
    Replaced,
}

impl Became {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Replaced => "replaced",
        }
    }
}

/// Lays the skill down in `folder`, unless that would change a file: then nothing is written.
///
/// # Errors
/// Files that are others than ours, all of them; what the file system says.
pub(crate) fn lay_down(folder: &Path) -> Result<Vec<(PathBuf, Became)>, Failure> {
    let planned = plan(folder)?;
    let changed: Vec<_> = planned
        .iter()
        .filter(|(_, _, became)| *became == Became::Replaced)
        .map(|(path, _, _)| path.display().to_string())
        .collect();
    if !changed.is_empty() {
        return Err(Failure::failed(format_args!("changed, or of another version: {}", changed.join(", ")))
            .fix("--force replaces what is there; nothing was written"));
    }
    write(planned)
}

/// The same, whatever is there.
///
/// # Errors
/// What the file system says.
pub(crate) fn lay_over(folder: &Path) -> Result<Vec<(PathBuf, Became)>, Failure> {
    write(plan(folder)?)
}

type Planned = (PathBuf, &'static str, Became);

fn plan(folder: &Path) -> Result<Vec<Planned>, Failure> {
    let planned = FILES.iter().map(|(name, text)| {
        let path = folder.join(name);
        let became = match fs::read(&path) {
            Ok(there) if there == text.as_bytes() => Became::Unchanged,
            Ok(_) => Became::Replaced,
            Err(error) if error.kind() == ErrorKind::NotFound => Became::Written,
            Err(error) => return Err(failed(&path, &error)),
        };
        Ok((path, *text, became))
    });
    planned.collect()
}

fn write(planned: Vec<Planned>) -> Result<Vec<(PathBuf, Became)>, Failure> {
    let written = planned.into_iter().map(|(path, text, became)| {
        if became != Became::Unchanged {
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| failed(&path, &error))?;
            fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        }
        Ok((path, became))
    });
    written.collect()
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("{}: {error}", path.display()))
        .fix("--dir names another place, which can be written")
}
