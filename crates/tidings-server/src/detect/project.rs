//! The files of somebody's application that say how it is built: read once, bounded, and never written.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::source::Source;
use super::tongue::Tongue;
use crate::failure::Failure;

/// What is larger is no source that a person has written.
const FILE_BYTES_MAX: u64 = 512 * 1024;
const FILES_MAX: usize = 5_000;
const FOLDERS_DEEP_MAX: usize = 12;

/// Folders of others' code, and of what is made.
const NOT_ENTERED: [&str; 14] = [
    "node_modules",
    "bower_components",
    "vendor",
    "dist",
    "build",
    "target",
    "venv",
    "env",
    "site-packages",
    "__pycache__",
    "coverage",
    "htmlcov",
    "sdks",
    "migrations",
];
/// Beside the sources.
const READ: [&str; 12] = [
    "package.json",
    "Cargo.toml",
    "pyproject.toml",
    "setup.cfg",
    "Caddyfile",
    "Procfile",
    ".gitignore",
    "tidings.toml",
    "Gemfile",
    "go.mod",
    "composer.json",
    "manage.py",
];
const READ_ENDINGS: [&str; 5] = [".conf", ".yaml", ".yml", ".service", ".sh"];
const TEST_FOLDERS: [&str; 6] = ["test", "tests", "__tests__", "spec", "e2e", "cypress"];

/// By their paths, with slashes.
#[derive(Default, Debug)]
pub(crate) struct Project {
    files: BTreeMap<String, String>,
    /// Those at the top into which nobody looks.
    folders_not_entered: Vec<String>,
}

impl Project {
    /// Reads a folder. Links are not followed.
    ///
    /// # Errors
    /// What the file system says; more files than an application has.
    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        let mut project = Self::default();
        project.enter(dir, "", 0)?;
        Ok(project)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { files, ..Self::default() }
    }

    fn enter(&mut self, dir: &Path, prefix: &str, deep: usize) -> Result<(), Failure> {
        let told = |error: io::Error| {
            Failure::failed(format_args!("{}: {error}", dir.display()))
                .fix("name the folder of an application")
        };
        for entry in fs::read_dir(dir).map_err(told)? {
            let entry = entry.map_err(told)?;
            let kind = entry.file_type().map_err(told)?;
            // Neither framework nor Tidings has a file whose name is no text.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            if kind.is_dir() {
                let is_hidden = name.starts_with('.');
                if deep < FOLDERS_DEEP_MAX && !is_hidden && !NOT_ENTERED.contains(&name.as_str()) {
                    self.enter(&entry.path(), &format!("{path}/"), deep + 1)?;
                } else if deep == 0 {
                    self.folders_not_entered.push(name);
                }
            } else if kind.is_file() {
                self.take(&entry, path, &name)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: &fs::DirEntry, path: String, name: &str) -> Result<(), Failure> {
        if self.files.len() >= FILES_MAX {
            return Err(Failure::failed(format_args!("more than {FILES_MAX} files"))
                .fix("name the folder of the application itself"));
        }
        let is_small = entry.metadata().is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        let is_read = is_small && (Tongue::of(name).is_some() || is_read_beside(name));
        // What is no UTF-8 is nothing that could be changed as a text.
        let text = if is_read { fs::read_to_string(entry.path()).unwrap_or_default() } else { String::new() };
        self.files.insert(path, text);
        Ok(())
    }

    /// A file's text; empty for one that is there and not read.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The folders at the top of others' code, and of what is made.
    pub(crate) fn folders_not_entered(&self) -> impl Iterator<Item = &str> {
        self.folders_not_entered.iter().map(String::as_str)
    }

    /// The sources of a language that are no tests.
    pub(crate) fn sources(&self, tongue: Tongue) -> Vec<Source<'_>> {
        let of_tongue = |(path, _): &(&str, &str)| Tongue::of(path) == Some(tongue) && !is_test(path);
        self.files().filter(of_tongue).filter_map(|(path, text)| Source::of(path, text)).collect()
    }

    pub(crate) fn source(&self, path: &str) -> Option<Source<'_>> {
        let (path, text) = self.files.get_key_value(path)?;
        Source::of(path, text)
    }
}

/// Whether a file says how an image is built.
pub(crate) fn is_image(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["Dockerfile", "Containerfile"].iter().any(|begin| name.starts_with(begin))
}

fn is_read_beside(name: &str) -> bool {
    let is_requirements = name.starts_with("requirements") && name.ends_with(".txt");
    READ.contains(&name)
        || is_image(name)
        || is_requirements
        || READ_ENDINGS.iter().any(|end| name.ends_with(end))
        || (name.starts_with("ecosystem.config") && name.ends_with(".json"))
}

fn is_test(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    folders.split('/').any(|folder| TEST_FOLDERS.contains(&folder))
        || name.contains(".test.")
        || name.contains(".spec.")
        || name.starts_with("test_")
        || name.ends_with("_test.py")
        || name == "conftest.py"
}

/// The folder of a path, with its slash; empty for the top.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

/// A path from a folder on, with `.` and `..` gone; none, if it leads out.
pub(crate) fn resolved(folder: &str, relative: &str) -> Option<String> {
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in relative.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop()?;
            }
            step => steps.push(step),
        }
    }
    Some(steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_source_of_the_application_is_left_out() {
        let files = [
            ("server.js", "1"),
            ("test/server.js", "2"),
            ("src/a.test.ts", "3"),
            ("main.py", "4"),
            ("tests/conftest.py", "5"),
        ];
        let project = Project::of(&files);
        let paths = |tongue| project.sources(tongue).iter().map(|source| source.path).collect::<Vec<_>>();
        assert_eq!(paths(Tongue::JavaScript), ["server.js"]);
        assert_eq!(paths(Tongue::Python), ["main.py"]);
        assert!(
            is_read_beside("requirements-dev.txt")
                && is_read_beside("nginx.conf")
                && !is_read_beside("a.png")
        );
    }

    #[test]
    fn paths_are_followed_and_never_out_of_the_folder() {
        assert_eq!(resolved("src/", "./app.js").as_deref(), Some("src/app.js"));
        assert_eq!(resolved("src/", "../app").as_deref(), Some("app"));
        assert_eq!(resolved("", "../app"), None);
        assert_eq!((folder_of("a/b.js"), folder_of("b.js")), ("a/", ""));
    }

    #[test]
    fn a_folder_is_read_without_what_is_made_and_without_links() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["server.js", "node_modules/a/index.js", ".git/config.js", "logo.png"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        std::os::unix::fs::symlink("/", folder.path().join("everything")).unwrap();
        let project = Project::read(folder.path()).unwrap();
        let files: Vec<_> = project.files().collect();
        assert_eq!(files, [("logo.png", ""), ("server.js", "text")]);
        assert!(Project::read(&folder.path().join("none")).is_err());
    }
}
