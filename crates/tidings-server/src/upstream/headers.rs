//! Which headers go on to the application and back: none that is for one connection alone (RFC 9110 §7.6.1), and those that
//! say for whom the request is.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::forwarded::{ClientAddressHeader, Way, said_last};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Of one connection, whether `Connection` names them or not.
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// In these an application may believe what a proxy has said. Of whoever is no trusted one, nothing is passed on.
const SAID_BY_PROXIES: [HeaderName; 5] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
];
const WEBSOCKET: &str = "websocket";

/// Whether it is the handshake of a WebSocket. No other protocol is tunnelled: `h2c` would lead past every route here.
pub(super) fn asks_for_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let mut protocols = tokens(headers, &UPGRADE);
    method == Method::GET
        && protocols.any(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET))
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// What of a request's headers goes on. `Host` stays as the client has it; `authority` is that of a target with one, which
/// counts before it.
pub(super) fn of_request(
    headers: &mut HeaderMap,
    authority: Option<&Authority>,
    way: Way,
    client: SocketAddr,
    is_upgrade: bool,
) {
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        headers.insert(HOST, host);
    }
    // Before anything is taken out: a client may name these as his connection's own.
    let said = Said::new(headers, way, client);
    if headers.contains_key(TRANSFER_ENCODING) {
        // Where a body has come in chunks, its length is what the chunks say.
        headers.remove(CONTENT_LENGTH);
    }
    remove_of_connection(headers);
    // Answered here, when the application asks for the body.
    headers.remove(EXPECT);
    headers.remove(FORWARDED);
    if !says_by_x_forwarded(way) {
        for name in SAID_BY_PROXIES {
            headers.remove(name);
        }
    }
    said.put(headers);
    if is_upgrade {
        put_upgrade(headers);
    }
}

/// Whether the `X-Forwarded-` headers are a trusted proxy's own word. Beside one that speaks by `Forwarded` they are whoever's.
fn says_by_x_forwarded(way: Way) -> bool {
    way.is_trusted && way.header == ClientAddressHeader::XForwardedFor
}

/// What of an answer's headers goes back.
pub(super) fn of_answer(headers: &mut HeaderMap) {
    remove_of_connection(headers);
}

/// The same for an answer that makes it a WebSocket.
pub(super) fn of_switching(headers: &mut HeaderMap) {
    remove_of_connection(headers);
    put_upgrade(headers);
}

fn put_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

