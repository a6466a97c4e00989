//! The accept loop, and HTTP/1.1 on what it accepts: bounded in number, in bytes and in time, whatever clients do.
//!
//! `axum::serve` sets no header timeout and counts nothing, so this is our own. Nothing here knows routes, and an
//! upgraded connection is the hub's: it is neither counted nor timed here any longer.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings::Limits;
use tidings::protocol::limits::{HANDSHAKE_HEAD_BYTES_MAX, HANDSHAKE_HEADERS_MAX, Limit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service as _;
use tracing::{debug, info, warn};

use crate::forwarded::TrustedProxies;
use crate::pace::{Pace, Told};
use crate::pending::{PendingConnections, TooMany};
use crate::tls::Tls;

/// How long the loop rests when there are no open files left: sockets that end meanwhile give some back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who is told that a limit was hit.
pub(crate) type OnHit = Arc<dyn Fn(Limit) + Send + Sync>;

/// What is between a listener's sockets and its routes.
#[derive(Clone, Default)]
pub(crate) struct Edge {
    /// Nothing but TLS is spoken where there is one.
    pub(crate) tls: Option<Tls>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) heads: HeadLimits,
}

/// How large the head of a request may be. More is answered with 431.
#[derive(Clone, Copy)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: HANDSHAKE_HEAD_BYTES_MAX, headers_max: HANDSHAKE_HEADERS_MAX }
    }
}

/// Where connections come from.
pub(crate) trait Accept: Send + Sync {
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

/// Serves `app` on everything that is accepted, for as long as it is polled.
pub(crate) async fn serve(
    listener: &impl Accept,
    app: Router,
    edge: Edge,
    limits: &Limits,
    on_hit: &OnHit,
) -> Infallible {
    let pending = Arc::new(PendingConnections::new(limits));
    let progress_max = limits.handshake_duration_max;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(progress_max)
        .max_headers(edge.heads.headers_max)
        .max_buf_size(edge.heads.bytes_max);
    let edge = Arc::new(edge);
    let mut is_failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if std::mem::take(&mut is_failing) {
                    info!("accepting connections again");
                }
                let counted = if edge.proxies.trusts(address.ip()) {
                    pending.begin_for_many(address.ip())
                } else {
                    pending.begin(address.ip())
                };
                match counted {
                    Ok(counted) => {
                        let pace = Pace::new(progress_max, Arc::clone(&pending), address.ip(), counted);
                        let connection = Connection {
                            address,
                            edge: Arc::clone(&edge),
                            http: http.clone(),
                            app: app.clone(),
                            pace: Arc::new(pace),
                            on_hit: Arc::clone(on_hit),
                        };
                        drop(tokio::spawn(connection.serve(stream, limits.silence_max)));
                    }
                    Err(too_many) => {
                        on_hit(too_many.limit());
                        debug!(%address, ?too_many, "refused at accept");
                        // Over TLS an answer would cost what there is too little of; the client sees a close.
                        if edge.tls.is_none() {
                            refuse(stream, too_many);
                        }
                    }
                }
            }
            // The client hung up before its turn; the next one may be fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => debug!(%error, "accept"),
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(%error, retry_ms = ACCEPT_RETRY.as_millis(), "connections can't be accepted");
                }
                #[expect(
                    clippy::disallowed_methods,
                    reason = "nothing tells when an open file is free again"
                )]
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection until it is upgraded or closed. Its pace has the time for its first request to be answered, and again
/// for each that follows: hyper times the head alone, and this times whatever else a client can think of.
struct Connection {
    address: SocketAddr,
    edge: Arc<Edge>,
    http: http1::Builder,
    app: Router,
    pace: Arc<Pace>,
    on_hit: OnHit,
}

impl Connection {
    async fn serve(self, stream: TcpStream, silence_max: Duration) {
        match &self.edge.tls {
            None => self.in_time(self.http(stream, false)).await,
            Some(tls) => {
                let secured = async {
                    match tls.accept(stream, silence_max).await {
                        Ok(stream) => self.http(stream, true).await,
                        Err(error) => {
                            debug!(%error, address = %self.address, "no TLS");
                            Ok(())
                        }
                    }
                };
                self.in_time(Box::pin(secured)).await;
            }
        }
        self.pace.end();
    }

