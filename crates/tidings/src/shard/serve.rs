//! What clients ask for, served: the built-in events in the shard itself, an application's by its handler.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_protocol::close::CloseCode;
use tidings_protocol::codec;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::event_id::{Cursor, Position, RoomId};
use tidings_protocol::frame::Inbound;
use tidings_protocol::limits::{
    HISTORY_PAGE_EVENTS_DEFAULT, HISTORY_PAGE_EVENTS_MAX, Limit, MEMBERS_PAGE_BYTES_MAX,
    MEMBERS_PAGE_DEFAULT, MEMBERS_PAGE_MAX, TOKEN_BYTES_MAX,
};
use tidings_protocol::message::{
    ClientEvent, ClientMessage, Data, EventName, History, JoinFrom, LeftReason, Members, MessageId,
    Refreshed, Resumed, ResumedRoom, RoomList, ServerMessage,
};
use tidings_protocol::session::Received;
use tracing::{debug, warn};

use super::State;
use super::admission::{ask_for_all, may_publish, no_publish, not_joined};
use crate::auth::{AuthError, Identity, TokenFault};
use crate::broker::Completion;
use crate::calls::{Begin, Ticket};
use crate::changes::member;
use crate::connection::{Connection, Start};
use crate::context::{self, AckError, Context};
use crate::encode;
use crate::inbox::{Command, Entry, JoinRequest, Verdict};
use crate::lanes::Waiting;
use crate::logged::{CLIENT_BYTES_MAX, log_safe};
use crate::node::{BrokerSilent, Node};
use crate::peer::Peer;
use crate::publication::{Excluded, Payload, PublishKey};
use crate::room::{PublishError, Room};
use crate::router::{self, CallFuture};
use crate::rules::Presence;
use crate::users::ConnectionKey;

/// Bytes of why a handler failed in the log: an application may quote a client there.
const CAUSE_BYTES_MAX: usize = 1000;
/// The name under which an application may hear `presence.heartbeat`.
const HEARTBEAT: &str = "presence.heartbeat";

impl State {
    /// One frame or message of a socket.
    pub(super) fn receive(&mut self, slot: u32, inbound: Inbound<'_>, now: Instant) {
        #[cfg(feature = "conformance")]
        if self.router.echoes()
            && let Some(echo) = crate::conformance::echo(inbound)
        {
            self.push(slot, echo);
            return;
        }
        let Some(connection) = self.connection(slot) else { return };
        match connection.session.receive(inbound, now) {
            Received::Nothing => {}
            Received::Pong(payload) => self.push(slot, encode::pong(payload)),
            Received::Message(message) => {
                self.node.metrics.messages_received.add(1);
                if self.takes_of_user(slot, message.id(), now) {
                    self.serve(slot, message, inbound);
                }
            }
            Received::Refused { id, refusal } => {
                self.node.metrics.messages_received.add(1);
                if self.takes_of_user(slot, id.as_ref(), now) {
                    self.refuse(slot, id.as_ref(), &refusal);
                }
            }
            limited @ Received::Limited { .. } => {
                self.node.metrics.messages_received.add(1);
                self.limited(slot, limited);
            }
            Received::Closed(code) => {
                self.close(slot, code.unwrap_or(CloseCode::NORMAL), "the client closed");
            }
            close @ Received::Close(..) => self.limited(slot, close),
        }
    }

    /// Takes a message of the user's rate; `false` if it was too fast for that, which the client has been told.
    fn takes_of_user(&mut self, slot: u32, id: Option<&MessageId>, now: Instant) -> bool {
        let (node, Some(connection)) = (&self.node, self.connections.get_mut(slot as usize)) else {
            return false;
        };
        let Err(wait) = connection.take_of_user(&node.user_rates, &node.limits, now) else { return true };
        let limited = connection.session.too_fast_for_user(id.cloned(), wait, now);
        self.limited(slot, limited);
        false
    }

    /// Tells a client which limit it has hit.
    fn limited(&mut self, slot: u32, received: Received<'_>) {
        match received {
            Received::Limited { limit, id, refusal } => {
                self.node.metrics.hit(limit);
                self.refuse(slot, id.as_ref(), &refusal);
            }
            Received::Close(limit, code, cause) => {
                self.node.metrics.hit(limit);
                self.close(slot, code, cause);
            }
            _ => {}
        }
    }

