//! An Express application: where it is made, how it knows who is there, where it begins to listen.

use super::javascript::{self, Modules};
use super::manifest::has_node_package;
use super::project::Project;
use super::source::{Source, Tongue};
use super::{Detected, Login, Place, Unclear};

/// Where `express()` is called, and what its result is called.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) name: &'a str,
    /// Behind the statement.
    pub(crate) made: usize,
    pub(crate) at: usize,
}

/// How a server comes to be, and to be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Server {
    /// It has a name, from behind this statement on.
    Named { name: String, behind: usize },
    /// An expression makes it, and nobody keeps it.
    Expression { begin: usize, end: usize },
}

/// Where it begins to listen.
#[derive(Clone, Debug)]
pub(crate) struct Listens<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) at: usize,
    pub(crate) server: Server,
    pub(crate) port: Option<u16>,
}

/// A login, and from where on a route knows who is there.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) login: Login,
    /// Behind this statement of the entry's file; none, if only routes that name it have it.
    pub(crate) behind: Option<usize>,
    /// What such routes name.
    pub(crate) middleware: Option<String>,
}

const NO_ENTRY: &str = "--entry FILE names the file with `const app = express()`";
const SESSIONS: [(&str, &str); 2] =
    [("express-session", "express-session"), ("cookie-session", "cookie-session")];
const TOKENS: [&str; 3] = ["jsonwebtoken", "express-jwt", "jose"];
/// What a session's user is called, the likelier first.
const USER_KEYS: [&str; 12] = [
    "userId",
    "user_id",
    "userID",
    "uid",
    "username",
    "userName",
    "user_name",
    "email",
    "accountId",
    "user",
    "account",
    "login",
];
/// Of a user's record.
const ID_KEYS: [&str; 7] = ["id", "_id", "userId", "uid", "username", "sub", "email"];

pub(super) fn tell(project: &Project, wanted: Option<&str>, detected: &mut Detected) {
    let entry = entry(project, wanted);
    detected.entry = entry.as_ref().map(|entry| Place::of(&entry.source, entry.at)).map_err(Clone::clone);
    let Ok(entry) = entry else { return };
    detected.language = Some(if is_typescript(entry.source.path) { "typescript" } else { "javascript" });
    detected.modules = Some(match modules(project, &entry.source) {
        Modules::Esm => "esm",
        Modules::CommonJs => "commonjs",
    });
    detected.listens =
        listens(project, &entry).ok().map(|listens| (Place::of(&listens.source, listens.at), listens.port));
    detected.login = known(project, &entry).map(|known| known.login);
}

pub(crate) fn is_typescript(path: &str) -> bool {
    path.ends_with("ts")
}

pub(crate) fn modules(project: &Project, source: &Source<'_>) -> Modules {
    javascript::modules(source, project.get("package.json").unwrap_or_default())
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
        None => project.sources(Tongue::JavaScript),
    };
    let mut entries: Vec<_> = sources.into_iter().flat_map(entries).collect();
    match entries.len() {
        0 => Err(Unclear::new("no file has an `express()` with a name", NO_ENTRY)),
        1 => Ok(entries.remove(0)),
        _ => {
            let places: Vec<_> =
                entries.iter().map(|entry| Place::of(&entry.source, entry.at).to_string()).collect();
            let files: std::collections::BTreeSet<_> =
                entries.iter().map(|entry| entry.source.path).collect();
            let fix = if files.len() > 1 {
                NO_ENTRY
            } else {
                "see `tidings docs express-chat`, and add it by hand"
            };
            Err(Unclear::new(
                format!("express() is called in more than one place: {}", places.join(", ")),
                fix,
            ))
        }
    }
}

fn entries(source: Source<'_>) -> Vec<Entry<'_>> {
    let called = source.all("express()").map(|at| (at, at + "express()".len()));
    // `require("express")()`, whose quoted word is blank.
    let required = source.all("require(").filter_map(|at| {
        let close = source.close_of(at + "require".len())?;
        let is_called = source.code[close + 1..].starts_with("()");
        (is_called && source.quoted(at..close) == Some("express")).then_some((at, close + 3))
    });
    let found: Vec<_> = called.chain(required).collect();
    let entries = found.into_iter().filter_map(|(at, end)| {
        let before = source.code[..at].trim_end().strip_suffix('=')?.trim_end();
        let name = declared(&source, before.len())?;
        let made = javascript::statement_end(&source, end);
        Some(Entry { source: source.clone(), name, made, at })
    });
    entries.collect()
}

/// The name of a declaration that ends at a byte: `const app`, `let app: Express`, `app`.
fn declared<'a>(source: &Source<'a>, end: usize) -> Option<&'a str> {
    let start = javascript::statement_start(source, end);
    let words = &source.code[start..end];
    let name_end = words.find(':').map_or(end, |colon| start + colon);
    let name = source.name_before(name_end);
    (!name.is_empty()).then_some(name)
}

