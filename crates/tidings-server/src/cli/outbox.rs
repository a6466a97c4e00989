//! `tidings outbox`: the webhooks that nobody took, listed and sent again, beside a server that runs or without one.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::failure::Failure;
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
    /// The configuration that names the outbox
    #[arg(long, value_name = "FILE", default_value = "tidings.toml")]
    config: PathBuf,
    /// One JSON object a line, with what would be sent
    #[arg(long)]
    json: bool,
}

/// Send dead letters again; a server that runs does it within a second
#[derive(Args, Debug)]
struct Retry {
    /// The configuration that names the outbox
    #[arg(long, value_name = "FILE", default_value = "tidings.toml")]
    config: PathBuf,
    /// One JSON object a line, of each that is sent again
    #[arg(long)]
    json: bool,
    /// Which, by their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl OutboxCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        run::block_on(async {
            match self.verb {
                Verb::List(list) => list.run().await,
                Verb::Retry(retry) => retry.run().await,
            }
        })
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let Some(outbox) = open(&self.config).await? else { return Ok(()) };
        for letter in letters(&outbox)? {
            print(&letter, self.json)?;
        }
        Ok(())
    }
}

impl Retry {
    async fn run(self) -> Result<(), Failure> {
        let outbox = open(&self.config).await?;
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
            print(&letter, self.json)?;
        }
        Ok(())
    }
}

/// The outbox; none where nothing has been told yet.
async fn open(config: &std::path::Path) -> Result<Option<Outbox>, Failure> {
    let directory = Config::read(config)?.outbox()?;
    if !webhook::has_outbox(&directory) {
        return Ok(None);
    }
    Outbox::beside(&directory).await.map(Some).map_err(|error| error.failure(&directory))
}

fn letters(outbox: &Outbox) -> Result<Vec<DeadLetter>, Failure> {
    outbox.dead().all().map_err(|error| Failure::failed(format_args!("the dead letters: {error}")))
}

fn print(letter: &DeadLetter, json: bool) -> Result<(), Failure> {
    let line = if json {
        serde_json::to_string(letter).map_err(Failure::failed)?
    } else {
        let DeadLetter { id, r#type, key, since, attempts, reason, .. } = letter;
        format!("{id}  {type}  {key}  {since}  {attempts}  {reason}")
    };
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
