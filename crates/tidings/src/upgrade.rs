//! The handshake: every check before the 101, each refusal an HTTP answer, then the raw stream to a shard.
//!
//! PROTOCOL.md §1. Nothing of the request outlives this module but what the connection needs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tidings_protocol::event_id::{Cursor, RoomId};
use tidings_protocol::limits::{Limit, TOKEN_BYTES_MAX};
use tokio::net::TcpStream;
use tracing::{debug, info};

use crate::auth::{AuthError, Identity, TokenFault};
use crate::broker::{NoPlace, Place, Wanted};
use crate::handshake::{self, HandshakeRefusal, HandshakeRequest};
use crate::hub::Hub;
use crate::inbox::{Entry, Guard, Opening};
use crate::io::Io;
use crate::local_users::Lost;
use crate::logged::{CLIENT_BYTES_MAX, log_safe, redacted};
use crate::node::{BrokerSilent, Node};
use crate::peer::Peer;
use crate::session_id::SessionId;
use crate::users::{ConnectionLimit, LimitReached, Placed, Slot};

/// How long the application's memberships may take at a handshake.
const MEMBERSHIPS_WAIT_MAX: Duration = Duration::from_secs(3);

/// Bytes of their error in the log: an application may quote a client there.
const MEMBERSHIP_ERROR_BYTES_MAX: usize = 1000;

/// What a client is told when they fail.
const NO_ROOMS: &str = "the user's rooms could not be read";

/// And when the broker that stores them does not answer.
const NO_BROKER: &str = "what the user's rooms are stored in does not answer";

/// And when nobody can say how many connections he has.
const NO_PLACES: &str = "what counts the user's connections does not answer";

/// What a handshake has established, before there is a socket.
pub(crate) struct Admitted {
    peer: Peer,
    slot: Slot,
    held: Vec<Guard>,
}

impl Hub {
    /// The route of the WebSocket, for any axum router: `Router::new().route("/ws", hub.route())`.
    ///
    /// Serve with `into_make_service_with_connect_info::<SocketAddr>()` to have the limits per address.
    pub fn route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let hub = self.clone();
        axum::routing::any(move |request: Request<Body>| {
            let hub = hub.clone();
            async move { hub.upgrade(request).await }
        })
    }

    /// Answers one handshake: 101 and a connection, or a refusal with status, code and fix.
    pub async fn upgrade(&self, mut request: Request<Body>) -> Response {
        let address =
            request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
        let mut cors = None;
        let answer = self.answer(&mut request, address, &mut cors).await;
        answer.unwrap_or_else(|refusal| {
            self.node().metrics.count_refusal(refusal.code());
            if let Some(limit) = refusal.limit() {
                self.node().metrics.hit(limit);
            }
            let agent =
                request.headers().get(http::header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
            info!(
                code = refusal.code(),
                status = refusal.status().as_u16(),
                address = address.map(tracing::field::display),
                target = %log_safe(&redacted(request.uri()), CLIENT_BYTES_MAX),
                agent = %log_safe(&String::from_utf8_lossy(agent), CLIENT_BYTES_MAX),
                "refuse",
            );
            refusal.to_response(cors.as_ref())
        })
    }

    async fn answer(
        &self,
        request: &mut Request<Body>,
        address: Option<SocketAddr>,
        cors: &mut Option<HeaderValue>,
    ) -> Result<Response, HandshakeRefusal> {
        let node = self.node();
        let (method, headers) = (request.method(), request.headers());
        *cors = handshake::cors_origin(headers, self.policy());
        if method == Method::OPTIONS
            && let Some(origin) = &*cors
        {
            return Ok(handshake::preflight(origin));
        }
        let asked =
            handshake::read_request(method, request.uri(), request.version(), headers, self.policy())?;
        let now = node.env.now();
        if let Some(address) = address {
            let taken = node.handshake_rate.take(address.ip(), &node.limits, now);
            taken.map_err(HandshakeRefusal::rate_limited)?;
        }
        // Behind the address's own, so that one address alone can't use the node's up.
        let taken = node.handshake_rate.take_of_node(&node.limits, now);
        taken.map_err(HandshakeRefusal::too_many_handshakes)?;
        let identity = authenticate(node, &asked).await?;
        let cursor = asked.cursor()?;
        let takes_over = admit(node, &asked, &identity)?;
        let upgrade = match asked.upgrade() {
            Ok(upgrade) => upgrade,
            Err(refusal) => {
                find_place(node, &identity, takes_over).await?;
                // A browser's client has no other way to learn that it is not let in.
                rooms_of(node, &identity).await?;
                return Err(refusal);
            }
        };
        let admitted = Admitted::new(node, identity, takes_over, cursor.as_ref()).await?;
        let Some(pending) = request.extensions_mut().remove::<OnUpgrade>() else {
            return Err(HandshakeRefusal::bad_upgrade(
                "the server in front of this route can't upgrade connections",
            ));
        };
        let response = handshake::switching_protocols(upgrade);
        let (resume_wait, checkpoints) = (asked.resume_wait, asked.checkpoints);
        let node = Arc::clone(node);
        drop(tokio::spawn(async move {
            let upgraded = pending.await.map_err(std::io::Error::other);
            match upgraded.and_then(|upgraded| stream(upgraded, node.limits.silence_max)) {
                Ok((io, early)) => admitted.open(&node, io, early, cursor, resume_wait, checkpoints),
                Err(error) => debug!(%error, "an upgrade came to nothing"),
            }
        }));
        Ok(response)
    }
}