/// Where the application, or the server that is made of it, begins to listen.
///
/// # Errors
/// Nowhere, or at more than one place.
pub(crate) fn listens<'a>(project: &'a Project, entry: &Entry<'a>) -> Result<Listens<'a>, Unclear> {
    let mut found = Vec::new();
    for source in project.sources(Tongue::JavaScript) {
        let mut names = Vec::new();
        if source.path == entry.source.path {
            names.push(entry.name.to_owned());
        }
        for import in javascript::imports(&source) {
            let is_entry =
                javascript::target(project, source.path, &import.from).as_deref() == Some(entry.source.path);
            if is_entry && !import.name.is_empty() {
                names.extend(made_by(&source, &import.name));
                names.push(import.name);
            }
        }
        for name in names {
            found.extend(servers(&source, &name));
        }
    }
    let by_hand = "attach(server) of ws/server has to be called by hand: see `tidings docs express-chat`";
    match found.len() {
        0 => Err(Unclear::new(
            "nothing listens: there is no `app.listen(…)` and no `createServer(app)`",
            by_hand,
        )),
        1 => Ok(found.remove(0)),
        _ => {
            let places: Vec<_> =
                found.iter().map(|listens| Place::of(&listens.source, listens.at).to_string()).collect();
            Err(Unclear::new(format!("it listens at more than one place: {}", places.join(", ")), by_hand))
        }
    }
}

/// What is called `app` in `const app = createApp(…)`.
fn made_by(source: &Source<'_>, function: &str) -> Vec<String> {
    let called = format!("{function}(");
    let calls: Vec<_> = source.all(&called).collect();
    let names = calls.into_iter().filter_map(|at| {
        let before = source.code[..at].trim_end();
        let before = before.strip_suffix("await").unwrap_or(before).trim_end().strip_suffix('=')?.trim_end();
        declared(source, before.len()).map(str::to_owned)
    });
    names.collect()
}

/// Each server of an application in a file.
fn servers<'a>(source: &Source<'a>, name: &str) -> Vec<Listens<'a>> {
    let mut found = Vec::new();
    for at in source.all("createServer(") {
        let open = at + "createServer".len();
        let Some(close) = source.close_of(open) else { continue };
        let arguments = source.code[open + 1..close].split(',');
        if arguments.last().map(str::trim) != Some(name) {
            continue;
        }
        // `http.` belongs to it.
        let before = source.code[..at].trim_end_matches('.');
        let begin =
            if before.len() == at { at } else { before.len() - source.name_before(before.len()).len() };
        let server = server(source, begin, close + 1);
        let port = match &server {
            Server::Named { name, .. } => port_of_listen(source, &format!("{name}.listen(")),
            Server::Expression { end, .. } => {
                source.code[*end..].starts_with(".listen(").then(|| port(source, end + 7)).flatten()
            }
        };
        found.push(Listens { source: source.clone(), at, server, port });
    }
    let call = format!("{name}.listen(");
    for at in source.all(&call) {
        let open = at + call.len() - 1;
        let Some(close) = source.close_of(open) else { continue };
        let server = server(source, at, close + 1);
        found.push(Listens { source: source.clone(), at, server, port: port(source, open) });
    }
    found
}

/// What becomes of an expression's value.
fn server(source: &Source<'_>, begin: usize, end: usize) -> Server {
    let expression = Server::Expression { begin, end };
    let before = source.code[..begin].trim_end();
    let Some(before) = before.strip_suffix('=').map(str::trim_end) else { return expression };
    let start = javascript::statement_start(source, begin);
    let is_declared = ["const ", "let ", "var "].iter().any(|word| source.code[start..].starts_with(word));
    // Of a chain's last call nobody knows what it gives.
    let is_whole = source.skip_blanks(end) >= source.code.len()
        || !source.code[source.skip_blanks(end)..].starts_with('.');
    match declared(source, before.len()) {
        Some(name) if is_declared && is_whole => {
            Server::Named { name: name.to_owned(), behind: javascript::statement_end(source, end) }
        }
        _ => expression,
    }
}

