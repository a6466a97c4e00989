//! Why a command ended without success: what is wrong, where, what to do about it, and the exit code.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// What a script can tell apart without reading the sentence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Failed,
    Refused,
    Unavailable,
    Usage,
    Config,
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Usage => "usage",
            Self::Config => "config",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Refused => 77,
            Self::Config => 78,
        }
    }
}

/// How errors are written on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Lines for a person.
    Text,
    /// A line of JSON for each: `code`, `message`, `fix`, and where it is known the place.
    Json,
}

/// Where a value of the configuration was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In a file, both counted from 1.
    File { path: PathBuf, line: usize, column: usize },
    /// In a variable of the environment.
    Variable(String),
    /// In an option of the command line.
    Flag(&'static str),
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A command's end without success: one fault at least.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Default, Debug)]
struct Fault {
    message: String,
    fix: Option<String>,
    /// Of the configuration: `limits.heartbeat_seconds`, `rooms[0].pattern`.
    key: Option<String>,
    place: Option<Place>,
}

/// For the log of a server that goes on all the same.
impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{}", fault.message)?;
            if let Some(fix) = &fault.fix {
                write!(f, "; fix: {fix}")?;
            }
        }
        Ok(())
    }
}

impl Failure {
    fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, faults: vec![Fault { message: message.to_string(), ..Fault::default() }] }
    }

    /// The command was right and something went wrong: exit code 1.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// A server says no, and would again: exit code 77, `EX_NOPERM` of sysexits.h.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// A server can't be reached, or can't do it now: exit code 69, `EX_UNAVAILABLE` of sysexits.h. Later it may.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// The command line asks for what can't be: exit code 2, as for what clap refuses itself.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The configuration is wrong: exit code 78, `EX_CONFIG` of sysexits.h, on which service managers don't restart.
    pub(crate) fn config(message: impl Display) -> Self {
        Self::new(Kind::Config, message)
    }

    /// What to do about it.
    pub(crate) fn fix(mut self, fix: impl Display) -> Self {
        for fault in &mut self.faults {
            fault.fix = Some(fix.to_string());
        }
        self
    }

    /// Which key of the configuration is meant: `auth.secret_file`, `rooms[0].pattern`. Its place is found by it.
    pub(crate) fn key(mut self, key: impl Display) -> Self {
        for fault in &mut self.faults {
            fault.key = Some(key.to_string());
        }
        self
    }

    /// Where it was said.
    pub(crate) fn place(self, place: Place) -> Self {
        let place = Some(place);
        let faults = self.faults.into_iter().map(|fault| Fault { place: place.clone(), ..fault }).collect();
        Self { faults, ..self }
    }

    /// Finds the place of each fault that names a key and has none yet.
    pub(crate) fn locate(mut self, place_of: impl Fn(&str) -> Option<Place>) -> Self {
        for fault in self.faults.iter_mut().filter(|fault| fault.place.is_none()) {
            fault.place = fault.key.as_deref().and_then(&place_of);
        }
        self
    }

    /// Says what to do about each fault that names a key and has no fix yet.
    pub(crate) fn fix_others(mut self, fix_of: impl Fn(&str) -> Option<String>) -> Self {
        for fault in self.faults.iter_mut().filter(|fault| fault.fix.is_none()) {
            fault.fix = fault.key.as_deref().and_then(&fix_of);
        }
        self
    }

    /// Leaves out the faults in what others have left incomplete; none if nothing is left.
    pub(crate) fn outside(mut self, incomplete: &[String]) -> Option<Self> {
        self.faults.retain(|fault| {
            let key = fault.key.as_deref().unwrap_or_default();
            !incomplete.iter().any(|part| part == section_of(key) || part == first_step_of(key))
        });
        (!self.faults.is_empty()).then_some(self)
    }

    /// What is incomplete without the keys that it names: of a list an entry, else the section.
    fn incomplete(&self) -> Vec<String> {
        let part = |key: &str| {
            let first = first_step_of(key);
            // Without an entry of its own the rest of a list has other numbers.
            if first == key { section_of(key).to_owned() } else { first.to_owned() }
        };
        self.faults.iter().filter_map(|fault| fault.key.as_deref()).map(part).collect()
    }

    /// Tells whoever started the command, and gives the exit code.
    pub(crate) fn report(&self, form: Form) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        for fault in &self.faults {
            // A stderr that is gone has nobody to tell; the exit code stays.
            let _ = match form {
                Form::Text => write!(stderr, "{fault}"),
                Form::Json => writeln!(stderr, "{}", Value::Object(fault.json(self.kind))),
            };
        }
        ExitCode::from(self.kind.exit_code())
    }

    /// All faults for programs, as an array.
    pub(crate) fn json(&self) -> Value {
        self.faults.iter().map(|fault| Value::Object(fault.json(self.kind))).collect()
    }

    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<String> {
        self.faults.iter().map(Fault::to_string).collect()
    }
}

