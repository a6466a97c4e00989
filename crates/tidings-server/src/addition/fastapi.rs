//! Tidings in a FastAPI application: `realtime/` beside the file that makes it, an import and a call.

use minijinja::context;

use super::insertions::Insertions;
use super::{Addition, Wishes, dependencies, discovery, memberships, next, refused, sources};
use crate::detect::fastapi::{self, BY_HAND, Entry, Known};
use crate::detect::project::{Project, folder_of};
use crate::detect::python::{self, Imports, SRC};
use crate::detect::source::Source;
use crate::detect::tongue::Tongue;
use crate::detect::{Framework, Place, Unclear};
use crate::failure::{Failure, Failures};
use crate::sdk::{self, SDK_FOLDER};

use sources::SCHEMAS;

const NAME: &str = "realtime";
const PYPROJECT: &str = "pyproject.toml";

pub(super) fn plan(
    project: &Project,
    framework: &Framework,
    wishes: &Wishes<'_>,
) -> Result<Addition, Failure> {
    let entry = fastapi::entry(project, wishes.entry).map_err(refused)?;
    let mut failures = Failures::default();
    let known = failures.take(known(project, &entry, wishes).map_err(refused));
    for unclear in in_the_way(project, &entry) {
        failures.add(refused(unclear));
    }
    let list = &framework.place.file;
    let folder = folder_of(entry.source.path);
    // Where setuptools looks for packages at the top, nothing new may be there.
    let is_found = discovery::is_at_the_top(project);
    let packages_in = if is_found { format!("{folder}{NAME}/{SDK_FOLDER}") } else { SDK_FOLDER.to_owned() };
    let asked_for = sdk::asked_for(&sdk::FASTAPI, wishes.packages, &packages_in);
    let asked_for = asked_for.get("python").cloned().unwrap_or_default();
    let wheel = wishes.packages.and_then(<[String]>::first).map(|file| format!("{packages_in}/{file}"));
    let text = project.get(list).unwrap_or_default();
    let packages = dependencies::in_python(list, text, &asked_for, wheel.as_deref());
    let packages = failures.take(packages.map_err(refused));
    let changed = known.as_ref().and_then(|known| failures.take(insert(&entry, known).map_err(refused)));
    failures.none()?;
    let (Some(known), Some(packages), Some(changed)) = (known, packages, changed) else {
        return Ok(Addition::default());
    };
    let port = fastapi::port(project);
    let schemas = if is_found { format!("{folder}{NAME}/{SCHEMAS}") } else { SCHEMAS.to_owned() };
    let new = files(&entry, &known, port, &schemas, wishes)?;
    let mut addition = Addition { new, packages_in, ..Addition::default() };
    addition.changed.insert(list.clone(), packages);
    addition.changed.insert(entry.source.path.to_owned(), changed);
    addition.left = vec![memberships(&format!("{folder}realtime/rooms.py"), "rooms_of")];
    addition.left.extend(middleware_behind(&entry));
    if discovery::is_named(project) {
        let module = format!("{}{NAME}", folder.replace('/', "."));
        addition.left.push(format!(
            "the packages that are installed are named: {module} and {module}.handlers have to be among them, unless it always runs in this folder"
        ));
    }
    if is_found && folder.is_empty() {
        addition.left.push(format!(
            "pyproject.toml leaves it to setuptools what is installed, and that is {NAME}/ now, without {}: name both there, under [tool.setuptools], unless it always runs in this folder",
            entry.source.path
        ));
    }
    let is_of_uv = list == PYPROJECT && project.has("uv.lock");
    let start = fastapi::start(project, &entry);
    let start = if is_of_uv { format!("uv run {start}") } else { start };
    addition.next = next(&install(list, is_of_uv, wheel.as_deref()), &start, port);
    Ok(addition)
}

/// Who is there: what the entry calls, and how his id is read.
struct Given {
    user: String,
    /// The dependency, and the module that it is imported from, unless it is there already.
    dependency: Option<(String, Option<String>)>,
    /// Behind which byte of the entry it is there.
    defined: usize,
}

