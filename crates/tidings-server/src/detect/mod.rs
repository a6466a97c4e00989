//! What an application is made of, as its files say: framework, entry, login, what is around it. Read, and never run.

pub(crate) mod axum;
mod blanked;
pub(crate) mod express;
pub(crate) mod fastapi;
pub(crate) mod javascript;
pub(crate) mod manifest;
pub(crate) mod project;
pub(crate) mod python;
pub(crate) mod source;
pub(crate) mod surroundings;
pub(crate) mod tongue;

use serde_json::{Value, json};

use project::Project;
use source::Source;

/// Where something was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
}

impl Place {
    pub(crate) fn of(source: &Source<'_>, at: usize) -> Self {
        Self { file: source.path.to_owned(), line: source.line(at) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What can't be told from the files, and what would decide it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unclear {
    pub(crate) message: String,
    pub(crate) fix: String,
}

impl Unclear {
    pub(crate) fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { message: message.into(), fix: fix.into() }
    }
}

/// A kind of thing, and where it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: &'static str,
    /// More of it: how many, which version.
    pub(crate) told: Option<String>,
    pub(crate) place: Place,
}

/// What a framework is called, whether `tidings add` knows it, and where it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Framework {
    pub(crate) name: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) place: Place,
}

/// Those that `tidings add` knows.
pub(crate) const SUPPORTED: [&str; 3] = ["express", "fastapi", "axum"];

/// How an application knows who is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Login {
    pub(crate) kind: &'static str,
    /// What the user's id is, as an expression of the application's own language; none, if it can't be read.
    pub(crate) user: Result<String, Unclear>,
    pub(crate) place: Place,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Detected {
    pub(crate) frameworks: Vec<Framework>,
    pub(crate) language: Option<&'static str>,
    pub(crate) modules: Option<&'static str>,
    pub(crate) entry: Result<Place, Unclear>,
    /// Where it begins to listen, and the port, if it is written there.
    pub(crate) listens: Option<(Place, Option<u16>)>,
    pub(crate) login: Option<Login>,
    pub(crate) proxies: Vec<Finding>,
    pub(crate) workers: Vec<Finding>,
    pub(crate) sockets: Vec<Finding>,
    pub(crate) tidings: Vec<Finding>,
}

impl Detected {
    pub(crate) fn of(project: &Project, entry: Option<&str>) -> Self {
        let frameworks = manifest::frameworks(project);
        let mut detected = Self {
            proxies: surroundings::proxies(project),
            workers: surroundings::workers(project),
            sockets: surroundings::sockets(project),
            tidings: surroundings::tidings(project),
            language: None,
            modules: None,
            entry: Err(Unclear::new(
                "no framework was found",
                "name the folder with the application's list of packages",
            )),
            listens: None,
            login: None,
            frameworks,
        };
        match detected.frameworks.first().map(|framework| framework.name) {
            Some("express") => express::tell(project, entry, &mut detected),
            Some("fastapi") => fastapi::tell(project, entry, &mut detected),
            Some("axum") => axum::tell(project, entry, &mut detected),
            Some(name) => {
                let fix = "`tidings docs` has the pages webhooks and http-api, which need no SDK";
                detected.entry =
                    Err(Unclear::new(format!("{name} is none of {}", SUPPORTED.join(", ")), fix));
            }
            None => {}
        }
        detected
    }

    /// For programs: what was not found is null, or empty.
    pub(crate) fn json(&self) -> Value {
        let framework = |framework: &Framework| {
            json!({
                "name": framework.name,
                "version": framework.version,
                "supported": SUPPORTED.contains(&framework.name),
                "file": framework.place.file,
                "line": framework.place.line,
            })
        };
        let place = |place: &Place| json!({"file": place.file, "line": place.line});
        let list = |findings: &[Finding]| findings.iter().map(of_finding).collect::<Value>();
        json!({
            "framework": self.frameworks.first().map(framework),
            "others": self.frameworks.iter().skip(1).map(framework).collect::<Value>(),
            "language": self.language,
            "modules": self.modules,
            "entry": self.entry.as_ref().ok().map(place),
            "listens": self.listens.as_ref().map(|(place, port)| {
                json!({"port": port, "file": place.file, "line": place.line})
            }),
            "auth": self.login.as_ref().map(|login| {
                json!({
                    "kind": login.kind,
                    "user": login.user.as_ref().ok(),
                    "file": login.place.file,
                    "line": login.place.line,
                })
            }),
            "proxy": list(&self.proxies),
            "workers": list(&self.workers),
            "sockets": list(&self.sockets),
            "tidings": list(&self.tidings),
        })
    }

    /// For people: a line for each question.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |what: &str, told: String| format!("{what:<10} {told}");
        let list = |findings: &[Finding], none: &str| {
            let told: Vec<_> = findings.iter().map(told_of).collect();
            if told.is_empty() { none.to_owned() } else { told.join(", ") }
        };
        let frameworks: Vec<_> = self
            .frameworks
            .iter()
            .map(|framework| {
                let version =
                    framework.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
                let is_supported = SUPPORTED.contains(&framework.name);
                let known = if is_supported { "" } else { ", which `tidings add` does not know" };
                format!("{}{version} ({}){known}", framework.name, framework.place)
            })
            .collect();
        let none = || "none was found".to_owned();
        let entry = match &self.entry {
            Ok(place) => place.to_string(),
            Err(unclear) => format!("{}; {}", unclear.message, unclear.fix),
        };
        let language = [self.language, self.modules].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let listens = self.listens.as_ref().map(|(place, port)| match port {
            Some(port) => format!("port {port} ({place})"),
            None => format!("a port that is not written there ({place})"),
        });
        let login = self.login.as_ref().map(|login| match &login.user {
            Ok(user) => format!("{} ({}); the user's id is {user}", login.kind, login.place),
            Err(unclear) => format!("{} ({}); {}; {}", login.kind, login.place, unclear.message, unclear.fix),
        });
        vec![
            line("framework", if frameworks.is_empty() { none() } else { frameworks.join(", ") }),
            line("language", if language.is_empty() { none() } else { language }),
            line("entry", entry),
            line("listens", listens.unwrap_or_else(none)),
            line("auth", login.unwrap_or_else(none)),
            line("proxy", list(&self.proxies, "none was found")),
            line("workers", list(&self.workers, "one process, as far as can be seen")),
            line("sockets", list(&self.sockets, "none was found")),
            line("tidings", list(&self.tidings, "not there yet")),
        ]
    }
}

fn of_finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind,
        "told": finding.told,
        "file": finding.place.file,
        "line": finding.place.line,
    })
}

fn told_of(finding: &Finding) -> String {
    let told = finding.told.as_ref().map(|told| format!(" {told}")).unwrap_or_default();
    format!("{}{told} ({})", finding.kind, finding.place)
}
