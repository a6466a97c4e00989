//! `tidings detect`: what an application is made of, as its files say.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::detect::Detected;
use crate::detect::project::Project;
use crate::failure::{Failure, Form};

/// Say what an application is made of: framework, entry, auth, proxy, workers, sockets
///
/// Reads its files, runs nothing and changes nothing. What was not found is said too; null, with --json.
#[derive(Args, Debug)]
pub(crate) struct Detect {
    /// The application's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The file that makes the application, from its folder on, if there is more than one
    #[arg(long, value_name = "FILE")]
    entry: Option<String>,
}

impl Detect {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        let project = Project::read(&self.dir)?;
        let detected = Detected::of(&project, self.entry.as_deref());
        let told = match form {
            Form::Json => detected.json().to_string(),
            Form::Text => detected.lines().join("\n"),
        };
        writeln!(std::io::stdout(), "{told}")
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}
