//! Who may join and publish: what the rules know from the token, what the application has to be asked, and what is taken
//! back from those who are in.
//!
//! The application is asked on its own runtime, for a bounded time, and a connection's other calls in the room wait for the
//! answer. No answer lets nobody.

use std::sync::Arc;

use tidings_protocol::close::CloseCode;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::event_id::RoomId;
use tidings_protocol::message::{ClientEvent, LeftReason};
use tracing::warn;

use super::State;
use crate::access::{Access, AccessFn, Gate};
use crate::inbox::{Entry, PublishRequest, Verdict};
use crate::logged::log_safe;
use crate::membership::Memberships;
use crate::node::Node;
use crate::peer::Peer;
use crate::room::Room;

/// A turn looks through so many connections for revoked tokens.
const SWEEP_CONNECTIONS_MAX: usize = 512;
/// Bytes of why a question had no answer in the log: an application may quote a client there.
const CAUSE_BYTES_MAX: usize = 1000;

/// A walk through the connections.
#[derive(Default)]
pub(super) struct Sweep {
    next: usize,
    /// Something was revoked meanwhile: once more from the beginning.
    again: bool,
}

impl State {
    /// Whether a user may join, as far as that is known here; none if the application can tell.
    pub(super) fn verdict(&self, peer: &Peer, room: &RoomId) -> Option<Verdict> {
        let Some(rules) = self.node.rooms.rules().of(room.as_str()) else {
            return Some(Verdict::No(ErrorCode::UnknownRoom));
        };
        let allowed = match &rules.join {
            Gate::Of(Access::Anyone) => true,
            Gate::Of(Access::Nobody) => false,
            Gate::Of(Access::Claim(rule)) => rule.holds(&peer.identity),
            Gate::Of(Access::Members) if peer.identity.rooms().contains(room) => true,
            Gate::Of(Access::Members) if self.node.memberships.is_some() => return None,
            Gate::Of(Access::Members) => false,
            Gate::Asks(_) => return None,
        };
        Some(if allowed { Verdict::Yes } else { Verdict::No(ErrorCode::Forbidden) })
    }

    /// Whether a room of the token's, or of the memberships, is joined on connect: the claim that its rule wants counts
    /// there too, and nobody waits for a handler before his welcome.
    pub(super) fn may_join_on_connect(&self, peer: &Peer, room: &RoomId) -> bool {
        match self.node.rooms.rules().of(room.as_str()).map(|rules| &rules.join) {
            Some(Gate::Of(Access::Claim(rule))) => rule.holds(&peer.identity),
            Some(Gate::Asks(_)) => false,
            _ => true,
        }
    }

    // Publishing.

    /// Asks the application whether a member may publish; his later calls in the room wait.
    pub(super) fn ask_to_publish(&mut self, slot: u32, room: &Arc<Room>, event: ClientEvent<'_>) {
        let Gate::Asks(handler) = &room.rules.publish else { return };
        let question = Question::Handler(Arc::clone(handler));
        let Some(connection) = self.connection(slot) else { return };
        connection.lanes.start(Some(&room.id));
        let (key, peer) = (connection.key, Arc::clone(&connection.peer));
        let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
        let ClientEvent { event, data, id, .. } = event;
        let request = Box::new(PublishRequest { event, room: room.id.clone(), id, data: data.into() });
        self.node.spawn(async move {
            let (verdict, _) = ask(&node, question, peer, request.room.clone()).await;
            inbox.push(Entry::Permitted { connection: key, request, verdict });
        });
    }

