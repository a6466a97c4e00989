//! One HTTP request of a command's: over TLS or not, bounded in time, its answer bounded in bytes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;

/// From the first byte to the last, connecting included.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// A longer answer is none that we asked for.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nothing of the request has reached the server.
    NotSent(String),
    /// The server may have done what it was asked for.
    Lost(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) => f.write_str(why),
        }
    }
}

/// Sends a request and waits for the whole answer. A redirect is an answer.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let client = Client::builder(TokioExecutor::new());
        // Where there is no TLS, a system may have no certificates: a container of this program alone.
        let asked = if request.uri().scheme() == Some(&Scheme::HTTPS) {
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(Arc::new(aws_lc_rs::default_provider()))
                .map_err(|error| {
                    NoAnswer::NotSent(format!("no certificates of this system to trust: {error}"))
                })?
                .https_only()
                .enable_http1()
                .build();
            client.build::<_, Full<Bytes>>(connector).request(request)
        } else {
            client.build_http::<Full<Bytes>>().request(request)
        };
        let answer = asked.await.map_err(|error| match error.is_connect() {
            true => NoAnswer::NotSent(innermost(&error)),
            false => NoAnswer::Lost(innermost(&error)),
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| NoAnswer::Lost(error.to_string()))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let late = |_| Err(NoAnswer::Lost(format!("no answer in {} s", EXCHANGE_MAX.as_secs())));
    tokio::time::timeout(EXCHANGE_MAX, exchange).await.unwrap_or_else(late)
}

/// The error that the others only wrap: "connection refused", and not "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether a URL leads to this machine itself.
pub(crate) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        let is_loopback = |url: &'static str| is_loopback(&Uri::from_static(url));
        assert!(
            is_loopback("http://127.0.0.1:7777")
                && is_loopback("ws://localhost/ws")
                && is_loopback("http://[::1]:1")
        );
        assert!(
            !is_loopback("http://127.0.0.1.example")
                && !is_loopback("https://10.0.0.1")
                && !is_loopback("/ws")
        );
    }
}
