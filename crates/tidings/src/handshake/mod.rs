//! What a handshake says and how it is answered: HTTP in, HTTP out, nothing of sockets.
//!
//! The checks come in the order of PROTOCOL.md §1: request line and headers, origin ([`read_request`]), token,
//! cursor ([`HandshakeRequest::cursor`]), connection limit, upgrade and subprotocol
//! ([`HandshakeRequest::upgrade`]). Everything is copied out of the request, so that nothing of it is kept alive.

mod origin;
mod refusal;
mod request;

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

pub(crate) use origin::{HandshakePolicy, cors_origin};
pub use origin::{InvalidOrigin, Origin};
pub use refusal::HandshakeRefusal;
pub(crate) use request::{HandshakeRequest, UpgradeRequest, read_request};

/// The one subprotocol that there is.
const SUBPROTOCOL: &str = "tidings.v1";

/// The 101 that turns the connection into a WebSocket (RFC 6455 §4.2.2).
pub(crate) fn switching_protocols(upgrade: &UpgradeRequest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&upgrade.accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if upgrade.offers_subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// The answer to a browser that asks whether a page of an allowed origin may make the plain GET.
pub(crate) fn preflight(origin: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    allow(response.headers_mut(), origin);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets a page of this origin read the answer.
fn allow(headers: &mut http::HeaderMap, origin: &HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

/// The texts of a header, whatever lines it came in.
fn texts<'a>(headers: &'a http::HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// The members of a header that is a list, whatever lines it came in.
fn list<'a>(headers: &'a http::HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    texts(headers, name).flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}
