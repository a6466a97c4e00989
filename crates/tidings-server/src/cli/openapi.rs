//! `tidings openapi`: the document of the HTTP API, on stdout.

use std::io::Write as _;

use clap::Args;

use crate::api;
use crate::failure::Failure;

/// Print the OpenAPI document of the HTTP API
#[derive(Args, Debug)]
pub(crate) struct OpenApi {}

impl OpenApi {
    pub(super) fn run(self) -> Result<(), Failure> {
        let document = serde_json::to_string_pretty(&api::document()).map_err(Failure::failed)?;
        writeln!(std::io::stdout(), "{document}")
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}