    /// Serves a message, or lets it wait behind the calls of its room.
    fn serve(&mut self, slot: u32, message: ClientMessage<'_>, inbound: Inbound<'_>) {
        let Some(connection) = self.connection(slot) else { return };
        if connection.session.end_resume_wait() && !matches!(message, ClientMessage::Resume { .. }) {
            self.attach_waiting(slot);
        }
        let Some(connection) = self.connection(slot) else { return };
        let orders = matches!(message, ClientMessage::Event(_) | ClientMessage::Heartbeat { .. });
        let room = message.room();
        if (room.is_some() || orders) && connection.lanes.is_busy(room) {
            if let Some(waiting) = Waiting::new(inbound) {
                connection.lanes.wait(room, waiting);
            }
            return;
        }
        self.dispatch(slot, message);
    }

    fn dispatch(&mut self, slot: u32, message: ClientMessage<'_>) {
        match message {
            ClientMessage::Join { room, id, from } => {
                let from = self.start_of(slot, &room, from);
                self.ask_to_join(slot, JoinRequest::Join { room, id, from });
            }
            ClientMessage::Resume { id, cursor } => {
                self.ask_to_join(slot, JoinRequest::Resume { id, cursor });
            }
            ClientMessage::Leave { room, id } => {
                if self.leave(slot, &room) {
                    self.ack(slot, id.as_ref(), &Empty {});
                } else {
                    self.refuse(slot, id.as_ref(), &not_joined(&room));
                }
            }
            ClientMessage::Members { room, id, after, limit } => {
                self.members(slot, &room, id.as_ref(), after.as_deref(), limit);
            }
            ClientMessage::History { room, id, before, limit } => {
                self.history(slot, &room, id.as_ref(), before, limit);
            }
            ClientMessage::List { id } => {
                let rooms = self.rooms_of(slot);
                self.ack(slot, id.as_ref(), &RoomList { rooms });
            }
            ClientMessage::Refresh { id, token } => self.check_token(slot, id, token.into_owned()),
            ClientMessage::PresenceUpdate { room, id, info } => {
                let Some(joined) = self.joined_room(slot, &room) else {
                    return self.refuse(slot, id.as_ref(), &not_joined(&room));
                };
                let Some(connection) = self.connections.get(slot as usize) else { return };
                self.node.update_presence(&joined, connection.peer.user(), &Arc::from(info.to_owned()));
                self.ack(slot, id.as_ref(), &Empty {});
            }
            ClientMessage::Heartbeat { room, id, data } => {
                let heartbeat = EventName::parse(HEARTBEAT).ok().filter(|event| {
                    self.router.get(event.as_str()).is_some_and(|known| known.handler.is_some())
                });
                match heartbeat {
                    Some(event) => self.event(slot, ClientEvent { event, room, data: Data::Json(data), id }),
                    None => self.ack(slot, id.as_ref(), &Empty {}),
                }
            }
            ClientMessage::Event(event) => self.event(slot, event),
        }
    }

    fn ack(&mut self, slot: u32, id: Option<&MessageId>, data: &impl serde::Serialize) {
        if let Some(id) = id {
            self.push(slot, encode::ack(id, data));
        }
    }

    pub(super) fn refuse(&mut self, slot: u32, id: Option<&MessageId>, refusal: &Refusal) {
        self.node.metrics.errors.add(1);
        if let Some(connection) = self.connection(slot) {
            let message = log_safe(&refusal.message, CLIENT_BYTES_MAX);
            debug!(session = %connection.peer.session, code = %refusal.code, %message, "error");
        }
        self.push(slot, encode::error(id, refusal));
    }

    // Joining.

    /// Where a join starts: as it says, or where the handshake said that the client was.
    fn start_of(&self, slot: u32, room: &RoomId, from: JoinFrom) -> JoinFrom {
        let connection = self.connections.get(slot as usize);
        let mut positions = connection.into_iter().flat_map(Connection::was_at);
        match (&from, positions.find(|(of, _)| *of == room)) {
            (JoinFrom::Newest { history: 0 }, Some((_, position))) => JoinFrom::Position(position),
            _ => from,
        }
    }

