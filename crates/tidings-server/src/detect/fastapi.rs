//! A FastAPI application: where it is made, which dependency knows who is there, and what that gives.

use super::project::{Project, folder_of};
use super::python::{self, Imports, SRC};
use super::source::Source;
use super::tongue::Tongue;
use super::{Detected, Login, Place, Unclear};

/// Where `FastAPI(…)` is called, and what its result is called.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) name: &'a str,
    pub(crate) at: usize,
    pub(crate) imports: Imports,
}

/// The dependency that gives who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) login: Login,
    pub(crate) dependency: String,
    pub(crate) file: String,
    /// Where it is defined in that file.
    pub(crate) at: usize,
}

const NO_ENTRY: &str = "--entry FILE names the file with `app = FastAPI()`";
pub(crate) const BY_HAND: &str = "add it by hand: `tidings docs fastapi-dashboard` is such an application";
/// Where uvicorn listens, if nobody says it.
pub(crate) const PORT_DEFAULT: u16 = 8000;
/// What a user's id is called, the likelier first.
const ID_FIELDS: [&str; 7] = ["id", "user_id", "uid", "username", "sub", "email", "name"];

pub(super) fn tell(project: &Project, wanted: Option<&str>, detected: &mut Detected) {
    detected.language = Some("python");
    let entry = entry(project, wanted);
    detected.entry = entry.as_ref().map(|entry| Place::of(&entry.source, entry.at)).map_err(Clone::clone);
    let Ok(entry) = entry else { return };
    detected.listens = listens(project).map(|(place, port)| (place, Some(port)));
    detected.login = known(project).ok().flatten().map(|known| known.login);
    if detected.login.is_none() {
        detected.login = session(&entry);
    }
}

/// The one place where the application is made.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn entry<'a>(project: &'a Project, wanted: Option<&str>) -> Result<Entry<'a>, Unclear> {
    let sources = match wanted {
        Some(path) => match project.source(path) {
            Some(source) => vec![source],
            None => return Err(Unclear::new(format!("there is no {path}"), NO_ENTRY)),
        },
        None => project.sources(Tongue::Python),
    };
    let mut entries = Vec::new();
    for source in sources {
        let imports = Imports::of(project, &source);
        for at in source.all("FastAPI(") {
            let before = source.code[source.line_start(at)..at].trim_end();
            // `fastapi.FastAPI()` too.
            let before = before.strip_suffix("fastapi.").unwrap_or(before).trim_end();
            let Some(before) = before.strip_suffix('=') else { continue };
            let name_end = source.line_start(at) + before.find(':').unwrap_or(before.trim_end().len());
            let name = source.name_before(name_end);
            if !name.is_empty() {
                entries.push(Entry { source: source.clone(), name, at, imports });
            }
        }
    }
    match (entries.len(), wanted) {
        (0, Some(path)) => Err(Unclear::new(format!("{path} has no `FastAPI()` with a name"), BY_HAND)),
        (0, None) => Err(Unclear::new("no file has a `FastAPI()` with a name", NO_ENTRY)),
        (1, _) => Ok(entries.remove(0)),
        _ => {
            let places: Vec<_> =
                entries.iter().map(|entry| Place::of(&entry.source, entry.at).to_string()).collect();
            let is_one_file = entries.iter().all(|entry| entry.source.path == entries[0].source.path);
            Err(Unclear::new(
                format!("FastAPI() is called in more than one place: {}", places.join(", ")),
                if is_one_file { BY_HAND } else { NO_ENTRY },
            ))
        }
    }
}

