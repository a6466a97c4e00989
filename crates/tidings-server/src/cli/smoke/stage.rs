//! What all checks of `tidings smoke` share: the server, the two users and their room, and how a check ends.

use http::{Request, StatusCode, header};
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::join;
use crate::cli::link::{Link, NoLink, Reply, Welcome};
use crate::cli::target::{Problem, Target, bearer};
use crate::cli::tokens::Tokens;
use crate::http_client;

/// How a check ends well.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With what was seen.
    Passed(String),
    /// It can't be judged here, for this reason.
    Skipped(String),
}

/// What is wrong, and what to do.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) fix: String,
}

pub(super) type Checked = Result<Outcome, Fault>;

impl Fault {
    pub(super) fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { message: message.into(), fix: fix.into() }
    }

    /// For what ends a wait: the message is known, the fix is the check's.
    pub(super) fn with(fix: &'static str) -> impl Fn(String) -> Self {
        move |message| Self::new(message, fix)
    }
}

/// The two who play.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    Ann,
    Ben,
}

/// What a publish was answered.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) event_id: String,
    pub(super) is_duplicate: bool,
    /// By the HTTP API, because clients may not publish here.
    pub(super) is_by_api: bool,
}

pub(super) struct Stage {
    pub(super) target: Target,
    pub(super) tokens: Tokens,
    /// The HTTP API's, where the secret is known.
    pub(super) key: Option<SecretString>,
    pub(super) users: [String; 2],
    /// Who connects too often.
    pub(super) crowd: String,
    pub(super) room: String,
    pub(super) foreign_room: Option<String>,
    pub(super) event: String,
    pub(super) data: Value,
    /// As the server's configuration says, where it is named.
    pub(super) connections_max: Option<usize>,
    pub(super) is_quick: bool,
    /// What ids begin with, so that no other run has used them.
    pub(super) run: String,
    pub(super) asked: u64,
    /// The first one, which says the limits.
    pub(super) welcome: Option<Welcome>,
}

const UNLINKED: &str = "`tidings doctor URL` says what is in the way of a connection";

/// For `unavailable`: what the application is asked by a webhook, nothing has answered.
pub(super) const UNANSWERED: &str = "the event is a webhook, and its application does not answer it: is it there, at [webhooks] url, and takes it without a login? the server's log says what came back";

impl Stage {
    /// An id that was never used.
    pub(super) fn id(&mut self) -> String {
        self.asked += 1;
        format!("smoke-{}-{}", self.run, self.asked)
    }

    pub(super) fn user(&self, who: Who) -> &str {
        match who {
            Who::Ann => &self.users[0],
            Who::Ben => &self.users[1],
        }
    }

    pub(super) async fn token(&self, user: &str) -> Result<String, Fault> {
        let token = self.tokens.token(user, &self.room).await;
        token.map_err(Fault::with(
            "name what gives tokens that this server takes: --secret-file, --token-from",
        ))
    }

    pub(super) async fn try_link(&self, user: &str) -> Result<Result<Link, NoLink>, Fault> {
        let token = self.token(user).await?;
        Ok(Link::open(&self.target, &token).await)
    }

    pub(super) async fn link(&self, who: Who) -> Result<Link, Fault> {
        self.link_at(&self.target, who).await
    }

    /// One that is in no room before its first message, `session.resume`, says where it was.
    pub(super) async fn link_to_resume(&self, who: Who) -> Result<Link, Fault> {
        self.link_at(&self.target.at(&format!("{}?resume=wait", self.target.path())), who).await
    }

    async fn link_at(&self, target: &Target, who: Who) -> Result<Link, Fault> {
        let user = self.user(who);
        let link = Link::open(target, &self.token(user).await?).await;
        let Err(refusal) = link else { return link.map_err(|never| Fault::new(never.to_string(), UNLINKED)) };
        let NoLink::Refused(_) = refusal else { return Err(Fault::new(refusal.to_string(), UNLINKED)) };
        // The answer to another handshake says more than the status of the first one.
        let token = self.token(user).await?;
        let told = self.target.handshake(Some(&token), None).await.ok().map(|answer| Problem::of(&answer));
        let told = told.unwrap_or_default();
        let detail = told.detail.as_deref().unwrap_or("the answer says nothing more");
        let message = format!("{refusal}: {} {detail}", told.code());
        Err(Fault::new(message, told.fix.unwrap_or_else(|| UNLINKED.to_owned())))
    }

