//! `tidings smoke`: whether a server does what a client needs of it, each promise tried for real, with two users of its own.

mod arriving;
mod connections;
mod delivery;
mod entry;
mod heartbeat;
mod limits;
mod presence;
mod report;
mod resume;
mod rooms;
mod stage;

use clap::Args;
use http::Uri;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tidings::RoomId;
use tidings::auth::UserId;
use tokio::time::Instant;

use super::target::Target;
use super::token;
use super::tokens::{TokenOptions, Tokens};
use crate::failure::{Failure, Form};
use crate::{dev_secret, run};

use heartbeat::Heartbeat;
use report::Report;
use stage::{Checked, Fault, Stage};

/// Of the names that it makes up, the random bytes.
const NAME_RANDOM_BYTES: usize = 4;

/// Try a running server: refusals, delivery, acks, limits, heartbeat, resume, presence
///
/// Makes users and a room of its own, unless others are named, and leaves nothing but a few events in that room. An application that
/// serves `presence.heartbeat` hears one.
#[derive(Args, Debug)]
#[command(after_help = "\
The checks: no_token, forged_token, expired_token, welcome, foreign_room, delivery, ack, duplicate, resume, presence, too_large,
rate_limited, connection_limit, heartbeat. What can't be judged on this server is told as skipped, with the reason.
The tokens are signed with --secret, --secret-file, TIDINGS_SECRET or the secret of --config, or come from --token-from; for a
server on this machine else with the secret of `tidings dev`.
With --json, a line a check: {\"check\",\"result\",\"told\",\"fix\",\"ms\"}, and at the end {\"passed\",\"skipped\",\"failed\",\"not_run\"}.

Exit codes: 0 nothing failed, 1 a check failed, 2 the command line is wrong, 78 the configuration is wrong.")]
pub(crate) struct Smoke {
    /// The server: http://127.0.0.1:7777, wss://HOST/ws
    url: Uri,
    #[command(flatten)]
    tokens: TokenOptions,
    /// Where the application gives a token for a GET, as JSON with `token` or as text; {user} stands for the user's name
    #[arg(long, value_name = "URL", conflicts_with_all = ["secret", "secret_file", "config"])]
    token_from: Option<String>,
    /// A room that both users may join and publish in; one that is made up, if none is named
    #[arg(long, value_name = "NAME", value_parser = token::room)]
    room: Option<RoomId>,
    /// A room that neither of them may join
    #[arg(long, value_name = "NAME", value_parser = token::room)]
    foreign_room: Option<RoomId>,
    /// The two users, if the server knows whom it lets in: ann,ben
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = token::user)]
    users: Vec<UserId>,
    /// The event that is published
    #[arg(long, value_name = "NAME", default_value = "smoke.test")]
    event: String,
    /// The event's data, if it has a schema
    #[arg(long, value_name = "JSON", default_value = "{\"smoke\":true}", value_parser = data)]
    data: Value,
    /// Don't wait for a ping, which may take 30 s
    #[arg(long)]
    quick: bool,
}

fn data(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

/// What is tried, in this order: what needs less comes first, so that the first failure is near its cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    NoToken,
    ForgedToken,
    ExpiredToken,
    Welcome,
    ForeignRoom,
    Delivery,
    Ack,
    Duplicate,
    Resume,
    Presence,
    TooLarge,
    RateLimited,
    ConnectionLimit,
    Heartbeat,
}

