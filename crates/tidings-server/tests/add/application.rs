//! Somebody's application in a folder of its own, and what `tidings` does with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::server::{run, tidings};

pub(crate) struct Application {
    folder: TempDir,
}

pub(crate) fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A text before an addition: without the lines that begin with `+`, and without what stands in `«»`.
pub(crate) fn before(marked: &str) -> String {
    let lines = marked.split_inclusive('\n').filter(|line| !line.starts_with('+'));
    let mut text = lines.collect::<String>();
    while let Some((begin, rest)) = text.split_once('«') {
        let (_, end) = rest.split_once('»').unwrap();
        text = format!("{begin}{end}");
    }
    text
}

/// And after it.
pub(crate) fn after(marked: &str) -> String {
    let lines = marked.split_inclusive('\n').map(|line| line.strip_prefix('+').unwrap_or(line));
    lines.collect::<String>().replace(['«', '»'], "")
}

impl Application {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let application = Self { folder: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            application.write(path, text);
        }
        application
    }

    /// An application whose files are marked with what is to become of them; does it, and looks.
    pub(crate) async fn becomes(files: &[(&str, &str)], options: &[&str]) -> Self {
        let unmarked: Vec<_> = files.iter().map(|(path, text)| (*path, before(text))).collect();
        let application =
            Self::of(&unmarked.iter().map(|(path, text)| (*path, text.as_str())).collect::<Vec<_>>());
        application.add(&[options, &["--yes"]].concat()).await;
        for (path, text) in files.iter().filter(|(path, _)| !is_list_of_packages(path)) {
            assert_eq!(application.read(path), after(text), "{path}");
        }
        application
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        run(tidings(&self.folder).current_dir(self.folder.path()).args(arguments)).await
    }

    /// Adds, and holds it to what always holds.
    pub(crate) async fn add(&self, options: &[&str]) -> Value {
        let before = self.tree();
        let told = told(&self.run(&[&["add", "--json"], options].concat()).await);
        let after = self.tree();
        assert_eq!(told["written"], options.contains(&"--yes"));
        if told["written"] == false {
            assert_eq!(after, before, "without --yes nothing is written");
        }
        for (path, text) in &before {
            let mut rest = after[path].chars();
            assert!(
                text.chars().all(|was| rest.any(|is| is == was)),
                "{path} has lost something: {}",
                after[path]
            );
            let is_told = told["changed"].as_array().unwrap().iter().any(|changed| changed == path);
            assert!(is_told || after[path] == *text, "{path} is changed, and that is not told");
        }
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            assert!(
                told["new"].as_array().unwrap().iter().any(|new| new == path),
                "{path} is new, and that is not told"
            );
        }
        told
    }

    /// It fails, says all of this, and leaves everything as it was.
    pub(crate) async fn refused(&self, options: &[&str], expected: &[&str]) {
        let before = self.tree();
        let output = self.run(&[&["add"], options].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{stderr}");
        for words in expected {
            assert!(stderr.contains(words), "no {words:?} in {stderr}");
        }
        assert!(stderr.lines().any(|line| line.starts_with("  fix: ")), "{stderr}");
        assert_eq!(self.tree(), before, "what was refused has written something");
    }

    pub(crate) async fn git_apply(&self, diff: &str) {
        let mut git = Command::new("git");
        git.current_dir(self.path()).args(["apply", "-"]).stdin(Stdio::piped());
        // A folder in no repository, whatever is around it.
        let mut git = git.env("GIT_CEILING_DIRECTORIES", self.path()).spawn().unwrap();
        git.stdin.take().unwrap().write_all(diff.as_bytes()).await.unwrap();
        assert!(git.wait().await.unwrap().success(), "{diff}");
    }

    /// Every file that is the application's.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.folder.path()).unwrap().display().to_string();
                if path.is_symlink() {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        found
    }
}

fn is_list_of_packages(path: &str) -> bool {
    ["package.json", "pyproject.toml", "Cargo.toml"].contains(&path) || path.starts_with("requirements")
}
