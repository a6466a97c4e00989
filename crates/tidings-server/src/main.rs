//! The binary `tidings`: reads the command line, starts the log and the runtime, and ends with a fixed exit code.
//!
//! Exit codes: 0 all went well, 1 it failed, 2 the command line is wrong, 78 the configuration is wrong.
//! stdout is data and stderr is progress. Nothing here knows rooms or frames: that is the library's.

mod app;
mod broker;
mod cli;
mod config;
mod dev_secret;
mod failure;
mod forwarded;
mod listen;
mod logs;
mod memory;
mod metrics_page;
mod open_files;
mod pace;
mod page;
mod pending;
mod run;
mod span_of_time;
mod tls;
mod upstream;

use std::process::ExitCode;

use clap::Parser as _;

/// The one of four allocators that gave memory back after a mass disconnect. Its own threads purge what is free,
/// so that a server that fell idle shrinks too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logs::start();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