/// Where a port is said: `uvicorn.run(…, port=…)`.
fn listens(project: &Project) -> Option<(Place, u16)> {
    project.sources(Tongue::Python).iter().find_map(|source| {
        let at = source.all("uvicorn.run(").next()?;
        let close = source.close_of(at + "uvicorn.run".len())?;
        let port = &source.text[at..close].split_once("port")?.1;
        let digits: String =
            port.chars().skip_while(|next| !next.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        Some((Place::of(source, at), digits.parse().ok()?))
    })
}

/// Where it listens, as far as its sources say it.
pub(crate) fn port(project: &Project) -> u16 {
    listens(project).map_or(PORT_DEFAULT, |(_, port)| port)
}

/// The dependency of the application's own that gives its user; none, if there is none.
///
/// # Errors
/// There is more than one.
pub(crate) fn known(project: &Project) -> Result<Option<Known>, Unclear> {
    let sources = project.sources(Tongue::Python);
    let mut names: Vec<&str> = Vec::new();
    for source in &sources {
        for call in ["Depends(", "Security("] {
            for at in source.all(call) {
                let name = source.name_at(source.skip_blanks(at + call.len()));
                if is_of_user(name) && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    let mut found = Vec::new();
    for name in names {
        for source in &sources {
            found.extend(python::definition(source, name).map(|at| (name, source, at)));
        }
    }
    // Who is let in at all is known behind the one that has looked whether he is active.
    if found.iter().any(|(name, ..)| name.contains("active")) {
        found.retain(|(name, ..)| name.contains("active"));
    }
    match found.as_slice() {
        [] => Ok(None),
        [(name, source, at)] => {
            let login = Login {
                kind: kind(project),
                user: user(project, name, source, *at),
                place: Place::of(source, *at),
            };
            Ok(Some(Known { login, dependency: (*name).to_owned(), file: source.path.to_owned(), at: *at }))
        }
        several => {
            let places: Vec<_> = several
                .iter()
                .map(|(name, source, at)| format!("{name} ({})", Place::of(source, *at)))
                .collect();
            Err(Unclear::new(
                format!("more than one dependency gives a user: {}", places.join(", ")),
                "--user NAME says which dependency it is, with what the id is: --user 'get_current_user: user.id'",
            ))
        }
    }
}

fn is_of_user(name: &str) -> bool {
    let name = name.to_lowercase();
    let is_user = name.contains("user")
        && (name.contains("current") || name.contains("require") || name.contains("authenticated"));
    is_user && !["super", "admin", "optional", "staff"].iter().any(|other| name.contains(other))
}

fn kind(project: &Project) -> &'static str {
    let sources = project.sources(Tongue::Python);
    let has = |word: &str| sources.iter().any(|source| source.all(word).next().is_some());
    [
        ("OAuth2PasswordBearer", "oauth2"),
        ("OAuth2AuthorizationCodeBearer", "oauth2"),
        ("FastAPIUsers", "fastapi-users"),
        ("HTTPBearer", "bearer"),
        ("HTTPBasic", "basic"),
        ("SessionMiddleware", "session"),
        ("APIKeyCookie", "cookie"),
    ]
    .into_iter()
    .find_map(|(word, kind)| has(word).then_some(kind))
    .unwrap_or("dependency")
}

/// A session that no dependency reads: what the user's id is, only its owner knows.
fn session(entry: &Entry<'_>) -> Option<Login> {
    let at = entry.source.all("SessionMiddleware").last()?;
    let user = Err(Unclear::new(
        "no dependency gives who is logged in",
        "--user EXPR says what the user's id is, as an expression of `request`: --user 'request.session.get(\"user\")'",
    ));
    Some(Login { kind: "session", user, place: Place::of(&entry.source, at) })
}

/// What the id is of whatever a dependency gives.
fn user(project: &Project, name: &str, source: &Source<'_>, at: usize) -> Result<String, Unclear> {
    let as_in = |what: String, example: &str| {
        let fix =
            format!("--user EXPR says what the user's id is, as an expression of `user`: --user '{example}'");
        Err(Unclear::new(what, fix))
    };
    let unread = |what: String| as_in(what, "user.username");
    let Some(given) = given_type(project, name, source, at) else {
        return unread(format!("what {name} gives has no type"));
    };
    let given = plain_type(&given);
    match given {
        "str" | "int" | "UUID" => return Ok("user".to_owned()),
        "dict" | "Dict" | "Mapping" | "Any" => {
            let body = python::body(source, at);
            let key = ID_FIELDS
                .iter()
                .find(|key| body.contains(&format!("\"{key}\"")) || body.contains(&format!("'{key}'")));
            return key.map_or_else(
                || {
                    as_in(
                        format!("{name} gives a dict, and none of its keys is known for an id"),
                        "user[\"id\"]",
                    )
                },
                |key| Ok(format!("user[\"{key}\"]")),
            );
        }
        _ => {}
    }
    let fields = python::fields(project, given);
    let field = ID_FIELDS.iter().find(|field| fields.iter().any(|has| has == *field));
    match field {
        Some(field) => Ok(format!("user.{field}")),
        None => unread(format!("{name} gives {given}, and none of its fields is known for an id")),
    }
}

/// As its definition says, else as those who take it say.
fn given_type(project: &Project, name: &str, source: &Source<'_>, at: usize) -> Option<String> {
    let head = &source.text[at..python::statement_end(source, at)];
    if let Some((_, given)) = head.rsplit_once("->") {
        return Some(given.split(':').next()?.trim().to_owned());
    }
    for source in project.sources(Tongue::Python) {
        for call in [format!("Depends({name})"), format!("Security({name}")] {
            for at in source.all(&call) {
                let before = source.text[..at].trim_end();
                if let Some(before) = before.strip_suffix('=') {
                    let annotation = before.rsplit_once([',', '('])?.1;
                    if let Some((_, given)) = annotation.split_once(':') {
                        return Some(given.trim().to_owned());
                    }
                } else if let Some(before) = before.strip_suffix(',') {
                    return Some(before.rsplit_once("Annotated[")?.1.trim().to_owned());
                }
            }
        }
    }
    None
}

/// `User` of `Optional[models.User]`, `User | None`, `"User"`, `dict[str, Any]`.
fn plain_type(given: &str) -> &str {
    let given = given.trim_matches(['"', '\'', ' ']);
    let given =
        given.strip_prefix("Optional[").or_else(|| given.strip_prefix("typing.Optional[")).unwrap_or(given);
    let given = given.split('|').map(str::trim).find(|part| *part != "None").unwrap_or(given);
    let given = given.split(['[', ']']).next().unwrap_or(given).trim();
    given.rsplit('.').next().unwrap_or(given)
}

/// How an application is started: by what its own file runs, else by uvicorn.
pub(crate) fn start(project: &Project, entry: &Entry<'_>) -> String {
    let source = &entry.source;
    let folder = folder_of(source.path);
    let module = module(source.path, entry.imports);
    if source.all("uvicorn.run(").any(|at| python::is_run(source, at)) {
        return match entry.imports {
            Imports::Plain => format!("python {}", source.path),
            Imports::Relative | Imports::Dotted | Imports::InSrc => format!("python -m {module}"),
        };
    }
    let application = match python::enclosing(source, entry.at) {
        Some(maker) => match made_by(project, maker, entry.imports) {
            Some(application) => application,
            None => format!("--factory {module}:{maker}"),
        },
        None => format!("{module}:{}", entry.name),
    };
    let from = match entry.imports {
        Imports::Plain => folder,
        Imports::InSrc => SRC,
        Imports::Relative | Imports::Dotted => "",
    };
    let from = match from.trim_end_matches('/') {
        "" => String::new(),
        from => format!(" --app-dir {from}"),
    };
    let port = port(project);
    let at_port = if port == PORT_DEFAULT { String::new() } else { format!(" --port {port}") };
    format!("uvicorn {application}{from}{at_port}")
}

/// What a module has of a factory: `main:app`, where `main.py` has `app = create_app()`.
fn made_by(project: &Project, maker: &str, imports: Imports) -> Option<String> {
    let call = format!("{maker}(");
    project.sources(Tongue::Python).iter().find_map(|source| {
        source.all(&call).find_map(|at| {
            let before = source.code[source.line_start(at)..at].trim_end().strip_suffix('=')?;
            let name = before.split(':').next()?.trim_end();
            let is_name = source.name_at(source.line_start(at)) == name && !name.is_empty();
            is_name.then(|| format!("{}:{name}", module(source.path, imports)))
        })
    })
}

/// The module that uvicorn is told: `app.main`.
fn module(path: &str, imports: Imports) -> String {
    let bare = path.strip_suffix(".py").unwrap_or(path);
    match imports {
        Imports::Plain => bare.strip_prefix(folder_of(path)).unwrap_or(bare).to_owned(),
        Imports::InSrc => bare.strip_prefix(SRC).unwrap_or(bare).replace('/', "."),
        Imports::Relative | Imports::Dotted => bare.replace('/', "."),
    }
}
