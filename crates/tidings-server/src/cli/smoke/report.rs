//! How `tidings smoke` tells its results: a table for eyes, plain words for a pipe, a line of JSON for each for programs.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::json;

use super::stage::{Checked, Outcome};
use crate::failure::{Failure, Form};

pub(super) struct Report {
    form: Form,
    has_colours: bool,
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Report {
    pub(super) fn new(form: Form) -> Self {
        let has_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { form, has_colours, passed: 0, skipped: 0, failed: 0 }
    }

    /// Tells of one check, as soon as it is over.
    pub(super) fn line(&mut self, check: &str, checked: &Checked, took: Duration) -> Result<(), Failure> {
        let (result, told, fix, colour) = match checked {
            Ok(Outcome::Passed(told)) => ("passed", told, None, "\x1b[32m"),
            Ok(Outcome::Skipped(why)) => ("skipped", why, None, "\x1b[33m"),
            Err(fault) => ("failed", &fault.message, Some(&fault.fix), "\x1b[31m"),
        };
        *match checked {
            Ok(Outcome::Passed(_)) => &mut self.passed,
            Ok(Outcome::Skipped(_)) => &mut self.skipped,
            Err(_) => &mut self.failed,
        } += 1;
        match self.form {
            Form::Json => {
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                print(json!({"check": check, "result": result, "told": told, "fix": fix, "ms": ms}))
            }
            Form::Text if self.has_colours => {
                print(format_args!("{colour}{result:<8}\x1b[0m {check:<17} {told}"))
            }
            Form::Text => print(format_args!("{result:<8} {check:<17} {told}")),
        }
    }

    /// Tells the sums.
    pub(super) fn end(&self, not_run: usize) -> Result<(), Failure> {
        let Self { passed, skipped, failed, .. } = self;
        match self.form {
            Form::Json => {
                print(json!({"passed": passed, "skipped": skipped, "failed": failed, "not_run": not_run}))
            }
            Form::Text => {
                let rest = if not_run > 0 { format!(", {not_run} not run") } else { String::new() };
                print(format_args!("\n{passed} passed, {skipped} skipped, {failed} failed{rest}"))
            }
        }
    }
}

fn print(what: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{what}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
