//! The application behind this port: whatever path is not one of Tidings' own goes there and back, streamed both ways.
//!
//! Nothing is kept of what passes through. What is bounded is the number of requests under way, and how long one may go
//! without progress.

mod headers;
mod problem;
mod tunnel;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version, header};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info};

use crate::forwarded::Way;
use crate::listen::HeadLimits;
use crate::pace::{Exchange, Pace, Told};
use crate::pending::{PendingConnection, PendingConnections};

use problem::Problem;

/// How long a connection to the application may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Shorter than the 5 s after which Node and uvicorn close a connection that rests: none is used that they are closing.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(4);
const IDLE_CONNECTIONS_MAX: usize = 64;
/// An application's cookies may be large.
const HEADS: HeadLimits = HeadLimits { bytes_max: 32 * 1024, headers_max: 128 };
/// What Tidings answers, or will: nothing of it goes to the application, whatever it has at the same place.
const OWN_PATHS: [&str; 3] = ["/v1", "/health", "/openapi.json"];

/// What a configuration or a command line says of the application.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamOptions {
    /// `host:port`.
    pub(crate) authority: Authority,
    /// How long a request may go without progress on either side.
    pub(crate) stalled_duration_max: Duration,
    /// Requests under way, and WebSockets of the application's own besides.
    pub(crate) requests_max: usize,
    /// The same of one client's address, so that one alone can't use all of them up. Loopback is exempt.
    pub(crate) requests_per_address_max: usize,
}

/// Not an address at which an application can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InvalidUpstream(String);

impl fmt::Display for InvalidUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl InvalidUpstream {
    pub(crate) const FIX: &str = "write where your application listens: http://127.0.0.1:3000";
}

impl UpstreamOptions {
    /// The application at `http://host:port`, with the defaults of everything else.
    ///
    /// # Errors
    /// When the URL is none, or says more than that.
    pub(crate) fn at(url: &str) -> Result<Self, InvalidUpstream> {
        if url.contains('@') {
            // There may be a password in it, which is not for this message.
            return Err(InvalidUpstream("has a user in it, and none is sent".to_owned()));
        }
        let wrong = |what: &str| InvalidUpstream(format!("{url:?} {what}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(wrong("is https, and an application beside this server is asked by http alone"));
            }
            _ => return Err(wrong("does not begin with http://")),
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| wrong("names no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path, and paths go on as they come"));
        }
        Ok(Self {
            authority: authority.clone(),
            stalled_duration_max: Duration::from_secs(60),
            requests_max: 1024,
            requests_per_address_max: 256,
        })
    }
}

/// The application.
pub(crate) struct Upstream {
    options: UpstreamOptions,
    client: Client<HttpConnector, Body>,
    requests: Places,
    tunnels: Places,
}

/// How many exchanges of a kind may be under way.
struct Places {
    all: Arc<Semaphore>,
    all_max: u32,
    of_addresses: Arc<PendingConnections>,
}

/// One of them; given back when it is dropped.
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_address: PendingConnection,
}

impl Places {
    fn new(options: &UpstreamOptions) -> Self {
        let all_max = u32::try_from(options.requests_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let of_addresses = PendingConnections::at_most(usize::MAX, options.requests_per_address_max);
        Self {
            all: Arc::new(Semaphore::new(all_max as usize)),
            all_max,
            of_addresses: Arc::new(of_addresses),
        }
    }

    fn take(&self, address: IpAddr) -> Result<Place, Problem> {
        let of_address = self.of_addresses.begin(address).map_err(|_| Problem::too_many_of_address())?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Problem::too_many())?;
        Ok(Place { _of_all: of_all, _of_address: of_address })
    }
}