async fn authenticate(node: &Node, asked: &HandshakeRequest) -> Result<Identity, HandshakeRefusal> {
    let verified = match &asked.token {
        Some(token) => node.authenticate.authenticate(token, node.env.unix_ms() / 1000).await,
        None => Err(AuthError::new(TokenFault::Missing, "the request has no token")),
    };
    let identity = verified.map_err(|error| {
        if error.is_unavailable() {
            return HandshakeRefusal::broker_unavailable(error.detail());
        }
        let (detail, fix) = (error.detail().to_owned(), error.fault().fix().to_owned());
        let refusal = HandshakeRefusal::token(error.fault().code(), detail, fix);
        let too_long = asked.token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX);
        if too_long { refusal.by(Limit::TokenBytesMax) } else { refusal }
    })?;
    refuse_revoked(node, &identity)?;
    Ok(identity)
}

fn refuse_revoked(node: &Node, identity: &Identity) -> Result<(), HandshakeRefusal> {
    if node.revocations.has_revoked(identity) { Err(HandshakeRefusal::token_revoked()) } else { Ok(()) }
}

/// Whether there is a place for who has a good token, and the session that he takes over, as far as this node knows.
/// Takes nothing yet: a plain GET is told the same.
fn admit(
    node: &Node,
    asked: &HandshakeRequest,
    identity: &Identity,
) -> Result<Option<SessionId>, HandshakeRefusal> {
    if node.is_draining() {
        return Err(HandshakeRefusal::draining());
    }
    if node.metrics.connections.get() >= node.limits.connections_per_node_max as u64 {
        return Err(HandshakeRefusal::overloaded());
    }
    let takes_over = asked.session.as_deref().and_then(SessionId::parse);
    let limit = connection_limit(node, identity);
    if !node.broker.is_shared() && !node.users.has_slot(identity.user(), takes_over, limit) {
        return Err(HandshakeRefusal::connection_limit(limit.max));
    }
    Ok(takes_over)
}

fn connection_limit(node: &Node, identity: &Identity) -> ConnectionLimit {
    ConnectionLimit {
        max: identity.max_connections().unwrap_or(node.limits.connections_per_user_max),
        policy: node.limits.connections_per_user_policy,
    }
}

impl Admitted {
    /// Takes the user's slot and learns his rooms.
    pub(crate) async fn new(
        node: &Arc<Node>,
        identity: Identity,
        takes_over: Option<SessionId>,
        cursor: Option<&Cursor>,
    ) -> Result<Self, HandshakeRefusal> {
        let rooms = rooms_of(node, &identity).await?;
        let held = hold_rooms(node, &identity, &rooms, cursor).await?;
        // Again, since the memberships take their time.
        refuse_revoked(node, &identity)?;
        let session = match takes_over {
            Some(old) => old.after(&*node.env),
            None => SessionId::first(&*node.env),
        };
        let slot = place(node, &identity, session, takes_over).await?;
        Ok(Self { peer: Peer::new(identity, session, rooms), slot, held })
    }

    /// Hands the socket to a shard.
    pub(crate) fn open(
        self,
        node: &Node,
        io: Io,
        early: Bytes,
        last_event_id: Option<Cursor>,
        resume_wait: bool,
        checkpoints: bool,
    ) {
        let io = match io.detach() {
            Ok(io) => io,
            Err(error) => return debug!(%error, "a socket was lost at its upgrade"),
        };
        let inbox = node.emptiest_shard(self.peer.session.lineage());
        let Self { peer, slot, held } = self;
        let opening = Opening { io, early, peer, slot, last_event_id, resume_wait, checkpoints, held };
        inbox.push(Entry::Open(Box::new(opening)));
    }
}