    /// A connection that is in the room, and the ack's data.
    pub(super) async fn joined(&mut self, who: Who) -> Result<(Link, Value), Fault> {
        let mut link = self.link(who).await?;
        let joined = join(&self.id(), &self.room);
        let ack = self.join_with(&mut link, &joined).await?;
        Ok((link, ack))
    }

    pub(super) async fn join_with(&self, link: &mut Link, message: &Value) -> Result<Value, Fault> {
        let reply = link.ask(message).await;
        match reply.map_err(Fault::with("the server takes connections and answers nothing on them"))? {
            Reply::Ack(data) => Ok(data),
            Reply::Refused { code, message } => Err(Fault::new(
                format!("{} may not join {}: {code}: {message}", link.welcome.user, self.room),
                "name a room that both users may join with --room, and the users with --users",
            )),
        }
    }

    /// Publishes in the room, as a client or, where clients may not, as the backend.
    pub(super) async fn publish(&self, link: &mut Link, id: &str) -> Result<Published, Fault> {
        let message = json!({"event": self.event, "room": self.room, "data": self.data, "id": id});
        let reply = link.ask(&message).await;
        match reply.map_err(Fault::with("the server takes messages and does not ack them: see its log"))? {
            Reply::Ack(ack) => published(&ack, false),
            Reply::Refused { code, .. } if code == "forbidden" && self.key.is_some() => {
                self.publish_by_api(id).await
            }
            Reply::Refused { code, message } => Err(Fault::new(
                format!("{:?} in {} was not taken: {code}: {message}", self.event, self.room),
                match code.as_str() {
                    "unknown_event" | "schema" => {
                        "name an event that the server knows with --event, and data that fits with --data"
                    }
                    "forbidden" => {
                        "let clients publish in a room and name it with --room, or give the secret, so that the HTTP API publishes"
                    }
                    "unavailable" => UNANSWERED,
                    _ => "the code is explained in PROTOCOL.md, section 3",
                },
            )),
        }
    }

    async fn publish_by_api(&self, id: &str) -> Result<Published, Fault> {
        const FIX: &str = "let clients publish in a room and name it with --room, or make the HTTP API reachable at this address";
        let key = self.key.as_ref().map(|key| key.expose_secret().to_owned()).unwrap_or_default();
        let body = json!({"event": self.event, "data": self.data}).to_string();
        let request = Request::post(self.target.page(&format!("/v1/rooms/{}/events", self.room)))
            .header(header::AUTHORIZATION, bearer(&key).map_err(Fault::with(FIX))?)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", id)
            .body(Full::new(body.into()))
            .map_err(|error| Fault::new(error.to_string(), FIX))?;
        let answer = http_client::send(request).await.map_err(|error| Fault::new(error.to_string(), FIX))?;
        if answer.status != StatusCode::OK {
            let code = Problem::of(&answer).code.unwrap_or_default();
            let message = format!("clients may not publish here, and the HTTP API: {} {code}", answer.status);
            return Err(Fault::new(message, FIX));
        }
        published(&serde_json::from_slice(&answer.body).unwrap_or_default(), true)
    }

    /// Whether a message is one of the room's events with this id.
    pub(super) fn is_event<'a>(&self, event_id: &'a str) -> impl Fn(&Value) -> bool + use<'a> {
        let room = self.room.clone();
        move |message| message["room"] == *room && message["id"] == *event_id
    }
}

fn published(ack: &Value, is_by_api: bool) -> Result<Published, Fault> {
    match (ack["event_id"].as_str(), ack["duplicate"].as_bool()) {
        (Some(event_id), Some(is_duplicate)) => {
            Ok(Published { event_id: event_id.to_owned(), is_duplicate, is_by_api })
        }
        _ => Err(Fault::new(
            format!("a publish was answered with {ack}, and no event_id and duplicate"),
            "does a handler of the application answer this event? name one that has none with --event",
        )),
    }
}
