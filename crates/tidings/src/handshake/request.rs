//! What a client asks for at the handshake, read from request line and headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header;
use http::{HeaderMap, Method, Uri, Version};
use sha1::{Digest, Sha1};
use tidings_protocol::event_id::Cursor;

use super::{HandshakePolicy, HandshakeRefusal, SUBPROTOCOL, list};

/// RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A subprotocol that is a token in disguise: browsers can set no header.
const TOKEN_PREFIX: &str = "tidings.token.";

/// A handshake whose request line, headers and origin are good.
pub(crate) struct HandshakeRequest {
    pub(crate) token: Option<String>,
    last_event_id: Option<String>,
    pub(crate) resume_wait: bool,
    pub(crate) session: Option<String>,
    pub(crate) checkpoints: bool,
    /// None for a plain GET.
    upgrade: Option<UpgradeRequest>,
    /// Subprotocols were offered, and none that we speak.
    no_common_version: bool,
}

impl fmt::Debug for HandshakeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Token and session let others in.
        f.debug_struct("HandshakeRequest")
            .field("has_token", &self.token.is_some())
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// What the 101 answers to.
#[derive(Debug)]
pub(crate) struct UpgradeRequest {
    pub(super) accept: String,
    pub(super) offers_subprotocol: bool,
}

/// Reads a request up to its origin.
///
/// # Errors
/// 400 `bad_upgrade` for what is no GET over HTTP/1.1 with one Host, for a header that must come once and does not,
/// and for an upgrade without a proper key; 426 for another version of WebSocket; 403 for a foreign page.
pub(crate) fn read_request(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
    policy: &HandshakePolicy,
) -> Result<HandshakeRequest, HandshakeRefusal> {
    let bad = HandshakeRefusal::bad_upgrade;
    if method != Method::GET {
        return Err(bad("a WebSocket begins with a GET"));
    }
    if version != Version::HTTP_11 {
        return Err(bad("a WebSocket begins with HTTP/1.1"));
    }
    let once = [
        header::HOST,
        header::ORIGIN,
        header::AUTHORIZATION,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
    ];
    if let Some(name) = once.iter().find(|name| headers.get_all(*name).iter().count() > 1) {
        return Err(bad(&format!("the header {name} comes more than once")));
    }
    let text = |name: header::HeaderName| match headers.get(&name) {
        None => Ok(None),
        Some(value) => {
            value.to_str().map(Some).map_err(|_| bad(&format!("the header {name} is not plain text")))
        }
    };
    let host = text(header::HOST)?.ok_or_else(|| bad("the Host header is missing"))?;
    let upgrade = read_upgrade(headers)?;
    policy.check(host, text(header::ORIGIN)?)?;

    let offered: Vec<_> = list(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let offers_subprotocol = offered.contains(&SUBPROTOCOL);
    let mut request = HandshakeRequest {
        token: bearer(text(header::AUTHORIZATION)?)
            .or_else(|| offered.iter().find_map(|offer| offer.strip_prefix(TOKEN_PREFIX)).map(str::to_owned)),
        last_event_id: None,
        resume_wait: false,
        session: None,
        checkpoints: false,
        upgrade: upgrade.map(|accept| UpgradeRequest { accept, offers_subprotocol }),
        no_common_version: !offered.is_empty() && !offers_subprotocol,
    };
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "token" if request.token.is_none() => request.token = Some(value.into_owned()),
            "last_event_id" => request.last_event_id = Some(value.into_owned()),
            "resume" => request.resume_wait = value == "wait",
            "session" => request.session = Some(value.into_owned()),
            "checkpoints" => request.checkpoints = value == "1",
            _ => {}
        }
    }
    Ok(request)
}