impl Upstream {
    pub(crate) fn new(options: UpstreamOptions) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client, requests: Places::new(&options), tunnels: Places::new(&options), options }
    }

    /// Ends when no request is under way any more; those that come while somebody waits for that are refused. A tunnel
    /// may last for ever, and is not waited for.
    pub(crate) async fn rest(&self) {
        // It is never closed.
        let _ = self.requests.all.acquire_many(self.requests.all_max).await;
    }

    /// What an edge in front of it allows.
    pub(crate) fn heads(&self) -> HeadLimits {
        HEADS
    }

    /// Answers for it whatever `app` has no route for.
    pub(crate) fn behind<S: Clone + Send + Sync + 'static>(self: &Arc<Self>, app: Router<S>) -> Router<S> {
        let upstream = Arc::clone(self);
        app.fallback(move |request: Request<Body>| {
            let upstream = Arc::clone(&upstream);
            async move { upstream.answer(request).await }
        })
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if is_own(&path) {
            return Problem::not_found().into_response();
        }
        self.exchange(request).await.unwrap_or_else(|problem| {
            info!(%method, path = %path.escape_debug(), code = problem.code(), cause = problem.cause(), "no answer of the application");
            problem.into_response()
        })
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<Response, Problem> {
        let target = self.target(&request)?;
        let extensions = request.extensions();
        let (Some(way), Some(ConnectInfo(client)), Some(pace)) = (
            extensions.get::<Way>().copied(),
            extensions.get::<ConnectInfo<SocketAddr>>().copied(),
            extensions.get::<Arc<Pace>>().cloned(),
        ) else {
            return Err(Problem::failed("the listener does not say where the request is from"));
        };
        let is_upgrade = headers::asks_for_websocket(request.method(), request.headers());
        let places = if is_upgrade { &self.tunnels } else { &self.requests };
        let place = places.take(client.ip())?;
        let exchange = Arc::new(Exchange::begin(&pace, self.options.stalled_duration_max));
        let theirs = is_upgrade.then(|| hyper::upgrade::on(&mut request));

        let (mut parts, body) = request.into_parts();
        headers::of_request(&mut parts.headers, parts.uri.authority(), way, client, is_upgrade);
        let waits = Arc::new(AtomicBool::new(false));
        let mut asked = Request::new(if body.is_end_stream() {
            Body::empty()
        } else {
            Body::new(Upload { body, exchange: Arc::clone(&exchange), waits: Arc::clone(&waits) })
        });
        *asked.method_mut() = parts.method;
        *asked.uri_mut() = target;
        *asked.headers_mut() = parts.headers;

        let mut answer = tokio::select! {
            answer = self.client.request(asked) => answer.map_err(|error| Problem::of(&error))?,
            () = exchange.stalled() => {
                return Err(if waits.load(Ordering::Relaxed) { Problem::stalled() } else { Problem::timeout() });
            }
        };
        exchange.progressed();
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(theirs) = theirs else {
                return Err(Problem::failed("the application has switched protocols unasked"));
            };
            let ours = hyper::upgrade::on(&mut answer);
            drop(tokio::spawn(tunnel::run(theirs, ours, place)));
            headers::of_switching(answer.headers_mut());
            return Ok(answer.map(|_| Body::empty()).into_response());
        }
        headers::of_answer(answer.headers_mut());
        Ok(answer.map(|body| relayed(body, pace, exchange, place)))
    }

    /// The same path and query at the application.
    fn target(&self, request: &Request<Body>) -> Result<Uri, Problem> {
        if request.method() == Method::CONNECT {
            return Err(Problem::no_proxy());
        }
        // RFC 9112 §3.2: of two hosts, an application might believe the one and its router the other.
        let hosts = request.headers().get_all(header::HOST).iter().count();
        let may_be_none = request.version() < Version::HTTP_11 || request.uri().authority().is_some();
        if hosts > 1 || (hosts == 0 && !may_be_none) {
            return Err(Problem::hosts());
        }
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.options.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| Problem::no_proxy())
    }
}

/// Whether the path belongs to Tidings, whether there is a route for it or not.
pub(crate) fn is_own(path: &str) -> bool {
    OWN_PATHS
        .iter()
        .any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The answer's body; the exchange lasts until its end.
fn relayed(body: Incoming, pace: Arc<Pace>, exchange: Arc<Exchange>, place: Place) -> Body {
    // An empty one is over: hyper does not ask it for anything.
    if body.is_end_stream() { Body::new(body) } else { Body::new(Told::new(body, pace, (exchange, place))) }
}

/// A request's body on its way to the application.
struct Upload {
    body: Body,
    exchange: Arc<Exchange>,
    /// Whether it is the client who keeps it waiting.
    waits: Arc<AtomicBool>,
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits.store(true, Ordering::Relaxed);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.waits.store(false, Ordering::Relaxed);
        self.exchange.progressed();
        if let Some(Err(error)) = &frame {
            debug!(%error, "a request's body has broken off");
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_a_host_and_a_port() {
        for (url, authority) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://[::1]:3000/", "[::1]:3000"),
            ("http://app", "app"),
        ] {
            assert_eq!(UpstreamOptions::at(url).unwrap().authority.as_str(), authority);
        }
        for (url, told) in [
            ("127.0.0.1:3000", "does not begin with http://"),
            ("app", "does not begin with http://"),
            ("https://app", "is https"),
            ("ftp://app", "does not begin"),
            ("http://ann:canary-bird@app", "has a user"),
            ("http://app/base", "has a path"),
            ("http://app/?a=b", "has a path"),
            ("", "is no URL"),
        ] {
            let error = UpstreamOptions::at(url).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("canary-bird"), "{url}: {error}");
        }
    }

    #[test]
    fn tidings_paths_are_its_own_and_no_others() {
        for own in ["/v1", "/v1/", "/v1/rooms/a", "/health/none", "/openapi.json"] {
            assert!(is_own(own), "{own}");
        }
        for other in ["/", "/v10", "/v1x/", "/app/v1", "/healthy", "/openapi.jsonx", "/%761"] {
            assert!(!is_own(other), "{other}");
        }
    }
}
