//! `tidings key`: the key of the API that comes from the secret of `tidings dev`, alone on stdout.

use std::io::Write as _;

use clap::Args;
use secrecy::ExposeSecret as _;

use crate::failure::Failure;
use crate::{api, dev_secret};

/// Print the key of the API of `tidings dev`
#[derive(Args, Debug)]
pub(crate) struct Key {}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        let key = api::derived(&dev_secret::load()?);
        writeln!(std::io::stdout(), "{}", key.expose_secret())
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}
