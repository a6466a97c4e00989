//! `tidings-load`: one case against one server, the result as a line of JSON. `bench/run` calls it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidings_load::dialect::{self, SigningKey};
use tidings_load::{Asked, Report, Target};

/// One case against one server; prints a line of JSON
#[derive(Parser)]
struct Cli {
    /// Where the server listens: ws://127.0.0.1:7777
    url: String,
    /// tidings, plain, socketio, centrifuge, nats, nchan, pusher
    #[arg(long, default_value = "tidings")]
    dialect: String,
    #[command(flatten)]
    asked: Asked,
    /// The secret that tokens are signed with
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// The private key that tokens are signed with, as PEM
    #[arg(long)]
    es256_key_file: Option<PathBuf>,
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
    Ok(cli.asked.run(&target, &*dialect, |_| {})?)
}
