//! How long a connection may go without progress: shortly for a handshake, longer while an exchange is under way that says so.
//!
//! A connection that is in an exchange is none of those on their way: it has its place among what the exchange counts.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pending::{PendingConnection, PendingConnections};

/// A body goes on in pieces of so many bytes: what takes one of them each few seconds is slow, and not gone.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// One connection's time.
pub(crate) struct Pace {
    /// What it has for its first request to be answered, and again for each that follows.
    short: Duration,
    pending: Arc<PendingConnections>,
    address: IpAddr,
    state: Mutex<State>,
    /// Its end has come nearer.
    nearer: Notify,
}

struct State {
    newest: Instant,
    /// How long an exchange may go without progress, while there is one.
    in_exchange: Option<Duration>,
    has_answer: bool,
    counted: Option<PendingConnection>,
    has_ended: bool,
}

impl Pace {
    /// That of a connection which has just been accepted, and counted.
    pub(crate) fn new(
        short: Duration,
        pending: Arc<PendingConnections>,
        address: IpAddr,
        counted: PendingConnection,
    ) -> Self {
        let state = State {
            newest: Instant::now(),
            in_exchange: None,
            has_answer: false,
            counted: Some(counted),
            has_ended: false,
        };
        Self { short, pending, address, state: Mutex::new(state), nearer: Notify::new() }
    }

    /// Something went on.
    pub(crate) fn progressed(&self) {
        self.state.lock().newest = Instant::now();
    }

    /// A request was answered.
    pub(crate) fn answered(&self) {
        let mut state = self.state.lock();
        state.newest = Instant::now();
        state.has_answer = true;
    }

    /// Whether any request was: who rests after that hits no limit by it.
    pub(crate) fn has_answer(&self) -> bool {
        self.state.lock().has_answer
    }

    /// Ends when the connection has had all of its time.
    pub(crate) async fn run_out(&self) {
        self.until(|state| match state.in_exchange {
            // Who leads the exchange says first what was too slow.
            Some(patience) => state.newest + patience + self.short,
            None => state.newest + self.short,
        })
        .await;
    }

    /// The connection is over, or somebody else's: it counts no more.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        state.counted = None;
    }

    async fn until(&self, end: impl Fn(&State) -> Instant) {
        loop {
            let until = end(&self.state.lock());
            if until <= Instant::now() {
                return;
            }
            // However it ends: what counts is what the state says then.
            let _ = tokio::time::timeout_at(until, self.nearer.notified()).await;
        }
    }
}

/// A request and its answer, which may go without progress for longer; until it is dropped.
pub(crate) struct Exchange {
    pace: Arc<Pace>,
    patience: Duration,
}

impl Exchange {
    /// Begins one. A connection has one at a time.
    pub(crate) fn begin(pace: &Arc<Pace>, patience: Duration) -> Self {
        let mut state = pace.state.lock();
        state.newest = Instant::now();
        state.in_exchange = Some(patience);
        state.counted = None;
        drop(state);
        Self { pace: Arc::clone(pace), patience }
    }

    /// Something went on.
    pub(crate) fn progressed(&self) {
        self.pace.progressed();
    }

    /// Ends when nothing has gone on for as long as the exchange may wait.
    pub(crate) async fn stalled(&self) {
        self.pace.until(|state| state.newest + self.patience).await;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.pace.state.lock();
        state.newest = Instant::now();
        state.in_exchange = None;
        if !state.has_ended {
            state.counted = Some(self.pace.pending.go_on(self.pace.address));
        }
        drop(state);
        self.pace.nearer.notify_one();
    }
}

/// A body that tells of each piece of it that goes on. What it `holds` lasts as long as it does.
pub(crate) struct Told<B, H> {
    body: B,
    /// What is left of a frame that is larger than a piece.
    rest: Bytes,
    pace: Arc<Pace>,
    _holds: H,
}

impl<B, H> Told<B, H> {
    pub(crate) fn new(body: B, pace: Arc<Pace>, holds: H) -> Self {
        Self { body, rest: Bytes::new(), pace, _holds: holds }
    }
}

impl<B, H> Body for Told<B, H>
where
    B: Body<Data = Bytes> + Unpin,
    H: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        self.pace.progressed();
        let piece = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::time::Duration;

    use axum::body::to_bytes;
    use http_body_util::Full;
    use tidings::Limits;

    use super::*;

    const SHORT: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_secs(60);

    fn pace(limits: &Limits) -> (Arc<Pace>, Arc<PendingConnections>) {
        let (pending, address) = (Arc::new(PendingConnections::new(limits)), IpAddr::from([10, 0, 0, 1]));
        let counted = pending.begin(address).unwrap();
        (Arc::new(Pace::new(SHORT, Arc::clone(&pending), address, counted)), pending)
    }

    async fn lasts(pace: &Pace) -> Duration {
        let begun = Instant::now();
        pace.run_out().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_has_longer_and_after_it_time_is_short_again() {
        let (pace, _) = pace(&Limits::default());
        assert_eq!(lasts(&pace).await, SHORT);
        let exchange = Exchange::begin(&pace, LONG);
        let begun = Instant::now();
        exchange.stalled().await;
        assert_eq!(begun.elapsed(), LONG, "who leads the exchange is told first");
        assert_eq!(lasts(&pace).await, SHORT);
        exchange.progressed();
        let mut waited = pin!(lasts(&pace));
        assert!(tokio::time::timeout(LONG, &mut waited).await.is_err());
        drop(exchange);
        assert_eq!(waited.await, LONG + SHORT, "from its end on, and not from when it had begun");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_an_exchange_leaves_its_place_to_a_handshake() {
        let mut limits = Limits::default();
        limits.pending_handshakes_max = 1;
        let (pace, pending) = pace(&limits);
        let address = IpAddr::from([10, 0, 0, 2]);
        assert!(pending.begin(address).is_err());
        let exchange = Exchange::begin(&pace, LONG);
        assert!(pending.begin(address).is_ok());
        drop(exchange);
        assert!(pending.begin(address).is_err());
        let exchange = Exchange::begin(&pace, LONG);
        pace.end();
        drop(exchange);
        assert!(pending.begin(address).is_ok(), "a connection that is over counts no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_goes_on_in_pieces_that_are_progress() {
        let (pace, _) = pace(&Limits::default());
        let whole = Bytes::from(vec![7; 3 * PIECE_BYTES_MAX + 1]);
        let mut body = Told::new(Full::new(whole.clone()), Arc::clone(&pace), ());
        assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        let mut pieces = 0;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))
            .await
            .map(Result::<_, Infallible>::unwrap)
        {
            pieces += 1;
            let left = whole.len() as u64 - body.size_hint().lower();
            assert!(frame.into_data().unwrap().len() as u64 <= left);
            assert!(
                tokio::time::timeout(SHORT / 2, pace.run_out()).await.is_err(),
                "it is slow, and not gone"
            );
        }
        assert_eq!(pieces, 4);
        let whole_again = Told::new(Full::new(whole.clone()), pace, ());
        assert_eq!(to_bytes(axum::body::Body::new(whole_again), usize::MAX).await.unwrap(), whole);
    }
}
