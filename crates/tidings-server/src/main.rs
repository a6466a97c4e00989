//! The binary `tidings`: reads the command line, does what it asks for, and ends with a fixed exit code.
//!
//! Exit codes: 0 all went well, 1 it failed, 2 the command line is wrong, 69 the server can't be reached, 77 the server
//! refused it, 78 the configuration is wrong.
//! stdout is data and stderr is progress. Nothing here knows rooms or frames: that is the library's.

mod addition;
mod api;
mod app;
mod broker;
mod cli;
mod config;
mod detect;
mod dev_secret;
mod failure;
mod filled;
mod forwarded;
mod http_client;
mod listen;
mod logs;
mod manual;
mod membership_sql;
mod memory;
mod metrics_page;
mod open_files;
mod pace;
mod page;
mod pending;
mod run;
mod sdk;
mod service;
mod skill;
mod span_of_time;
mod template;
mod timestamp;
mod tls;
mod upstream;
mod user_rooms;
mod webhook;

use std::process::ExitCode;

use clap::Parser as _;

/// The one of four allocators that gave memory back after a mass disconnect. Its own threads purge what is free,
/// so that a server that fell idle shrinks too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return failure::refused(&refusal),
    };
    let form = cli.form();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(form),
    }
}
