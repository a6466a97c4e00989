//! `tidings config`: what may be in a configuration, whether one is right, and what it comes to.

use std::fmt::Display;
use std::io::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tidings::Limits;

use super::source_options::SourceOptions;
use crate::config::{self, schema};
use crate::failure::{Failure, Form};
use crate::{memory, open_files};

/// Check and show what `tidings serve` is told
#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Read all that `serve` would read, but for the network: "ok", or all that is wrong, with exit code 78
    Check {
        #[command(flatten)]
        sources: SourceOptions,
    },
    /// Print what counts of flags, environment, file and defaults, without secrets
    Show {
        #[command(flatten)]
        sources: SourceOptions,
        /// Say of each value where it comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print the JSON Schema of the file, for editors
    Schema,
}

impl Config {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        match self.command {
            Command::Check { sources } => {
                let checked =
                    sources.sources().load().and_then(|mut loaded| loaded.parts(of_machine(), None));
                match (form, &checked) {
                    (Form::Text, Ok(_)) => print("ok")?,
                    (Form::Text, Err(_)) => {}
                    (Form::Json, Ok(_)) => print(json!({"ok": true, "faults": []}))?,
                    (Form::Json, Err(failure)) => print(json!({"ok": false, "faults": failure.json()}))?,
                }
                checked.map(drop)
            }
            Command::Show { sources, origin } => {
                let mut loaded = sources.sources().load()?;
                loaded.understood()?;
                let effective = config::effective(&loaded, of_machine());
                match (form, origin) {
                    (Form::Text, _) => print(config::toml(&loaded, &effective, origin).trim_end()),
                    (Form::Json, false) => print(effective),
                    (Form::Json, true) => {
                        let told = |(path, value, origin)| (path, json!({"value": value, "origin": origin}));
                        let all: Map<_, _> =
                            config::origins(&loaded, &effective).into_iter().map(told).collect();
                        print(Value::Object(all))
                    }
                }
            }
            Command::Schema => print(format_args!("{:#}", schema::schema())),
        }
    }
}

/// The limits that come from the machine on which this runs.
fn of_machine() -> Limits {
    let mut limits = Limits::default();
    limits.connections_per_node_max = open_files::raise();
    memory::share(&mut limits);
    limits
}

fn print(what: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{what}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
