//! `tidings doctor`: why a set-up does not work: each cause with what shows it and what to do, the one behind the others first.

mod answers;
mod clock;
mod configured;
mod diagnosis;
mod machine;
mod proxy;
mod reach;
mod token_in_hand;
mod versions;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use http::{HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use super::secret_argument;
use super::target::Target;
use super::tokens::TokenOptions;
use crate::failure::{Failure, Form};
use crate::run;

use configured::Configured;
use diagnosis::Diagnosis;
use token_in_hand::InHand;

/// The configuration that counts if none is named and no URL is.
const FILE_DEFAULT: &str = "tidings.toml";
/// Where a server is if nothing says otherwise.
const URL_DEFAULT: &str = "ws://127.0.0.1:7777/ws";
/// For whom the token is that is made to try the door.
const USER: &str = "tidings-doctor";

/// Say why a set-up does not work: each cause, what shows it, and what to do
///
/// Looks at a server from outside, at its configuration if it is named or there is a tidings.toml and no URL, and at this
/// machine. Changes nothing.
#[derive(Args, Debug)]
#[command(after_help = "\
The causes: configuration, port_in_use, open_files, redis, redis_settings, webhook_unreachable, unknown_host, unreachable, no_answer, certificate,
tls_mismatch, clock_skew, token_expired, token_malformed, token_claims, secret_mismatch, header_dropped, no_authentication,
foreign_login, origin, forbidden, wrong_path, not_tidings, proxy_no_upgrade, proxy_holds_frames, redirect, backend_down,
one_address, connection_limit, unavailable, refused, server_version, sdk_version.
What can't be judged from here is told with the reason.
With --json, a line for each: {\"finding\",\"message\",\"evidence\",\"fix\"}, {\"fine\",\"told\"} or {\"not_judged\",\"why\"}, and at the end
{\"findings\":n}.

Exit codes: 0 nothing was found, 1 something was, 2 the command line is wrong.")]
pub(crate) struct Doctor {
    /// The server: wss://HOST/ws. By default the configuration's `listen`, else ws://127.0.0.1:7777/ws
    url: Option<Uri>,
    #[command(flatten)]
    tokens: TokenOptions,
    /// The token that is refused. Better in a file or in TIDINGS_TOKEN: other users of this machine can read a command line
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<SecretString>,
    /// A file with the token that is refused
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The page's origin that is refused: https://app.example
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<HeaderValue>,
}

impl Doctor {
    pub(super) fn run(mut self, form: Form) -> Result<(), Failure> {
        if self.tokens.config.is_none() && self.url.is_none() && Path::new(FILE_DEFAULT).exists() {
            self.tokens.config = Some(PathBuf::from(FILE_DEFAULT));
        }
        let given = secret_argument::find(self.token.as_ref(), self.token_file.as_deref(), "TIDINGS_TOKEN")?;
        run::block_on(async {
            let mut diagnosis = Diagnosis::default();
            let configured = match &self.tokens.config {
                Some(file) => Configured::read(file, &mut diagnosis).await,
                None => None,
            };
            // What is wrong with the configuration is told; nothing that follows from it is.
            if self.tokens.config.is_none() || configured.is_some() {
                self.look(configured.as_ref(), given.as_ref(), &mut diagnosis).await?;
            }
            diagnosis.tell(form)
        })
    }

    async fn look(
        &self,
        configured: Option<&Configured>,
        given: Option<&SecretString>,
        diagnosis: &mut Diagnosis,
    ) -> Result<(), Failure> {
        let url = match (&self.url, configured) {
            (Some(url), _) => url.clone(),
            (None, Some(configured)) => {
                local(configured.listen(), configured.socket_path(), configured.has_tls())?
            }
            (None, None) => Uri::from_static(URL_DEFAULT),
        };
        let target = Target::parse(&url)?;
        if target.is_loopback || configured.is_some() {
            machine::open_files(configured, diagnosis);
        } else {
            diagnosis.not_judged("open_files", "the server is on another machine, or so it seems");
        }
        if let Some(configured) = configured {
            let is_free_for_us = machine::ports(configured, diagnosis).await;
            if !is_free_for_us && self.url.is_none() {
                return Ok(());
            }
        }
        let signer = self.tokens.signer(false)?;
        let in_hand = match given {
            Some(token) => Some(InHand::given(token.expose_secret(), signer.as_ref(), diagnosis)),
            None => match signer {
                Some(signer) => Some(InHand::made(&signer, USER)?),
                None if target.is_loopback && self.tokens.config.is_none() => {
                    self.tokens.signer(true)?.map(|signer| InHand::made(&signer, USER)).transpose()?
                }
                None => None,
            },
        };
        match configured.and_then(Configured::webhooks_url) {
            Some(url) if target.is_loopback => webhooks::look(url, diagnosis).await,
            Some(_) => diagnosis.not_judged("webhooks", "the server is on another machine, or so it seems"),
            None => {}
        }
        if let Some(server) =
            reach::look(&target, in_hand.as_ref(), self.origin.as_ref(), configured, diagnosis).await
        {
            proxy::one_address(&target, &server, configured, diagnosis);
            versions::look(&target, diagnosis).await;
        }
        Ok(())
    }
}

/// Where a server with this configuration is found from the same machine.
fn local(listen: SocketAddr, path: &str, has_tls: bool) -> Result<Uri, Failure> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, listen.port());
    let url = format!("{}://{address}{path}", if has_tls { "wss" } else { "ws" });
    url.parse().map_err(|error| Failure::failed(format_args!("{url}: {error}")))
}
