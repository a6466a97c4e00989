//! Tidings in an axum application, as a crate: `src/realtime/`, a module, and a merge in front of the sessions.

use std::collections::BTreeMap;

use minijinja::context;

use super::insertions::Insertions;
use super::{Addition, Wishes, dependencies, memberships, refused, smoke, sources};
use crate::detect::axum::{self, Layered};
use crate::detect::project::Project;
use crate::detect::source::Source;
use crate::detect::tongue::Tongue;
use crate::detect::{Framework, Place, Unclear};
use crate::failure::{Failure, Failures};
use crate::sdk::SDK_FOLDER;

const NAME: &str = "realtime";
const PORT_DEFAULT: u16 = 3000;
/// Of axum, whose router a hub's is.
const VERSION: &str = "0.8";

pub(super) fn plan(
    project: &Project,
    framework: &Framework,
    port: Option<u16>,
    wishes: &Wishes<'_>,
) -> Result<Addition, Failure> {
    let layered = axum::layered(project, wishes.entry).map_err(refused)?;
    let mut failures = Failures::default();
    let user = failures.take(user(project, wishes).map_err(refused));
    for unclear in in_the_way(project, framework) {
        failures.add(refused(unclear));
    }
    let root = axum::root(project, layered.source.path).ok_or_else(|| {
        refused(Unclear::new(
            format!("no crate's root with {} was found", layered.source.path),
            "name the folder whose src/main.rs or src/lib.rs it is",
        ))
    });
    let root = failures.take(root);
    let packages = dependencies::in_cargo(
        project.get("Cargo.toml").unwrap_or_default(),
        &dependencies_of(wishes),
        wishes.packages,
    );
    let packages = failures.take(packages.map_err(refused));
    failures.none()?;
    let (Some(user), Some(root), Some(packages)) = (user, root, packages) else {
        return Ok(Addition::default());
    };
    let mut addition = Addition { new: files(&user, wishes)?, ..Addition::default() };
    addition.changed = insert(&layered, &root);
    addition.changed.insert("Cargo.toml".to_owned(), packages);
    addition.left = vec![memberships("src/realtime/rooms.rs", "rooms_of")];
    addition.next = next(port.unwrap_or(PORT_DEFAULT), wishes);
    Ok(addition)
}

fn user(project: &Project, wishes: &Wishes<'_>) -> Result<String, Unclear> {
    match (wishes.user, axum::login(project)) {
        (Some(user), _) => Ok(user.to_owned()),
        (None, Some(login)) => login.user,
        (None, None) => Err(Unclear::new("no sessions were found", "tower-sessions is what is known here")),
    }
}

fn in_the_way(project: &Project, framework: &Framework) -> Vec<Unclear> {
    let mut found = Vec::new();
    let version = framework.version.as_deref().unwrap_or_default().trim_start_matches(['^', '=', '~', ' ']);
    if version.is_empty() {
        found.push(Unclear::new(
            format!("{}: which axum it is, is not said there", framework.place),
            format!("if it is {VERSION}, say the version there, and try again"),
        ));
    } else if version != VERSION && !version.starts_with("0.8.") {
        found.push(Unclear::new(
            format!("{}: axum {version}, and the crate tidings is for {VERSION}", framework.place),
            "bring the application to axum 0.8, and try again; or let Tidings run beside it: `tidings docs one-port`",
        ));
    }
    let manifest: Option<toml::Table> = project.get("Cargo.toml").and_then(|text| text.parse().ok());
    let sessions = manifest.as_ref().and_then(|manifest| manifest.get("dependencies")?.get("tower-sessions"));
    if sessions.is_none() {
        found.push(Unclear::new(
            "Cargo.toml: tower-sessions is not among the dependencies, and the token's route asks it who is there",
            "add it in the version that the sessions' layer is of, and try again",
        ));
    }
    for source in project.sources(Tongue::Rust) {
        let taken = ["\"/ws\"", "\"/realtime/token\""].iter().find_map(|path| source.text.find(path));
        if let Some(at) = taken {
            let place = Place::of(&source, at);
            found.push(Unclear::new(
                format!("{place}: this path is the application's already"),
                "serve it under another path, and try again",
            ));
        }
        if let Some(at) = source.all("mod realtime").next() {
            let place = Place::of(&source, at);
            found.push(Unclear::new(
                format!("{place}: there is a module {NAME} already"),
                "call it otherwise, and try again",
            ));
        }
    }
    found
}

