//! Event name to handler: decode, call, answer. The return value of a handler is the ack.

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
use serde_path_to_error::Segment;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::message::{Data, EventName};

use crate::context::{AckError, Context};

/// A running handler.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = Result<Box<RawValue>, AckError>> + Send>>;
type JsonHandler = dyn Fn(Context, &RawValue) -> Result<CallFuture, Refusal> + Send + Sync;
type BinaryHandler = dyn Fn(Context, Bytes) -> CallFuture + Send + Sync;

/// The handlers of a hub.
#[derive(Default)]
pub(crate) struct Router {
    handlers: HashMap<EventName, Handler>,
    #[cfg(feature = "conformance")]
    echoes: bool,
}

/// What serves one event.
#[derive(Clone)]
pub(crate) enum Handler {
    Json(Arc<JsonHandler>),
    Binary(Arc<BinaryHandler>),
}

impl Router {
    /// Registers a handler; the one that the name had before comes back.
    pub(crate) fn insert(&mut self, event: EventName, handler: Handler) -> Option<Handler> {
        self.handlers.insert(event, handler)
    }

    pub(crate) fn get(&self, event: &str) -> Option<&Handler> {
        self.handlers.get(event)
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
            (Self::Json(_), Data::Binary(_)) => {
                Err(Refusal::new(ErrorCode::Invalid, "this event is JSON: send it as a text frame"))
            }
            (Self::Binary(_), Data::Json(_)) => {
                Err(Refusal::new(ErrorCode::Invalid, "this event is binary: send it as a binary frame"))
            }
        }
    }
}

fn answering<R: Serialize>(call: impl Future<Output = Result<R, AckError>> + Send + 'static) -> CallFuture {
    Box::pin(async move { Ok(to_raw_value(&call.await?)?) })
}

fn decode<T: DeserializeOwned>(data: &RawValue) -> Result<T, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(data.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = error.path().iter().fold(String::new(), |pointer, segment| match segment {
            Segment::Seq { index } => format!("{pointer}/{index}"),
            Segment::Map { key } => format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("{pointer}/{variant}"),
            Segment::Unknown => pointer,
        });
        Refusal::new(ErrorCode::Schema, error.inner().to_string()).pointer(pointer)
    })
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
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "read by the derived Debug only")]
    struct Edit {
        lines: Vec<Line>,
    }

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "read by the derived Debug only")]
    struct Line {
        #[serde(rename = "a/b~c")]
        number: u32,
    }

    #[test]
    fn a_fault_has_a_json_pointer() {
        let data = RawValue::from_string(r#"{"lines":[{"a/b~c":1},{"a/b~c":"x"}]}"#.into()).unwrap();
        let refusal = decode::<Edit>(&data).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Schema);
        assert_eq!(refusal.pointer.as_deref(), Some("/lines/1/a~1b~0c"));
        assert!(refusal.message.contains("expected u32"), "{refusal}");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_the_words_for_the_log() {
        let error = run(Box::pin(async { panic!("lost {}", 3) })).await.unwrap_err();
        assert_eq!(error.refusal().code, ErrorCode::Internal);
        assert_eq!(error.cause().unwrap().to_string(), "the handler panicked: lost 3");
    }
}