/// Tells what clap says of a command line, and gives the exit code. Help that was asked for is no failure.
pub(crate) fn refused(refusal: &clap::Error) -> ExitCode {
    let asks_for_json = std::env::args_os().any(|argument| argument == "--json");
    if !refusal.use_stderr() || !asks_for_json {
        // A terminal that is gone has nobody to tell.
        let _ = refusal.print();
        return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(2));
    }
    let text = refusal.render().to_string();
    let (message, more) = text.split_once("\n\n").unwrap_or((&text, ""));
    let lines = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::usage(lines(message.trim_start_matches("error: "))).fix(lines(more)).report(Form::Json)
}

/// `rooms` of `rooms[0].pattern`.
fn section_of(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// `rooms[0]` of `rooms[0].pattern`.
fn first_step_of(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

impl Fault {
    fn json(&self, kind: Kind) -> Map<String, Value> {
        let mut told = Map::new();
        told.insert("code".to_owned(), kind.code().into());
        told.insert("message".to_owned(), self.message.clone().into());
        told.insert("fix".to_owned(), self.fix.clone().into());
        if let Some(key) = &self.key {
            told.insert("key".to_owned(), key.clone().into());
        }
        match &self.place {
            Some(Place::File { path, line, column }) => {
                told.insert("file".to_owned(), path.display().to_string().into());
                told.insert("line".to_owned(), json!(line));
                told.insert("column".to_owned(), json!(column));
            }
            Some(Place::Variable(name)) => {
                told.insert("variable".to_owned(), name.clone().into());
            }
            Some(Place::Flag(name)) => {
                told.insert("flag".to_owned(), (*name).into());
            }
            None => {}
        }
        told
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        writeln!(f, "{}", self.message)?;
        if let Some(key) = &self.key {
            writeln!(f, "  key: {key}")?;
        }
        self.fix.as_ref().map_or(Ok(()), |fix| writeln!(f, "  fix: {fix}"))
    }
}

/// Failures as they are found, so that all of them are told at once.
#[derive(Default, Debug)]
pub(crate) struct Failures(Option<Failure>);

impl Failures {
    /// Adds one.
    pub(crate) fn add(&mut self, failure: Failure) {
        match &mut self.0 {
            Some(first) => first.faults.extend(failure.faults),
            none => *none = Some(failure),
        }
    }

    /// The result if it is one; else its failure is added.
    pub(crate) fn take<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.add(failure)).ok()
    }

    /// Whether nothing failed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is incomplete without the keys that they name.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        self.0.as_ref().map(Failure::incomplete).unwrap_or_default()
    }

    /// All of them; none if nothing failed.
    pub(crate) fn into_failure(self) -> Option<Failure> {
        self.0
    }

    /// # Errors
    /// All of them.
    pub(crate) fn none(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_to_people_and_to_programs() {
        let place = Place::File { path: PathBuf::from("tidings.toml"), line: 3, column: 9 };
        let failure = Failure::config("no such file").key("auth.secret_file").fix("name one").place(place);
        let text = "error: tidings.toml:3:9: no such file\n  key: auth.secret_file\n  fix: name one\n";
        assert_eq!(failure.texts(), [text]);
        let expected = json!([{"code": "config", "message": "no such file", "fix": "name one",
            "key": "auth.secret_file", "file": "tidings.toml", "line": 3, "column": 9}]);
        assert_eq!(failure.json(), expected);
        assert_eq!(Failure::failed("a").json(), json!([{"code": "failed", "message": "a", "fix": null}]));
    }

    #[test]
    fn failures_are_told_together_and_without_what_follows_from_others() {
        let gathered = |keys: &[&str]| {
            let mut failures = Failures::default();
            assert_eq!(failures.take(Ok(1)), Some(1));
            for key in keys {
                assert_eq!(failures.take::<()>(Err(Failure::config(key).key(key))), None);
            }
            failures
        };
        let incomplete = gathered(&["auth.secret", "rooms[1].pattern", "events[0]", "listen"]).incomplete();
        assert_eq!(incomplete, ["auth", "rooms[1]", "events", "listen"]);
        let later =
            gathered(&["auth", "rooms[0].key", "rooms[1].key", "events[3].name", "listen", "limits.a"]);
        let left = later.into_failure().unwrap().outside(&incomplete).unwrap();
        assert_eq!(left.incomplete(), ["rooms[0]", "limits"]);
        assert!(left.outside(&["rooms[0]".to_owned(), "limits".to_owned()]).is_none());
    }
}
