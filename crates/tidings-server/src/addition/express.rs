//! Tidings in an Express application: `ws/` beside the file that makes it, and three insertions.

use minijinja::context;

use super::dependencies;
use super::insertions::Insertions;
use super::{Addition, Wishes, memberships, next, refused, sources};
use crate::detect::Unclear;
use crate::detect::express::login::{self, Known, Middleware};
use crate::detect::express::{self, Entry, Listens, Server};
use crate::detect::javascript::{self, Export, Modules};
use crate::detect::project::{Project, folder_of};
use crate::detect::source::Source;
use crate::detect::surroundings;
use crate::failure::{Failure, Failures};
use crate::sdk;

/// Where an application listens that does not say it.
const PORT_DEFAULT: u16 = 3000;
/// What the insertions call what they import.
const NAME: &str = "realtime";
/// What they call a server that has no name.
const SERVER: &str = "server";

pub(super) fn plan(project: &Project, wishes: &Wishes<'_>) -> Result<Addition, Failure> {
    let entry = express::entry(project, wishes.entry).map_err(refused)?;
    let mut failures = Failures::default();
    let listens = failures.take(express::listens(project, &entry).map_err(refused));
    let known = failures.take(known(project, &entry, wishes).map_err(refused));
    for unclear in in_the_way(project, &entry) {
        failures.add(refused(unclear));
    }
    let packages = dependencies::in_package_json(
        project.get("package.json").unwrap_or_default(),
        &entries(wishes).each_ref().map(|(name, version)| (*name, version.as_str())),
    );
    let packages = failures.take(packages.map_err(refused));
    let (Some(listens), Some((user, mount)), Some(packages)) = (listens, known, packages) else {
        failures.none()?;
        return Ok(Addition::default());
    };
    failures.none()?;
    let style = Style::of(project, &entry.source);
    let port = listens.port.unwrap_or(PORT_DEFAULT);
    let mut addition = Addition { new: style.files(&entry, &user, port, wishes)?, ..Addition::default() };
    addition.changed.insert("package.json".to_owned(), packages);
    insert(&mut addition, &style, &entry, &mount, &listens);
    addition.left = vec![memberships(&style.memberships(&entry), "roomsOf")];
    addition.next = next(&[install(project)], &start(project, &listens), port);
    Ok(addition)
}

/// Where the routes go, and what stands before them.
struct Mount {
    /// In the entry's file: the statement behind which it goes, or the one before which.
    place: MountAt,
    middleware: Option<Middleware>,
}

enum MountAt {
    Behind(usize),
    Before(usize),
}

fn known(project: &Project, entry: &Entry<'_>, wishes: &Wishes<'_>) -> Result<(String, Mount), Unclear> {
    let known = login::known(project, entry);
    let (user, behind, middleware) = match (known, wishes.user) {
        (Some(Known { behind, middleware, .. }), Some(user)) => (user.to_owned(), behind, middleware),
        (Some(Known { login, behind, middleware }), None) => {
            if behind.is_none() && middleware.is_none() && login.user.is_ok() {
                return Err(Unclear::new(
                    format!(
                        "who is logged in is known in {}, and {} has nothing of it",
                        login.place, entry.source.path
                    ),
                    "app.use it there, in front of the routes, and try again",
                ));
            }
            (login.user?, behind, middleware)
        }
        (None, Some(user)) => (user.to_owned(), None, None),
        (None, None) => {
            return Err(Unclear::new(
                "no login was found: neither a session, nor passport, nor a JWT",
                "--user EXPR says what the user's id is, as an expression of `request`: --user 'request.session?.userId'",
            ));
        }
    };
    let place = match behind {
        Some(end) if entry.source.depth(end) != entry.source.depth(entry.at) => {
            return Err(Unclear::new(
                format!(
                    "{}:{}: the login is mounted in a block of its own",
                    entry.source.path,
                    entry.source.line(end)
                ),
                "mount it beside `express()`, whatever it is mounted with, and try again",
            ));
        }
        Some(end) => MountAt::Behind(end),
        None => first_route(entry).map_or(MountAt::Behind(entry.made), MountAt::Before),
    };
    Ok((user, Mount { place, middleware }))
}

/// Where the application's own routes begin.
fn first_route(entry: &Entry<'_>) -> Option<usize> {
    let source = &entry.source;
    let block = source.block(entry.at);
    let methods = ["get(", "post(", "put(", "patch(", "delete(", "all(", "route(", "use(\"", "use('"];
    let calls =
        methods.iter().flat_map(|method| source.all(&format!("{}.{method}", entry.name)).collect::<Vec<_>>());
    let is_beside = |at: &usize| source.depth(*at) == source.depth(entry.at) && source.begins_line(*at);
    let is_route = |at: &usize| *at >= entry.made && block.contains(at) && is_beside(at);
    calls.filter(is_route).min()
}

