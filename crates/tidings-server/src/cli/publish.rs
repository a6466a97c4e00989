//! `tidings publish`: one event over the HTTP API. It has an idempotency key always, so that trying again is safe.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings::RoomId;
use tidings::auth::UserId;

use super::{secret_argument, token};
use crate::failure::{Failure, Form};
use crate::http_client::{self, Answer, NoAnswer};
use crate::{api, dev_secret, run};

/// Random bytes of an idempotency key that nobody chose.
const KEY_RANDOM_BYTES: usize = 16;

/// Publish an event over the HTTP API
///
/// Prints the event's id. Everything else, and what went wrong, is on stderr.
#[derive(Args, Debug)]
#[command(
    override_usage = "tidings publish [OPTIONS] ROOM EVENT [DATA|-]\n       tidings publish [OPTIONS] --user ID EVENT [DATA|-]",
    after_help = "\
DATA is JSON, null if there is none; `-` reads it from stdin. A text is '\"hello\"'.
The key is --key, --key-file or TIDINGS_KEY; for a server on this machine else that of `tidings dev`.

Exit codes: 0 published (or published before, under this idempotency key), 1 it failed, 2 the command line is wrong,
69 the server can't be reached or can't do it now, 77 the server refused it."
)]
pub(crate) struct Publish {
    /// The room, the event's name and its data. No room with --user
    #[arg(value_names = ["ROOM", "EVENT", "DATA"], num_args = 1..=3, required = true)]
    words: Vec<String>,
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7777")]
    url: Uri,
    /// The API's key. Better in a file or in TIDINGS_KEY: other users of this machine can read a command line
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<SecretString>,
    /// A file with the API's key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Publish to this user's own room, and so to his devices
    #[arg(long, value_name = "ID", value_parser = token::user)]
    user: Option<UserId>,
    /// The same key within five minutes is the same event: 1-64 printable ASCII characters. A random one, if unset
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The answer is printed as JSON: the option that all commands have.
    #[arg(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    event: &'a str,
    data: &'a RawValue,
}

/// What a server that published it says.
#[derive(Serialize, Deserialize)]
struct Published {
    event_id: Option<String>,
    duplicate: bool,
}

/// What a server that did not says: RFC 9457.
#[derive(Deserialize, Default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    fix: Option<String>,
}

impl Publish {
    pub(super) fn run(mut self, form: Form) -> Result<(), Failure> {
        self.json = form == Form::Json;
        let (path, event, data) = self.what()?;
        let data = data.map_or_else(|| Ok(RawValue::NULL.to_owned()), json)?;
        let idempotency_key = match &self.idempotency_key {
            Some(key) => key.clone(),
            None => random_key()?,
        };
        let request = self.request(&path, &Body { event, data: &data }, &idempotency_key)?;
        run::block_on(async {
            let again = format!("try again with --idempotency-key {idempotency_key}: then it is one event");
            let answer = http_client::send(request).await.map_err(|error| match error {
                NoAnswer::NotSent(why) => Failure::unavailable(format_args!("{}: {why}", self.url))
                    .fix("is a server there? --url names another"),
                NoAnswer::Lost(why) => {
                    Failure::unavailable(format_args!("{}: {why}; it may have been published", self.url))
                        .fix(&again)
                }
            })?;
            self.take(&answer, &again)
        })
    }