/// Takes the user's slot, among those of all nodes where there are several.
async fn place(
    node: &Node,
    identity: &Identity,
    session: SessionId,
    takes_over: Option<SessionId>,
) -> Result<Slot, HandshakeRefusal> {
    let limit = connection_limit(node, identity);
    let wanted = Wanted { identity, session, takes_over, limit };
    let (slot, limit_reached) = match node.broker.take_place(wanted) {
        Some(taking) => {
            let mut slot = node.users.reserve(identity.user(), session);
            let taken = taking.await;
            let Place { lease, limit_reached } = taken.map_err(|why| refusal_of(why, limit))?;
            slot.hold(lease);
            (slot, limit_reached)
        }
        None => {
            let Placed { slot, replaced, limit_reached } = node
                .users
                .take_slot(identity.user(), session, takes_over, limit)
                .map_err(|LimitReached| HandshakeRefusal::connection_limit(limit.max))?;
            let lost = if limit_reached { Lost::AsTheOldest } else { Lost::ToItsOwn };
            for connection in replaced {
                node.local_users.close_replaced(connection, lost);
            }
            (slot, limit_reached)
        }
    };
    if limit_reached {
        node.metrics.hit(Limit::ConnectionsPerUserMax);
    }
    Ok(slot)
}

/// What [`place`] would say, where other nodes have a say in it; takes nothing.
async fn find_place(
    node: &Node,
    identity: &Identity,
    takes_over: Option<SessionId>,
) -> Result<(), HandshakeRefusal> {
    if !node.broker.is_shared() {
        return Ok(());
    }
    let (session, limit) = (SessionId::first(&*node.env), connection_limit(node, identity));
    let wanted = Wanted { identity, session, takes_over, limit };
    match node.broker.find_place(wanted) {
        Some(finding) => finding.await.map_err(|why| refusal_of(why, limit)),
        None => Ok(()),
    }
}

fn refusal_of(why: NoPlace, limit: ConnectionLimit) -> HandshakeRefusal {
    match why {
        NoPlace::LimitReached => HandshakeRefusal::connection_limit(limit.max),
        NoPlace::Revoked => HandshakeRefusal::token_revoked(),
        NoPlace::Silent => HandshakeRefusal::broker_unavailable(NO_PLACES),
    }
}

/// Waits until the rooms that are joined on connect can be: so nobody is let in to be told nothing.
async fn hold_rooms(
    node: &Node,
    identity: &Identity,
    rooms: &[RoomId],
    cursor: Option<&Cursor>,
) -> Result<Vec<Guard>, HandshakeRefusal> {
    let joined: BTreeSet<_> = identity.rooms().iter().chain(rooms).collect();
    let joined = joined.into_iter().take(node.limits.rooms_per_connection_max);
    let wanted = joined.map(|room| (room.clone(), cursor.and_then(|cursor| cursor.get(room.as_str()))));
    node.hold(wanted).await.map_err(|BrokerSilent| HandshakeRefusal::broker_unavailable(NO_BROKER))
}

async fn rooms_of(node: &Node, identity: &Identity) -> Result<Vec<RoomId>, HandshakeRefusal> {
    let Some(memberships) = &node.memberships else { return Ok(Vec::new()) };
    match tokio::time::timeout(MEMBERSHIPS_WAIT_MAX, memberships.rooms(identity)).await {
        Ok(Ok(rooms)) => Ok(rooms),
        Ok(Err(error)) => {
            if let Some(reason) = error.forbids() {
                return Err(HandshakeRefusal::forbidden(reason));
            }
            let cause = log_safe(&error.message(), MEMBERSHIP_ERROR_BYTES_MAX).to_string();
            tracing::warn!(error = cause, "the memberships could not be read");
            let (code, detail) = error.unavailable_as().unwrap_or(("broker_unavailable", NO_ROOMS));
            Err(HandshakeRefusal::unavailable(code, detail))
        }
        Err(_) => {
            tracing::warn!(after = ?MEMBERSHIPS_WAIT_MAX, "the memberships took too long");
            Err(HandshakeRefusal::broker_unavailable(NO_ROOMS))
        }
    }
}

/// The socket under an upgraded connection, and what was read from it behind the handshake.
fn stream(upgraded: Upgraded, silence_max: Duration) -> std::io::Result<(Io, Bytes)> {
    // Hyper's own connections, and those of axum::serve, which wraps them once more.
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((plain(parts.io.into_inner(), silence_max), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => Ok((plain(parts.io.into_inner(), silence_max), parts.read_buf)),
        Err(upgraded) => Ok((Io::Boxed(Box::pin(TokioIo::new(upgraded))), Bytes::new())),
    }
}

fn plain(stream: TcpStream, silence_max: Duration) -> Io {
    // Frames are gathered already: waiting for more of them in the kernel would only cost latency.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    // What the other side does not acknowledge for as long as it may be silent, it never will: the kernel must not hold
    // it for the quarter of an hour that it would.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(silence_max)) {
        debug!(%error, "no TCP_USER_TIMEOUT");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = silence_max;
    Io::Tcp(stream)
}

impl IntoResponse for HandshakeRefusal {
    fn into_response(self) -> Response {
        self.to_response(None)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_acknowledged_is_given_up_as_silence_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let silence_max = tidings_protocol::limits::Limits::default().silence_max;
        let Io::Tcp(stream) = plain(listener.accept().await.unwrap().0, silence_max) else { unreachable!() };
        let timeout = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(Duration::from_secs(90)));
        assert!(stream.nodelay().unwrap());
    }
}
