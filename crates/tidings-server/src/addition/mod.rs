//! What `tidings add` puts into somebody's application: new files, and insertions in those that are there; planned as a whole
//! before anything is written.

mod axum;
mod dependencies;
pub(crate) mod diff;
mod discovery;
mod express;
mod fastapi;
mod insertions;
mod sources;
pub(crate) mod write;

use std::collections::BTreeMap;

use crate::detect::project::{Project, is_image};
use crate::detect::{Detected, Framework, Place, SUPPORTED, Unclear};
use crate::failure::{Failure, Failures};
use crate::sdk::{self, SDK_FOLDER, Sdk};

/// What nobody but the two sides may have, or is made while it runs.
const NOT_KEPT: [&str; 2] = ["tidings.secret", "tidings-outbox"];

/// What is asked for.
#[derive(Default)]
pub(crate) struct Wishes<'a> {
    pub(crate) redis: bool,
    /// The files of the SDKs' packages; from the registry, if none.
    pub(crate) packages: Option<&'a [String]>,
    /// What the user's id is, if it is not read from the sources.
    pub(crate) user: Option<&'a str>,
    /// The file that makes the application, if it is not found.
    pub(crate) entry: Option<&'a str>,
}

/// All that would become of an application.
#[derive(Debug)]
pub(crate) struct Addition {
    /// By their paths.
    pub(crate) new: BTreeMap<String, String>,
    /// What each file becomes that is there.
    pub(crate) changed: BTreeMap<String, String>,
    /// The folder that the packages of the SDKs are copied to.
    packages_in: String,
    /// Commands, each with a remark or none.
    pub(crate) next: Vec<String>,
    /// What is left to its owner.
    pub(crate) left: Vec<String>,
}

impl Default for Addition {
    fn default() -> Self {
        Self {
            new: BTreeMap::new(),
            changed: BTreeMap::new(),
            packages_in: SDK_FOLDER.to_owned(),
            next: Vec::new(),
            left: Vec::new(),
        }
    }
}

impl Addition {
    /// The path of an SDK's package.
    pub(crate) fn place_of(&self, package: &str) -> String {
        format!("{}/{package}", self.packages_in)
    }
}

/// The packages of an application on this framework.
pub(crate) fn sdks(framework: &str) -> &'static [Sdk] {
    match framework {
        "express" => &sdk::EXPRESS,
        "fastapi" => &sdk::FASTAPI,
        _ => &sdk::AXUM,
    }
}

/// The framework that the addition is for.
///
/// # Errors
/// There is none that is known here, or more than one.
pub(crate) fn framework(detected: &Detected) -> Result<&Framework, Failure> {
    let names = || detected.frameworks.iter().map(|framework| framework.name).collect::<Vec<_>>().join(", ");
    match detected.frameworks.as_slice() {
        [framework] if SUPPORTED.contains(&framework.name) => Ok(framework),
        [] => Err(Failure::failed("no framework was found").fix(
            "name the folder that has package.json, requirements.txt, pyproject.toml or Cargo.toml; `tidings new` begins an application",
        )),
        [_] => Err(Failure::failed(format_args!("{} is none of {}: nothing is added", names(), SUPPORTED.join(", ")))
            .fix("`tidings docs http-api` and `tidings docs webhooks` have what any backend needs: a JWT and a POST")),
        _ => Err(Failure::failed(format_args!("more than one framework: {}", names()))
            .fix("name the folder of the one that is meant")),
    }
}

/// What the addition is, and nothing is done yet.
///
/// # Errors
/// All that stands in its way, each with what decides it.
pub(crate) fn plan(project: &Project, detected: &Detected, wishes: &Wishes<'_>) -> Result<Addition, Failure> {
    let framework = framework(detected)?;
    let mut addition = match framework.name {
        "express" => express::plan(project, wishes),
        "fastapi" => fastapi::plan(project, framework, wishes),
        _ => {
            let port = detected.listens.as_ref().and_then(|(_, port)| *port);
            axum::plan(project, framework, port, wishes)
        }
    }?;
    // In the process of an axum application nothing waits to be told.
    let not_kept = if framework.name == "axum" { &NOT_KEPT[..1] } else { &NOT_KEPT[..] };
    ignore(project, not_kept, &mut addition);
    let mut failures = Failures::default();
    for path in addition.new.keys().filter(|path| project.has(path)) {
        failures.add(
            Failure::failed(format_args!("{path} is there already"))
                .fix("nothing is overwritten: call it otherwise, and try again"),
        );
    }
    failures.none()?;
    addition.left.extend(around(detected, framework.name, wishes));
    if wishes.packages.is_some() {
        let images = images(project, &addition);
        addition.left.extend(images);
    }
    Ok(addition)
}