/// What would not be as it was.
fn in_the_way(project: &Project, entry: &Entry<'_>) -> Vec<Unclear> {
    let mut found = Vec::new();
    for socket in surroundings::sockets(project) {
        let takes_all = socket.kind == "ws"
            && project.source(&socket.place.file).is_some_and(|source| takes_every_upgrade(&source));
        if takes_all {
            found.push(Unclear::new(
                format!("{}: this WebSocket server refuses every path but its own", socket.place),
                "give it `noServer: true`, and call its handleUpgrade for its own path; then try again",
            ));
        }
    }
    if project.source(entry.source.path).is_some_and(|source| source.all(NAME).next().is_some()) {
        found.push(Unclear::new(
            format!("{} has something that is called {NAME}", entry.source.path),
            "call it otherwise, or add Tidings by hand: `tidings docs express-chat`",
        ));
    }
    for path in ["/realtime/token", "/tidings", "/ws"] {
        let places = project.sources(crate::detect::source::Tongue::JavaScript);
        let taken = places.iter().find_map(|source| {
            ["\"", "'", "`"]
                .iter()
                .find_map(|quote| source.text.find(&format!("{quote}{path}{quote}")))
                .map(|at| crate::detect::Place::of(source, at))
        });
        if let Some(place) = taken {
            found.push(Unclear::new(
                format!("{place}: {path} is the application's already"),
                "serve it under another path, and try again",
            ));
        }
    }
    let source = &entry.source;
    let reads_all = source.all("type:").find(|at| {
        let value = source.text[at + "type:".len()..].trim_start();
        value.starts_with("\"*/*\"") || value.starts_with("'*/*'") || value.starts_with("()")
    });
    if let Some(at) = reads_all {
        found.push(Unclear::new(
            format!("{}:{}: this parser reads every body, also a webhook's, whose signature is over the body as it came", source.path, source.line(at)),
            "let it read the types that are meant, and try again",
        ));
    }
    found
}

/// A server of `ws` on the application's own.
fn takes_every_upgrade(source: &Source<'_>) -> bool {
    ["WebSocketServer(", "WebSocket.Server(", "ws.Server("].iter().any(|made| {
        source.all(made).any(|at| {
            let open = at + made.len() - 1;
            let close = source.close_of(open).unwrap_or(source.code.len());
            source.code[open..close].split(|next: char| !next.is_alphanumeric()).any(|word| word == "server")
        })
    })
}

fn entries(wishes: &Wishes<'_>) -> [(&'static str, String); 2] {
    let asked_for = sdk::asked_for(&sdk::EXPRESS, wishes.packages);
    let of = |key| asked_for.get(key).cloned().unwrap_or_default();
    [("tidings-client", of("client")), ("tidings-server-sdk", of("server"))]
}

/// How files of this application are written.
#[derive(Clone)]
struct Style {
    modules: Modules,
    is_typescript: bool,
    /// Of new files: `js`, `ts`, `cjs`.
    ending: String,
    /// What an import of the application's own ends with: `.js`, or nothing.
    import_ending: String,
    /// Of lines that are inserted.
    quote: char,
    has_semicolons: bool,
}

impl Style {
    fn of(project: &Project, source: &Source<'_>) -> Self {
        let ending = source.path.rsplit_once('.').map_or("js", |(_, ending)| ending).to_owned();
        let is_typescript = express::is_typescript(source.path);
        let modules = express::modules(project, source);
        let package = project.get("package.json").unwrap_or_default();
        // As the application's own imports are; a module of Node's has to name the ending.
        let own = javascript::imports(source).into_iter().find(|import| import.from.starts_with('.'));
        let of_own = own.map(|import| {
            let name = import.from.rsplit('/').next().unwrap_or_default().to_owned();
            let endings = ["js", "mjs", "cjs", "ts", "mts", "cts"];
            name.rsplit_once('.')
                .filter(|(_, ending)| endings.contains(ending))
                .map_or(String::new(), |(_, ending)| format!(".{ending}"))
        });
        let import_ending = match (of_own, modules) {
            (Some(ending), _) if is_typescript || modules == Modules::Esm => ending,
            (_, Modules::CommonJs) if ending == "js" => String::new(),
            (_, Modules::CommonJs) => format!(".{ending}"),
            // What TypeScript becomes decides it: a module of Node's names the ending, and what is required has none.
            (_, Modules::Esm) if ending == "ts" && !javascript::is_module(package) => String::new(),
            (_, Modules::Esm) if is_typescript => format!(".{}", ending.replace('t', "j")),
            (_, Modules::Esm) => format!(".{ending}"),
        };
        let first = javascript::imports(source).into_iter().next().map_or(0, |import| import.at);
        let quote = source.code[first..].chars().find(|next| matches!(next, '"' | '\'')).unwrap_or('"');
        let has_semicolons = source.code.lines().any(|line| line.trim_end().ends_with(';'));
        Self { modules, is_typescript, ending, import_ending, quote, has_semicolons }
    }