    /// Decides a join, or asks the application first.
    fn ask_to_join(&mut self, slot: u32, request: JoinRequest) {
        if let Some((request, verdicts)) = self.decide(slot, request) {
            self.join(slot, request, &verdicts);
        }
    }

    /// What the rules say of a join; none if the application has to be asked, or the broker, which has begun then.
    fn decide(&mut self, slot: u32, request: JoinRequest) -> Option<(JoinRequest, Vec<Verdict>)> {
        let connection = self.connections.get(slot as usize)?;
        let peer = Arc::clone(&connection.peer);
        let rooms = request.rooms();
        let verdicts: Vec<_> = rooms.iter().map(|(room, _)| self.verdict(&peer, room)).collect();
        let may_go_on =
            |((room, from), verdict): (&(RoomId, Option<Position>), &Option<Verdict>)| match verdict {
                Some(Verdict::Yes) => self.node.is_ready(room, *from),
                Some(Verdict::No(_)) => true,
                None => false,
            };
        if !rooms.iter().zip(&verdicts).all(may_go_on) {
            let connection = self.connection(slot)?;
            let key = connection.key;
            match &request {
                JoinRequest::Join { room, .. } => connection.lanes.start(Some(room)),
                JoinRequest::Resume { .. } => connection.resuming = true,
            }
            let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
            self.node.spawn(async move {
                let (ids, positions): (Vec<_>, Vec<_>) = rooms.into_iter().unzip();
                let asked: Vec<_> = ids.into_iter().zip(verdicts).collect();
                let mut decided = ask_for_all(&node, &peer, asked).await;
                let is_allowed = |(_, verdict): &(RoomId, Verdict)| *verdict == Verdict::Yes;
                let allowed: Vec<_> = decided
                    .iter()
                    .zip(positions)
                    .filter(|(decided, _)| is_allowed(decided))
                    .map(|((room, _), from)| (room.clone(), from))
                    .collect();
                let held = node.hold(allowed).await.unwrap_or_else(|BrokerSilent| {
                    for (_, verdict) in decided.iter_mut().filter(|decided| is_allowed(decided)) {
                        *verdict = Verdict::No(ErrorCode::Unavailable);
                    }
                    Vec::new()
                });
                let verdicts = decided.into_iter().map(|(_, verdict)| verdict).collect();
                let request = Box::new(request);
                inbox.push(Entry::Admitted { connection: key, peer, request, verdicts, held });
            });
            return None;
        }
        Some((request, verdicts.into_iter().flatten().collect()))
    }

