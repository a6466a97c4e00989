//! `tidings tail`: a room's events as they come, one a line, for eyes or for programs. A lost connection loses no line.

mod line;

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use secrecy::{ExposeSecret as _, SecretString};
use tidings::RoomId;
use tidings::auth::UserId;
use tidings_client::{CaughtUp, Client, Event, HandshakeRefusal, RequestError, Room, RoomEvent, State};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{secret_argument, token};
use crate::failure::{Failure, Form};
use crate::{dev_secret, http_client, run, span_of_time};

/// So long the server has to take note that we leave.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Lines that wait for whoever reads stdout. What comes beyond them, the server is asked for again.
const WAITING_MAX: usize = 256;
/// For whom a token of `tidings dev` is, and how long: a new one is made for each connection.
const DEV_USER: &str = "dev";
const DEV_TOKEN_TTL: Duration = Duration::from_secs(60 * 60);

/// Print the events of rooms as they come, one a line
///
/// Connects again when the connection breaks, and goes on where it was. Ends with Ctrl-C.
#[derive(Args, Debug)]
#[command(after_help = "\
A line is: when, room, event, from whom, data; `-` stands for what there is not. With --json it is what clients get.
The token is --token, --token-file (read again for each connection) or TIDINGS_TOKEN; for a server on this machine else
one of `tidings dev`.

Exit codes: 0 ended by Ctrl-C, by --once or by who reads it, 1 it failed, 2 the command line is wrong,
69 the server can't be reached, 77 the server refused it.")]
pub(crate) struct Tail {
    /// The rooms; those that the server joins this user to, if none is named
    #[arg(value_name = "ROOM", value_parser = token::room)]
    rooms: Vec<RoomId>,
    /// The server's socket
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7777/ws")]
    url: Uri,
    /// The user's token. Better in a file or in TIDINGS_TOKEN: other users of this machine can read a command line
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<SecretString>,
    /// A file with the user's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Only events of this name, or of names that begin so: order.*
    #[arg(long, value_name = "PATTERN")]
    event: Vec<String>,
    /// Only what this user has caused
    #[arg(long, value_name = "USER", value_parser = token::user)]
    from: Option<UserId>,
    /// Lines are JSON: the option that all commands have.
    #[arg(skip)]
    json: bool,
    /// Begin with so many of each room's last events. Rooms that the server joins this user to by itself begin at their newest
    #[arg(long, value_name = "N", default_value_t = 0, requires = "rooms")]
    last: u32,
    /// How long to wait for a server that is not there yet. One that has been there is waited for without end
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = span_of_time::parse)]
    wait: Duration,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    once: Option<NonZeroU64>,
}

/// Why following ends well.
enum Ended {
    Interrupted,
    Enough,
    /// Nobody reads what is printed any more.
    Unread,
}

impl Tail {
    pub(super) fn run(mut self, form: Form) -> Result<(), Failure> {
        self.json = form == Form::Json;
        run::block_on(async {
            let client = self.client()?;
            let no_signals = |error| Failure::failed(format_args!("no signals: {error}"));
            let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
            let mut joined = Vec::new();
            let ended = tokio::select! {
                ended = self.follow(&client, &mut joined) => ended,
                _ = interrupt.recv() => Ok(Ended::Interrupted),
                _ = terminate.recv() => Ok(Ended::Interrupted),
            };
            // Those who are told of presence are told at once that we left, and not when a grace is over.
            let leaving = async {
                for room in &joined {
                    let _ = room.leave().await;
                }
            };
            let _ = tokio::time::timeout(LEAVE_MAX, leaving).await;
            client.close();
            match ended? {
                Ended::Interrupted => tell(format_args!("ended")),
                Ended::Enough | Ended::Unread => {}
            }
            Ok(())
        })
    }

    fn client(&self) -> Result<Client, Failure> {
        let builder = Client::builder(self.url.to_string());
        let given = secret_argument::find(self.token.as_ref(), self.token_file.as_deref(), "TIDINGS_TOKEN")?;
        let builder = match (given, &self.token_file) {
            (Some(_), Some(file)) => {
                let file = file.clone();
                builder.token_from(move |_| {
                    let token =
                        secret_argument::read(&file).map(|token| Some(token.expose_secret().to_owned()));
                    std::future::ready(token.map_err(|_| "the token's file can't be read"))
                })
            }
            (Some(token), None) => builder.token(token.expose_secret()),
            // No other machine is shown what is for this one.
            (None, _) if http_client::is_loopback(&self.url) => {
                let secret = dev_secret::load()?;
                let user = UserId::parse(DEV_USER).map_err(Failure::failed)?;
                builder.token_from(move |_| {
                    let token = token::mint(&secret, &user, &[], DEV_TOKEN_TTL);
                    std::future::ready(token.map(Some).map_err(|_| "no token can be made"))
                })
            }
            (None, _) => {
                return Err(Failure::usage(format_args!("there is no token for {}", self.url))
                    .fix("name it with --token-file or TIDINGS_TOKEN"));
            }
        };
        builder
            .connect()
            .map_err(|error| Failure::usage(error).fix("--url ws://127.0.0.1:7777/ws, or wss://HOST/ws"))
    }

