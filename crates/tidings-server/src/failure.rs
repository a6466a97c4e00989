//! Why a command ended without success: a sentence, what to do about it, and the exit code.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::process::ExitCode;

/// What a script can tell apart without reading the sentence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Failed,
    Usage,
    Config,
}

/// A command's end without success.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    fix: Option<String>,
}

/// For the log of a server that goes on all the same.
impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "; fix: {fix}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// The command was right and something went wrong: exit code 1.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { kind: Kind::Failed, message: message.to_string(), fix: None }
    }

    /// The command line asks for what can't be: exit code 2, as for what clap refuses itself.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { kind: Kind::Usage, message: message.to_string(), fix: None }
    }

    /// The configuration is wrong: exit code 78, `EX_CONFIG` of sysexits.h, on which service managers don't restart.
    pub(crate) fn config(message: impl Display) -> Self {
        Self { kind: Kind::Config, message: message.to_string(), fix: None }
    }

    /// What to do about it.
    pub(crate) fn fix(mut self, fix: impl Display) -> Self {
        self.fix = Some(fix.to_string());
        self
    }

    /// Tells the person at the terminal, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // A stderr that is gone has nobody to tell; the exit code stays.
        let _ = writeln!(stderr, "error: {}", self.message);
        if let Some(fix) = &self.fix {
            let _ = writeln!(stderr, "  fix: {fix}");
        }
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Config => 78,
        })
    }
}
