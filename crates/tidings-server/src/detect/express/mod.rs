//! An Express application: where it is made, how it knows who is there, where it begins to listen.

pub(crate) mod login;

use super::javascript::{self, Modules};
use super::project::Project;
use super::source::Source;
use super::tongue::Tongue;
use super::{Detected, Place, Unclear};

/// Where `express()` is called, and what its result is called.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) name: &'a str,
    /// Where the name stands.
    named: usize,
    /// Behind the statement.
    pub(crate) made: usize,
    pub(crate) at: usize,
}

impl Entry<'_> {
    /// `this.app = express()`, and `app = express()` in the body of a class.
    fn is_member(&self) -> bool {
        let source = &self.source;
        let open = source.block(self.at).start.saturating_sub(1);
        let mut head = source.code[javascript::statement_start(source, open)..open].split_whitespace();
        source.code[..self.named].ends_with('.') || head.any(|word| word == "class")
    }
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
    /// By TLS of its own.
    pub(crate) is_secure: bool,
}

const BY_HAND: &str = "add it by hand: `tidings docs express-chat` is such an application";
const NO_ENTRY: &str = "--entry FILE names the file with `const app = express()`";

pub(in crate::detect) fn tell(project: &Project, wanted: Option<&str>, detected: &mut Detected) {
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
    detected.login = login::known(project, &entry).map(|known| known.login);
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
    let mut entries: Vec<_> = sources.iter().flat_map(entries).collect();
    if let Some(member) = entries.iter().find(|entry| entry.is_member()) {
        return Err(Unclear::new(
            format!("{}: the application is a member of a class", Place::of(&member.source, member.at)),
            BY_HAND,
        ));
    }
    match (entries.len(), wanted) {
        (0, Some(path)) => Err(Unclear::new(format!("{path} has no `express()` with a name"), BY_HAND)),
        (0, None) => Err(Unclear::new("no file has an `express()` with a name", NO_ENTRY)),
        (1, _) => Ok(entries.remove(0)),
        _ => {
            let places: Vec<_> =
                entries.iter().map(|entry| Place::of(&entry.source, entry.at).to_string()).collect();
            let files: std::collections::BTreeSet<_> =
                entries.iter().map(|entry| entry.source.path).collect();
            let fix = if files.len() > 1 { NO_ENTRY } else { BY_HAND };
            Err(Unclear::new(
                format!("express() is called in more than one place: {}", places.join(", ")),
                fix,
            ))
        }
    }
}

