//! The task of a client: it does what the machine asks for, and tells it what comes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_protocol::client::{HandshakeRefusal, State};
use tidings_protocol::codec::{decode_server_binary, decode_server_text};
use tracing::warn;

use crate::connection::{Connection, Dialer, Incoming};
use crate::shared::{Io, Shared};

/// Looks again after so long where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

type Dialing = Pin<Box<dyn Future<Output = Result<Box<Connection>, HandshakeRefusal>> + Send>>;

/// Where a client's connection stands.
enum Link {
    None,
    Dialing(Dialing),
    Open(Box<Connection>),
}

enum Happened {
    Dialed(Result<Box<Connection>, HandshakeRefusal>),
    Came(Incoming),
}

impl Link {
    async fn happens(&mut self) -> Happened {
        match self {
            Self::None => std::future::pending().await,
            Self::Dialing(dialing) => Happened::Dialed(dialing.await),
            Self::Open(connection) => Happened::Came(connection.next().await),
        }
    }
}

/// Runs a client until it is closed.
pub(crate) async fn run(shared: Arc<Shared>, dialer: Dialer) {
    let dialer = Arc::new(dialer);
    let (mut link, mut todo) = (Link::None, Vec::new());
    loop {
        let places = if let Link::Open(connection) = &link { connection.places() } else { 0 };
        let due = shared.poll(&mut todo, places);
        for io in todo.drain(..) {
            match (io, &mut link) {
                (Io::Connect(url), link) => {
                    let dialer = Arc::clone(&dialer);
                    *link = Link::Dialing(Box::pin(async move { dialer.dial(&url).await }));
                }
                (Io::Send(encoding, frame), Link::Open(connection)) => connection.send(encoding, frame),
                (Io::Send(..), _) => {}
                (Io::Disconnect(code), link) => {
                    if let Link::Open(connection) = std::mem::replace(link, Link::None) {
                        tokio::spawn(connection.farewell(code));
                    }
                }
            }
        }
        if *shared.state.borrow() == State::Closed {
            return;
        }
        let due = due.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            happened = link.happens() => match happened {
                Happened::Dialed(Ok(connection)) => link = Link::Open(connection),
                Happened::Dialed(Err(refusal)) => {
                    link = Link::None;
                    shared.refused(&refusal);
                }
                Happened::Came(incoming) => {
                    if let Incoming::Ended(code, reason) = incoming {
                        link = Link::None;
                        shared.closed(code, &reason);
                    } else {
                        take(&shared, &incoming);
                    }
                }
            },
            () = tokio::time::sleep_until(due.into()) => shared.tick(),
            () = shared.wake.notified() => {}
        }
    }
}

fn take(shared: &Shared, incoming: &Incoming) {
    let message = match incoming {
        Incoming::Text(text) => decode_server_text(text),
        Incoming::Binary(bytes) => decode_server_binary(bytes),
        Incoming::Heard | Incoming::Ended(..) => return shared.heard(),
        Incoming::Place => return,
    };
    match message {
        Ok(message) => shared.receive(&message),
        // A fault of the server's: its other messages are good.
        Err(error) => {
            warn!(%error, "a message that is none");
            shared.heard();
        }
    }
}