    async fn in_time(&self, served: impl Future<Output = Result<(), hyper::Error>>) {
        // Who has had an answer may rest until he is closed: he hits no limit by it.
        tokio::select! {
            ended = served => {
                if let Err(error) = ended {
                    debug!(%error, address = %self.address, "connection");
                    if error.is_parse_too_large() {
                        (self.on_hit)(Limit::HandshakeHead);
                    } else if error.is_timeout() && !self.pace.has_answer() {
                        (self.on_hit)(Limit::HandshakeDurationMax);
                    }
                }
            }
            () = self.pace.run_out() => {
                debug!(address = %self.address, "closed: no request was answered in time");
                if !self.pace.has_answer() {
                    (self.on_hit)(Limit::HandshakeDurationMax);
                }
            }
        }
    }

    async fn http<S>(&self, stream: S, is_secure: bool) -> Result<(), hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
            let peer = self.address;
            let client = self.edge.proxies.client(peer, request.headers());
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(client));
            extensions.insert(self.edge.proxies.way(peer, is_secure));
            extensions.insert(Arc::clone(&self.pace));
            let (mut app, pace) = (self.app.clone(), Arc::clone(&self.pace));
            async move {
                let response = app.call(request.map(Body::new)).await;
                pace.answered();
                response.map(|response| response.map(|body| told(body, pace)))
            }
        });
        self.http.serve_connection(TokioIo::new(stream), service).with_upgrades().await
    }
}

/// Who takes a large answer slowly, or a long one as it comes, is not gone.
fn told(body: Body, pace: Arc<Pace>) -> Body {
    if body.is_end_stream() { body } else { Body::new(Told::new(body, pace, ())) }
}