    /// Follows the rooms until there is enough, or the server says no.
    async fn follow(&self, client: &Client, joined: &mut Vec<Room>) -> Result<Ended, Failure> {
        let mut states = client.watch_state();
        let connected = states.wait_for(|state| !matches!(state, State::Connecting | State::Reconnecting));
        let Ok(state) = tokio::time::timeout(self.wait, connected).await else {
            return Err(Failure::unavailable(format_args!("{}: no connection in {:?}", self.url, self.wait))
                .fix("is a server there, and does it take anybody now? --url names another, --wait waits longer"));
        };
        self.judge(&state.map_err(Failure::failed)?.clone())?;
        let joined_by_server = client.joined_rooms();
        let rooms = if self.rooms.is_empty() { joined_by_server.clone() } else { self.rooms.clone() };
        if rooms.is_empty() {
            return Err(
                Failure::usage("this user is joined to no room by the server").fix("tidings tail ROOM")
            );
        }
        let (sender, mut events) = mpsc::channel(WAITING_MAX);
        for room in &rooms {
            if self.last > 0 && joined_by_server.contains(room) {
                tell(format_args!(
                    "{room}: the server has joined this user at its newest event, so nothing older is shown"
                ));
            }
            let (room, mut stream) = client
                .join(room.as_str())
                .history(self.last)
                .await
                .map_err(|error| self.no_room(room, &error))?;
            let (name, sender) = (room.name().to_owned(), sender.clone());
            joined.push(room);
            tokio::spawn(async move {
                while let Some(event) = stream.next().await {
                    if sender.send((name.clone(), event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let names: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
        let user = client.user().unwrap_or_default();
        tell(format_args!("connected to {} as {user}, following {}", self.url, names.join(" ")));
        let mut following: HashSet<RoomId> = rooms.into_iter().collect();
        let mut lines = 0;
        // What is there before the first line belongs to the join.
        let mut has_reconnected = false;
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some((room, event)) = event else { return Err(self.closed()) };
                    if let RoomEvent::Lost(code) = &event {
                        tell(format_args!("{room}: the server does not let us in again: {code}"));
                        following.retain(|followed| followed.as_str() != room);
                        if following.is_empty() {
                            return Err(Failure::refused(format_args!("{room}: {code}; no other room is followed")));
                        }
                    }
                    let Some(line) = self.line(&room, &event, has_reconnected) else { continue };
                    match print(line).await {
                        Ok(()) => lines += u64::from(matches!(event, RoomEvent::Event(_))),
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ended::Unread),
                        Err(error) => return Err(Failure::failed(format_args!("stdout: {error}"))),
                    }
                    if self.once.is_some_and(|once| lines >= once.get()) {
                        return Ok(Ended::Enough);
                    }
                }
                changed = states.changed() => {
                    if changed.is_err() {
                        return Err(self.closed());
                    }
                    let state = states.borrow_and_update().clone();
                    self.judge(&state)?;
                    has_reconnected = true;
                    match state {
                        State::Reconnecting => tell(format_args!("the connection is lost; connecting again")),
                        // It may be back before we hear that it was away.
                        State::Connected => tell(format_args!("connected again")),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether the connection can still become one.
    fn judge(&self, state: &State) -> Result<(), Failure> {
        match state {
            State::Refused(HandshakeRefusal { status, code, message, .. }) => {
                let code = code.as_deref().unwrap_or("refused");
                let told = message.as_deref().unwrap_or("the answer says nothing more");
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                let failure = Failure::refused(format_args!("{}: {status} {code}: {told}", self.url));
                Err(if code.starts_with("token") {
                    failure.fix("name a token that is good now: --token-file, TIDINGS_TOKEN")
                } else {
                    failure
                })
            }
            State::Closed => Err(self.closed()),
            _ => Ok(()),
        }
    }

    fn closed(&self) -> Failure {
        Failure::refused(format_args!("{}: the server has ended the connection for good", self.url))
            .fix("has the token been taken back, or is this user connected elsewhere in its place?")
    }

    fn no_room(&self, room: &RoomId, error: &RequestError) -> Failure {
        match error {
            RequestError::Refused { code, message, .. } => {
                let failure = Failure::refused(format_args!("{room}: {code}: {message}"));
                failure.fix("the room's rule in the server's configuration says who may join")
            }
            RequestError::Closed => self.closed(),
            other => Failure::failed(format_args!("{room}: {other}")),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let is_named = self.event.is_empty() || self.event.iter().any(|pattern| fits(pattern, &event.event));
        let is_from = self.from.as_ref().is_none_or(|user| event.from.as_deref() == Some(user.as_str()));
        is_named && is_from
    }

    /// What of it is data, as a line; the rest is told on stderr.
    fn line(&self, room: &str, event: &RoomEvent, has_reconnected: bool) -> Option<String> {
        match event {
            RoomEvent::Event(event) if !self.wants(event) => None,
            RoomEvent::Event(event) if self.json => Some(line::for_programs(event)),
            RoomEvent::Event(event) => Some(line::for_people(event)),
            RoomEvent::Reset(reset) => {
                let reason = serde_json::to_value(reset.reason).unwrap_or_default();
                let why = reason.as_str().unwrap_or_default();
                tell(format_args!("{room}: some events are not stored any more: {why}"));
                // A program finds it in the place where they are missing.
                self.json.then(|| line::of_reset(room, reset, &reason))
            }
            RoomEvent::CaughtUp(CaughtUp { events, .. }) if has_reconnected => {
                tell(format_args!("{room}: caught up, {events} events had been missed"));
                None
            }
            _ => None,
        }
    }
}

/// Whether a name is the pattern, or begins as a pattern that ends with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// Writes a line at once, by a thread that may have to wait for who reads it: Ctrl-C is heard meanwhile.
async fn print(line: String) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(move || {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    });
    written.await.map_err(io::Error::other)?
}

/// Says what goes on. A stderr that is gone has nobody to tell.
fn tell(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        assert!(fits("typing.*", "typing.start") && fits("a", "a") && fits("*", "a"));
        assert!(!fits("typing.*", "typing") && !fits("a", "ab") && !fits("a*b", "ab"));
    }
}