fn known(project: &Project, entry: &Entry<'_>, wishes: &Wishes<'_>) -> Result<Given, Unclear> {
    // `get_current_user: user.id` says both.
    let (named, user) = match wishes.user.and_then(|user| user.split_once(": ")) {
        Some((named, user)) if named.trim().is_empty() || user.trim().is_empty() => {
            return Err(Unclear::new(
                format!("--user {named}: {user} names no dependency, or no id of what it gives"),
                "--user 'get_user: user.id' says both",
            ));
        }
        Some((named, user)) => (Some(named.trim()), Some(user.trim())),
        None => (None, wishes.user),
    };
    let known = match named {
        Some(name) => Some(by_name(project, name)?),
        None => fastapi::known(project)?
            .map(|known| (known.dependency.clone(), known.file.clone(), known.at, Some(known))),
    };
    let Some((name, file, at, known)) = known else {
        return match user {
            Some(user) => Ok(Given { user: user.to_owned(), dependency: None, defined: 0 }),
            None => Err(Unclear::new(
                "no login was found: no dependency whose name has current and user",
                "--user NAME: EXPR names the dependency, and what the id is: --user 'get_user: user.id'; --user EXPR alone is an expression of `request`",
            )),
        };
    };
    let user = match (user, known) {
        (Some(user), _) => user.to_owned(),
        (None, Some(Known { login, .. })) => login.user?,
        (None, None) => "user".to_owned(),
    };
    if file == entry.source.path {
        return Ok(Given { user, dependency: Some((name, None)), defined: at });
    }
    let module = if python::is_in_scope(&entry.source, &name) {
        None
    } else {
        let module = entry.imports.module(folder_of(entry.source.path), &file);
        Some(module.ok_or_else(|| {
            Unclear::new(
                format!("{} can't import {name} from {file}", entry.source.path),
                "import it there, and try again",
            )
        })?)
    };
    Ok(Given { user, dependency: Some((name, module)), defined: 0 })
}

type Named = (String, String, usize, Option<Known>);

fn by_name(project: &Project, name: &str) -> Result<Named, Unclear> {
    let sources = project.sources(Tongue::Python);
    let found: Vec<_> =
        sources.iter().filter_map(|source| Some((source.path, python::definition(source, name)?))).collect();
    match found.as_slice() {
        [(path, at)] => Ok((name.to_owned(), (*path).to_owned(), *at, None)),
        [] => Err(Unclear::new(
            format!("no {name} is defined"),
            "--user NAME: EXPR names a dependency of the application's",
        )),
        _ => Err(Unclear::new(format!("{name} is defined more than once"), BY_HAND)),
    }
}

fn in_the_way(project: &Project, entry: &Entry<'_>) -> Vec<Unclear> {
    let mut found = Vec::new();
    if let Some(at) = entry.source.all(NAME).next() {
        let place = Place::of(&entry.source, at);
        found.push(Unclear::new(
            format!("{place}: something is called {NAME} already"),
            "call it otherwise, and try again",
        ));
    }
    let is_at_the_top = folder_of(entry.source.path).is_empty() && discovery::is_at_the_top(project);
    if let Some(package) = discovery::package(project).filter(|_| is_at_the_top) {
        found.push(Unclear::new(
            format!("pyproject.toml leaves it to setuptools what is installed, which refuses {NAME}/ beside {package}/"),
            format!("say there what is installed, under [tool.setuptools]: packages = [\"{package}\", …]; then try again"),
        ));
    }
    let sources = project.sources(Tongue::Python);
    for path in ["/realtime/token", "/tidings", "/ws"] {
        let taken = sources.iter().find_map(|source| {
            let at =
                ["\"", "'"].iter().find_map(|quote| source.text.find(&format!("({quote}{path}{quote}")))?;
            Some(Place::of(source, at))
        });
        if let Some(place) = taken {
            found.push(Unclear::new(
                format!("{place}: {path} is the application's already"),
                "serve it under another path, and try again",
            ));
        }
    }
    found
}

/// Where the call goes: before what answers every path, else at the end of the block in which the application is made.
enum At {
    /// Before the line of a byte.
    Line(usize),
    End,
}

fn place(entry: &Entry<'_>) -> Result<At, Unclear> {
    let source = &entry.source;
    let name = entry.name;
    let made = python::statement_end(source, entry.at);
    let indentation = source.indentation(entry.at);
    let is_of_block =
        |at: &usize| *at > made && source.indentation(*at) == indentation && source.begins_line(*at);
    let is_catch_all = |at: &usize| {
        let statement = &source.text[*at..python::statement_end(source, *at)];
        let first = source.quoted(*at..*at + statement.len()).unwrap_or_default();
        first.ends_with(":path}")
            || (statement.starts_with(&format!("{name}.mount(")) && matches!(first, "" | "/"))
    };
    let mut ends: Vec<usize> = Vec::new();
    for call in [
        format!("{name}.mount("),
        format!("@{name}.get("),
        format!("@{name}.api_route("),
        format!("@{name}.route("),
    ] {
        ends.extend(
            source.code.match_indices(&call).map(|(at, _)| at).filter(is_of_block).filter(is_catch_all),
        );
    }
    // What is called so from there on is another: `app = Wrapped(app)`.
    ends.extend(source.all(name).filter(is_of_block).filter(|at| {
        let behind = source.code[at + name.len()..].trim_start_matches(' ');
        behind.starts_with('=') && !behind.starts_with("==")
    }));
    if indentation.is_empty() {
        ends.extend(source.all("if __name__").filter(is_of_block));
        return Ok(ends.into_iter().min().map_or(At::End, At::Line));
    }
    ends.extend(source.all(&format!("return {name}")).filter(is_of_block));
    ends.into_iter().min().map(At::Line).ok_or_else(|| {
        Unclear::new(
            format!("{}: nothing shows where this application is whole", Place::of(source, entry.at)),
            BY_HAND,
        )
    })
}

