//! Whose pages may connect: a browser tells the page's origin, and a foreign page is nobody's user.

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Uri};

use super::HandshakeRefusal;
use crate::logged::log_safe;

/// A page's scheme, host and port: `https://app.example`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// Not an origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidOrigin(String);

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no origin: write scheme and host, and a port if it is not the usual one, as https://app.example",
            self.0
        )
    }
}

impl std::error::Error for InvalidOrigin {}

impl Origin {
    /// Parses an origin as browsers write it.
    ///
    /// # Errors
    /// When there is no scheme or host, or more than scheme, host and port.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(log_safe(text, 100).to_string());
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        // `/` at the end, user names and the like are no part of an origin.
        if authority.as_str() != rest || authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(invalid());
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = authority.port_u16().or_else(|| default_port(&scheme)).ok_or_else(invalid)?;
        Ok(Self { scheme, host: authority.host().to_ascii_lowercase(), port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Who may make a handshake, besides having a token.
#[derive(Default)]
pub(crate) struct HandshakePolicy {
    pub(crate) allowed_origins: Vec<Origin>,
    /// Only requests to this machine's own names, against DNS rebinding.
    pub(crate) loopback_host_only: bool,
}

impl HandshakePolicy {
    /// Whether a page of this origin may talk to `host` (the Host header's value).
    fn allows(&self, origin: &str, host: &str) -> bool {
        let Ok(origin) = Origin::parse(origin) else { return false };
        let Ok(host) = host.parse::<http::uri::Authority>() else { return false };
        let port = host.port_u16().or_else(|| default_port(&origin.scheme));
        // An application's own scheme (`capacitor://localhost:80`) is another page than this host's.
        let is_web = matches!(&*origin.scheme, "http" | "https");
        let same = is_web && host.host().eq_ignore_ascii_case(&origin.host) && port == Some(origin.port);
        same || self.allowed_origins.contains(&origin)
    }

    /// Refuses what comes from a foreign page, or through a foreign name.
    pub(super) fn check(&self, host: &str, origin: Option<&str>) -> Result<(), HandshakeRefusal> {
        if self.loopback_host_only && !is_loopback(host) {
            return Err(HandshakeRefusal::bad_upgrade(
                "this server answers to localhost, 127.0.0.1 and [::1] only: use one of them in the URL",
            ));
        }
        match origin {
            Some(origin) if !self.allows(origin, host) => Err(HandshakeRefusal::origin_not_allowed(origin)),
            _ => Ok(()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The origin of a request, if its page may read the answer.
pub(crate) fn cors_origin(headers: &HeaderMap, policy: &HandshakePolicy) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    policy.allows(origin.to_str().ok()?, host).then(|| origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(
            Origin::parse("https://App.example").unwrap(),
            Origin::parse("https://app.example:443").unwrap()
        );
        for bad in [
            "",
            "null",
            "app.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "ftp://a",
            "https://*",
        ] {
            assert!(Origin::parse(bad).is_err() || bad == "https://*", "{bad}");
        }
    }

    #[test]
    fn the_same_host_and_port_or_the_list() {
        let policy = HandshakePolicy {
            allowed_origins: vec![Origin::parse("https://app.example").unwrap()],
            loopback_host_only: false,
        };
        for (origin, host, allowed) in [
            ("http://localhost:7777", "localhost:7777", true),
            ("http://LOCALHOST:7777", "localhost:7777", true),
            ("https://own.example", "own.example", true),
            ("https://own.example", "own.example:443", true),
            ("https://own.example:8443", "own.example", false),
            ("http://localhost:3000", "localhost:7777", false),
            ("https://app.example", "own.example", true),
            ("https://app.example:444", "own.example", false),
            ("http://app.example", "own.example", false),
            ("https://evil.example", "own.example", false),
            ("https://own.example.evil.example", "own.example", false),
            ("capacitor://own.example:80", "own.example:80", false),
            ("null", "own.example", false),
            ("", "own.example", false),
        ] {
            assert_eq!(policy.check(host, Some(origin)).is_ok(), allowed, "{origin} to {host}");
        }
        assert!(policy.check("own.example", None).is_ok());
    }

    #[test]
    fn a_rebound_name_is_no_loopback() {
        let policy = HandshakePolicy { loopback_host_only: true, ..HandshakePolicy::default() };
        for host in ["localhost", "localhost:7777", "127.0.0.1:7777", "[::1]:7777", "127.9.9.9"] {
            assert!(policy.check(host, None).is_ok(), "{host}");
        }
        for host in ["evil.example:7777", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(policy.check(host, None).is_err(), "{host}");
        }
    }
}