impl Check {
    const ALL: [Self; 14] = [
        Self::NoToken,
        Self::ForgedToken,
        Self::ExpiredToken,
        Self::Welcome,
        Self::ForeignRoom,
        Self::Delivery,
        Self::Ack,
        Self::Duplicate,
        Self::Resume,
        Self::Presence,
        Self::TooLarge,
        Self::RateLimited,
        Self::ConnectionLimit,
        Self::Heartbeat,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::ForgedToken => "forged_token",
            Self::ExpiredToken => "expired_token",
            Self::Welcome => "welcome",
            Self::ForeignRoom => "foreign_room",
            Self::Delivery => "delivery",
            Self::Ack => "ack",
            Self::Duplicate => "duplicate",
            Self::Resume => "resume",
            Self::Presence => "presence",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::ConnectionLimit => "connection_limit",
            Self::Heartbeat => "heartbeat",
        }
    }

    async fn run(self, stage: &mut Stage, heartbeat: &mut Option<Heartbeat>) -> Checked {
        match self {
            Self::NoToken => entry::no_token(stage).await,
            Self::ForgedToken => entry::forged_token(stage).await,
            Self::ExpiredToken => entry::expired_token(stage).await,
            Self::Welcome => {
                let (told, begun) = Heartbeat::begin(stage).await?;
                *heartbeat = Some(begun);
                Ok(told)
            }
            Self::ForeignRoom => rooms::foreign_room(stage).await,
            Self::Delivery => delivery::delivery(stage).await,
            Self::Ack => delivery::ack(stage).await,
            Self::Duplicate => delivery::duplicate(stage).await,
            Self::Resume => resume::resume(stage).await,
            Self::Presence => presence::presence(stage).await,
            Self::TooLarge => limits::too_large(stage).await,
            Self::RateLimited => limits::rate_limited(stage).await,
            Self::ConnectionLimit => connections::connection_limit(stage).await,
            Self::Heartbeat => match heartbeat.take() {
                Some(heartbeat) => heartbeat.end(stage).await,
                None => Err(Fault::new("there was no connection to be pinged on", "see what failed before")),
            },
        }
    }
}

impl Smoke {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        if !matches!(self.users.len(), 0 | 2) {
            return Err(Failure::usage("--users names two users").fix("--users ann,ben"));
        }
        let mut stage = self.stage()?;
        run::block_on(async {
            let mut report = Report::new(form);
            let mut heartbeat = None;
            for (index, check) in Check::ALL.into_iter().enumerate() {
                let begun = Instant::now();
                let checked = Box::pin(check.run(&mut stage, &mut heartbeat)).await;
                report.line(check.name(), &checked, begun.elapsed())?;
                if let Err(fault) = checked {
                    report.end(Check::ALL.len() - index - 1)?;
                    let message = format!("{}: {}: {}", stage.target.socket(), check.name(), fault.message);
                    return Err(Failure::failed(message).fix(fault.fix));
                }
            }
            report.end(0)
        })
    }

    fn stage(self) -> Result<Stage, Failure> {
        let target = Target::parse(&self.url)?;
        let tokens = match self.token_from {
            Some(url) => Tokens::Fetched(url),
            None => Tokens::Signed(self.tokens.signer(target.is_loopback)?.ok_or_else(|| {
                Failure::usage(format_args!("there is nothing to sign tokens for {} with", self.url)).fix(
                    "name the secret with --secret-file, TIDINGS_SECRET or --config, or say --token-from URL",
                )
            })?),
        };
        let limits = self.tokens.limits()?;
        let key = match &tokens {
            Tokens::Signed(signer) => Some(crate::api::derived(&signer.secret).expose_secret().to_owned()),
            Tokens::Fetched(_) => None,
        };
        let mut random = [0; NAME_RANDOM_BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::failed(format_args!("no random names: {error}")))?;
        let run = dev_secret::hex(&random);
        let are_users_named = !self.users.is_empty();
        let mut named = self.users.iter().map(|user| user.as_str().to_owned());
        let mut user = |role: &str| named.next().unwrap_or_else(|| format!("smoke-{run}-{role}"));
        let users = [user("ann"), user("ben")];
        Ok(Stage {
            room: self.room.map_or_else(|| format!("smoke:{run}"), |room| room.as_str().to_owned()),
            foreign_room: self.foreign_room.map(|room| room.as_str().to_owned()),
            crowd: if are_users_named { users[1].clone() } else { format!("smoke-{run}-crowd") },
            users,
            target,
            tokens,
            key: key.map(Into::into),
            event: self.event,
            data: self.data,
            connections_max: limits.as_ref().map(|limits| limits.connections_per_user_max),
            is_quick: self.quick,
            asked: 0,
            run,
            welcome: None,
        })
    }
}

/// The message that joins a room.
fn join(id: &str, room: &str) -> Value {
    json!({"event": "room.join", "room": room, "id": id})
}