/// The accept value for an upgrade's key; none for a plain GET.
fn read_upgrade(headers: &HeaderMap) -> Result<Option<String>, HandshakeRefusal> {
    let bad = HandshakeRefusal::bad_upgrade;
    if !list(headers, &header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return Ok(None);
    }
    if !list(headers, &header::CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade")) {
        return Err(bad("the Connection header does not say upgrade: a proxy may have taken it away"));
    }
    // What came as a body would be read as frames, which a proxy in front has never seen as such.
    let has_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("an upgrade has no body"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeRefusal::unsupported_version());
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], |key| key.as_bytes());
    if BASE64.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(bad("the Sec-WebSocket-Key is not 16 bytes of base64"));
    }
    let accept = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    Ok(Some(BASE64.encode(accept)))
}

/// The token of `Authorization: Bearer`; another scheme is none of ours.
fn bearer(authorization: Option<&str>) -> Option<String> {
    let authorization = authorization?;
    // Without a token after it, `Bearer` is one that fails: HTTP takes the space at a value's end away.
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

impl HandshakeRequest {
    /// Where the client's rooms go on; none if it did not say.
    ///
    /// # Errors
    /// 400 `invalid_cursor`.
    pub(crate) fn cursor(&self) -> Result<Option<Cursor>, HandshakeRefusal> {
        let cursor = self.last_event_id.as_deref().map(Cursor::parse).transpose();
        cursor.map_err(HandshakeRefusal::invalid_cursor)
    }

    /// The upgrade that is asked for.
    ///
    /// # Errors
    /// 426 `upgrade_required` for a plain GET, 409 `client_version` without a common subprotocol.
    pub(crate) fn upgrade(&self) -> Result<&UpgradeRequest, HandshakeRefusal> {
        let upgrade = self.upgrade.as_ref().ok_or_else(HandshakeRefusal::upgrade_required)?;
        if self.no_common_version { Err(HandshakeRefusal::client_version()) } else { Ok(upgrade) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const UPGRADE: &[(&str, &str)] = &[
        ("host", "app.example"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn read(target: &str, headers: &[(&'static str, &str)]) -> Result<HandshakeRequest, HandshakeRefusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let policy = HandshakePolicy::default();
        read_request(&Method::GET, &target.parse().unwrap(), Version::HTTP_11, &map, &policy)
    }

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        let replaced = |name: &str| more.iter().any(|(other, _)| *other == name);
        UPGRADE.iter().copied().filter(|(name, _)| !replaced(name)).chain(more.iter().copied()).collect()
    }

    #[test]
    fn the_example_of_rfc_6455() {
        let request = read("/ws", UPGRADE).unwrap();
        let upgrade = request.upgrade().unwrap();
        assert_eq!((&*upgrade.accept, upgrade.offers_subprotocol), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", false));
        assert!(request.token.is_none() && request.cursor().unwrap().is_none());
    }

    #[test]
    fn the_first_token_found_is_final() {
        let token =
            |target: &str, more: &[(&'static str, &'static str)]| read(target, &with(more)).unwrap().token;
        let query = "/ws?token=of%2Bquery";
        assert_eq!(token(query, &[]).as_deref(), Some("of+query"));
        let offers = ("sec-websocket-protocol", "tidings.v1, tidings.token.of.offer");
        assert_eq!(token(query, &[offers]).as_deref(), Some("of.offer"));
        let bearer = ("authorization", "bearer of.header");
        assert_eq!(token(query, &[offers, bearer]).as_deref(), Some("of.header"));
        assert_eq!(token(query, &[("authorization", "Basic abc")]).as_deref(), Some("of+query"));
        for bare in ["Bearer ", "bearer"] {
            let token = token(query, &[offers, ("authorization", bare)]);
            assert_eq!(token.as_deref(), Some(""), "it fails, and that is final");
        }
        assert_eq!(token(query, &[("authorization", "Bearers x")]).as_deref(), Some("of+query"));
        let request = read("/ws?session=canary", &with(&[("authorization", "Bearer canary")])).unwrap();
        assert!(!format!("{request:?}").contains("canary"));
    }

    #[test]
    fn each_fault_of_the_request_has_its_answer() {
        let refused = |more: &[(&'static str, &'static str)]| {
            let refusal = read("/ws", &with(more)).unwrap_err();
            (refusal.status().as_u16(), refusal.code())
        };
        assert_eq!(refused(&[("sec-websocket-version", "8")]), (426, "bad_upgrade"));
        assert_eq!(refused(&[("sec-websocket-key", "short")]), (400, "bad_upgrade"));
        assert_eq!(refused(&[("connection", "close")]), (400, "bad_upgrade"));
        assert_eq!(refused(&[("host", "a"), ("host", "b")]), (400, "bad_upgrade"));
        assert_eq!(refused(&[("content-length", "5")]), (400, "bad_upgrade"));
        assert_eq!(refused(&[("transfer-encoding", "chunked")]), (400, "bad_upgrade"));
        assert!(read("/ws", &with(&[("content-length", "0")])).is_ok());
        assert_eq!(refused(&[("origin", "https://evil.example")]), (403, "origin_not_allowed"));
        let none: &[(&str, &str)] = &[("upgrade", "websocket")];
        assert_eq!(read("/ws", none).unwrap_err().code(), "bad_upgrade");
        let policy = HandshakePolicy::default();
        let (uri, map) = ("/ws".parse().unwrap(), HeaderMap::new());
        for (method, version) in [
            (Method::POST, Version::HTTP_11),
            (Method::GET, Version::HTTP_10),
            (Method::GET, Version::HTTP_2),
        ] {
            let refusal = read_request(&method, &uri, version, &map, &policy).unwrap_err();
            assert_eq!(refusal.code(), "bad_upgrade");
        }
    }

    #[test]
    fn subprotocols_and_plain_gets() {
        let upgrade = |offers| {
            read("/ws", &with(&[("sec-websocket-protocol", offers)]))
                .unwrap()
                .upgrade()
                .map(|upgrade| upgrade.offers_subprotocol)
        };
        assert!(upgrade("chat, tidings.v1").unwrap());
        for unknown in ["chat", "tidings.v2", "tidings.token.x"] {
            assert_eq!(upgrade(unknown).unwrap_err().code(), "client_version", "{unknown}");
        }
        let plain = read("/ws?token=t", &[("host", "a"), ("sec-websocket-protocol", "chat")]).unwrap();
        assert_eq!(plain.upgrade().unwrap_err().code(), "upgrade_required");
    }

    #[test]
    fn the_query_says_where_to_go_on() {
        let request = read(
            "/ws?resume=wait&session=s&checkpoints=1&last_event_id=a@k3f9a1qz.1,b@k3f9a1qz.2&x=y",
            UPGRADE,
        )
        .unwrap();
        assert!(request.resume_wait && request.checkpoints);
        assert_eq!((request.session.as_deref(), request.cursor().unwrap().unwrap().len()), (Some("s"), 2));
        let long = format!("/ws?last_event_id={}", "a".repeat(5000));
        for bad in ["/ws?last_event_id=a", "/ws?last_event_id=a@k3f9a1qz.1,", &long] {
            assert_eq!(read(bad, UPGRADE).unwrap().cursor().unwrap_err().code(), "invalid_cursor");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(query in "[!-~]{0,60}", name in 0usize..8, value in "[ -~]{0,40}") {
            let names = ["host", "origin", "authorization", "sec-websocket-key", "sec-websocket-protocol", "upgrade", "connection", "sec-websocket-version"];
            let mut map = HeaderMap::new();
            for (known, good) in UPGRADE {
                map.insert(*known, HeaderValue::from_static(good));
            }
            if let Ok(value) = HeaderValue::from_str(&value) {
                map.insert(names[name], value);
            }
            if let Ok(uri) = format!("/ws?{query}").parse::<Uri>()
                && let Ok(request) = read_request(&Method::GET, &uri, Version::HTTP_11, &map, &HandshakePolicy::default())
            {
                let _ = (request.cursor(), request.upgrade());
            }
        }
    }
}
