//! The backend that webhooks go to: one pool of connections, one request at a time on each, no redirect, and answers that are bounded.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::uri::Scheme;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;

use super::cloud_event::unix_ms;
use super::signing::SigningKey;

/// An answer is no larger.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// So many connections are kept for the next request, so long.
const IDLE_CONNECTIONS_MAX: usize = 32;
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Where webhooks go, signed.
pub(crate) struct Backend {
    url: Uri,
    key: SigningKey,
    client: HttpClient,
}

enum HttpClient {
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Plain(Client<HttpConnector, Full<Bytes>>),
}

/// Not a URL that webhooks can go to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct InvalidUrl {
    pub(crate) message: String,
    pub(crate) fix: &'static str,
}

/// What the backend has answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum PostError {
    TooLate(Duration),
    Failed(String),
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLate(wait) => write!(f, "no answer in {wait:?}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl Backend {
    /// # Errors
    /// When the URL is none, or goes in the clear to another machine and nobody has said that it may.
    pub(crate) fn new(url: &str, plain_http: bool, key: SigningKey) -> Result<Self, InvalidUrl> {
        let invalid = |message: &str, fix| InvalidUrl { message: message.to_owned(), fix };
        const EXAMPLE: &str = "url = \"https://app.example/tidings\", or \"http://127.0.0.1:8000/tidings\"";
        let url: Uri = url.parse().map_err(|_| invalid("not a URL", EXAMPLE))?;
        let host = url
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| invalid("not a URL with a host", EXAMPLE))?;
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(invalid("has a user or a password", "leave it out: what is sent is signed"));
        }
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = if url.scheme() == Some(&Scheme::HTTPS) {
            connector.enforce_http(false);
            let tls = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(Arc::new(aws_lc_rs::default_provider()))
                .map_err(|error| InvalidUrl {
                    message: format!("no certificates of this system to trust: {error}"),
                    fix: "install the system's certificates (ca-certificates)",
                })?;
            HttpClient::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector)))
        } else if url.scheme() != Some(&Scheme::HTTP) {
            return Err(invalid("is neither https nor http", EXAMPLE));
        } else if is_loopback(host) || plain_http {
            HttpClient::Plain(builder.build(connector))
        } else {
            return Err(invalid(
                "goes to another machine without TLS: whoever is between could read it, and answer",
                "use https, or say plain_http = true where the network is your own",
            ));
        };
        Ok(Self { url, key, client })
    }

    /// Where the webhooks go.
    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// Sends one webhook, once.
    pub(crate) async fn post(&self, id: &str, body: Bytes, wait: Duration) -> Result<Reply, PostError> {
        tokio::time::timeout(wait, self.answer(id, body)).await.unwrap_or(Err(PostError::TooLate(wait)))
    }

    async fn answer(&self, id: &str, body: Bytes) -> Result<Reply, PostError> {
        let failed = |error: &dyn fmt::Display| PostError::Failed(error.to_string());
        let timestamp = unix_ms() / 1000;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"))
            .header(USER_AGENT, HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION"))))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.key.sign(id, timestamp, &body))
            .body(Full::new(body))
            .map_err(|error| failed(&error))?;
        let sent = match &self.client {
            HttpClient::Tls(client) => client.request(request).await,
            HttpClient::Plain(client) => client.request(request).await,
        };
        let answer = sent.map_err(|error| PostError::Failed(with_causes(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| failed(&error))?;
        Ok(Reply { status, body: body.to_bytes() })
    }
}

/// What a connection's error says, and what it comes of, which is what helps.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    fn backend(url: &str, plain_http: bool) -> Result<(), InvalidUrl> {
        let key = SigningKey::derive(&SecretString::from("canary-bird of a test, 32 bytes and more"));
        Backend::new(url, plain_http, key).map(drop)
    }

    #[test]
    fn they_go_over_https_or_to_this_machine_or_where_it_was_said_that_they_may() {
        for good in [
            "https://app.example/hooks?a=1",
            "http://127.0.0.1:8000/",
            "http://[::1]/tidings",
            "http://LOCALHOST:1/",
        ] {
            assert_eq!(backend(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "app.example",
            "/hooks",
            "ftp://127.0.0.1/",
            "https://",
            "https://user:password@app.example/",
        ] {
            assert!(backend(bad, true).is_err(), "{bad}");
        }
        assert!(backend("http://app.internal:8000/", false).unwrap_err().fix.contains("plain_http"));
        assert_eq!(backend("http://app.internal:8000/", true), Ok(()));
    }
}
