//! What the API answers when it does not do what was asked: a code for programs, a fix for people (RFC 9457).

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tidings::{BroadcastError, ControlError, PublishError, RoomError};
use utoipa::{IntoResponses, ToSchema};

/// Why a request was not served.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) fix: &'static str,
    retry_after: Option<Duration>,
}

/// A problem as it stands in an answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// `urn:tidings:` and the code.
    r#type: String,
    /// What the status means.
    title: String,
    /// The status once more.
    status: u16,
    /// What went wrong, this time.
    detail: String,
    /// For programs.
    code: String,
    /// What to do about it.
    fix: String,
    /// As in `X-Request-Id` and in the server's log.
    request_id: String,
}

/// What any request may be answered instead.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the document alone")]
pub(crate) enum Problems {
    /// No JSON, a field that is unknown or missing, or a name that is none.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemBody),
    /// No key, or one that is unknown.
    #[response(status = 401, content_type = "application/problem+json")]
    Key(#[to_schema] ProblemBody),
    /// The key may not do this.
    #[response(status = 403, content_type = "application/problem+json")]
    Scope(#[to_schema] ProblemBody),
    /// No rule covers the room, or no such event is stored.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(#[to_schema] ProblemBody),
    /// The key of this request was used for another; or what was asked for is off.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody),
    /// Larger than may be.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody),
    /// The body is not said to be JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] ProblemBody),
    /// Too many; `Retry-After` says when to come back.
    #[response(status = 429, content_type = "application/problem+json")]
    RateLimited(#[to_schema] ProblemBody),
    /// Try again, with the same key.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemBody),
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self { status, code, detail: detail.into(), fix, retry_after: None }
    }

    pub(crate) fn invalid(detail: impl Into<String>, fix: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail, fix)
    }

    pub(crate) fn rate_limited(detail: impl Into<String>, retry_after: Duration) -> Self {
        let fix = "wait as long as Retry-After says, then send it again with the same Idempotency-Key";
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail, fix)
        }
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let fix = "send it again with the same Idempotency-Key: it may have been done";
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail, fix)
        }
    }

    /// The answer to the request of this id.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let body = ProblemBody {
            r#type: format!("urn:tidings:{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.to_owned(),
            fix: self.fix.to_owned(),
            request_id: request_id.to_owned(),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Carries itself to [`super::request_id::name`], which knows the request's id and writes the answer.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<BroadcastError> for Problem {
    fn from(error: BroadcastError) -> Self {
        let detail = error.to_string();
        match error {
            BroadcastError::Event(_) => Self::invalid(detail, "give the event another name"),
            BroadcastError::Data(_) => Self::invalid(detail, "send data that is JSON"),
            BroadcastError::Publish(error) => error.into(),
            _ => Self::unavailable(detail),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Conflict => Self::new(
                StatusCode::CONFLICT,
                "idempotency_conflict",
                "this Idempotency-Key was used for another event in the last five minutes",
                "use a new key for a new event, and the same one for a retry alone",
            ),
            PublishError::TooManyIds => Self::rate_limited(detail, Duration::from_secs(60)),
            PublishError::TooFast { retry_after } => Self::rate_limited(detail, retry_after),
            PublishError::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                detail,
                "store it elsewhere and publish where it is, or raise limits.outbound_bytes_max",
            ),
            PublishError::UnknownRoom => Self::unknown_room(detail),
            _ => Self::unavailable(detail),
        }
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::UnknownRoom => Self::unknown_room(error.to_string()),
            _ => Self::unavailable(error.to_string()),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::TooMany(_) => Self::new(
                StatusCode::CONFLICT,
                "too_many",
                error.to_string(),
                "wait until some are past their time, or raise limits.revocations_max",
            ),
            _ => Self::unavailable(error.to_string()),
        }
    }
}

impl Problem {
    fn unknown_room(detail: impl Into<String>) -> Self {
        let fix = "add [[rooms]] with a pattern that fits the room's name";
        Self::new(StatusCode::NOT_FOUND, "unknown_room", detail, fix)
    }
}
