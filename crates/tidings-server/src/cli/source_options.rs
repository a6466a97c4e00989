//! The options that name a configuration, and those that say something otherwise than it does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{Setting, Sources};
use crate::failure::Place;
use crate::span_of_time;

#[derive(Args, Debug)]
pub(super) struct SourceOptions {
    /// The configuration; tidings.toml, if there is one and nothing is named
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another address than the configuration's `listen`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// What nodes share rooms through, instead of the configuration's `broker.url`: `redis://host[:port]`. A password is
    /// better in the file, since other users of this machine can read a command line
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Your application, instead of the configuration's `upstream.url`: it has every path that is not Tidings' own
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// How long clients have to move to another node at the end, instead of the configuration's `drain_window_seconds`
    #[arg(long, value_name = "DURATION", value_parser = span_of_time::parse)]
    drain_window: Option<Duration>,
}

impl SourceOptions {
    /// The sources of a configuration.
    pub(super) fn sources(self) -> Sources {
        let quoted = |text: String| toml::Value::from(text).to_string();
        let flags = [
            ("--listen", "listen", self.listen.map(|address| quoted(address.to_string()))),
            ("--broker", "broker.url", self.broker.map(quoted)),
            ("--upstream", "upstream.url", self.upstream.map(quoted)),
            (
                "--drain-window",
                "drain_window_seconds",
                self.drain_window.map(|window| window.as_secs().to_string()),
            ),
        ];
        let setting = |(flag, path, text): (_, &str, Option<String>)| {
            Some(Setting { place: Place::Flag(flag), path: path.to_owned(), text: text? })
        };
        Sources { file: self.config, flags: flags.into_iter().filter_map(setting).collect() }
    }
}