fn remove_of_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
    // A request without a host would be for another one.
    for name in named.into_iter().filter(|name| *name != HOST).chain(OF_CONNECTION) {
        headers.remove(name);
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// What the application is told of the client.
struct Said {
    by: Option<HeaderValue>,
    proto: HeaderValue,
    host: Option<HeaderValue>,
}

impl Said {
    fn new(headers: &HeaderMap, way: Way, client: SocketAddr) -> Self {
        let of_proxy = |name: &HeaderName, parameter: &str| match way.header {
            _ if !way.is_trusted => None,
            ClientAddressHeader::XForwardedFor => headers.get(name).cloned(),
            ClientAddressHeader::Forwarded => {
                said_last(headers, parameter).and_then(|said| HeaderValue::from_str(said).ok())
            }
        };
        let mut by: Vec<u8> = Vec::new();
        if says_by_x_forwarded(way) {
            for value in headers.get_all(FORWARDED_FOR) {
                by.extend_from_slice(value.as_bytes());
                by.extend_from_slice(b", ");
            }
        }
        if by.is_empty() && client.ip() != way.peer.ip().to_canonical() {
            by.extend_from_slice(format!("{}, ", client.ip()).as_bytes());
        }
        by.extend_from_slice(way.peer.ip().to_canonical().to_string().as_bytes());
        let proto = HeaderValue::from_static(if way.is_secure { "https" } else { "http" });
        Self {
            by: HeaderValue::from_bytes(&by).ok(),
            proto: of_proxy(&FORWARDED_PROTO, "proto").unwrap_or(proto),
            host: of_proxy(&FORWARDED_HOST, "host").or_else(|| headers.get(HOST).cloned()),
        }
    }

    fn put(self, headers: &mut HeaderMap) {
        headers.remove(FORWARDED_FOR);
        headers.remove(FORWARDED_HOST);
        if let Some(by) = self.by {
            headers.insert(FORWARDED_FOR, by);
        }
        if let Some(host) = self.host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.insert(FORWARDED_PROTO, self.proto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let line =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    fn way(peer: &str, is_trusted: bool) -> Way {
        let header = ClientAddressHeader::XForwardedFor;
        Way { peer: peer.parse().unwrap(), is_trusted, header, is_secure: false }
    }

    fn gone_on(lines: &[(&str, &str)], way: Way, client: &str) -> Vec<(String, String)> {
        let mut headers = map(lines);
        let client = SocketAddr::new(client.parse().unwrap(), 0);
        of_request(&mut headers, None, way, client, false);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut lines: Vec<_> = headers.iter().map(text).collect();
        lines.sort();
        lines
    }

    fn lines(of: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut lines: Vec<_> =
            of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_is_for_one_connection_does_not_go_on() {
        let asked = [
            ("host", "app.example"),
            ("connection", "close, X-Secret"),
            ("connection", "x-other, host, x-forwarded-for"),
            ("x-secret", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic canary-bird"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ];
        let expected = lines(&[
            ("host", "app.example"),
            ("x-kept", "3"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "app.example"),
        ]);
        assert_eq!(gone_on(&asked, way("203.0.113.7:9", false), "203.0.113.7"), expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_goes_on_with_the_proxy_added() {
        let asked = [
            ("host", "internal:7777"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-real-ip", "203.0.113.7"),
        ];
        let expected = lines(&[
            ("host", "internal:7777"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.7, 127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-real-ip", "203.0.113.7"),
        ]);
        assert_eq!(gone_on(&asked, way("[::ffff:127.0.0.1]:9", true), "203.0.113.7"), expected);
    }

    #[test]
    fn beside_a_proxy_of_rfc_7239_no_other_header_says_anything() {
        let asked = [
            ("host", "internal:7777"),
            ("forwarded", "for=6.6.6.6;proto=http;host=evil.example"),
            ("forwarded", "for=203.0.113.7;proto=https;host=\"app.example\""),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil.example"),
            ("x-real-ip", "6.6.6.6"),
        ];
        let expected = lines(&[
            ("host", "internal:7777"),
            ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
        ]);
        let way = Way { header: ClientAddressHeader::Forwarded, ..way("127.0.0.1:9", true) };
        assert_eq!(gone_on(&asked, way, "203.0.113.7"), expected);
    }

    #[test]
    fn a_target_with_an_authority_names_the_host() {
        let mut headers = map(&[("host", "evil.example")]);
        let client = "203.0.113.7:9".parse().unwrap();
        of_request(
            &mut headers,
            Some(&"app.example".parse().unwrap()),
            way("203.0.113.7:9", false),
            client,
            false,
        );
        assert_eq!(
            (&headers[HOST], &headers[FORWARDED_HOST]),
            (&HeaderValue::from_static("app.example"), &HeaderValue::from_static("app.example"))
        );
    }

    #[test]
    fn a_websocket_is_a_get_with_both_headers() {
        let asks = |method: Method, lines: &[(&str, &str)]| asks_for_websocket(&method, &map(lines));
        assert!(asks(Method::GET, &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
        assert!(!asks(Method::POST, &[("connection", "upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(Method::GET, &[("upgrade", "websocket")]));
        assert!(!asks(Method::GET, &[("connection", "upgrade"), ("upgrade", "h2c")]));
        let mut headers =
            map(&[("connection", "upgrade, x-secret"), ("upgrade", "websocket, h2c"), ("x-secret", "1")]);
        let client = "203.0.113.7:9".parse().unwrap();
        of_request(&mut headers, None, way("203.0.113.7:9", false), client, true);
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
        assert!(!headers.contains_key("x-secret"));
    }
}
