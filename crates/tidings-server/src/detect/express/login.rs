//! How an Express application knows who is there: a session, passport, or a token that a middleware of its own verifies.

use std::ops::Range;

use super::{BY_HAND, Entry, made_by};
use crate::detect::javascript::{self, Export};
use crate::detect::manifest::has_node_package;
use crate::detect::project::Project;
use crate::detect::source::Source;
use crate::detect::tongue::Tongue;
use crate::detect::{Login, Place, Unclear};

/// A login, and from where on a route knows who is there.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) login: Login,
    /// Behind this statement of the entry's file; none, if only routes that name it have it.
    pub(crate) behind: Option<usize>,
    /// What such routes name.
    pub(crate) middleware: Option<Middleware>,
}

/// A middleware of the application's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Middleware {
    pub(crate) name: String,
    /// The file that exports it, and how, if the entry has not imported it.
    pub(crate) from: Option<(String, Export)>,
}

const SESSIONS: [(&str, &str); 2] =
    [("express-session", "express-session"), ("cookie-session", "cookie-session")];
const TOKENS: [&str; 3] = ["jsonwebtoken", "express-jwt", "jose"];
/// By which a token is verified, the more telling first.
const VERIFY: [&str; 4] = ["jwt.verify(", "jsonwebtoken.verify(", "JWT.verify(", "jwtVerify("];
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
    if TOKENS.iter().any(|package| has_node_package(project, package))
        && let Some(known) = token(project, entry)
    {
        return Some(known);
    }
    passport_of_routes(project)
}

/// Passport without sessions: each route asks it.
fn passport_of_routes(project: &Project) -> Option<Known> {
    project.sources(Tongue::JavaScript).iter().find_map(|source| {
        let at = source.all("passport.authenticate(").next()?;
        let user =
            Err(Unclear::new("each route asks passport by itself, and so must that of the tokens", BY_HAND));
        let login = Login { kind: "passport", user, place: Place::of(source, at) };
        Some(Known { login, behind: None, middleware: None })
    })
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
    let source = &entry.source;
    let is_it = |argument: &Range<usize>| {
        makers.iter().any(|maker| names(&source.code[argument.clone()], maker))
            // `require("express-session")({…})`, on the spot.
            || (source.code[argument.clone()].trim_start().starts_with("require(")
                && source.quoted(argument.clone()) == Some(package))
    };
    uses(entry).find(|(_, argument)| is_it(argument)).map(|(at, _)| at)
}

/// Every `app.use(…)`, with where what is used stands.
fn uses<'e>(entry: &'e Entry<'_>) -> impl Iterator<Item = (usize, Range<usize>)> + 'e {
    let source = &entry.source;
    let block = source.block(entry.at);
    source.code[block.clone()].match_indices(".use(").filter_map(move |(at, call)| {
        let at = block.start + at;
        let open = at + call.len() - 1;
        let close = source.close_of(open)?;
        (source.name_before(at) == entry.name).then_some((at, open + 1..close))
    })
}

/// Whether one of the words is this.
fn names(code: &str, word: &str) -> bool {
    code.split(|next: char| !next.is_alphanumeric() && next != '_' && next != '$').any(|name| name == word)
}

/// The last of what has to stand before a route that asks `request.user`.
fn passport_mounted(entry: &Entry<'_>) -> Option<usize> {
    let source = &entry.source;
    let is_it = |argument: &Range<usize>| {
        let used = source.code[argument.clone()].replace(' ', "");
        used.contains("passport.session(")
            || (used.contains("passport.authenticate(") && source.quoted(argument.clone()) == Some("session"))
    };
    uses(entry).filter(|(_, argument)| is_it(argument)).map(|(at, _)| at).last()
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
            let reads = ["req", "request"].iter().flat_map(|request| {
                [".", "?.", "!."].map(|between| format!("{request}.{name}{between}{key}"))
            });
            reads.into_iter().any(|read| source.all(&read).next().is_some())
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
    let imports = javascript::imports(&entry.source);
    let mut found: Option<Known> = None;
    for source in project.sources(Tongue::JavaScript) {
        let calls: Vec<usize> = VERIFY.iter().flat_map(|call| source.all(call)).collect();
        for at in calls {
            let Some(name) = javascript::enclosing(&source, at) else { continue };
            // Whoever verifies and goes on to the route is a middleware.
            let is_middleware =
                javascript::body_of(&source, name).is_some_and(|body| names(&source.code[body], "next"));
            let is_here =
                source.path == entry.source.path || imports.iter().any(|import| import.name == name);
            if !is_middleware || (found.is_some() && !is_here) {
                continue;
            }
            let code = &entry.source.code;
            let used =
                uses(entry).find(|(_, argument)| code[argument.clone()].trim() == name).map(|(at, _)| at);
            found = Some(Known {
                login: Login {
                    kind: "jwt",
                    user: token_user(project, &source),
                    place: Place::of(&source, at),
                },
                behind: used.map(|at| javascript::statement_end(&entry.source, at)),
                middleware: if used.is_some() { None } else { middleware(&source, name, is_here) },
            });
            if is_here {
                return found;
            }
        }
    }
    found
}

fn middleware(source: &Source<'_>, name: &str, is_here: bool) -> Option<Middleware> {
    let from = if is_here { None } else { Some((source.path.to_owned(), javascript::export(source, name)?)) };
    Some(Middleware { name: name.to_owned(), from })
}

/// What the application reads of what the middleware leaves in a request.
fn token_user(project: &Project, source: &Source<'_>) -> Result<String, Unclear> {
    if let Some(key) = read_of(project, "user", ID_KEYS) {
        return Ok(format!("request.user?.{key}"));
    }
    let is_left = |key: &&str| *key != "user" && source.all(&format!("req.{key}")).next().is_some();
    match USER_KEYS.into_iter().find(is_left) {
        Some(key) => Ok(format!("request.{key}")),
        None => Err(unread("request.user?.id")),
    }
}