/// What the application needs, each with what stands in `[dependencies]`.
fn dependencies_of(wishes: &Wishes<'_>) -> Vec<(&'static str, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let tidings = if wishes.redis {
        format!("{{ version = \"{version}\", features = [\"redis\"] }}")
    } else {
        format!("\"{version}\"")
    };
    vec![("serde_json", "\"1\"".to_owned()), ("tidings", tidings)]
}

fn files(user: &str, wishes: &Wishes<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let environment = sources::environment()?;
    let values = context! { user, redis => wishes.redis };
    let files = sources::filled_in("axum", &environment, &values).map_err(Failure::failed)?;
    Ok(files.into_iter().collect())
}

fn insert(layered: &Layered<'_>, root: &Source<'_>) -> BTreeMap<String, String> {
    let source = &layered.source;
    let is_root = source.path == root.path;
    let path = if is_root { "" } else { "crate::" };
    let call = format!(".merge({path}{NAME}::routes())");
    let mut insertions = Insertions::of(source.text);
    if source.begins_line(layered.at) {
        insertions.before_line(source, layered.at, &[call]);
    } else {
        insertions.at(layered.at, call);
    }
    let mut changed = BTreeMap::new();
    if is_root {
        module(&mut insertions, root);
    } else {
        let mut of_root = Insertions::of(root.text);
        module(&mut of_root, root);
        changed.insert(root.path.to_owned(), of_root.applied());
    }
    changed.insert(source.path.to_owned(), insertions.applied());
    changed
}

/// `mod realtime;` among those that are there, by the alphabet; else before whatever is first.
fn module(insertions: &mut Insertions<'_>, root: &Source<'_>) {
    let line = format!("mod {NAME};");
    let modules: Vec<(usize, &str)> = root
        .all("mod")
        .filter(|at| root.depth(*at) == 0 && (root.begins_line(*at) || root.name_before(*at) == "pub"))
        .map(|at| (at, root.name_at(root.skip_blanks(at + "mod".len()))))
        .filter(|(at, name)| {
            root.code[*at..].trim_start_matches("mod").trim_start()[name.len()..]
                .trim_start()
                .starts_with(';')
        })
        .collect();
    let behind = modules.iter().rfind(|(_, name)| *name < NAME);
    match (behind, modules.first()) {
        (Some((at, _)), _) => {
            let end = at + root.code[*at..].find(';').map_or(0, |end| end + 1);
            insertions.behind(root, *at, end, &[line]);
        }
        (None, Some((at, _))) => insertions.before_line(root, *at, &[line]),
        (None, None) => {
            let first = ["use", "pub use", "fn", "pub fn", "#[", "async fn", "struct", "const", "static"];
            let first = first
                .iter()
                .flat_map(|word| root.all(word))
                .filter(|at| root.line_start(*at) == *at && root.depth(*at) == 0);
            insertions.before_line(root, first.min().unwrap_or(root.text.len()), &[line, String::new()]);
        }
    }
}

fn next(port: u16, wishes: &Wishes<'_>) -> Vec<String> {
    let address = format!("http://127.0.0.1:{port}");
    let remark = |command: &str, remark: &str| format!("{command:<64} # {remark}");
    let unpack = format!("for crate in {SDK_FOLDER}/*.crate; do tar -xzf \"$crate\" -C {SDK_FOLDER}; done");
    let unpack = wishes.packages.map(|_| remark(&unpack, "Tidings, which goes with it"));
    unpack
        .into_iter()
        .chain([
            remark("(umask 077; openssl rand -hex 32 > tidings.secret)", "what signs the tokens"),
            remark("cargo run", "in another terminal"),
            format!("tidings doctor {address} --secret-file tidings.secret"),
            smoke(&address),
        ])
        .collect()
}