fn port_of_listen(source: &Source<'_>, call: &str) -> Option<u16> {
    let at = source.all(call).next()?;
    port(source, at + call.len() - 1)
}

/// The port of `listen(3000)`, or of `listen(PORT)` where `const PORT = process.env.PORT || 3000`.
fn port(source: &Source<'_>, open: usize) -> Option<u16> {
    let close = source.close_of(open)?;
    let first = source.text[open + 1..close].split(',').next()?;
    number_in(first).or_else(|| {
        let name = first.trim();
        let declared = source.all(name).find(|at| {
            let before = source.code[..*at].trim_end();
            ["const", "let", "var"].iter().any(|word| before.ends_with(word))
        })?;
        number_in(&source.text[declared..javascript::statement_end(source, declared)])
    })
}

/// The last number that a port can be.
fn number_in(text: &str) -> Option<u16> {
    let numbers = text.split(|next: char| !next.is_ascii_alphanumeric() && next != '_');
    numbers.filter_map(|number| number.parse().ok()).filter(|port| *port >= 80).last()
}

/// How the application knows who is there; none, if it has no login that is known here.
pub(crate) fn known(project: &Project, entry: &Entry<'_>) -> Option<Known> {
    let sessions = SESSIONS.iter().find(|(package, _)| has_node_package(project, package));
    let has_passport = has_node_package(project, "passport");
    let mounted = sessions.and_then(|(package, _)| mounted(project, entry, package));
    let passport = if has_passport { passport_mounted(entry) } else { None };
    if let Some(at) = passport.or(mounted) {
        let behind = Some(javascript::statement_end(&entry.source, at.max(mounted.unwrap_or(0))));
        let place = Place::of(&entry.source, at);
        let (kind, user) = match passport {
            Some(_) => ("passport", passport_user(project)),
            None => (sessions?.1, session_user(project)),
        };
        return Some(Known { login: Login { kind, user, place }, behind, middleware: None });
    }
    TOKENS.iter().find(|package| has_node_package(project, package)).and_then(|_| token(project, entry))
}

/// Where the entry mounts what a package makes: `app.use(session({…}))`, or a name that stands for it.
fn mounted(project: &Project, entry: &Entry<'_>, package: &str) -> Option<usize> {
    let is_of_package = |from: &str| from == package;
    let mut makers: Vec<String> = Vec::new();
    for source in project.sources(Tongue::JavaScript) {
        for import in javascript::imports(&source) {
            if !is_of_package(&import.from) || import.name.is_empty() {
                continue;
            }
            if source.path == entry.source.path {
                makers.push(import.name.clone());
            }
            // `const sessions = session({…})`, here or in a file of its own.
            makers.extend(made_by(&source, &import.name));
        }
    }
    uses(entry).find(|(_, argument)| makers.iter().any(|maker| names(argument, maker))).map(|(at, _)| at)
}

/// Every `app.use(…)`, with what is used.
fn uses<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = (usize, &'e str)> {
    let source = &entry.source;
    let block = source.block(entry.at);
    source.code[block.clone()].match_indices(".use(").filter_map(move |(at, call)| {
        let at = block.start + at;
        let open = at + call.len() - 1;
        let close = source.close_of(open)?;
        (source.name_before(at) == entry.name).then(|| (at, &source.code[open + 1..close]))
    })
}

/// Whether one of the words is this.
fn names(code: &str, word: &str) -> bool {
    code.split(|next: char| !next.is_alphanumeric() && next != '_' && next != '$').any(|name| name == word)
}

fn passport_mounted(entry: &Entry<'_>) -> Option<usize> {
    let argument = |word: &'static str| {
        uses(entry)
            .filter(move |(_, argument)| argument.replace(' ', "").contains(word))
            .map(|(at, _)| at)
            .last()
    };
    argument("passport.session(").or_else(|| argument("passport.initialize("))
}

/// What passport keeps of a user is his id, and is what `request.user` has.
fn passport_user(project: &Project) -> Result<String, Unclear> {
    for source in project.sources(Tongue::JavaScript) {
        for at in source.all("serializeUser(") {
            let Some(close) = source.close_of(at + "serializeUser".len()) else { continue };
            let body = &source.code[at..close];
            if let Some(key) = ID_KEYS.iter().find(|key| body.contains(&format!("user.{key}"))) {
                return Ok(format!("request.user?.{key}"));
            }
        }
    }
    match read_of(project, "user", ID_KEYS) {
        Some(key) => Ok(format!("request.user?.{key}")),
        None => Err(unread("request.user?.id")),
    }
}

