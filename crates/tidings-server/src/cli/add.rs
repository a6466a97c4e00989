//! `tidings add`: Tidings into an application that is there, as a diff first, and written with `--yes`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::addition::write::Written;
use crate::addition::{self, Addition, Wishes, diff, write};
use crate::detect::project::Project;
use crate::detect::{Detected, Finding};
use crate::failure::{Failure, Form};
use crate::sdk;
use crate::template;

/// Add Tidings to an application on Express, FastAPI or axum: shows the diff, and writes it with --yes
///
/// New files in a folder of their own, and insertions in those that are there: no line of the application is taken away.
/// Where it can't be told what belongs where, nothing is written, and it says what decides it.
#[derive(Args, Debug)]
#[command(after_help = "\
`tidings detect` says what it goes by. The SDKs come from npm, PyPI or crates.io; packed from a clone of Tidings they are copied to sdks/,
with --sdk-from, as `tidings new --help` says.")]
pub(crate) struct Add {
    /// The application's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Write it
    #[arg(long)]
    yes: bool,
    /// For several nodes that share a Redis
    #[arg(long)]
    redis: bool,
    /// A folder with the SDKs as packages, which are copied; from the registry, if unset
    #[arg(long, value_name = "DIR")]
    sdk_from: Option<PathBuf>,
    /// What the user's id is, if the sources don't say it: 'request.session?.userId', 'user.username'
    #[arg(long, value_name = "EXPR")]
    user: Option<String>,
    /// The file that makes the application, from its folder on, if there is more than one
    #[arg(long, value_name = "FILE")]
    entry: Option<String>,
}

impl Add {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        if self.user.as_deref().is_some_and(|user| user.trim().is_empty()) {
            return Err(Failure::usage("--user is empty")
                .fix("--user EXPR says what the user's id is: 'request.session?.userId'"));
        }
        let project = Project::read(&self.dir)?;
        let detected = Detected::of(&project, self.entry.as_deref());
        if !detected.tidings.is_empty() {
            return already(&detected.tidings, form);
        }
        let sdks = addition::sdks(addition::framework(&detected)?.name);
        let packages = self.sdk_from.as_deref().map(|folder| sdk::packages_in(folder, sdks)).transpose()?;
        let names: Option<Vec<String>> =
            packages.as_ref().map(|packages| packages.iter().map(|(name, _)| name.clone()).collect());
        let wishes = Wishes {
            redis: self.redis,
            packages: names.as_deref(),
            user: self.user.as_deref(),
            entry: self.entry.as_deref(),
        };
        let addition = addition::plan(&project, &detected, &wishes)?;
        let packages = packages.unwrap_or_default();
        if self.yes {
            write::all(&self.dir, &files(&project, &addition, &packages))?;
        }
        let told = match form {
            Form::Json => self.json(&project, &addition, &packages),
            Form::Text => self.text(&project, &addition, &packages),
        };
        say(&told)
    }

    fn text(&self, project: &Project, addition: &Addition, packages: &[(String, Vec<u8>)]) -> String {
        let left: String = addition.left.iter().map(|left| format!("- {left}\n")).collect();
        let next: Vec<_> = addition.next.iter().map(|command| format!("  {command}\n")).collect();
        let (new, changed) = (addition.new.len() + packages.len(), addition.changed.len());
        if self.yes {
            let listed = |paths: &mut dyn Iterator<Item = String>| {
                paths.map(|path| format!("  {path}\n")).collect::<String>()
            };
            let packages = packages.iter().map(|(name, _)| addition.place_of(name));
            let new_files = listed(&mut addition.new.keys().cloned().chain(packages));
            let changed_files = listed(&mut addition.changed.keys().cloned());
            return format!(
                "{changed} files changed:\n{changed_files}\n{new} new files:\n{new_files}\nNext:\n\n{}\n{left}",
                next.concat()
            );
        }
        let mut told = shown(project, addition);
        for (name, contents) in packages {
            told += &format!("new file {}, {} bytes\n", addition.place_of(name), contents.len());
        }
        told + &format!("\nnothing was written: --yes writes it ({changed} files changed, {new} new)\n")
    }

    fn json(&self, project: &Project, addition: &Addition, packages: &[(String, Vec<u8>)]) -> String {
        let packages = packages.iter().map(|(name, _)| addition.place_of(name));
        let told = json!({
            "written": self.yes,
            "new": addition.new.keys().cloned().chain(packages).collect::<Vec<_>>(),
            "changed": addition.changed.keys().collect::<Vec<_>>(),
            "diff": shown(project, addition),
            "left": addition.left,
            "next": addition.next.iter().map(|next| template::without_remark(next)).collect::<Vec<_>>(),
        });
        format!("{told}\n")
    }
}

/// What the files that are texts become: those that are changed first.
fn shown(project: &Project, addition: &Addition) -> String {
    let changed = addition
        .changed
        .iter()
        .map(|(path, after)| diff::changed(path, project.get(path).unwrap_or_default(), after));
    let new = addition.new.iter().map(|(path, text)| diff::new(path, text));
    changed.chain(new).collect()
}

fn files<'a>(
    project: &'a Project,
    addition: &'a Addition,
    packages: &'a [(String, Vec<u8>)],
) -> BTreeMap<String, Written<'a>> {
    let changed = addition
        .changed
        .iter()
        .map(|(path, after)| (path.clone(), Written { before: project.get(path), after: after.as_bytes() }));
    let new = addition
        .new
        .iter()
        .map(|(path, text)| (path.clone(), Written { before: None, after: text.as_bytes() }));
    let packages = packages.iter().map(|(name, contents)| {
        (addition.place_of(name), Written { before: None, after: contents.as_slice() })
    });
    changed.chain(new).chain(packages).collect()
}

/// Twice is once.
fn already(found: &[Finding], form: Form) -> Result<(), Failure> {
    let places: Vec<_> = found.iter().map(|finding| finding.place.to_string()).collect();
    say(&match form {
        Form::Json => format!("{}\n", json!({"written": false, "already": places})),
        Form::Text => format!(
            "Tidings is there already: {}. Nothing was changed; `tidings doctor` says whether it works.\n",
            places.join(", ")
        ),
    })
}

fn say(told: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(told.as_bytes())
        .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
