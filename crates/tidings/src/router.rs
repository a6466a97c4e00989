//! Event name to schema and handler: check, decode, call, answer. The return value of a handler is the ack.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::message::{Data, EventName};

use crate::context::{AckError, Context};
use crate::schema::{Schema, decode};

/// A running handler.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = Result<Box<RawValue>, AckError>> + Send>>;
type JsonHandler = dyn Fn(Context, &RawValue) -> Result<CallFuture, Refusal> + Send + Sync;
type BinaryHandler = dyn Fn(Context, Bytes) -> CallFuture + Send + Sync;

/// The events of a hub.
#[derive(Default)]
pub(crate) struct Router {
    events: HashMap<EventName, Known>,
    #[cfg(feature = "conformance")]
    echoes: bool,
}

/// What is known of one event. Without a handler, a room's rule decides who publishes it.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) handler: Option<Handler>,
    pub(crate) shape: Option<Shape>,
}

/// What an event was said to carry.
pub(crate) enum Shape {
    Json(Schema),
    Binary,
}

/// What serves one event.
#[derive(Clone)]
pub(crate) enum Handler {
    Json(Arc<JsonHandler>),
    Binary(Arc<BinaryHandler>),
}

impl Router {
    /// What is known of an event, to be added to.
    pub(crate) fn entry(&mut self, event: EventName) -> &mut Known {
        self.events.entry(event).or_default()
    }

    pub(crate) fn get(&self, event: &str) -> Option<&Known> {
        self.events.get(event)
    }

    /// An event whose handler takes what its shape is not.
    pub(crate) fn contradiction(&self) -> Option<&EventName> {
        let contradicts = |known: &Known| {
            matches!(
                (&known.handler, &known.shape),
                (Some(Handler::Json(_)), Some(Shape::Binary))
                    | (Some(Handler::Binary(_)), Some(Shape::Json(_)))
            )
        };
        self.events.iter().find(|(_, known)| contradicts(known)).map(|(event, _)| event)
    }

    /// Answers every frame with itself from now on.
    #[cfg(feature = "conformance")]
    pub(crate) fn echo(&mut self) {
        self.echoes = true;
    }

    #[cfg(feature = "conformance")]
    pub(crate) fn echoes(&self) -> bool {
        self.echoes
    }
}

impl Known {
    /// Whether data is what the event was said to carry; a handler of a type has a say of its own.
    pub(crate) fn check(&self, data: Data<'_>) -> Result<(), Refusal> {
        match (&self.shape, data) {
            (None, _) | (Some(Shape::Binary), Data::Binary(_)) => Ok(()),
            (Some(Shape::Json(schema)), Data::Json(data)) => schema.check(data),
            (Some(Shape::Json(_)), Data::Binary(_)) => Err(not_binary()),
            (Some(Shape::Binary), Data::Json(_)) => Err(not_json()),
        }
    }
}

fn not_binary() -> Refusal {
    Refusal::new(ErrorCode::Invalid, "this event is JSON: send it as a text frame")
}

fn not_json() -> Refusal {
    Refusal::new(ErrorCode::Invalid, "this event is binary: send it as a binary frame")
}

impl Handler {
    /// A handler of JSON events.
    pub(crate) fn json<T, R, H, F>(handler: H) -> Self
    where
        T: DeserializeOwned,
        R: Serialize,
        H: Fn(Context, T) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, AckError>> + Send + 'static,
    {
        Self::Json(Arc::new(move |context, data| Ok(answering(handler(context, decode(data)?)))))
    }

    /// A handler of binary events.
    pub(crate) fn binary<R, H, F>(handler: H) -> Self
    where
        R: Serialize,
        H: Fn(Context, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, AckError>> + Send + 'static,
    {
        Self::Binary(Arc::new(move |context, payload| answering(handler(context, payload))))
    }

    /// Begins a call: what can be refused without running the handler is refused here.
    pub(crate) fn call(&self, context: Context, data: Data<'_>) -> Result<CallFuture, Refusal> {
        match (self, data) {
            (Self::Json(handler), Data::Json(data)) => {
                match catch_unwind(AssertUnwindSafe(|| handler(context, data))) {
                    Ok(begun) => begun,
                    Err(panic) => Ok(Box::pin(std::future::ready(Err(panicked(&*panic))))),
                }
            }
            (Self::Binary(handler), Data::Binary(payload)) => {
                let payload = Bytes::copy_from_slice(payload);
                match catch_unwind(AssertUnwindSafe(|| handler(context, payload))) {
                    Ok(begun) => Ok(begun),
                    Err(panic) => Ok(Box::pin(std::future::ready(Err(panicked(&*panic))))),
                }
            }
            (Self::Json(_), Data::Binary(_)) => Err(not_binary()),
            (Self::Binary(_), Data::Json(_)) => Err(not_json()),
        }
    }
}

fn answering<R: Serialize>(call: impl Future<Output = Result<R, AckError>> + Send + 'static) -> CallFuture {
    Box::pin(async move { Ok(to_raw_value(&call.await?)?) })
}

/// Runs a call to its end; a panic is its end too.
pub(crate) async fn run(mut call: CallFuture) -> Result<Box<RawValue>, AckError> {
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(panicked(&*panic))),
    })
    .await
}

/// A handler's panic, as the log is told.
#[derive(Debug)]
pub(crate) struct Panicked(String);

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the handler panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

fn panicked(panic: &(dyn Any + Send)) -> AckError {
    let words = panic.downcast_ref::<&str>().map(ToString::to_string);
    AckError::from(Panicked(words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_words_for_the_log() {
        let error = run(Box::pin(async { panic!("lost {}", 3) })).await.unwrap_err();
        assert_eq!(error.refusal().code, ErrorCode::Internal);
        assert_eq!(error.cause().unwrap().to_string(), "the handler panicked: lost 3");
    }
}
