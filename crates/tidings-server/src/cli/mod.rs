//! The command line: one file a command.

mod add;
mod bench;
mod completions;
mod config;
mod detect;
mod dev;
mod docs;
mod doctor;
#[cfg(feature = "conformance")]
mod echo;
mod key;
mod link;
mod new;
mod openapi;
mod outbox;
mod publish;
mod secret_argument;
mod serve;
mod skill;
mod smoke;
mod source_options;
mod tail;
mod target;
mod token;
mod tokens;

use clap::{Parser, Subcommand};

use crate::config::Log;
use crate::failure::{Failure, Form};
use crate::logs;

/// What follows the options in `--help`.
const EXIT_CODES: &str = "\
Exit codes: 0 all went well, 1 it failed, 2 the command line is wrong, 69 the server can't be reached or can't do it now,
77 the server refused it, 78 the configuration is wrong.
TIDINGS_LOG, else RUST_LOG, says what is logged to stderr; info, if unset.
TIDINGS_SECTION__KEY sets a key of the configuration, as TIDINGS_LIMITS__HEARTBEAT_SECONDS=10.";

/// Real-time rooms over WebSockets, beside any application.
#[derive(Parser, Debug)]
#[command(name = "tidings", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Errors as lines of JSON on stderr, with code, message and fix; and results as JSON, where there are any
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    New(new::New),
    Detect(detect::Detect),
    Add(add::Add),
    Config(config::Config),
    Token(token::Token),
    Key(key::KeyCommand),
    Publish(publish::Publish),
    Tail(tail::Tail),
    Outbox(outbox::OutboxCommand),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Smoke(smoke::Smoke),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Docs(docs::Docs),
    Skill(skill::SkillCommand),
    Completions(completions::Completions),
    Man(completions::Man),
    #[cfg(feature = "conformance")]
    Echo(echo::Echo),
}

impl Cli {
    /// How errors are wanted.
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// Does what was asked.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let form = self.form();
        // The log of these two is as their configuration says.
        if !matches!(self.command, Command::Serve(_) | Command::Config(_)) {
            logs::start(&Log::default());
        }
        match self.command {
            Command::Dev(dev) => dev.run(),
            Command::Serve(serve) => serve.run(),
            Command::New(new) => new.run(form),
            Command::Detect(detect) => detect.run(form),
            Command::Add(add) => add.run(form),
            Command::Config(config) => config.run(form),
            Command::Token(token) => token.run(),
            Command::Key(key) => key.run(),
            Command::Publish(publish) => publish.run(form),
            Command::Tail(tail) => tail.run(form),
            Command::Outbox(outbox) => outbox.run(form),
            Command::OpenApi(openapi) => openapi.run(),
            Command::Smoke(smoke) => smoke.run(form),
            Command::Doctor(doctor) => doctor.run(form),
            Command::Bench(bench) => bench.run(form),
            Command::Docs(docs) => docs.run(form),
            Command::Skill(skill) => skill.run(form),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            #[cfg(feature = "conformance")]
            Command::Echo(echo) => echo.run(),
        }
    }
}