    /// Where it goes, the event's name, and the data's text.
    fn what(&self) -> Result<(String, &str, Option<&str>), Failure> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match (&self.user, words.as_slice()) {
            (Some(user), [event, rest @ ..]) if rest.len() < 2 => Ok((
                format!("/v1/users/{}/events", percent_encoded(user.as_str())),
                event,
                rest.first().copied(),
            )),
            (Some(_), _) => {
                Err(Failure::usage("with --user there is no room")
                    .fix("tidings publish --user ID EVENT DATA"))
            }
            (None, [room, event, rest @ ..]) => {
                let room = RoomId::parse(room).map_err(Failure::usage)?;
                Ok((
                    format!("/v1/rooms/{}/events", percent_encoded(room.as_str())),
                    event,
                    rest.first().copied(),
                ))
            }
            (None, _) => {
                Err(Failure::usage("the event's name is missing").fix("tidings publish ROOM EVENT DATA"))
            }
        }
    }

    fn request(
        &self,
        path: &str,
        body: &Body<'_>,
        idempotency_key: &str,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        if !matches!(self.url.scheme_str(), Some("http" | "https")) || self.url.query().is_some() {
            return Err(Failure::usage(format_args!("{} is no server's URL", self.url))
                .fix("--url http://127.0.0.1:7777, or https://HOST"));
        }
        let url = format!("{}{path}", self.url.to_string().trim_end_matches('/'));
        let key = self.key()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
            .map_err(|_| Failure::usage("the key holds what no header may"))?;
        bearer.set_sensitive(true);
        let body = serde_json::to_vec(body).map_err(Failure::failed)?;
        Request::post(url)
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", idempotency_key)
            .body(Full::new(body.into()))
            .map_err(|error| Failure::usage(format_args!("no request can be made of that: {error}")))
    }

    fn key(&self) -> Result<SecretString, Failure> {
        match secret_argument::find(self.key.as_ref(), self.key_file.as_deref(), "TIDINGS_KEY")? {
            Some(key) => Ok(key),
            // No other machine is shown what is for this one.
            None if http_client::is_loopback(&self.url) => Ok(api::derived(&dev_secret::load()?)),
            None => Err(Failure::usage(format_args!("there is no key for {}", self.url))
                .fix("name it with --key-file, or TIDINGS_KEY=$(tidings key --config tidings.toml)")),
        }
    }

    fn take(&self, answer: &Answer, again: &str) -> Result<(), Failure> {
        if answer.status != StatusCode::OK {
            return Err(refusal(&self.url, answer, again));
        }
        let published: Published = serde_json::from_slice(&answer.body).map_err(|error| {
            Failure::failed(format_args!("{}: the answer is not the HTTP API's: {error}", self.url))
                .fix("is it a Tidings server? --url names another")
        })?;
        if published.duplicate {
            let _ = writeln!(std::io::stderr(), "it had been published already, under this idempotency key");
        }
        let line = match self.json {
            true => serde_json::to_string(&published).map_err(Failure::failed)?,
            false => published.event_id.unwrap_or_default(),
        };
        writeln!(std::io::stdout(), "{line}")
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}

/// Why it was not published, in the server's words.
fn refusal(url: &Uri, answer: &Answer, again: &str) -> Failure {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told = problem.detail.or(problem.title).unwrap_or_else(|| "the answer says nothing more".to_owned());
    let message = format!("{url}: {}: {told}", answer.status);
    let is_for_now = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
    let failure = if is_for_now { Failure::unavailable(message) } else { Failure::refused(message) };
    match problem.fix {
        Some(fix) => failure.fix(fix),
        None if is_for_now => failure.fix(again),
        None if answer.status == StatusCode::NOT_FOUND => {
            failure.fix("is it a Tidings server with the HTTP API on?")
        }
        None => failure,
    }
}

/// The data as it stands, which has to be JSON.
fn json(data: &str) -> Result<Box<RawValue>, Failure> {
    let mut text = data.to_owned();
    if data == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::failed(format_args!("stdin: {error}")))?;
    }
    RawValue::from_string(text.trim().to_owned()).map_err(|error| {
        Failure::usage(format_args!("the data is no JSON: {error}"))
            .fix("a text is '\"hello\"', an object '{\"a\":1}'")
    })
}

fn random_key() -> Result<String, Failure> {
    let mut random = [0; KEY_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| Failure::failed(format_args!("no random key: {error}")))?;
    Ok(dev_secret::hex(&random))
}

/// One part of a path.
fn percent_encoded(part: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    part.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_holds_nothing_that_ends_it() {
        assert_eq!(percent_encoded("chat:lobby"), "chat:lobby");
        assert_eq!(percent_encoded("a/b?c#d é%"), "a%2Fb%3Fc%23d%20%C3%A9%25");
    }
}
