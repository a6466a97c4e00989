//! `tidings completions` and `tidings man`: the command line for shells and for `man`, made from the commands themselves.

use std::io::Write as _;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::failure::Failure;

/// Print completions for a shell
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which; in bash: source <(tidings completions bash)
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tidings", &mut text);
        print(&text)
    }
}

/// Print the manual page: tidings man | man -l -
#[derive(Args, Debug)]
pub(crate) struct Man;

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        let mut cli = Cli::command();
        cli.build();
        render(&cli, &mut text)?;
        print(&text)
    }
}

/// The page of a command, and behind it those of its own commands: one file, so that it can be piped.
fn render(command: &Command, text: &mut Vec<u8>) -> Result<(), Failure> {
    clap_mangen::Man::new(command.clone()).render(text).map_err(Failure::failed)?;
    command
        .get_subcommands()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set())
        .try_for_each(|command| render(command, text))
}

fn print(text: &[u8]) -> Result<(), Failure> {
    std::io::stdout().write_all(text).map_err(|error| Failure::failed(format_args!("stdout: {error}")))
}
