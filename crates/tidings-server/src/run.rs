//! A server's life: it listens, serves until a signal, sends everyone away, and ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tidings::{Hub, Limits};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::listen::{self, Edge, OnHit};
use crate::service;
use crate::tls::{self, Tls};
use crate::upstream::Upstream;

/// Connections that the system keeps until they are accepted, if it lets us: one more is lost, and its client waits for a
/// second. When a node has gone, all of its clients come at once.
const BACKLOG: u32 = 8192;
/// How long the runtime may take to end its tasks when everything is over.
const RUNTIME_END_MAX: Duration = Duration::from_millis(200);

/// Runs a command's future on a runtime of its own. The hub's shards have threads besides.
pub(crate) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("no runtime: {error}")))?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    ended
}

/// Listens on `address`; with the address that it became, should port 0 have been asked for.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A server that has just ended leaves its port in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there: end it, or choose another --listen"
            }
            std::io::ErrorKind::PermissionDenied => "choose a port from 1024 on with --listen",
            _ => "choose another address with --listen",
        };
        Failure::failed(format_args!("can't listen on {address}: {error}")).fix(fix)
    })
}

/// A listener, and what is served on it.
pub(crate) struct Entrance {
    pub(crate) listener: TcpListener,
    pub(crate) app: Router,
    pub(crate) edge: Edge,
    /// The application behind it, if there is one.
    pub(crate) upstream: Option<Arc<Upstream>>,
}

/// Serves until SIGTERM or SIGINT; then is not ready, and moves everyone away within `drain_window`. A second signal
/// ends it at once. What `admin` serves has a listener of its own to the end. At SIGHUP certificates are read again.
pub(crate) async fn serve(
    hub: &Hub,
    public: Entrance,
    admin: Option<Entrance>,
    limits: &Limits,
    drain_window: Duration,
) -> Result<(), Failure> {
    let no_signals = |error| Failure::failed(format_args!("no signals: {error}"));
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate()).map_err(no_signals)?,
        interrupt: signal(SignalKind::interrupt()).map_err(no_signals)?,
    };
    service::is_ready();
    let upstream = public.upstream.clone();
    let life = async {
        signals.next().await;
        service::is_stopping();
        info!(window_s = drain_window.as_secs(), "draining; a second signal ends it at once");
        let drained = async {
            let end = Instant::now() + drain_window;
            let left = hub.drain(drain_window).await;
            if left > 0 {
                warn!(left, "connections were still there at the end of the window");
            }
            if let Some(upstream) = upstream
                && tokio::time::timeout_at(end, upstream.rest()).await.is_err()
            {
                warn!("requests of the application were still under way at the end of the window");
            }
            info!("drained");
        };
        tokio::select! {
            () = drained => Ok(()),
            () = signals.next() => Err(Failure::failed("ended by a second signal, before everyone was sent away")),
        }
    };
    let counts_hits: OnHit = {
        let hub = hub.clone();
        Arc::new(move |limit| hub.count_limit_hit(limit))
    };
    // Operators are no clients of the hub: what they hit is not counted.
    let ignores_hits: OnHit = Arc::new(|_| ());
    let certificates: Vec<Tls> =
        [Some(&public), admin.as_ref()].into_iter().flatten().filter_map(|at| at.edge.tls.clone()).collect();
    let renewals = async {
        if certificates.is_empty() {
            // Without certificates the signal means what it means to any program.
            return std::future::pending::<Infallible>().await;
        }
        match signal(SignalKind::hangup()) {
            Ok(hangups) => tls::renew_at(hangups, &certificates).await,
            Err(error) => {
                warn!(%error, "no signals: certificates stay what they are");
                std::future::pending().await
            }
        }
    };
    let admin = async {
        match admin {
            Some(Entrance { listener, app, edge, .. }) => {
                listen::serve(&listener, app, edge, limits, &ignores_hits).await
            }
            None => std::future::pending().await,
        }
    };
    let Entrance { listener, app, edge, .. } = public;
    // While it drains it still listens: health checks and clients are told what goes on.
    tokio::select! {
        ended = life => ended,
        never = listen::serve(&listener, app, edge, limits, &counts_hits) => match never {},
        never = admin => match never {},
        never = renewals => match never {},
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
