//! What `tidings doctor` has found, what was in order, and what it could not judge; and how that is told.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use serde_json::json;

use crate::failure::{Failure, Form};

/// A cause of trouble.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) cause: &'static str,
    pub(super) message: String,
    pub(super) evidence: String,
    pub(super) fix: String,
}

#[derive(Default, Debug)]
pub(super) struct Diagnosis {
    findings: Vec<Finding>,
    fine: Vec<(&'static str, String)>,
    not_judged: Vec<(&'static str, String)>,
}

impl Diagnosis {
    /// Causes are found before what follows from them: the first one is the one to mend.
    pub(super) fn found(
        &mut self,
        cause: &'static str,
        message: impl Into<String>,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (message, evidence, fix) = (message.into(), evidence.into(), fix.into());
        self.findings.push(Finding { cause, message, evidence, fix });
    }

    pub(super) fn has(&self, cause: &str) -> bool {
        self.findings.iter().any(|finding| finding.cause == cause)
    }

    pub(super) fn fine(&mut self, what: &'static str, told: impl Into<String>) {
        self.fine.push((what, told.into()));
    }

    pub(super) fn not_judged(&mut self, what: &'static str, why: impl Into<String>) {
        self.not_judged.push((what, why.into()));
    }

    /// # Errors
    /// When there is any finding.
    pub(super) fn tell(self, form: Form) -> Result<(), Failure> {
        match form {
            Form::Json => self.tell_programs()?,
            Form::Text => self.tell_people()?,
        }
        match self.findings.as_slice() {
            [] => Ok(()),
            [first, ..] => {
                let count = self.findings.len();
                let all = if count == 1 {
                    "one cause was found".to_owned()
                } else {
                    format!("{count} causes were found")
                };
                Err(Failure::failed(format_args!("{all}; the first: {}: {}", first.cause, first.message))
                    .fix(&first.fix))
            }
        }
    }

    fn tell_programs(&self) -> Result<(), Failure> {
        for Finding { cause, message, evidence, fix } in &self.findings {
            print(json!({"finding": cause, "message": message, "evidence": evidence, "fix": fix}))?;
        }
        for (what, told) in &self.fine {
            print(json!({"fine": what, "told": told}))?;
        }
        for (what, why) in &self.not_judged {
            print(json!({"not_judged": what, "why": why}))?;
        }
        print(json!({"findings": self.findings.len()}))
    }

    fn tell_people(&self) -> Result<(), Failure> {
        let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (red, green, end) = if has_colours { ("\x1b[31m", "\x1b[32m", "\x1b[0m") } else { ("", "", "") };
        for Finding { cause, message, evidence, fix } in &self.findings {
            print(format_args!("{red}found{end}       {cause}: {message}"))?;
            print(format_args!("            evidence: {evidence}\n            fix: {fix}"))?;
        }
        for (what, told) in &self.fine {
            print(format_args!("{green}fine{end}        {what}: {told}"))?;
        }
        for (what, why) in &self.not_judged {
            print(format_args!("not judged  {what}: {why}"))?;
        }
        Ok(())
    }
}

fn print(what: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{what}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
