//! `tidings key`: the HTTP API's key that comes from a secret, alone on stdout, so that `$(tidings key)` is one.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::secret_argument;
use crate::api;
use crate::config::Sources;
use crate::dev_secret;
use crate::failure::Failure;

/// Print the HTTP API's key that is derived from the secret of the tokens: of `tidings dev`, if no other is named
#[derive(Args, Debug)]
pub(crate) struct KeyCommand {
    /// The secret. Better in a file: other users of this machine can read a command line
    #[arg(long, value_name = "SECRET", conflicts_with_all = ["secret_file", "config"])]
    secret: Option<SecretString>,
    /// A file with the secret
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    secret_file: Option<PathBuf>,
    /// The configuration of `tidings serve`, whose [auth] names the secret
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn secret_of(config: &Path) -> Result<Option<SecretString>, Failure> {
    Sources { file: Some(config.to_owned()), flags: Vec::new() }.load()?.config.secret()
}

impl KeyCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let secret = match (self.secret, &self.secret_file, &self.config) {
            (Some(secret), _, _) => secret,
            (None, Some(file), _) => secret_argument::read(file)?,
            (None, None, Some(config)) => secret_of(config)?.ok_or_else(|| {
                Failure::config(format_args!("{}: [auth] has no secret", config.display()))
                    .fix("a key of the API's own: see [[api.keys]] in docs/http-api.md")
            })?,
            (None, None, None) => dev_secret::load()?,
        };
        writeln!(std::io::stdout(), "{}", api::derived(&secret).expose_secret())
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}