    /// The application has said whether an event may be published.
    pub(super) fn permit(&mut self, slot: u32, request: PublishRequest, verdict: Verdict) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if connection.session.is_closing() {
            return;
        }
        let (key, peer) = (connection.key, Arc::clone(&connection.peer));
        let PublishRequest { event, room: lane, id, data } = request;
        match (verdict, self.joined_room(slot, &lane)) {
            // The application may have taken it out of the room meanwhile.
            (_, None) => self.refuse(slot, id.as_ref(), &not_joined(&lane)),
            (Verdict::No(code), _) => self.refuse(slot, id.as_ref(), &no_publish(code, &lane)),
            (Verdict::Yes, Some(room)) => {
                let event = ClientEvent { event, room: Some(lane.clone()), data: data.data(), id };
                self.publish(key, &peer, &room, event);
            }
        }
        self.settle(slot, Some(&lane), None);
    }

    // After a refresh.

    /// Asks the rules about a connection's rooms anew.
    pub(super) fn review(&mut self, slot: u32, peer: &Arc<Peer>) {
        let mut undecided = Vec::new();
        for room in self.rooms_of(slot) {
            match self.verdict(peer, &room) {
                Some(verdict) => self.obey_verdict(slot, &room, verdict),
                None => undecided.push((room, None)),
            }
        }
        let Some(connection) = self.connection(slot) else { return };
        if undecided.is_empty() {
            return;
        }
        let (key, peer) = (connection.key, Arc::clone(peer));
        let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
        self.node.spawn(async move {
            let verdicts = ask_for_all(&node, &peer, undecided).await;
            inbox.push(Entry::Reviewed { connection: key, peer, verdicts });
        });
    }

    /// The application has answered, for a connection that was `asked_as` then.
    pub(super) fn finish_review(&mut self, slot: u32, asked_as: &Arc<Peer>, verdicts: &[(RoomId, Verdict)]) {
        // A newer token has a review of its own.
        if self.connection(slot).is_some_and(|connection| Arc::ptr_eq(&connection.peer, asked_as)) {
            for (room, verdict) in verdicts {
                self.obey_verdict(slot, room, *verdict);
            }
        }
    }

    fn obey_verdict(&mut self, slot: u32, room: &RoomId, verdict: Verdict) {
        let Verdict::No(code) = verdict else { return };
        if self.leave(slot, room) {
            let message = match code {
                ErrorCode::Unavailable => {
                    format!("whether you may be in {room} could not be found out: left it, join it again")
                }
                _ => format!("the new token does not allow {room}: left it"),
            };
            let (code, reason) = match code {
                ErrorCode::Unavailable => (code, LeftReason::Unavailable),
                _ => (ErrorCode::Forbidden, LeftReason::Forbidden),
            };
            self.refuse(slot, None, &Refusal::new(code, message));
            self.tell_left(slot, room.clone(), reason);
        }
    }

    // Revoked tokens.

    /// A token was revoked: its connections are looked for, a piece of the shard each turn.
    pub(super) fn begin_sweep(&mut self) {
        match &mut self.sweep {
            Some(sweep) => sweep.again = true,
            None => self.sweep = Some(Sweep::default()),
        }
    }

    /// Looks through the next connections; whether more are left.
    pub(super) fn advance_sweep(&mut self) -> bool {
        let Some(Sweep { next, again }) = self.sweep.take() else { return false };
        // No slot is beyond the capacity.
        let end = (next + SWEEP_CONNECTIONS_MAX).min(self.connections.capacity());
        for slot in next..end {
            let revoked = self
                .connections
                .get(slot)
                .is_some_and(|connection| self.node.revocations.has_revoked(&connection.peer.identity));
            if revoked {
                self.close(slot as u32, CloseCode::TOKEN_INVALID, "the token was revoked");
            }
        }
        self.sweep = match (end < self.connections.capacity(), again) {
            (true, again) => Some(Sweep { next: end, again }),
            (false, true) => Some(Sweep::default()),
            (false, false) => None,
        };
        self.sweep.is_some()
    }
}

