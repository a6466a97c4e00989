//! `tidings new`: a small application with Tidings in it, written into a folder of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, ValueEnum as _};
use serde_json::json;

use crate::failure::{Failure, Form};
use crate::sdk::{self, SDK_FOLDER};
use crate::template::{self, Template, Wishes};

const NAME_CHARS_MAX: usize = 64;

/// Write a small application with Tidings in it: login, database, tests, compose file
#[derive(Args, Debug)]
#[command(after_help = "\
The SDKs come from npm, PyPI or crates.io. Those of a clone of Tidings go with the application, packed in one folder that --sdk-from names:
npm ci && npm pack --pack-destination FOLDER (in sdks/typescript and in sdks/node-server), pip wheel --no-deps --wheel-dir FOLDER sdks/python,
cargo package --no-verify -p tidings-protocol -p tidings && cp target/package/*.crate FOLDER.")]
pub(crate) struct New {
    /// What it is called: a-z, 0-9, - and _, with a letter first
    name: String,
    /// Which application
    #[arg(long, value_enum, value_name = "TEMPLATE")]
    template: Option<Template>,
    /// Made for several nodes that share a Redis
    #[arg(long)]
    redis: bool,
    /// The folder, which is empty or not there; the name, if unset
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A folder with the SDKs as packages, which are copied; from the registry, if unset
    #[arg(long, value_name = "DIR")]
    sdk_from: Option<PathBuf>,
}

impl New {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        let Some(template) = self.template else {
            let names: Vec<_> = Template::value_variants().iter().map(|template| template.name()).collect();
            return Err(Failure::usage("which template is not said")
                .fix(format_args!("--template {}", names.join(" | "))));
        };
        check_name(&self.name)?;
        let dir = self.dir.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        check_empty(&dir)?;
        let packages =
            self.sdk_from.as_deref().map(|folder| sdk::packages_in(folder, template.sdks())).transpose()?;
        let names: Option<Vec<String>> =
            packages.as_ref().map(|packages| packages.iter().map(|(name, _)| name.clone()).collect());
        let wishes = Wishes { name: &self.name, redis: self.redis, packages: names.as_deref() };
        let mut files = template.files(&wishes).map_err(Failure::failed)?;
        let readme = files.get("README.md").map(|text| String::from_utf8_lossy(text).into_owned());
        for (name, contents) in packages.unwrap_or_default() {
            files.insert(format!("{SDK_FOLDER}/{name}"), contents);
        }
        for (path, contents) in &files {
            write(&dir.join(path), contents)?;
        }
        let go_there = format!("cd {}", in_a_shell(&dir.display().to_string()));
        let readme = readme.unwrap_or_default();
        let commands = template::first_commands(&readme);
        let next = std::iter::once(go_there.as_str()).chain(commands);
        let told = match form {
            Form::Json => json!({
                "template": template.name(),
                "name": self.name,
                "dir": dir.display().to_string(),
                "files": files.keys().collect::<Vec<_>>(),
                "next": next.map(template::without_remark).collect::<Vec<_>>(),
            })
            .to_string(),
            Form::Text => {
                let lines: Vec<_> = next.map(|command| format!("  {command}")).collect();
                let (dir, count) = (dir.display(), files.len());
                format!("{dir}: {count} files. Next, as its README says:\n\n{}", lines.join("\n"))
            }
        };
        writeln!(io::stdout(), "{told}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}

/// A name that npm, compose and a shell all take.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_good = name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if is_good {
        return Ok(());
    }
    Err(Failure::usage(format_args!("{name:?} can't be an application's name")).fix(format_args!(
        "a letter of a-z, then a-z, 0-9, - and _, {NAME_CHARS_MAX} at most; --dir says where it goes"
    )))
}

fn check_empty(dir: &Path) -> Result<(), Failure> {
    let told = |error: &dyn std::fmt::Display| Failure::failed(format_args!("{}: {error}", dir.display()));
    match fs::read_dir(dir).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            Err(told(&"is not empty, and nothing is overwritten").fix("--dir names another folder"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(told(&error).fix("--dir names another folder")),
    }
}

fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, contents));
    written.map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))
}

/// A word for a shell.
fn in_a_shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
