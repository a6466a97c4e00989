//! A handshake's refusal: always an HTTP answer, with a code for programs and a fix for people (RFC 9457).

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use tidings_protocol::event_id::InvalidId;
use tidings_protocol::limits::Limit;

use super::{SUBPROTOCOL, allow};
use crate::logged::log_safe;

/// Why a handshake was refused: status, code and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandshakeRefusal {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    fix: String,
    retry_after: Option<Duration>,
    limit: Option<Limit>,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    fix: &'a str,
}

impl HandshakeRefusal {
    fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), fix: fix.into(), retry_after: None, limit: None }
    }

    fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Says which limit was hit.
    pub(crate) fn by(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    pub(crate) fn bad_upgrade(detail: &str) -> Self {
        let fix = "open this URL with a WebSocket client (RFC 6455): wscat -c 'ws://…/ws?token=…'";
        Self::new(StatusCode::BAD_REQUEST, "bad_upgrade", "Not a WebSocket request", detail, fix)
    }

    pub(crate) fn unsupported_version() -> Self {
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            ..Self::bad_upgrade("the Sec-WebSocket-Version is not 13, the only one there is")
        }
    }

    pub(crate) fn invalid_cursor(fault: InvalidId) -> Self {
        let detail = format!("last_event_id: {fault}");
        let fix =
            "send the id of the last event (room@epoch.offset), or several joined by commas, as they came";
        Self::new(StatusCode::BAD_REQUEST, "invalid_cursor", "Not a cursor", detail, fix)
    }

    pub(crate) fn token(code: &'static str, detail: String, fix: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, "Not authenticated", detail, fix)
    }

    pub(crate) fn origin_not_allowed(origin: &str) -> Self {
        let origin = log_safe(origin, 200).to_string();
        let fix = format!(
            "if this page may connect, add to the server's configuration: allowed_origins = [\"{origin}\"]"
        );
        let detail = format!("pages of {origin:?} may not connect to this host");
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", "Origin not allowed", detail, fix)
    }

    pub(crate) fn client_version() -> Self {
        let fix = format!("offer the subprotocol {SUBPROTOCOL}, or none");
        Self::new(
            StatusCode::CONFLICT,
            "client_version",
            "No common version",
            "no subprotocol that was offered is served",
            fix,
        )
    }

    pub(crate) fn upgrade_required() -> Self {
        let detail = "the token is good and this URL works: it is a WebSocket";
        let fix = "open it with ws:// or wss://";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "Upgrade required", detail, fix)
    }

    pub(crate) fn connection_limit(max: usize) -> Self {
        let detail = format!("this user has {max} connections, as many as allowed");
        let fix = "close one, or reconnect with ?session= of the connection that this one replaces";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "connection_limit", "Too many connections", detail, fix)
            .after(Duration::from_secs(5))
            .by(Limit::ConnectionsPerUserMax)
    }

    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let fix = "wait as Retry-After says, and reconnect with backoff and jitter";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "Too many handshakes",
            "this address connects too often",
            fix,
        )
        .after(retry_after)
        .by(Limit::HandshakesPerSecondPerIp)
    }

    pub(crate) fn too_many_handshakes(retry_after: Duration) -> Self {
        let fix = "wait as Retry-After says, and reconnect with backoff and jitter; if it lasts, add a node";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Overloaded",
            "this node takes no more connections for now",
            fix,
        )
        .after(retry_after)
        .by(Limit::HandshakesPerSecond)
    }

    pub(crate) fn overloaded() -> Self {
        let fix = "connect again later, or to another node";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Overloaded",
            "this node has as many connections as it takes",
            fix,
        )
        .after(Duration::from_secs(5))
        .by(Limit::ConnectionsPerNodeMax)
    }

    pub(crate) fn draining() -> Self {
        let fix = "connect again: the next attempt should reach another node, or this one restarted";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "Draining",
            "this node is being shut down",
            fix,
        )
        .after(Duration::from_secs(1))
    }

    pub(crate) fn token_revoked() -> Self {
        let fix = "log in again: a token that is issued after the revocation is accepted";
        Self::token("token_claims", "the token was revoked".to_owned(), fix.to_owned())
    }

    /// The application does not let this user in.
    pub(crate) fn forbidden(reason: &str) -> Self {
        let fix = "the application has decided so: ask whoever runs it, or log in as somebody else";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not let in", reason, fix)
    }

    pub(crate) fn broker_unavailable(detail: &str) -> Self {
        Self::unavailable("broker_unavailable", detail)
    }

    /// Something that has to be asked does not answer.
    pub(crate) fn unavailable(code: &'static str, detail: &str) -> Self {
        let fix = "connect again in a moment; the server's log says what failed";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "A part of the server is unavailable", detail, fix)
            .after(Duration::from_secs(2))
    }

    /// The code for programs. PROTOCOL.md §1 lists them.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The limit that was hit, if one was.
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What to do about it.
    pub fn fix(&self) -> &str {
        &self.fix
    }

    /// The answer, readable for a page of `cors_origin`.
    pub(crate) fn to_response(&self, cors_origin: Option<&HeaderValue>) -> Response<Body> {
        let problem = Problem {
            r#type: format!("urn:tidings:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            fix: &self.fix,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                // RFC 9110 §15.5.22 wants to be told to what; RFC 6455 §4.4 in which version.
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        if let Some(retry_after) = self.retry_after {
            // Whole seconds, and never so few that the next attempt comes too early.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after.as_secs_f64().ceil() as u64));
        }
        if let Some(origin) = cors_origin {
            allow(headers, origin);
        }
        response
    }
}

impl fmt::Display for HandshakeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl std::error::Error for HandshakeRefusal {}