/// Whether a member may publish, as far as that is known here; none if the application can tell.
pub(super) fn may_publish(peer: &Peer, room: &Room) -> Option<bool> {
    Some(match &room.rules.publish {
        Gate::Of(Access::Anyone) => true,
        Gate::Of(Access::Nobody) => false,
        Gate::Of(Access::Members) => {
            matches!(room.rules.join, Gate::Of(Access::Members)) || peer.is_member_of(&room.id)
        }
        Gate::Of(Access::Claim(rule)) => rule.holds(&peer.identity),
        Gate::Asks(_) => return None,
    })
}

/// The refusal of what is for members only.
pub(super) fn not_joined(room: &RoomId) -> Refusal {
    Refusal::new(ErrorCode::NotJoined, format!("join {room} first"))
}

pub(super) fn no_publish(code: ErrorCode, room: &RoomId) -> Refusal {
    let message = match code {
        ErrorCode::Unavailable => {
            format!("whether you may publish to {room} could not be found out: try again")
        }
        _ => format!("you may not publish to {room}"),
    };
    Refusal::new(code, message)
}

/// Whom a rule asks.
enum Question {
    Handler(Arc<AccessFn>),
    Memberships(Arc<dyn Memberships>),
}

impl Question {
    /// Whom the rule of joining this room asks; none if nobody.
    fn of_join(node: &Node, room: &RoomId) -> Option<Self> {
        match &node.rooms.rules().of(room.as_str())?.join {
            Gate::Asks(handler) => Some(Self::Handler(Arc::clone(handler))),
            Gate::Of(_) => node.memberships.clone().map(Self::Memberships),
        }
    }

    async fn put(self, peer: Arc<Peer>, room: RoomId) -> Result<bool, String> {
        match self {
            Self::Handler(handler) => {
                handler(peer.identity.clone(), room).await.map_err(|error| error.message())
            }
            Self::Memberships(memberships) => match memberships.is_member(&peer.identity, &room).await {
                Err(error) if error.forbids().is_some() => Ok(false),
                answer => answer.map_err(|error| error.message()),
            },
        }
    }
}

/// Asks for those rooms of which nothing is known yet, one after the other. Once an answer took too long, the others are
/// not asked for any more: a client waits for one such time at most.
pub(super) async fn ask_for_all(
    node: &Node,
    peer: &Arc<Peer>,
    rooms: impl IntoIterator<Item = (RoomId, Option<Verdict>)>,
) -> Vec<(RoomId, Verdict)> {
    let mut decided = Vec::new();
    let mut gave_up = false;
    for (room, verdict) in rooms {
        let question = Question::of_join(node, &room).filter(|_| !gave_up);
        let verdict = match (verdict, question) {
            (Some(verdict), _) => verdict,
            (None, Some(question)) => {
                let (verdict, took_too_long) = ask(node, question, Arc::clone(peer), room.clone()).await;
                gave_up = took_too_long;
                verdict
            }
            (None, None) => Verdict::No(ErrorCode::Unavailable),
        };
        decided.push((room, verdict));
    }
    decided
}

/// What the application says, and whether it took too long.
async fn ask(node: &Node, question: Question, peer: Arc<Peer>, room: RoomId) -> (Verdict, bool) {
    let limit = node.limits.access_duration_max;
    let name = room.clone();
    // A task of its own, so that a panic in the application's code is an answer too.
    let mut answer = tokio::spawn(question.put(peer, room));
    let (cause, took_too_long) = match tokio::time::timeout(limit, &mut answer).await {
        Ok(Ok(Ok(true))) => return (Verdict::Yes, false),
        Ok(Ok(Ok(false))) => return (Verdict::No(ErrorCode::Forbidden), false),
        Ok(Ok(Err(error))) => (error, false),
        Ok(Err(error)) => {
            node.metrics.panics.add(1);
            (error.to_string(), false)
        }
        Err(_) => {
            answer.abort();
            (format!("no answer in {limit:?}"), true)
        }
    };
    warn!(room = %name, cause = %log_safe(&cause, CAUSE_BYTES_MAX), "nobody could say who may be in a room");
    (Verdict::No(ErrorCode::Unavailable), took_too_long)
}