    fn memberships(&self, entry: &Entry<'_>) -> String {
        format!("{}ws/memberships.{}", folder_of(entry.source.path), self.ending)
    }

    /// A line as the application would write it.
    fn line(&self, line: &str) -> String {
        let line = line.replace('"', &self.quote.to_string());
        if self.has_semicolons { line } else { line.trim_end_matches(';').to_owned() }
    }

    /// What stands in the place of an import of `names`.
    fn take(&self, names: &str, from: &str) -> String {
        let from =
            if from.starts_with('.') { format!("{from}{}", self.import_ending) } else { from.to_owned() };
        match self.modules {
            Modules::Esm => format!("import {{ {names} }} from \"{from}\";"),
            Modules::CommonJs if self.is_typescript => format!("import {{ {names} }} from \"{from}\";"),
            Modules::CommonJs => format!("const {{ {names} }} = require(\"{from}\");"),
        }
    }

    fn take_all(&self, from: &str) -> String {
        let from = format!("{from}{}", self.import_ending);
        match self.modules {
            Modules::CommonJs if !self.is_typescript => format!("const {NAME} = require(\"{from}\");"),
            _ => format!("import * as {NAME} from \"{from}\";"),
        }
    }

    /// A middleware of the application's own, from the file that exports it.
    fn take_middleware(&self, name: &str, importer: &str, path: &str, export: Export) -> String {
        let bare = path.rsplit_once('.').map_or(path, |(bare, _)| bare);
        let (folder, file) = bare.rsplit_once('/').map_or(("", bare), |(folder, file)| (folder, file));
        let from = format!("{}{file}", relative(folder_of(importer), folder));
        match (export, self.modules) {
            (Export::Named, _) => self.take(name, &from),
            (Export::Whole, Modules::CommonJs) if !self.is_typescript => {
                format!("const {name} = require(\"{from}{}\");", self.import_ending)
            }
            (Export::Whole, _) => format!("import {name} from \"{from}{}\";", self.import_ending),
        }
    }

    fn files(
        &self,
        entry: &Entry<'_>,
        user: &str,
        port: u16,
        wishes: &Wishes<'_>,
    ) -> Result<std::collections::BTreeMap<String, String>, Failure> {
        let folder = folder_of(entry.source.path);
        let is_module = self.modules == Modules::Esm || self.is_typescript;
        let mut environment = sources::environment()?;
        let style = self.clone();
        environment.add_function("take", move |names: &str, from: &str| style.take(names, from));
        let is_typescript = self.is_typescript;
        environment
            .add_function("typed", move |text: String| if is_typescript { text } else { String::new() });
        environment.add_function("exported", move |names: &str| {
            if is_module { String::new() } else { format!("\nmodule.exports = {{ {names} }};") }
        });
        let import_ending = self.import_ending.clone();
        environment.add_filter("file", move |name: String| format!("{name}{import_ending}"));
        let values = context! {
            typescript => is_typescript,
            export => if is_module { "export " } else { "" },
            user,
            port,
            redis => wishes.redis,
            memberships => self.memberships(entry),
            handlers => format!("{folder}ws/handlers"),
        };
        let of_express = sources::filled_in("express", &environment, &values).map_err(Failure::failed)?;
        let beside = sources::filled_in("configuration", &environment, &values).map_err(Failure::failed)?;
        let eol = if entry.source.text.contains("\r\n") { "\r\n" } else { "\n" };
        let of_express = of_express.into_iter().map(|(path, text)| {
            let path = path.strip_suffix("js").unwrap_or(&path);
            // What a condition has left empty at the end.
            (format!("{folder}{path}{}", self.ending), (text.trim_end().to_owned() + "\n").replace('\n', eol))
        });
        Ok(of_express.chain(beside).collect())
    }
}