    /// The application has answered, for a connection that was `asked_as` then.
    pub(super) fn admit(
        &mut self,
        slot: u32,
        asked_as: &Arc<Peer>,
        request: JoinRequest,
        verdicts: Vec<Verdict>,
    ) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if connection.session.is_closing() {
            return;
        }
        let decided = match Arc::ptr_eq(&connection.peer, asked_as) {
            true => Some((request, verdicts)),
            // Its token was refreshed meanwhile, and what the old one allowed counts no more.
            false => self.decide(slot, request),
        };
        let Some((request, verdicts)) = decided else { return };
        let lane = match &request {
            JoinRequest::Join { room, .. } => Some(room.clone()),
            JoinRequest::Resume { .. } => None,
        };
        if let Some(connection) = self.connection(slot) {
            connection.resuming = false;
        }
        self.join(slot, request, &verdicts);
        match lane {
            Some(room) => self.settle(slot, Some(&room), None),
            None => self.resume_reading(slot),
        }
    }

    fn join(&mut self, slot: u32, request: JoinRequest, verdicts: &[Verdict]) {
        match request {
            JoinRequest::Join { room, id, from } => {
                let verdict = verdicts.first().copied().unwrap_or(Verdict::No(ErrorCode::Internal));
                let attached = match verdict {
                    Verdict::Yes => self.prepare(slot, &room, Start::from(&from)),
                    Verdict::No(code) => Err(code),
                };
                match attached {
                    Ok(attach) => {
                        self.ack(slot, Some(&id), &attach.joined);
                        self.commit(slot, &attach);
                        self.send_checkpoint(slot);
                    }
                    Err(code) => self.refuse(slot, Some(&id), &join_refusal(code, &room)),
                }
            }
            JoinRequest::Resume { id, cursor } => self.resume(slot, &id, &cursor, verdicts),
        }
    }

    fn resume(&mut self, slot: u32, id: &MessageId, cursor: &Cursor, verdicts: &[Verdict]) {
        let mut resumed = Resumed { rooms: Default::default() };
        let mut attaches = Vec::new();
        for ((room, position), verdict) in cursor.iter().zip(verdicts) {
            let attached = match verdict {
                Verdict::Yes => self.prepare(slot, room, Start::After(position)),
                Verdict::No(code) => Err(*code),
            };
            let told = match attached {
                Ok(attach) => {
                    let joined = attach.joined.clone();
                    attaches.push(attach);
                    ResumedRoom::Joined(joined)
                }
                Err(error) => ResumedRoom::Refused { error },
            };
            resumed.rooms.insert(room.clone(), told);
        }
        if let Some(connection) = self.connection(slot) {
            // The cursor is the newer word on the rooms that wait.
            let (mut unattached, held) = connection.take_unattached();
            unattached.retain(|(room, _)| cursor.get(room.as_str()).is_none());
            connection.keep_unattached(unattached, held);
        }
        self.ack(slot, Some(id), &resumed);
        for attach in attaches {
            self.commit(slot, &attach);
        }
        self.attach_waiting(slot);
        self.send_checkpoint(slot);
    }

    /// Attaches the rooms that `?resume=wait` has kept back.
    pub(super) fn attach_waiting(&mut self, slot: u32) {
        let Some(connection) = self.connection(slot) else { return };
        let (unattached, _held) = connection.take_unattached();
        for (room, start) in unattached {
            if let Ok(attach) = self.prepare(slot, &room, start) {
                self.commit(slot, &attach);
            }
        }
    }

    // Asking about a room.

    fn members(
        &mut self,
        slot: u32,
        id: &RoomId,
        request: Option<&MessageId>,
        after: Option<&str>,
        limit: Option<u32>,
    ) {
        let Some(room) = self.joined_room(slot, id) else {
            return self.refuse(slot, request, &not_joined(id));
        };
        let limit = match room.rules.presence {
            Presence::On | Presence::Off => limit.unwrap_or(MEMBERS_PAGE_DEFAULT).min(MEMBERS_PAGE_MAX),
            Presence::Counts => 0,
        };
        let asker = self.connections.get(slot as usize).map(|connection| connection.peer.user());
        let page = room.members_page(after, limit as usize, MEMBERS_PAGE_BYTES_MAX, asker);
        let next = page.members.last().filter(|_| page.more).map(|(user, _)| user.as_str().to_owned());
        let members = page.members.iter().map(member).collect();
        self.ack(slot, request, &Members { members, rev: page.rev, count: Some(page.count as u64), next });
    }

    fn history(
        &mut self,
        slot: u32,
        id: &RoomId,
        request: Option<&MessageId>,
        before: Option<Position>,
        limit: Option<u32>,
    ) {
        let Some(room) = self.joined_room(slot, id) else {
            return self.refuse(slot, request, &not_joined(id));
        };
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let limit = limit.unwrap_or(HISTORY_PAGE_EVENTS_DEFAULT).min(HISTORY_PAGE_EVENTS_MAX) as usize;
        let peer = Arc::clone(&connection.peer);
        let page = room.history(before, limit, |publication| publication.excludes(peer.user(), peer.session));
        let next = page.next.map(|position| position.of(id));
        let events = page.events.iter().map(|event| &**event).collect();
        self.ack(slot, request, &History { events, next });
    }

    // Refreshing the token.

    fn check_token(&mut self, slot: u32, id: Option<MessageId>, token: String) {
        if token.len() > TOKEN_BYTES_MAX {
            self.node.metrics.hit(Limit::TokenBytesMax);
        }
        let Some(connection) = self.connection(slot) else { return };
        let (key, user) = (connection.key, connection.peer.user().clone());
        let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
        self.node.spawn(async move {
            let verified = node.authenticate.authenticate(&token, node.env.unix_ms() / 1000).await;
            let verified = verified.and_then(|identity| match *identity.user() == user {
                true => Ok(identity),
                false => Err(AuthError::new(TokenFault::Claims, "the token is another user's (sub)")),
            });
            let verified = verified.and_then(|identity| match node.revocations.has_revoked(&identity) {
                false => Ok(identity),
                true => Err(AuthError::new(TokenFault::Claims, "the token was revoked")),
            });
            match verified {
                Ok(identity) => {
                    let expires_at = identity.expires_at_unix_s().unwrap_or(u64::MAX);
                    let answer = id.map(|id| encode::ack(&id, &Refreshed { expires_at }));
                    inbox.push(Entry::Refreshed { connection: key, identity: Box::new(identity), answer });
                }
                Err(error) => {
                    let code =
                        if error.is_unavailable() { ErrorCode::Unavailable } else { ErrorCode::Forbidden };
                    let refusal = Refusal::new(code, error.to_string());
                    let frame = encode::error(id.as_ref(), &refusal);
                    inbox.push(Entry::Direct { connection: key, frame });
                }
            }
        });
    }

    /// A connection goes on under a newer token: its rooms are asked about again.
    pub(super) fn refresh(&mut self, slot: u32, identity: Identity, answer: Option<Bytes>) {
        let expires = self.expiry(&identity, self.node.env.now());
        if self.node.revocations.has_revoked(&identity) {
            // It was revoked after it had been verified.
            return self.close(slot, CloseCode::TOKEN_INVALID, "the token was revoked");
        }
        let Some(connection) = self.connection(slot) else { return };
        connection.session.expire_at(expires);
        connection.peer = Arc::new(connection.peer.refreshed(identity));
        let peer = Arc::clone(&connection.peer);
        if let Some(answer) = answer {
            self.push(slot, answer);
        }
        self.review(slot, &peer);
    }

    // An application's events.

    fn event(&mut self, slot: u32, event: ClientEvent<'_>) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let peer = Arc::clone(&connection.peer);
        let key = connection.key;
        let room = match &event.room {
            None => None,
            Some(id) if self.node.rooms.rules().of(id.as_str()).is_none() => {
                let refusal = Refusal::new(ErrorCode::UnknownRoom, format!("no rule covers {id}"));
                return self.refuse(slot, event.id.as_ref(), &refusal);
            }
            Some(id) => match self.joined_room(slot, id) {
                Some(room) => Some(room),
                None => return self.refuse(slot, event.id.as_ref(), &not_joined(id)),
            },
        };
        let known = self.router.get(event.event.as_str());
        if let Some((handler, fits)) =
            known.and_then(|known| Some((known.handler.clone()?, known.check(event.data))))
        {
            // Before the call is looked up: a refused one does not use its id up.
            if let Err(refusal) = fits {
                return self.refuse(slot, event.id.as_ref(), &refusal);
            }
            let fingerprint = self.node.fingerprint(event.event.as_str(), event.data.as_bytes());
            let context = Context::new(context::Call {
                node: Arc::clone(&self.node),
                peer: Arc::clone(&peer),
                connection: key,
                event: event.event,
                room: event.room.clone(),
                id: event.id.clone(),
                fingerprint,
                publishes: AtomicU32::new(0),
            });
            let call = match handler.call(context, event.data) {
                Ok(call) => call,
                Err(refusal) => return self.refuse(slot, event.id.as_ref(), &refusal),
            };
            return self.call(slot, event.room, event.id, fingerprint, call);
        }
        let Some(room) = room else {
            let message =
                format!("no handler serves {}, and it names no room to be published to", event.event);
            return self.refuse(slot, event.id.as_ref(), &Refusal::new(ErrorCode::UnknownEvent, message));
        };
        let may_publish = may_publish(&peer, &room);
        if may_publish == Some(false) {
            let refusal = no_publish(ErrorCode::Forbidden, &room.id);
            return self.refuse(slot, event.id.as_ref(), &refusal);
        }
        let fits = match self.router.get(event.event.as_str()) {
            Some(known) => known.check(event.data),
            None if room.rules.any_event => Ok(()),
            None => Err(undeclared(&event.event)),
        };
        if let Err(refusal) = fits {
            return self.refuse(slot, event.id.as_ref(), &refusal);
        }
        match may_publish {
            Some(_) => self.publish(key, &peer, &room, event),
            None => self.ask_to_publish(slot, &room, event),
        }
    }

    /// Publishes an event of a member who may.
    pub(super) fn publish(
        &mut self,
        key: ConnectionKey,
        peer: &Peer,
        room: &Arc<Room>,
        event: ClientEvent<'_>,
    ) {
        if room.rules.is_ephemeral(&event.event) {
            let frame = encode::unstored(&event.event, Some(&room.id), event.data, Some(peer.user()));
            let except = Excluded::new(peer.user().clone(), peer.session);
            return match self.node.pass_on(room, &frame, Some(&except)) {
                Ok(()) => self.ack(key.slot, event.id.as_ref(), &Empty {}),
                Err(error) => self.refuse(key.slot, event.id.as_ref(), &crate::broker::refusal(error)),
            };
        }
        let payload = match event.data {
            Data::Json(data) => Payload::Json(data),
            Data::Binary(payload) => Payload::Binary(Bytes::copy_from_slice(payload)),
        };
        let mut draft = room.draft(&event.event, payload, Some(peer.user()), event.id.as_ref());
        draft.key = event.id.clone().map(|id| PublishKey {
            user: peer.user().clone(),
            request_room: event.room,
            id,
            nth: 0,
            fingerprint: self.node.fingerprint(event.event.as_str(), event.data.as_bytes()),
        });
        let completion = match event.id {
            Some(id) => Completion::Client {
                inbox: Arc::clone(&self.inbox),
                connection: key,
                room: room.id.clone(),
                id,
            },
            None => Completion::Nobody,
        };
        self.node.broker.submit(room, draft, completion);
    }

    /// Starts a handler's call on the application's runtime, unless its id says that it has been called before.
    fn call(
        &mut self,
        slot: u32,
        lane: Option<RoomId>,
        id: Option<MessageId>,
        fingerprint: u64,
        call: CallFuture,
    ) {
        let now = self.node.env.now();
        let Some(connection) = self.connection(slot) else { return };
        let (key, user) = (connection.key, connection.peer.user().clone());
        let begun =
            id.as_ref().map(|id| self.node.calls.begin(&user, lane.as_ref(), id, fingerprint, key, now));
        let ticket = match begun {
            None => None,
            Some(Begin::Run(ticket)) => Some(ticket),
            // What came behind it waits here too until that call has ended.
            Some(Begin::Joined) => {
                if let Some(connection) = self.connection(slot) {
                    connection.lanes.start(lane.as_ref());
                }
                return;
            }
            Some(Begin::Answered(answer)) => {
                self.node.metrics.duplicates.add(1);
                return self.push(slot, answer);
            }
            Some(Begin::Conflict) => {
                return self.refuse(slot, id.as_ref(), &crate::broker::refusal(PublishError::Conflict));
            }
            Some(Begin::Full(limit)) => {
                self.node.metrics.hit(limit);
                return self.refuse(slot, id.as_ref(), &crate::broker::refusal(PublishError::TooManyIds));
            }
        };
        let Some(connection) = self.connection(slot) else { return };
        connection.lanes.start(lane.as_ref());
        let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
        self.node.spawn(async move {
            let outcome = router::run(call).await;
            let answer = finish(&node, lane.as_ref(), id.as_ref(), ticket, outcome);
            inbox.push(Entry::Settled { connection: key, lane, answer });
        });
    }

    /// A call has ended: answers, and serves what waited behind it.
    pub(super) fn settle(&mut self, slot: u32, lane: Option<&RoomId>, answer: Option<Bytes>) {
        if let Some(answer) = answer {
            self.push(slot, answer);
        }
        if let Some(connection) = self.connection(slot) {
            connection.lanes.finish(lane);
        }
        while let Some(waiting) = self.connection(slot).and_then(|connection| connection.lanes.next(lane)) {
            let decoded = match &waiting {
                Waiting::Text(text) => codec::decode_client_text(text),
                Waiting::Binary(bytes) => codec::decode_client_binary(bytes),
            };
            // It has been decoded before, so this is a message.
            if let Ok(message) = decoded {
                self.dispatch(slot, message);
            }
        }
        self.resume_reading(slot);
        self.arm(slot);
    }

    // What the application asks.

    pub(super) fn obey(&mut self, slot: u32, command: Command) {
        match command {
            Command::Join { room, done, held: _held } => {
                // Who is in it already reads on where he is.
                let joined = self.joined_room(slot, &room).is_some() || self.join_on_behalf(slot, room);
                let _ = done.send(joined);
            }
            Command::Leave { room, done } => {
                let left = self.leave(slot, &room);
                if left {
                    self.tell_left(slot, room, LeftReason::Removed);
                }
                let _ = done.send(left);
            }
            Command::Rooms { done } => {
                let _ = done.send(self.rooms_of(slot));
            }
            Command::Close { code, reason } => self.close(slot, code, reason),
        }
    }

    /// Joins a connection that has not asked for it, and tells it so before the room's events.
    fn join_on_behalf(&mut self, slot: u32, room: RoomId) -> bool {
        let Ok(attach) = self.prepare(slot, &room, Start::Newest { history: 0 }) else { return false };
        let joined = attach.joined.clone();
        self.push(slot, encode::message(&ServerMessage::RoomJoined { room, joined }));
        self.commit(slot, &attach);
        self.send_checkpoint(slot);
        true
    }

    /// Tells a connection that it was taken out of a room which it did not ask to leave.
    pub(super) fn tell_left(&mut self, slot: u32, room: RoomId, reason: LeftReason) {
        self.push(slot, encode::message(&ServerMessage::RoomLeft { room, reason }));
    }
}