/// Says no without waiting for anything: the answer fits the socket's empty buffer, or is lost.
fn refuse(stream: TcpStream, too_many: TooMany) {
    let Ok(stream) = stream.into_std() else { return };
    // What has been sent already is taken out first: closing over unread bytes would reset the answer away.
    let mut unread = [0; 4096];
    let _ = (&stream).read(&mut unread);
    let _ = (&stream).write(too_many.answer().as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}

impl TooMany {
    fn limit(self) -> Limit {
        match self {
            Self::OnNode => Limit::PendingHandshakesMax,
            Self::FromAddress => Limit::PendingHandshakesPerIpMax,
        }
    }

    /// The whole HTTP answer.
    fn answer(self) -> String {
        let (status, reason, code, detail, fix) = match self {
            Self::OnNode => (
                503,
                "Service Unavailable",
                "overloaded",
                "too many handshakes are under way on this node",
                "try again after Retry-After, with jitter; if it lasts, add a node",
            ),
            Self::FromAddress => (
                429,
                "Too Many Requests",
                "rate_limited",
                "too many handshakes are under way from this address",
                "try again after Retry-After, and finish or close the connections that are open",
            ),
        };
        let body = format!(
            r#"{{"type":"urn:tidings:{code}","title":"{reason}","status":{status},"code":"{code}","detail":"{detail}","fix":"{fix}"}}"#
        );
        format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A listener whose first accepts fail.
    struct Failing {
        errors: Vec<i32>,
        asked: AtomicUsize,
        then: TcpListener,
    }

    impl Accept for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            match self.errors.get(self.asked.fetch_add(1, Ordering::Relaxed)) {
                Some(error) => Err(io::Error::from_raw_os_error(*error)),
                None => self.then.accept().await,
            }
        }
    }

    /// Counts, for a test to look at.
    fn counted() -> (OnHit, Arc<parking_lot::Mutex<Vec<Limit>>>) {
        let hits = Arc::<parking_lot::Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&hits);
        (Arc::new(move |limit| kept.lock().push(limit)), hits)
    }

    async fn local() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn answer_to(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn without_open_files_the_loop_rests_and_lives() {
        use rustix::io::Errno;
        let errors = [Errno::MFILE, Errno::NFILE, Errno::MFILE].map(Errno::raw_os_error);
        let (then, address) = local().await;
        let listener = Failing {
            errors: [errors.as_slice(), &[Errno::CONNABORTED.raw_os_error()]].concat(),
            asked: 0.into(),
            then,
        };
        let app = Router::new().route("/", get(|| async { "alive" }));
        let (limits, begun) = (Limits::default(), std::time::Instant::now());
        let (on_hit, _) = counted();
        tokio::select! {
            _ = serve(&listener, app, Edge::default(), &limits, &on_hit) => unreachable!(),
            answer = answer_to(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") => {
                assert!(answer.ends_with("alive"), "{answer}");
            }
        }
        assert!(begun.elapsed() >= 3 * ACCEPT_RETRY, "it rests after each failure, and does not spin");
        assert_eq!(
            listener.asked.load(Ordering::Relaxed),
            6,
            "four failures, one connection, one that waits"
        );
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so() {
        let (listener, address) = local().await;
        let mut limits = Limits::default();
        limits.pending_handshakes_max = 2;
        let client = async {
            let held =
                [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
            let answer = answer_to(address, "").await;
            drop(held);
            answer
        };
        let (on_hit, hits) = counted();
        tokio::select! {
            _ = serve(&listener, Router::new(), Edge::default(), &limits, &on_hit) => unreachable!(),
            answer = client => {
                assert_eq!(*hits.lock(), [Limit::PendingHandshakesMax]);
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
                assert!(answer.contains("retry-after: 1\r\n") && answer.contains(r#""code":"overloaded""#), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn a_handler_that_never_answers_does_not_keep_its_connection() {
        let (listener, address) = local().await;
        let mut limits = Limits::default();
        limits.handshake_duration_max = Duration::from_millis(50);
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let (on_hit, hits) = counted();
        tokio::select! {
            _ = serve(&listener, app, Edge::default(), &limits, &on_hit) => unreachable!(),
            answer = answer_to(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n") => assert_eq!(answer, ""),
        }
        assert_eq!(*hits.lock(), [Limit::HandshakeDurationMax]);
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_or_too_slow_is_refused_and_counted() {
        let (listener, address) = local().await;
        let mut limits = Limits::default();
        limits.handshake_duration_max = Duration::from_millis(200);
        let app = || Router::new().route("/", get(|| async { "hello" }));
        let headers = |count: usize| "x: y\r\n".repeat(count);
        let cases = [
            (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000)), " 431 ", Limit::HandshakeHead),
            (format!("GET / HTTP/1.1\r\n{}\r\n", headers(65)), " 431 ", Limit::HandshakeHead),
            ("GET / HTTP/1.1\r\nhost:".to_owned(), "", Limit::HandshakeDurationMax),
            (String::new(), "", Limit::HandshakeDurationMax),
        ];
        for (request, told, limit) in cases {
            let (on_hit, hits) = counted();
            let answered = async {
                let answer = answer_to(address, &request).await;
                // The connection's task counts behind its last byte.
                while hits.lock().is_empty() {
                    tokio::task::yield_now().await;
                }
                answer
            };
            tokio::select! {
                _ = serve(&listener, app(), Edge::default(), &limits, &on_hit) => unreachable!(),
                answer = answered => assert!(answer.contains(told), "{answer}"),
            }
            assert_eq!(*hits.lock(), [limit], "{request:.40}");
        }
        // Who is answered and then rests is closed, and has hit nothing.
        let (on_hit, hits) = counted();
        tokio::select! {
            _ = serve(&listener, app(), Edge::default(), &limits, &on_hit) => unreachable!(),
            answer = answer_to(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n") => assert!(answer.ends_with("hello")),
        }
        assert!(hits.lock().is_empty());
    }

    #[test]
    fn the_answers_tell_their_length() {
        for too_many in [TooMany::OnNode, TooMany::FromAddress] {
            let answer = too_many.answer();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        }
    }
}
