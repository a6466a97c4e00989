//! An axum application: where its router gets its sessions, what they keep of a user, where it listens.

use std::ops::Range;

use super::project::{Project, folder_of};
use super::source::Source;
use super::tongue::Tongue;
use super::{Detected, Login, Place, Unclear};

/// The call by which the router gets its sessions, in front of which whatever needs them has to be.
#[derive(Clone, Debug)]
pub(crate) struct Layered<'a> {
    pub(crate) source: Source<'a>,
    /// Its dot.
    pub(crate) at: usize,
}

const SESSIONS: &str = "SessionManagerLayer";
const BY_HAND: &str = "add it by hand: `tidings docs chat` is such an application, and `.merge(…)` goes in front of the sessions' layer";
/// What a session's user is called, the likelier first.
const USER_KEYS: [&str; 9] =
    ["user_id", "userid", "uid", "user.id", "username", "user_name", "email", "account_id", "user"];
/// What is its own text.
const PLAIN: [&str; 12] = [
    "String",
    "i64",
    "u64",
    "i32",
    "u32",
    "i16",
    "u16",
    "usize",
    "u128",
    "Uuid",
    "uuid::Uuid",
    "std::string::String",
];

pub(super) fn tell(project: &Project, wanted: Option<&str>, detected: &mut Detected) {
    detected.language = Some("rust");
    detected.listens = listens(project);
    let layered = layered(project, wanted);
    detected.entry =
        layered.as_ref().map(|layered| Place::of(&layered.source, layered.at)).map_err(Clone::clone);
    detected.login = login(project);
}

/// Where the sessions' layer is put on.
///
/// # Errors
/// Nowhere, more than once, or in a way that is not known here.
pub(crate) fn layered<'a>(project: &'a Project, wanted: Option<&str>) -> Result<Layered<'a>, Unclear> {
    let sources = match wanted {
        Some(path) => match project.source(path) {
            Some(source) => vec![source],
            None => {
                return Err(Unclear::new(
                    format!("there is no {path}"),
                    "--entry FILE names the file with the router",
                ));
            }
        },
        None => project.sources(Tongue::Rust),
    };
    let names: Vec<String> = project.sources(Tongue::Rust).iter().flat_map(names).collect();
    let mut found: Vec<Layered<'a>> = Vec::new();
    for source in sources {
        for at in outermost_layers(&source, &names) {
            found.push(Layered { source: source.clone(), at });
        }
    }
    match found.len() {
        0 => Err(Unclear::new("no router has a layer of tower-sessions", BY_HAND)),
        1 => {
            let layered = found.remove(0);
            let start = statement_start(&layered.source, layered.at);
            if layered.source.code[start..layered.at].contains("ServiceBuilder") {
                let place = Place::of(&layered.source, layered.at);
                return Err(Unclear::new(
                    format!("{place}: this layer is on a ServiceBuilder, and no router"),
                    BY_HAND,
                ));
            }
            Ok(layered)
        }
        _ => {
            let places: Vec<_> =
                found.iter().map(|layered| Place::of(&layered.source, layered.at).to_string()).collect();
            Err(Unclear::new(
                format!("more than one router has sessions: {}", places.join(", ")),
                "--entry FILE names the file of the one that is meant",
            ))
        }
    }
}

