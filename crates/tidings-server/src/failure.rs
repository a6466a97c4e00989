//! Why a command ended without success: a sentence, what to do about it, and the exit code.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// What a script can tell apart without reading the sentence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Failed,
    Refused,
    Unavailable,
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

impl Failure {
    /// The command was right and something went wrong: exit code 1.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { kind: Kind::Failed, message: message.to_string(), fix: None }
    }

    /// A server says no, and would again: exit code 77, `EX_NOPERM` of sysexits.h.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self { kind: Kind::Refused, message: message.to_string(), fix: None }
    }

    /// A server can't be reached, or can't do it now: exit code 69, `EX_UNAVAILABLE` of sysexits.h. Later it may.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self { kind: Kind::Unavailable, message: message.to_string(), fix: None }
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
            Kind::Unavailable => 69,
            Kind::Refused => 77,
            Kind::Config => 78,
        })
    }
}