fn entries<'a>(source: &Source<'a>) -> Vec<Entry<'a>> {
    let called = source.all("express()").map(|at| (at, at + "express()".len()));
    // `require("express")()`, whose quoted word is blank.
    let required = source.all("require(").filter_map(|at| {
        let close = source.close_of(at + "require".len())?;
        let is_called = source.code[close + 1..].starts_with("()");
        (is_called && source.quoted(at..close) == Some("express")).then_some((at, close + 3))
    });
    let found: Vec<_> = called.chain(required).collect();
    let entries = found.into_iter().filter_map(|(at, end)| {
        let mut before = source.code[..at].trim_end().strip_suffix('=')?.trim_end();
        // `const app = module.exports = express()`
        while let Some((outer, inner)) = before.rsplit_once('=') {
            let exported = inner.trim().trim_start_matches("module.");
            if exported != "exports" && !exported.starts_with("exports.") {
                break;
            }
            before = outer.trim_end();
        }
        let name = declared(source, before.len())?;
        let made = javascript::statement_end(source, end);
        let named = before.rfind(name)?;
        Some(Entry { source: source.clone(), name, named, made, at })
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
        let mut called = Called::default();
        if source.path == entry.source.path {
            called.applications.push(entry.name.to_owned());
            // Made in a function, and served by whoever calls it.
            let maker = javascript::enclosing(&source, entry.at);
            called.applications.extend(maker.map(|maker| made_by(&source, maker)).unwrap_or_default());
            called.makers.extend(maker.map(str::to_owned));
        }
        for import in javascript::imports(&source) {
            let is_entry =
                javascript::target(project, source.path, &import.from).as_deref() == Some(entry.source.path);
            if is_entry && !import.name.is_empty() {
                // What is imported is the application, or what makes it.
                called.applications.extend(made_by(&source, &import.name));
                called.applications.push(import.name.clone());
                called.makers.push(import.name);
            }
        }
        found.extend(servers(&source, &called));
    }
    match found.len() {
        0 => Err(Unclear::new(
            "nothing listens: there is no `app.listen(…)` and no `createServer(app)`",
            BY_HAND,
        )),
        1 => Ok(found.remove(0)),
        _ => {
            let places: Vec<_> =
                found.iter().map(|listens| Place::of(&listens.source, listens.at).to_string()).collect();
            Err(Unclear::new(format!("it listens at more than one place: {}", places.join(", ")), BY_HAND))
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

/// How a file calls the application, and what makes it.
#[derive(Default)]
struct Called {
    applications: Vec<String>,
    makers: Vec<String>,
}

impl Called {
    /// Whether an argument is the application: `app`, `createApp(…)`.
    fn is(&self, argument: &str) -> bool {
        self.applications.iter().any(|name| name == argument)
            || self
                .makers
                .iter()
                .any(|maker| argument.strip_prefix(maker.as_str()).is_some_and(|rest| rest.starts_with('(')))
    }
}

/// Each server of an application in a file.
fn servers<'a>(source: &Source<'a>, called: &Called) -> Vec<Listens<'a>> {
    let mut found = Vec::new();
    for at in source.all("createServer(") {
        let open = at + "createServer".len();
        let Some(close) = source.close_of(open) else { continue };
        if !called.is(last_argument(&source.code[open + 1..close])) {
            continue;
        }
        // `http.` belongs to it, and so does `require("http").`.
        let begin = receiver_start(source, at);
        let server = server(source, begin, close + 1);
        let port = match &server {
            Server::Named { name, .. } => port_of_listen(source, &format!("{name}.listen(")),
            Server::Expression { end, .. } => {
                source.code[*end..].starts_with(".listen(").then(|| port(source, end + 7)).flatten()
            }
        };
        let is_secure = is_secure(source, begin, at);
        found.push(Listens { source: source.clone(), at, server, port, is_secure });
    }
    for (dot, call) in source.code.match_indices(".listen(") {
        let begin = receiver_start(source, dot + 1);
        let open = dot + call.len() - 1;
        let Some(close) = source.close_of(open).filter(|_| called.is(source.code[begin..dot].trim_end()))
        else {
            continue;
        };
        let server = server(source, begin, close + 1);
        let port = port(source, open);
        found.push(Listens { source: source.clone(), at: begin, server, port, is_secure: false });
    }
    found
}

/// Whether `createServer` is that of `https`: `https.`, `require("https").`, or imported from there.
fn is_secure(source: &Source<'_>, begin: usize, at: usize) -> bool {
    let is_https = |from: &str| ["https", "node:https"].contains(&from);
    let receiver = source.code[begin..at].trim_end_matches('.').trim_end();
    let name = if receiver.is_empty() { "createServer" } else { receiver };
    source.quoted(begin..at).is_some_and(is_https)
        || javascript::imports(source).iter().any(|import| import.name == name && is_https(&import.from))
}

/// Behind the last comma that is in no brackets.
fn last_argument(arguments: &str) -> &str {
    let mut depth = 0_usize;
    let mut begin = 0;
    for (at, byte) in arguments.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 && !arguments[at + 1..].trim().is_empty() => begin = at + 1,
            _ => {}
        }
    }
    arguments[begin..].trim().trim_end_matches(',').trim_end()
}

/// Where the expression begins of which a byte is behind the dot.
fn receiver_start(source: &Source<'_>, at: usize) -> usize {
    let mut begin = at;
    while let Some(before) = source.code[..begin].strip_suffix('.') {
        let before = before.trim_end();
        let end = match before.strip_suffix(')') {
            Some(_) => source.open_of(before.len() - 1).unwrap_or(before.len()),
            None => before.len(),
        };
        begin = end - source.name_before(end).len();
        if begin == before.len() {
            break;
        }
    }
    begin
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
    let numbers = text.rsplit(|next: char| !next.is_ascii_alphanumeric() && next != '_');
    numbers.filter_map(|number| number.parse().ok()).find(|port| *port >= 80)
}