/// What a layer of sessions is called: a variable, an argument, the function that makes it.
fn names(source: &Source<'_>) -> Vec<String> {
    let mut names = vec![SESSIONS.to_owned()];
    for at in source.all(SESSIONS) {
        let before = source.code[..at].trim_end();
        let before = before.strip_suffix("->").map_or_else(
            || before.trim_end_matches(['=', ':']).trim_end(),
            // Back over the arguments, to the function's name.
            |before| {
                &before[..before
                    .rfind("fn ")
                    .and_then(|begin| before[begin..].find('(').map(|open| begin + open))
                    .unwrap_or(0)]
            },
        );
        let name = source.name_before(before.len());
        let is_import =
            source.code[..at].rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("use "));
        if !name.is_empty() && !is_import && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The dots of `.layer(…)` with one of these names in it, and no such call around it.
fn outermost_layers(source: &Source<'_>, names: &[String]) -> Vec<usize> {
    let calls: Vec<(usize, usize)> = source
        .code
        .match_indices(".layer(")
        .filter_map(|(at, call)| Some((at, source.close_of(at + call.len() - 1)?)))
        .filter(|(at, close)| {
            let within = *at..*close;
            names.iter().any(|name| source.all(name).any(|place| within.contains(&place)))
        })
        .collect();
    let is_within = |at: usize| calls.iter().any(|(begin, close)| *begin < at && at < *close);
    calls.iter().map(|(at, _)| *at).filter(|at| !is_within(*at)).collect()
}

/// Behind the end of the statement before, or the brace of the block.
fn statement_start(source: &Source<'_>, at: usize) -> usize {
    let mut depth = 0_usize;
    for (before, byte) in source.code.bytes().enumerate().take(at).collect::<Vec<_>>().into_iter().rev() {
        match byte {
            b')' | b']' | b'}' => depth += 1,
            b'(' | b'[' | b'{' if depth > 0 => depth -= 1,
            b'(' | b'[' | b'{' | b';' if depth == 0 => return before + 1,
            _ => {}
        }
    }
    0
}

/// What the sessions keep of a user; none, if there are none.
pub(crate) fn login(project: &Project) -> Option<Login> {
    let sources = project.sources(Tongue::Rust);
    let place = sources.iter().find_map(|source| {
        let layers: Vec<usize> = source.all(SESSIONS).collect();
        let is_import = |at: &usize| source.text[source.line_start(*at)..].trim_start().starts_with("use ");
        let at = layers.iter().find(|at| !is_import(at)).or(layers.first())?;
        Some(Place::of(source, *at))
    })?;
    let user = user(&sources);
    Some(Login { kind: "tower-sessions", user, place })
}

fn user(sources: &[Source<'_>]) -> Result<String, Unclear> {
    let unread = |message: String| {
        Unclear::new(
            message,
            "--user EXPR says it, as an expression of `session`: --user 'session.get::<i64>(\"user_id\").await?'",
        )
    };
    let mut kept: Vec<(String, String)> = Vec::new();
    for source in sources {
        for (at, kind, arguments) in reads(source) {
            if !source.name_before(at).to_lowercase().contains("session") {
                continue;
            }
            let argument = source.text[arguments.clone()].trim();
            let key = source.quoted(arguments).map(str::to_owned).or_else(|| value_of(sources, argument));
            let entry = key.map(|key| (key, kind));
            kept.extend(entry.filter(|entry| !kept.contains(entry)));
        }
    }
    let place = |key: &str| USER_KEYS.iter().position(|known| key.eq_ignore_ascii_case(known));
    kept.retain(|(key, _)| place(key).is_some());
    kept.sort_by_key(|(key, _)| place(key));
    match kept.first() {
        Some((key, kind)) if PLAIN.contains(&kind.as_str()) => {
            Ok(format!("session.get::<{kind}>(\"{key}\").await?"))
        }
        Some((key, kind)) => Err(unread(format!(
            "the session keeps a {kind} as {key:?}, and which field is the id is not known"
        ))),
        None => Err(unread("what the session keeps of a user can't be read".to_owned())),
    }
}

/// Every `session.get::<T>(KEY)`, and `let id: Option<T> = session.get(KEY)`: its dot, the type, the arguments.
fn reads(source: &Source<'_>) -> Vec<(usize, String, Range<usize>)> {
    let said = source.code.match_indices(".get::<").filter_map(|(at, call)| {
        let begin = at + call.len();
        let end = begin + source.code[begin..].find(">(")?;
        Some((at, source.text[begin..end].trim().to_owned(), end + 2..source.close_of(end + 1)?))
    });
    let declared = source.code.match_indices(".get(").filter_map(|(at, call)| {
        let statement = source.code[statement_start(source, at)..at].trim_start();
        let (_, kind) = statement.strip_prefix("let ")?.split_once('=')?.0.split_once(':')?;
        let kind = kind.trim().strip_prefix("Option<")?.strip_suffix('>')?;
        let open = at + call.len() - 1;
        Some((at, kind.trim().to_owned(), open + 1..source.close_of(open)?))
    });
    said.chain(declared).collect()
}

/// The text of `const KEY: &str = "user_id";`, wherever it is, also as `login::KEY`.
fn value_of(sources: &[Source<'_>], name: &str) -> Option<String> {
    let name = name.rsplit("::").next()?.trim();
    sources.iter().find_map(|source| {
        let at = source.all(name).find(|at| source.code[..*at].trim_end().ends_with("const"))?;
        let end = at + source.code[at..].find(';')?;
        source.quoted(at..end).map(str::to_owned)
    })
}

/// `TcpListener::bind("0.0.0.0:3000")`
fn listens(project: &Project) -> Option<(Place, Option<u16>)> {
    project.sources(Tongue::Rust).iter().find_map(|source| {
        let at = source.all("TcpListener::bind(").next()?;
        let close = source.close_of(at + "TcpListener::bind".len())?;
        let port = source.quoted(at..close).and_then(|address| address.rsplit_once(':')?.1.parse().ok());
        Some((Place::of(source, at), port.or_else(|| port_of(source, at..close))))
    })
}

/// `3000` of `let addr = SocketAddr::from(([0, 0, 0, 0], 3000));`, where `addr` is what is bound.
fn port_of(source: &Source<'_>, arguments: Range<usize>) -> Option<u16> {
    let name = source.text[arguments].rsplit(['(', '&']).next()?.trim();
    let at = source.all(name).find(|at| source.code[..*at].trim_end().ends_with("let"))?;
    let end = at + source.code[at..].find(';')?;
    let numbers = source.text[at..end].rsplit(|next: char| !next.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).find(|port| *port >= 80)
}

/// The file whose modules a file belongs to: `src/lib.rs`, or `src/main.rs`.
pub(crate) fn root<'a>(project: &'a Project, path: &str) -> Option<Source<'a>> {
    let roots = ["src/lib.rs", "src/main.rs"];
    if roots.contains(&path) {
        return project.source(path);
    }
    let module = path.strip_prefix("src/")?.split(['/', '.']).next()?;
    let declares = |source: &Source<'_>| source.all(&format!("mod {module};")).next().is_some();
    (folder_of(path).starts_with("src/"))
        .then(|| roots.iter().filter_map(|root| project.source(root)).find(declares))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Result<String, String> {
        let project = Project::of(&[("src/main.rs", text)]);
        let found =
            layered(&project, None).map(|layered| text[layered.at..].lines().next().unwrap().to_owned());
        found.map_err(|unclear| unclear.message)
    }

    #[test]
    fn the_layer_of_sessions_is_found_however_it_is_called() {
        for text in [
            "use tower_sessions::SessionManagerLayer;\nlet session_layer = SessionManagerLayer::new(s);\nRouter::new().layer(session_layer)",
            "fn app(session_layer: SessionManagerLayer<S>) { Router::new().layer(other)\n.layer(session_layer) }",
            "fn session_layer() -> SessionManagerLayer<S> {}\nlet app = app.layer(session_layer());",
            "app.layer(SessionManagerLayer::new(session_layer))",
            "let l = SessionManagerLayer::new(s);\napp.layer(ServiceBuilder::new().layer(l).layer(session_layer))",
        ] {
            let found = layer(text).unwrap();
            assert!(found.starts_with(".layer(") && found.contains("session_layer"), "{found}");
        }
        assert!(layer("Router::new().layer(cors)").unwrap_err().contains("no router"));
        let built = "let l = SessionManagerLayer::new(s);\nlet b = ServiceBuilder::new().layer(l);";
        assert!(layer(built).unwrap_err().contains("ServiceBuilder"));
        let twice = "let l = SessionManagerLayer::new(s);\na.layer(l.clone());\nb.layer(l);";
        assert!(layer(twice).unwrap_err().contains("src/main.rs:2, src/main.rs:3"));
    }

    #[test]
    fn the_port_is_where_it_is_bound() {
        for (text, port) in [
            ("TcpListener::bind(\"0.0.0.0:8080\")", Some(8080)),
            ("let addr = SocketAddr::from(([127, 0, 0, 1], 3000));\nTcpListener::bind(&addr)", Some(3000)),
            ("TcpListener::bind(format!(\"[::]:{port}\"))", None),
        ] {
            let project = Project::of(&[("src/main.rs", text)]);
            assert_eq!(listens(&project).unwrap().1, port, "{text}");
        }
    }

    #[test]
    fn what_a_session_keeps_of_a_user_is_read_with_its_type() {
        let read = |text: &str| {
            let text = format!("let l = SessionManagerLayer::new(s);\n{text}");
            login(&Project::of(&[("src/main.rs", &text)])).unwrap().user
        };
        assert_eq!(
            read("session.get::<i64>(\"user_id\").await").unwrap(),
            "session.get::<i64>(\"user_id\").await?"
        );
        assert_eq!(
            read("const KEY: &str = \"username\";\nself.session.get::<String>(login::KEY)").unwrap(),
            "session.get::<String>(\"username\").await?"
        );
        assert_eq!(
            read("let user: Option<String> = session.get(\"username\").await.unwrap();").unwrap(),
            "session.get::<String>(\"username\").await?"
        );
        assert!(read("session.get::<User>(\"user\")").unwrap_err().message.contains("User"));
        assert!(read("session.get::<Vec<u8>>(\"cart\")").unwrap_err().fix.contains("--user"));
        assert!(login(&Project::of(&[("src/main.rs", "fn main() {}")])).is_none());
    }
}
