//! The command line: one file a command.

mod bench;
mod dev;
#[cfg(feature = "conformance")]
mod echo;
mod outbox;
mod serve;
mod token;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// What follows the options in `--help`.
const EXIT_CODES: &str = "\
Exit codes: 0 all went well, 1 it failed, 2 the command line is wrong, 78 the configuration is wrong.
TIDINGS_LOG, else RUST_LOG, says what is logged to stderr; info, if unset.";

/// Real-time rooms over WebSockets, beside any application.
#[derive(Parser, Debug)]
#[command(name = "tidings", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    Token(token::Token),
    Outbox(outbox::OutboxCommand),
    Bench(bench::Bench),
    #[cfg(feature = "conformance")]
    Echo(echo::Echo),
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Dev(dev) => dev.run(),
            Command::Serve(serve) => serve.run(),
            Command::Token(token) => token.run(),
            Command::Outbox(outbox) => outbox.run(),
            Command::Bench(bench) => bench.run(),
            #[cfg(feature = "conformance")]
            Command::Echo(echo) => echo.run(),
        }
    }
}
