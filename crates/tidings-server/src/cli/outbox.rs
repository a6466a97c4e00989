//! `tidings outbox`: the webhooks that nobody took, listed and sent again, beside a server that runs or without one.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Sources;
use crate::failure::{Failure, Form};
use crate::run;
use crate::webhook::{self, DeadLetter, Outbox};

/// The webhooks that nobody took
#[derive(Args, Debug)]
pub(crate) struct OutboxCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    List(List),
    Retry(Retry),
}

/// List the dead letters: id, type, key, since when, how often it was tried, and why it was not taken
#[derive(Args, Debug)]
struct List {
    /// The configuration that names the outbox; tidings.toml, if there is one and nothing is named
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Send dead letters again; a server that runs does it within a second
#[derive(Args, Debug)]
struct Retry {
    /// The configuration that names the outbox; tidings.toml, if there is one and nothing is named
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which, by their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl OutboxCommand {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        run::block_on(async {
            match self.verb {
                Verb::List(list) => list.run(form).await,
                Verb::Retry(retry) => retry.run(form).await,
            }
        })
    }
}

impl List {
    async fn run(self, form: Form) -> Result<(), Failure> {
        let Some(outbox) = open(self.config).await? else { return Ok(()) };
        for letter in letters(&outbox)? {
            print(&letter, form)?;
        }
        Ok(())
    }
}

impl Retry {
    async fn run(self, form: Form) -> Result<(), Failure> {
        let outbox = open(self.config).await?;
        let mut letters = match &outbox {
            Some(outbox) => letters(outbox)?,
            None => Vec::new(),
        };
        if !self.all {
            // All are looked for before one is sent: a typo sends nothing.
            if let Some(unknown) = self.ids.iter().find(|id| letters.iter().all(|letter| letter.id != **id)) {
                return Err(Failure::failed(format_args!("there is no dead letter {unknown}"))
                    .fix("tidings outbox list shows those that there are"));
            }
            letters.retain(|letter| self.ids.contains(&letter.id));
        }
        let Some(mut outbox) = outbox else { return Ok(()) };
        for letter in letters {
            outbox
                .retry(&letter)
                .await
                .map_err(|error| Failure::failed(format_args!("{}: {error}", letter.id)))?;
            print(&letter, form)?;
        }
        Ok(())
    }
}

/// The outbox; none where nothing has been told yet.
async fn open(config: Option<PathBuf>) -> Result<Option<Outbox>, Failure> {
    let directory = Sources { file: config, flags: Vec::new() }.load()?.config.outbox()?;
    if !webhook::has_outbox(&directory) {
        return Ok(None);
    }
    Outbox::beside(&directory).await.map(Some).map_err(|error| error.failure(&directory))
}

fn letters(outbox: &Outbox) -> Result<Vec<DeadLetter>, Failure> {
    outbox.dead().all().map_err(|error| Failure::failed(format_args!("the dead letters: {error}")))
}

fn print(letter: &DeadLetter, form: Form) -> Result<(), Failure> {
    let line = if form == Form::Json {
        serde_json::to_string(letter).map_err(Failure::failed)?
    } else {
        let DeadLetter { id, r#type, key, since, attempts, reason, .. } = letter;
        format!("{id}  {type}  {key}  {since}  {attempts}  {reason}")
    };
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
