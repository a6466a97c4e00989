//! Tidings in an Express application: `ws/` beside the file that makes it, and three insertions.

mod style;

use super::dependencies;
use super::insertions::Insertions;
use super::{Addition, Wishes, memberships, next, refused};
use crate::detect::express::login::{self, Known, Middleware};
use crate::detect::express::{self, Entry, Listens, Server};
use crate::detect::javascript;
use crate::detect::manifest::json;
use crate::detect::project::{Project, folder_of};
use crate::detect::source::Source;
use crate::detect::surroundings;
use crate::detect::{Place, Unclear};
use crate::failure::{Failure, Failures};
use crate::sdk;

use style::{Style, relative};

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
    if let Some(listens) = listens.as_ref().filter(|listens| listens.is_secure) {
        failures.add(refused(Unclear::new(
            format!("{}: it listens by TLS of its own, where Tidings asks by http://", Place::of(&listens.source, listens.at)),
            "let a proxy have the certificate, and the application listen by http: `tidings docs one-port`; then try again",
        )));
    }
    let known = failures.take(known(project, &entry, wishes).map_err(refused));
    let files: Vec<_> = [Some(&entry.source), listens.as_ref().map(|listens| &listens.source)]
        .into_iter()
        .flatten()
        .collect();
    for unclear in in_the_way(project, &files) {
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

const ROUTES: [&str; 9] = ["get(", "post(", "put(", "patch(", "delete(", "all(", "route(", "use(\"", "use('"];

/// Where the application's own routes begin.
fn first_route(entry: &Entry<'_>) -> Option<usize> {
    first(entry, &ROUTES)
}

/// Where it begins to take requests: behind its settings, some of which count until then.
fn first_use(entry: &Entry<'_>) -> Option<usize> {
    first(entry, &["use("]).into_iter().chain(first_route(entry)).min()
}

/// The first call of a method, beside the statement that makes the application.
fn first(entry: &Entry<'_>, methods: &[&str]) -> Option<usize> {
    let source = &entry.source;
    let block = source.block(entry.at);
    let calls =
        methods.iter().flat_map(|method| source.all(&format!("{}.{method}", entry.name)).collect::<Vec<_>>());
    let is_beside = |at: &usize| source.depth(*at) == source.depth(entry.at) && source.begins_line(*at);
    calls.filter(|at| *at >= entry.made && block.contains(at) && is_beside(at)).min()
}

/// What would not be as it was.
fn in_the_way(project: &Project, files: &[&Source<'_>]) -> Vec<Unclear> {
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
    let named = files.iter().find_map(|source| Some(Place::of(source, source.all(NAME).next()?)));
    if let Some(place) = named {
        found.push(Unclear::new(
            format!("{place}: something is called {NAME} already"),
            "call it otherwise, or add Tidings by hand: `tidings docs express-chat`",
        ));
    }
    for path in ["/realtime/token", "/tidings", "/ws"] {
        let places = project.sources(crate::detect::tongue::Tongue::JavaScript);
        let taken = places.iter().find_map(|source| {
            ["\"", "'", "`"]
                .iter()
                .find_map(|quote| source.text.find(&format!("{quote}{path}{quote}")))
                .map(|at| Place::of(source, at))
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
    let asked_for = sdk::asked_for(&sdk::EXPRESS, wishes.packages, sdk::SDK_FOLDER);
    let of = |key| asked_for.get(key).cloned().unwrap_or_default();
    [("tidings-client", of("client")), ("tidings-server-sdk", of("server"))]
}

fn insert(addition: &mut Addition, style: &Style, entry: &Entry<'_>, mount: &Mount, listens: &Listens<'_>) {
    let source = &entry.source;
    let mut insertions = Insertions::of(source.text);
    let mut imports = vec![style.take_all("./ws/server")];
    let mut before = String::new();
    if let Some(Middleware { name, from }) = &mount.middleware {
        imports.extend(
            from.as_ref().map(|(path, export)| style.take_middleware(name, source.path, path, *export)),
        );
        before = format!("{name}, ");
    }
    import(&mut insertions, style, source, &imports, entry.at);
    // In front of everything: no session is begun for it, and its body is as it came.
    let webhooks = style.line(&format!("{}.post(\"/tidings\", {NAME}.webhooks);", entry.name));
    match first_use(entry) {
        Some(at) => insertions.before_line(source, at, &[webhooks]),
        None => behind(&mut insertions, source, entry.made, &[webhooks]),
    }
    let lines = vec![style.line(&format!("{}.get(\"/realtime/token\", {before}{NAME}.token);", entry.name))];
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
    let json = project.get("package.json").and_then(json);
    let scripts = json.map(|json| json["scripts"].clone()).unwrap_or_default();
    let has = |name: &str| scripts[name].is_string();
    let path = listens.source.path;
    match scripts["start"].as_str() {
        Some(start) if has("build") && !has("prestart") && is_of_build(project, path, start) => {
            "npm run build && npm start".to_owned()
        }
        Some(_) => "npm start".to_owned(),
        None if has("dev") => "npm run dev".to_owned(),
        None if express::is_typescript(path) => format!("npx tsx {path}"),
        None => format!("node {path}"),
    }
}

/// Whether a command runs what is made of the sources, as they were when it was made: `node dist/server.js`.
fn is_of_build(project: &Project, path: &str, command: &str) -> bool {
    let mut words: Vec<_> = command.split_whitespace().skip_while(|word| *word != "node").skip(1).collect();
    if words.iter().any(|word| express::is_typescript(word)) {
        return false;
    }
    // What is loaded before it is none of it.
    while let Some(at) = words.iter().position(|word| ["-r", "--require", "--import"].contains(word)) {
        words.drain(at..(at + 2).min(words.len()));
    }
    let Some(file) = words.iter().find(|word| !word.starts_with('-') && **word != ".") else { return false };
    let file = file.trim_start_matches("./").trim_end_matches('/');
    let is_source =
        ["", ".js", ".cjs", ".mjs", "/index.js"].iter().any(|end| project.has(&format!("{file}{end}")));
    !is_source || express::is_typescript(path)
}
