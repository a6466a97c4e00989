//! `tidings-load`: one case against one server, the result as a line of JSON. `bench/run` calls it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tidings_load::dialect::{self, SigningKey};
use tidings_load::{Plan, Report, Target, case};

/// One case against one server; prints a line of JSON
#[derive(Parser)]
struct Cli {
    /// Where the server listens: ws://127.0.0.1:7777
    url: String,
    /// tidings, plain, socketio, centrifuge, nats, nchan
    #[arg(long, default_value = "tidings")]
    dialect: String,
    /// What to ask of it
    #[arg(long, value_enum, default_value = "fanout")]
    case: Case,
    /// Rooms
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Subscribers of each room
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Bytes of a message's data
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// Publishes of a room, or requests of a client, that wait for their end
    #[arg(long, default_value_t = 8)]
    outstanding: usize,
    /// Publishes a second, instead of as many as can be
    #[arg(long)]
    rate: Option<f64>,
    /// Connections of echo, handshakes, idle and storm
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The share of subscribers that stops to read
    #[arg(long, default_value_t = 0.0)]
    stopped: f64,
    /// Seconds before the measured time
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The server's process, for its CPU and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Besides, the busy time of each of its threads whose name begins so
    #[arg(long)]
    threads: Option<String>,
    /// The secret that tokens are signed with
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// The private key that tokens are signed with, as PEM
    #[arg(long)]
    es256_key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Case {
    Fanout,
    Echo,
    Handshakes,
    Idle,
    Storm,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(report) => {
            let line = serde_json::to_string(&report).unwrap_or_default();
            let _ = writeln!(io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Report, Box<dyn std::error::Error>> {
    let key = match (&cli.secret_file, &cli.es256_key_file) {
        (Some(file), _) => Some(SigningKey::secret(std::fs::read_to_string(file)?.trim_end().as_bytes())),
        (None, Some(file)) => Some(SigningKey::es256_pem(&std::fs::read(file)?)?),
        (None, None) => None,
    };
    let dialect = dialect::named(&cli.dialect, key)?;
    let target = Target::parse(&cli.url)?;
    let plan = Plan {
        rooms: cli.rooms,
        subscribers: cli.subscribers,
        bytes: cli.bytes,
        outstanding: cli.outstanding,
        rate: cli.rate,
        connections: cli.connections,
        stopped: cli.stopped,
        warm_up: Duration::from_secs_f64(cli.warm_up),
        duration: Duration::from_secs_f64(cli.seconds),
        pid: cli.pid,
        threads: cli.threads.clone(),
    };
    let quiet = |_| {};
    Ok(match cli.case {
        Case::Fanout => case::fanout::run(&target, &*dialect, &plan, quiet)?,
        Case::Echo => case::echo::run(&target, &*dialect, &plan, quiet)?,
        Case::Handshakes => case::handshakes::run(&target, &*dialect, &plan, quiet)?,
        Case::Idle => case::connections::idle(&target, &*dialect, &plan, quiet)?,
        Case::Storm => case::connections::storm(&target, &*dialect, &plan, quiet)?,
    })
}
