//! A server as a command finds it by a URL: where its socket is, and what it answers to a handshake.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use serde::Deserialize;

use crate::app::SOCKET_PATH;
use crate::failure::Failure;
use crate::http_client::{self, Answer, NoAnswer};

/// RFC 6455's own example: nobody looks whether it is random.
const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("tidings.v1");

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    is_secure: bool,
    authority: String,
    path: String,
    pub(super) is_loopback: bool,
}

/// What a refusal says for programs and for people: RFC 9457.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) code: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) fix: Option<String>,
}

impl Problem {
    pub(super) fn of(answer: &Answer) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }
}

impl Target {
    /// By any of `http`, `https`, `ws` and `wss`; without a path the socket is at `/ws`.
    ///
    /// # Errors
    /// When it is no such URL.
    pub(super) fn parse(url: &Uri) -> Result<Self, Failure> {
        let is_secure = match url.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(no_url(url)),
        };
        let Some(authority) = url.authority().filter(|_| url.query().is_none()) else {
            return Err(no_url(url));
        };
        let path = if url.path().len() > 1 { url.path() } else { SOCKET_PATH };
        Ok(Self {
            is_secure,
            authority: authority.to_string(),
            path: path.to_owned(),
            is_loopback: http_client::is_loopback(url),
        })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The same server's socket elsewhere.
    pub(super) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// `ws://host/ws`
    pub(super) fn socket(&self) -> String {
        format!("{}://{}{}", if self.is_secure { "wss" } else { "ws" }, self.authority, self.path)
    }

    /// `http://host/path`
    pub(super) fn page(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_secure { "https" } else { "http" }, self.authority)
    }

    /// Asks for the upgrade, and says what was answered. If it is granted, the connection is dropped at once.
    pub(super) async fn handshake(
        &self,
        token: Option<&str>,
        origin: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = self.request(&self.path, token)?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, KEY);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.clone());
        }
        http_client::send(request).await
    }

    /// What a plain GET of a path is answered.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        http_client::send(self.request(path, None)?).await
    }

    fn request(&self, path: &str, token: Option<&str>) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let impossible = |why: http::Error| NoAnswer::NotSent(why.to_string());
        let mut request = Request::get(self.page(path)).body(Full::default()).map_err(impossible)?;
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, bearer(token).map_err(NoAnswer::NotSent)?);
        }
        Ok(request)
    }
}

/// The header that carries a token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token holds what no header may".to_owned())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn no_url(url: &Uri) -> Failure {
    Failure::usage(format_args!("{url} is no server's URL"))
        .fix("http://127.0.0.1:7777, wss://HOST/ws: a scheme, a host, and a path if the socket is not at /ws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_at_ws_unless_its_path_is_said() {
        let target = |url: &'static str| Target::parse(&Uri::from_static(url));
        for (url, socket) in [
            ("http://a:1", "ws://a:1/ws"),
            ("https://a/", "wss://a/ws"),
            ("ws://a/ws", "ws://a/ws"),
            ("wss://a/realtime", "wss://a/realtime"),
        ] {
            assert_eq!(target(url).unwrap().socket(), socket);
        }
        assert_eq!(target("wss://a/realtime").unwrap().page("/health/live"), "https://a/health/live");
        for wrong in ["ftp://a", "a:1", "/ws", "ws://a/ws?token=x"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