fn insert(addition: &mut Addition, style: &Style, entry: &Entry<'_>, mount: &Mount, listens: &Listens<'_>) {
    let source = &entry.source;
    let mut insertions = Insertions::of(source.text);
    let mut imports = vec![style.take_all("./ws/server")];
    let mut lines = Vec::new();
    if let Some(Middleware { name, from }) = &mount.middleware {
        imports.extend(
            from.as_ref().map(|(path, export)| style.take_middleware(name, source.path, path, *export)),
        );
        lines.push(style.line(&format!("{}.use(\"/realtime/token\", {name});", entry.name)));
    }
    import(&mut insertions, style, source, &imports, entry.at);
    lines.push(style.line(&format!("{}.use({NAME}.router);", entry.name)));
    match mount.place {
        MountAt::Behind(end) => behind(&mut insertions, source, end, &lines),
        MountAt::Before(at) => insertions.before_line(source, at, &[lines, vec![String::new()]].concat()),
    }
    if listens.source.path == source.path {
        attach(&mut insertions, style, listens);
    } else {
        let mut of_server = Insertions::of(listens.source.text);
        let folder = relative(folder_of(listens.source.path), folder_of(source.path));
        let imports = [style.take_all(&format!("{folder}ws/server"))];
        import(&mut of_server, style, &listens.source, &imports, listens.at);
        attach(&mut of_server, style, listens);
        addition.changed.insert(listens.source.path.to_owned(), of_server.applied());
    }
    addition.changed.insert(source.path.to_owned(), insertions.applied());
}

fn behind(insertions: &mut Insertions<'_>, source: &Source<'_>, end: usize, lines: &[String]) {
    let start = javascript::statement_start(source, end.saturating_sub(1));
    insertions.behind(source, start, end, lines);
}

/// Behind those that are there before a byte, else before its statement.
fn import(
    insertions: &mut Insertions<'_>,
    style: &Style,
    source: &Source<'_>,
    imports: &[String],
    before: usize,
) {
    let mut lines: Vec<String> = imports.iter().map(|line| style.line(line)).collect();
    match javascript::behind_imports(source, before) {
        Some(end) => behind(insertions, source, end, &lines),
        None => {
            lines.push(String::new());
            insertions.before_line(source, javascript::statement_start(source, before), &lines);
        }
    }
}

fn attach(insertions: &mut Insertions<'_>, style: &Style, listens: &Listens<'_>) {
    let source = &listens.source;
    let line = |name: &str| style.line(&format!("{NAME}.attachTo({name});"));
    match &listens.server {
        Server::Named { name, behind: end } => behind(insertions, source, *end, &[line(name)]),
        Server::Expression { begin, end }
            if is_statement(source, *begin, *end) && source.all(SERVER).next().is_none() =>
        {
            insertions.at(*begin, format!("const {SERVER} = "));
            behind(insertions, source, javascript::statement_end(source, *end), &[line(SERVER)]);
        }
        Server::Expression { begin, end } => {
            insertions.at(*begin, format!("{NAME}.attachTo("));
            insertions.at(*end, ")");
        }
    }
}

/// Whether an expression is all of a statement, in a place where there can be two: not behind `if (…)` or `=>`.
fn is_statement(source: &Source<'_>, begin: usize, end: usize) -> bool {
    let before = source.code[..begin].trim_end();
    let is_whole = javascript::statement_end(source, end) <= source.skip_blanks(end) + 1;
    is_whole && source.begins_line(begin) && (before.is_empty() || before.ends_with([';', '{', '}']))
}

/// From one folder to another, as an import begins.
fn relative(from: &str, to: &str) -> String {
    let steps = |folder: &str| {
        folder.split('/').filter(|step| !step.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (from, to) = (steps(from), steps(to));
    let shared = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
    let up = "../".repeat(from.len() - shared);
    let down: String = to[shared..].iter().map(|step| format!("{step}/")).collect();
    format!("{}{down}", if up.is_empty() { "./" } else { &up })
}

fn install(project: &Project) -> String {
    let by_lock =
        [("pnpm-lock.yaml", "pnpm install"), ("yarn.lock", "yarn install"), ("bun.lock", "bun install")];
    by_lock
        .iter()
        .find(|(lock, _)| project.has(lock))
        .map_or("npm install", |(_, command)| command)
        .to_owned()
}

fn start(project: &Project, listens: &Listens<'_>) -> String {
    let json: Option<serde_json::Value> =
        project.get("package.json").and_then(|text| serde_json::from_str(text).ok());
    let scripts = json.map(|json| json["scripts"].clone()).unwrap_or_default();
    let has = |name: &str| scripts[name].is_string();
    if has("start") {
        "npm start".to_owned()
    } else if has("dev") {
        "npm run dev".to_owned()
    } else {
        format!("node {}", listens.source.path)
    }
}
