//! `tidings bench`: the load generator of `bench/` against a server of the user's own.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use secrecy::ExposeSecret as _;
use tidings_load::dialect::{SigningKey, Tidings};
use tidings_load::{Asked, Case, Report, Target};

use crate::failure::{Failure, Form};
use crate::{dev_secret, open_files};

/// Measure a server: deliveries or answers a second, latencies, and with --pid what they cost
///
/// Makes tokens for users of its own, so it needs the server's secret: of `tidings dev`, if no other is named. The
/// server's limits hold for it as for everyone.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// The server: ws://127.0.0.1:7777
    url: String,
    #[command(flatten)]
    asked: Asked,
    /// The secret that tokens are signed with
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// For whom the tokens are
    #[arg(long, value_name = "NAME", default_value = "tidings")]
    audience: String,
}

impl Bench {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        let target = Target::parse(&self.url).map_err(Failure::usage)?;
        let key = match &self.secret_file {
            None => SigningKey::secret(dev_secret::load()?.expose_secret().as_bytes()),
            Some(file) => {
                let secret = std::fs::read_to_string(file).map_err(|error| {
                    Failure::failed(format_args!("{}: {error}", file.display()))
                        .fix("name the file with the server's secret")
                })?;
                SigningKey::secret(secret.trim_end_matches(['\r', '\n']).as_bytes())
            }
        };
        open_files::raise();
        let dialect = Tidings::new(key.audience(self.audience));
        let bar = progress_bar();
        let report = self.asked.run(&target, &dialect, |share| bar.set_position((share * 1000.0) as u64));
        bar.finish_and_clear();
        let report = report.map_err(|error| {
            Failure::failed(format_args!("{}: {error}", self.url))
                .fix("is it a Tidings server, and is --secret-file its secret?")
        })?;
        let text = match form {
            Form::Json => serde_json::to_string(&report).map_err(Failure::failed)?,
            Form::Text => shown(&report, self.asked.case),
        };
        writeln!(std::io::stdout(), "{text}")
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}

/// On stderr, and only for eyes.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} %  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// The result for people.
fn shown(report: &Report, case: Case) -> String {
    let what = match case {
        Case::Fanout => "deliveries",
        Case::Echo => "acked publishes",
        Case::Handshakes | Case::Storm => "handshakes",
        Case::Idle => "connections",
    };
    let mut lines = vec![format!(
        "{:<18}{} in {:.2} s: {:.0} a second",
        what, report.count, report.seconds, report.per_second
    )];
    if let Some(latency) = report.latency_ms {
        lines.push(format!(
            "{:<18}p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, at most {:.2} ms",
            "latency", latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        ));
    }
    if let (Some(cpu_us), Some(busy)) = (report.cpu_us, report.cpu_busy) {
        lines.push(format!("{:<18}{cpu_us:.2} µs each, {:.0} % of a core", "server CPU", busy * 100.0));
    }
    if let Some(memory) = report.memory {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        lines.push(format!(
            "{:<18}{:.0} bytes a connection: {:.1} MB before, {:.1} MB with all, {:.1} MB half a minute after they left",
            "server memory", memory.each, megabytes(memory.before), megabytes(memory.held), megabytes(memory.after)
        ));
    }
    match report.exact {
        Some(true) => lines.push("every message arrived exactly once at every subscriber".to_owned()),
        Some(false) => lines.push("NOT every message arrived exactly once at every subscriber".to_owned()),
        None => {}
    }
    if report.generator_busy > 0.9 {
        lines.push("the generator was as busy as it can be: the server may do more".to_owned());
    }
    lines.join("\n")
}