/// What is around the application, and has to know.
fn around(detected: &Detected, framework: &str, wishes: &Wishes<'_>) -> Vec<String> {
    let mut left: Vec<String> = detected
        .proxies
        .iter()
        .map(|proxy| {
            format!(
                "{} ({}) has to pass the upgrade of /ws: `tidings docs one-port`",
                proxy.kind, proxy.place
            )
        })
        .collect();
    if let Some(workers) = detected.workers.first() {
        let of_several = format!("{} ({})", workers.kind, workers.place);
        match framework {
            "express" => left.push(format!("{of_several}: the RoomManager knows the sockets of its own process; keep them where all of them see it")),
            "axum" if !wishes.redis => left.push(format!("{of_several}: processes share their rooms through a Redis: --redis")),
            _ => {}
        }
    }
    left
}

/// Images whose packages are installed before those that are copied are there.
fn images(project: &Project, addition: &Addition) -> Vec<String> {
    let folder = &addition.packages_in;
    // A package that the list can't name by its file is installed by a command of its own.
    let command = addition.next.iter().find(|command| command.starts_with("pip install './"));
    let command = command.map(|command| format!(" and RUN {command}")).unwrap_or_default();
    let mut left = Vec::new();
    for (path, text) in project.files().filter(|(path, _)| is_image(path)) {
        let Some(line) = first_install(text) else { continue };
        let place = Place { file: path.to_owned(), line };
        left.push(format!(
            "{place} installs the packages: COPY {folder} ./{folder}{command} has to stand before it"
        ));
    }
    left
}

/// The line of an image's first installation; none, if everything is copied before it.
fn first_install(text: &str) -> Option<usize> {
    const TOOLS: [&str; 9] = ["npm", "pnpm", "yarn", "bun", "pip", "pip3", "uv", "poetry", "cargo"];
    // As long as it was, but that a command of several lines is one.
    let joined = text.replace("\\\n", "  ");
    let mut begin = 0;
    for command in joined.split_inclusive('\n') {
        let mut words = command.split_whitespace().filter(|word| !word.starts_with("--"));
        match words.next() {
            Some("COPY" | "ADD") if matches!(words.next(), Some("." | "./")) => return None,
            Some("RUN") if words.any(|word| TOOLS.contains(&word)) => {
                return Some(1 + text[..begin].matches('\n').count());
            }
            _ => begin += command.len(),
        }
    }
    None
}

/// What has to be filled in, which nobody but its owner can.
fn memberships(file: &str, function: &str) -> String {
    format!(
        "{function} in {file} puts everybody who is logged in into room:lobby: fill it in from your database"
    )
}

/// Keeps the secret out of version control.
fn ignore(project: &Project, not_kept: &[&str], addition: &mut Addition) {
    let there = project.get(".gitignore");
    let is_there = |wanted: &&&str| {
        there.unwrap_or_default().lines().any(|line| line.trim().trim_start_matches('/') == **wanted)
    };
    let lines: String =
        not_kept.iter().filter(|line| !is_there(line)).map(|line| format!("{line}\n")).collect();
    match there {
        _ if lines.is_empty() => {}
        Some(text) => {
            let mut insertions = insertions::Insertions::of(text);
            insertions.at_the_end(&lines);
            addition.changed.insert(".gitignore".to_owned(), insertions.applied());
        }
        None => {
            addition.new.insert(".gitignore".to_owned(), lines);
        }
    }
}

/// What is unclear, as the command's end.
fn refused(unclear: Unclear) -> Failure {
    Failure::failed(unclear.message).fix(unclear.fix)
}

/// The commands that follow, with a remark where it is needed.
fn next(install: &[String], start: &str, port: u16) -> Vec<String> {
    let address = format!("http://127.0.0.1:{port}");
    let remark = |command: &str, remark: &str| format!("{command:<64} # {remark}");
    let mut commands = install.to_vec();
    commands.extend([
        remark("(umask 077; openssl rand -hex 32 > tidings.secret)", "the one secret, for both"),
        remark("tidings serve --config tidings.toml", "in a terminal of its own"),
        remark(start, "in another"),
        format!("tidings doctor {address} --config tidings.toml"),
        smoke(&address),
    ]);
    commands
}

fn smoke(address: &str) -> String {
    format!(
        "tidings smoke {address} --secret-file tidings.secret --room smoke:own --foreign-room smoke:foreign"
    )
}
