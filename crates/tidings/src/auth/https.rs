//! Reading a key set over HTTPS: one request, no redirect, and an answer that is bounded.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use tidings_protocol::limits::JWKS_BYTES_MAX;

use super::key_set::{FetchError, FetchFuture, FetchKeySet};

/// A key set at a URL.
pub(super) struct HttpsKeySet {
    url: Uri,
    client: HttpClient,
}

enum HttpClient {
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
    /// To this machine itself alone.
    Plain(Client<HttpConnector, Empty<Bytes>>),
}

/// Not a URL from which a key set can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidUrl(String);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidUrl {}

impl HttpsKeySet {
    pub(super) fn new(url: &str) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl("not a URL like https://issuer.example/.well-known/jwks.json".to_owned());
        let url: Uri = url.parse().map_err(|_| invalid())?;
        let authority = url.authority().ok_or_else(invalid)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(invalid());
        }
        // It is read seldom: a connection that is kept would only be found dead.
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        let client = if url.scheme() == Some(&Scheme::HTTPS) {
            let tls = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(Arc::new(aws_lc_rs::default_provider()))
                .map_err(|error| InvalidUrl(format!("no certificates of this system to trust: {error}")))?;
            HttpClient::Tls(builder.build(tls.https_only().enable_http1().build()))
        } else if url.scheme() == Some(&Scheme::HTTP) && is_loopback(authority.host()) {
            HttpClient::Plain(builder.build(HttpConnector::new()))
        } else {
            return Err(InvalidUrl(
                "keys are believed over https alone (http is for 127.0.0.1, [::1] and localhost)".to_owned(),
            ));
        };
        Ok(Self { url, client })
    }

    async fn get(&self) -> Result<Bytes, FetchError> {
        let answer = match &self.client {
            HttpClient::Tls(client) => client.get(self.url.clone()).await?,
            HttpClient::Plain(client) => client.get(self.url.clone()).await?,
        };
        if answer.status() != StatusCode::OK {
            return Err(format!("the answer is {}", answer.status()).into());
        }
        Ok(Limited::new(answer.into_body(), JWKS_BYTES_MAX).collect().await?.to_bytes())
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FetchKeySet for HttpsKeySet {
    fn fetch(&self) -> FetchFuture<'_> {
        Box::pin(self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "http://127.0.0.1:8080/jwks.json",
            "http://[::1]/jwks",
            "http://LOCALHOST:1/",
            "http://127.8.8.8/keys?x=1",
        ] {
            assert!(HttpsKeySet::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "jwks.json",
            "/jwks.json",
            "http://issuer.example/jwks.json",
            "http://localhost.issuer.example/",
            "http://127.0.0.1.issuer.example/",
            "http://10.0.0.1/jwks.json",
            "http://localhost@issuer.example/",
            "https://user:password@issuer.example/",
            "ftp://127.0.0.1/jwks.json",
            "file:///etc/passwd",
            "https:///jwks.json",
        ] {
            assert!(HttpsKeySet::new(bad).is_err(), "{bad}");
        }
    }
}
