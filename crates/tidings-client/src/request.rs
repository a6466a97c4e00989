//! A request and its answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidings_protocol::client::{NotAccepted, Outcome};
use tidings_protocol::error::ErrorCode;
use tidings_protocol::event_id::EventId;
use tokio::sync::oneshot;

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The event that a publish led to.
    pub event_id: Option<EventId>,
    /// The same publish was taken before, and this is its event.
    pub is_duplicate: bool,
    /// All of it, as the ack had it; `null` if the event itself came and the ack was lost.
    pub data: Arc<RawValue>,
}

impl Answer {
    /// The answer as a value.
    ///
    /// # Errors
    /// Where it is no such value.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.data.get())
    }
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The server refuses it.
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
        /// Where in the data the fault is, for [`ErrorCode::Schema`].
        pointer: Option<String>,
    },
    /// No answer came for two minutes, or the client was closed before one came: it may have been served or not.
    OutcomeUnknown,
    /// As many requests wait for the connection as may, or as many bytes: 256, and 4 MiB. It was not sent.
    QueueFull,
    /// The client is closed. It was not sent.
    Closed,
    /// It is no request: the name of its event or room, or its data. It was not sent.
    Invalid(String),
}

impl RequestError {
    /// The error's name: the server's code, or `outcome_unknown`, `queue_full`, `closed`, `invalid`.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code.as_str(),
            Self::OutcomeUnknown => "outcome_unknown",
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message, .. } => write!(f, "{code}: {message}"),
            Self::OutcomeUnknown => f.write_str("no answer came: it may have been served or not"),
            Self::QueueFull => f.write_str("too many requests wait for the connection"),
            Self::Closed => f.write_str("the client is closed"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<NotAccepted> for RequestError {
    fn from(why: NotAccepted) -> Self {
        match why {
            NotAccepted::Closed => Self::Closed,
            NotAccepted::TooLarge => {
                Self::Refused { code: ErrorCode::TooLarge, message: why.to_string(), pointer: None }
            }
            NotAccepted::Full | NotAccepted::NotConnected => Self::QueueFull,
            NotAccepted::Reserved => Self::Invalid("the event's name is reserved".to_owned()),
        }
    }
}

/// A request that was sent, or will be as soon as there is a connection: await it for the answer. It goes on without.
#[derive(Debug)]
#[must_use = "without its answer nobody knows whether it was served"]
pub struct Request {
    id: Box<str>,
    answer: Waits,
}

#[derive(Debug)]
enum Waits {
    For(oneshot::Receiver<Result<Answer, RequestError>>),
    Failed(Option<RequestError>),
}

impl Request {
    pub(crate) fn new(id: &str, answer: oneshot::Receiver<Result<Answer, RequestError>>) -> Self {
        Self { id: id.into(), answer: Waits::For(answer) }
    }

    pub(crate) fn failed(error: RequestError) -> Self {
        Self { id: "".into(), answer: Waits::Failed(Some(error)) }
    }

    /// The id under which it is sent: the [`Event::re`](crate::Event::re) of the event that it leads to. Empty for one
    /// that was not taken.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Future for Request {
    type Output = Result<Answer, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Waits::For(answer) => {
                Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or(Err(RequestError::OutcomeUnknown)))
            }
            Waits::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(RequestError::OutcomeUnknown))),
        }
    }
}

/// The part of an ack that a publish has.
#[derive(serde::Deserialize)]
struct Published {
    event_id: EventId,
    #[serde(default)]
    duplicate: bool,
}

pub(crate) fn answer(outcome: Outcome) -> Result<Answer, RequestError> {
    match outcome {
        Outcome::Acked(data) => {
            let published = serde_json::from_str::<Published>(data.get()).ok();
            let is_duplicate = published.as_ref().is_some_and(|published| published.duplicate);
            Ok(Answer {
                event_id: published.map(|published| published.event_id),
                is_duplicate,
                data: data.into(),
            })
        }
        Outcome::Published(event_id) => Ok(Answer {
            event_id: Some(event_id),
            is_duplicate: false,
            data: RawValue::NULL.to_owned().into(),
        }),
        Outcome::Refused(refusal) => Err(RequestError::Refused {
            code: refusal.code,
            message: refusal.message,
            pointer: refusal.pointer,
        }),
        Outcome::OutcomeUnknown => Err(RequestError::OutcomeUnknown),
    }
}
