//! Why the application has not answered, as `application/problem+json` with a code for programs and a fix for people.

use std::error::Error as _;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use hyper_util::client::legacy::Error;

/// An answer in the place of the application's.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
    fix: &'static str,
    /// For the log alone: it has the application's address in it.
    cause: Option<String>,
}

impl Problem {
    const fn new(status: StatusCode, code: &'static str, detail: &'static str, fix: &'static str) -> Self {
        Self { status, code, detail, fix, cause: None }
    }

    /// What became of a request that was sent.
    pub(super) fn of(error: &Error) -> Self {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        if error.is_connect() {
            return Self {
                cause: Some(cause),
                ..Self::new(
                    StatusCode::BAD_GATEWAY,
                    "upstream_unreachable",
                    "the application behind this server can't be reached",
                    "start it, or mend the address: [upstream] url, or --upstream",
                )
            };
        }
        Self::failed(&cause)
    }

    pub(super) fn failed(cause: &str) -> Self {
        Self {
            cause: Some(cause.to_owned()),
            ..Self::new(
                StatusCode::BAD_GATEWAY,
                "upstream_failed",
                "the application behind this server has broken the exchange off before it had answered",
                "look into the application's log; this server's log has the cause",
            )
        }
    }

    pub(super) const fn timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "the application behind this server takes too long to answer",
            "look into the application's log, or raise [upstream] stalled_duration_max_seconds",
        )
    }

    pub(super) const fn stalled() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_stalled",
            "nothing more has come of the request's body for too long",
            "send the body without pauses, or raise [upstream] stalled_duration_max_seconds",
        )
    }

    pub(super) const fn too_many() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "too many requests to the application are under way",
            "try again after Retry-After, or raise [upstream] requests_max",
        )
    }

    pub(super) const fn too_many_of_address() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many requests of this address are under way",
            "try again after Retry-After, or raise [upstream] requests_per_address_max",
        )
    }

    pub(super) const fn no_proxy() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the request's target is no path of this server",
            "send a path and a query: this is no proxy to elsewhere",
        )
    }

    pub(super) const fn hosts() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the request has no Host header, or several",
            "send one Host header",
        )
    }

    pub(super) const fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such route, and paths below /v1 and /health are never the application's",
            "mend the path, or give the application's route another one",
        )
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail, fix, .. } = self;
        let body = serde_json::json!({
            "type": format!("urn:tidings:{code}"), "title": status.canonical_reason(), "status": status.as_u16(),
            "code": code, "detail": detail, "fix": fix,
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