/// What is added behind the call is asked before it.
fn middleware_behind(entry: &Entry<'_>) -> Option<String> {
    let Ok(At::Line(call)) = place(entry) else { return None };
    let source = &entry.source;
    let added = [format!("@{}.middleware(", entry.name), format!("{}.add_middleware(", entry.name)];
    let at = added.iter().flat_map(|added| source.all(added)).filter(|at| *at > call).min()?;
    Some(format!(
        "{}: this middleware sees /tidings and /ws first, and has to let both pass",
        Place::of(source, at)
    ))
}

fn insert(entry: &Entry<'_>, given: &Given) -> Result<String, Unclear> {
    let source = &entry.source;
    let mut insertions = Insertions::of(source.text);
    let mut imports = vec![import(entry)];
    if let Some((name, Some(module))) = &given.dependency {
        imports.push(format!("from {module} import {name}"));
    }
    match python::behind_imports(source, entry.at) {
        Some(end) => insertions.behind(source, source.line_start(end), end, &imports),
        None => {
            imports.push(String::new());
            insertions.before_line(source, entry.at, &imports);
        }
    }
    let arguments: Vec<_> = [Some(entry.name), given.dependency.as_ref().map(|(name, _)| name.as_str())]
        .into_iter()
        .flatten()
        .collect();
    let call = format!("{NAME}.mount({})", arguments.join(", "));
    match place(entry)? {
        At::Line(at) if at > given.defined => {
            let is_decorated_or_main =
                source.code[at..].starts_with(['@', 'i']) && source.indentation(at).is_empty();
            let blanks = if is_decorated_or_main { 2 } else { 0 };
            let lines = [vec![call], vec![String::new(); blanks]].concat();
            insertions.before_line(source, at, &lines);
        }
        At::Line(at) => {
            return Err(Unclear::new(
                format!(
                    "{} answers every path, and stands before the dependency that knows who is there",
                    Place::of(source, at)
                ),
                "move it to the end of the file, and try again",
            ));
        }
        At::End => insertions.at_the_end(&format!("{}{call}\n", blank_lines(source))),
    }
    Ok(insertions.applied())
}

/// Two before whatever follows a function.
fn blank_lines(source: &Source<'_>) -> &'static str {
    let last = source.text.trim_end().lines().last().unwrap_or_default();
    if last.starts_with([' ', '\t']) { "\n\n" } else { "\n" }
}

fn import(entry: &Entry<'_>) -> String {
    let folder = folder_of(entry.source.path);
    let module = match entry.imports {
        Imports::Relative => ".realtime".to_owned(),
        Imports::Dotted => format!("{}realtime", folder.replace('/', ".")),
        Imports::InSrc => format!("{}realtime", folder.strip_prefix(SRC).unwrap_or(folder).replace('/', ".")),
        Imports::Plain => "realtime".to_owned(),
    };
    format!("from {module} import server as {NAME}")
}

fn files(
    entry: &Entry<'_>,
    given: &Given,
    port: u16,
    schemas: &str,
    wishes: &Wishes<'_>,
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let folder = folder_of(entry.source.path);
    let values = context! {
        user => given.user.as_str(),
        dependency => given.dependency.is_some(),
        port,
        redis => wishes.redis,
        memberships => format!("{folder}realtime/rooms.py"),
        handlers => format!("{folder}realtime/handlers"),
        schemas,
    };
    let environment = sources::environment()?;
    let of_fastapi = sources::filled_in("fastapi", &environment, &values).map_err(Failure::failed)?;
    let beside = sources::filled_in("configuration", &environment, &values).map_err(Failure::failed)?;
    let eol = if entry.source.text.contains("\r\n") { "\r\n" } else { "\n" };
    let of_fastapi =
        of_fastapi.into_iter().map(|(path, text)| (format!("{folder}{path}"), text.replace('\n', eol)));
    let beside = beside.into_iter().map(|(path, text)| match path.strip_prefix(SCHEMAS) {
        Some(file) => (format!("{schemas}{file}"), text),
        None => (path, text),
    });
    Ok(of_fastapi.chain(beside).collect())
}

fn install(list: &str, is_of_uv: bool, wheel: Option<&str>) -> Vec<String> {
    if list != PYPROJECT {
        return vec![format!("pip install -r {list}")];
    }
    if is_of_uv {
        // It notes by itself where the wheel is.
        let add = wheel.map(|wheel| format!("uv add './{wheel}[server]'"));
        return vec![add.unwrap_or_else(|| "uv sync".to_owned())];
    }
    let of_file = wheel.map(|wheel| format!("pip install './{wheel}[server]'"));
    of_file.into_iter().chain(["pip install -e .".to_owned()]).collect()
}