/// Ends a call: its answer, which is also told to whoever else waits for it.
fn finish(
    node: &Node,
    lane: Option<&RoomId>,
    id: Option<&MessageId>,
    ticket: Option<Ticket>,
    outcome: Result<Box<RawValue>, AckError>,
) -> Option<Bytes> {
    let refused = outcome.is_err();
    let answer = match outcome {
        Ok(data) => id.map(|id| encode::ack(id, &data)),
        Err(error) => {
            node.metrics.errors.add(1);
            if let Some(cause) = error.cause() {
                if cause.is::<router::Panicked>() {
                    node.metrics.panics.add(1);
                }
                let cause = cause.to_string();
                warn!(cause = %log_safe(&cause, CAUSE_BYTES_MAX), "a handler failed");
            }
            Some(encode::error(id, error.refusal()))
        }
    };
    if let (Some(ticket), Some(answer)) = (ticket, &answer) {
        for connection in node.calls.finish(&ticket, answer, refused) {
            node.settle(connection, lane.cloned(), answer.clone());
        }
    }
    answer
}

fn undeclared(event: &EventName) -> Refusal {
    let message = format!(
        "{event} has neither a handler nor a schema here: give it one (HubBuilder::schema, or [[events]] in the configuration), or let the room's rule take any event"
    );
    Refusal::new(ErrorCode::UnknownEvent, message)
}

fn join_refusal(code: ErrorCode, room: &RoomId) -> Refusal {
    let message = match code {
        ErrorCode::Forbidden => format!("you may not join {room}"),
        ErrorCode::UnknownRoom => format!("no rule covers {room}"),
        ErrorCode::RoomLimit => "this connection is in as many rooms as it may be".to_owned(),
        ErrorCode::Unavailable => {
            format!("whether you may join {room}, or what is in it, could not be found out: try again")
        }
        _ => "the join failed".to_owned(),
    };
    Refusal::new(code, message)
}

/// `{}`.
#[derive(serde::Serialize)]
struct Empty {}

impl JoinRequest {
    /// The rooms that it is about, each with the position that the client has there.
    fn rooms(&self) -> Vec<(RoomId, Option<Position>)> {
        match self {
            Self::Join { room, from: JoinFrom::Position(position), .. } => {
                vec![(room.clone(), Some(*position))]
            }
            Self::Join { room, .. } => vec![(room.clone(), None)],
            Self::Resume { cursor, .. } => {
                cursor.iter().map(|(room, position)| (room.clone(), Some(position))).collect()
            }
        }
    }
}