/// Which key of `req.NAME` the application reads.
fn read_of<const N: usize>(project: &Project, name: &str, keys: [&'static str; N]) -> Option<&'static str> {
    let sources = project.sources(Tongue::JavaScript);
    keys.into_iter().find(|key| {
        sources.iter().any(|source| {
            ["req", "request"].iter().any(|request| {
                source.all(&format!("{request}.{name}.{key}")).next().is_some()
                    || source.all(&format!("{request}.{name}?.{key}")).next().is_some()
            })
        })
    })
}

fn unread(example: &str) -> Unclear {
    Unclear::new(
        "what the user's id is can't be read",
        format!("--user EXPR says it, as an expression of `request`: --user '{example}'"),
    )
}

/// What is written into the session at the login.
fn session_user(project: &Project) -> Result<String, Unclear> {
    let mut keys: Vec<(&str, String)> = Vec::new();
    for source in project.sources(Tongue::JavaScript) {
        for key in USER_KEYS {
            let written = format!("session.{key}");
            for at in source.all(&written) {
                let equals = source.skip_blanks(at + written.len());
                let rest = &source.code[equals..];
                if !rest.starts_with('=') || rest.starts_with("==") {
                    continue;
                }
                let value = &source.code[equals + 1..javascript::statement_end(&source, equals + 1)];
                // Nobody, at the logout.
                let is_nobody = ["null", "undefined", "false"].contains(&value.trim().trim_end_matches(';'));
                if !is_nobody && !keys.iter().any(|(known, _)| *known == key) {
                    keys.push((key, value.trim().trim_end_matches(';').to_owned()));
                }
            }
        }
    }
    keys.sort_by_key(|(key, _)| USER_KEYS.iter().position(|known| known == key));
    let Some((key, value)) = keys.first() else { return Err(unread("request.session?.userId")) };
    let is_record = value.starts_with('{') || !(value.contains('.') || value.contains('('));
    let field = match *key {
        "user" | "account" if is_record => {
            let of_session = read_of(project, &format!("session.{key}"), ID_KEYS);
            let of_literal =
                || ID_KEYS.into_iter().find(|field| value.starts_with('{') && names(value, field));
            match of_session.or_else(of_literal) {
                Some(field) => format!("?.{field}"),
                None => return Err(unread("request.session?.user?.id")),
            }
        }
        _ => String::new(),
    };
    Ok(format!("request.session?.{key}{field}"))
}

/// A middleware of the application's own, which verifies a token and says who it is of.
fn token(project: &Project, entry: &Entry<'_>) -> Option<Known> {
    for source in project.sources(Tongue::JavaScript) {
        let verifies = ["jwt.verify(", "verify(", "jwtVerify(", "jsonwebtoken.verify("];
        let Some(at) = verifies.iter().find_map(|call| source.all(call).next()) else { continue };
        let names_of_file = functions(&source);
        let body = |name: &&str| javascript::body_of(&source, name).is_some_and(|body| body.contains(&at));
        let Some(name) = names_of_file.into_iter().find(|name| body(&name)) else { continue };
        let user = match read_of(project, "user", ID_KEYS) {
            Some(key) => Ok(format!("request.user?.{key}")),
            None => {
                match USER_KEYS.into_iter().find(|key| source.all(&format!("req.{key}")).next().is_some()) {
                    Some(key) if key != "user" => Ok(format!("request.{key}")),
                    _ => Err(unread("request.user?.id")),
                }
            }
        };
        let is_here = source.path == entry.source.path
            || javascript::imports(&entry.source).iter().any(|import| import.name == name);
        let used = uses(entry).find(|(_, argument)| argument.trim() == name).map(|(at, _)| at);
        return Some(Known {
            login: Login { kind: "jwt", user, place: Place::of(&source, at) },
            behind: used.map(|at| javascript::statement_end(&entry.source, at)),
            middleware: (is_here && used.is_none()).then(|| name.to_owned()),
        });
    }
    None
}

/// Names of what a file declares as functions.
fn functions<'a>(source: &Source<'a>) -> Vec<&'a str> {
    let named = source.all("function").map(|at| source.name_at(source.skip_blanks(at + "function".len())));
    let valued = ["const", "exports."].into_iter().flat_map(|word| {
        source.all(word).map(|at| source.name_at(source.skip_blanks(at + word.len()))).collect::<Vec<_>>()
    });
    named.chain(valued).filter(|name| !name.is_empty()).collect()
}
