//! Requests that have no answer yet, in the order in which they were made. PROTOCOL.md §2, §3 and §7.
//!
//! A request leaves this list exactly once, when it settles. The list is bounded by count and bytes; what the client
//! asks for itself (joins after a hole, resumes, the shell's questions) is bounded by the number of rooms.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::action::Outcome;
use super::message_sizes::MessageSizes;
use crate::codec::Encoding;
use crate::event_id::{EventId, RoomId};
use crate::message::MessageId;

/// How long a request may stay without an answer before it settles as unknown.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// The wait before a retry when the server named none; it grows with every attempt of the request.
const RETRY_STEP: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Whose request it is, and what its ack means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The application's.
    Application,
    /// The application's `room.join`.
    Join,
    /// The application's `room.leave`.
    Leave,
    /// A question of the shell's own. Nothing waits behind it, and it ends with its connection.
    Question,
    /// The client's own `room.join`, after a hole.
    Rejoin,
    /// The client's own `session.resume`, before which nothing else is sent.
    Resume,
}

impl Purpose {
    /// Whether it counts among the application's, and goes again after a loss.
    pub(super) fn is_the_applications(self) -> bool {
        matches!(self, Self::Application | Self::Join | Self::Leave)
    }

    /// Whether somebody waits for the outcome.
    pub(super) fn is_awaited(self) -> bool {
        self.is_the_applications() || self == Self::Question
    }

    /// Whether it lets the client into a room.
    fn is_join(self) -> bool {
        matches!(self, Self::Join | Self::Rejoin)
    }

    /// Whether it decides who is in a room.
    fn is_of_membership(self) -> bool {
        matches!(self, Self::Join | Self::Leave | Self::Rejoin)
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: MessageId,
    pub(super) room: Option<RoomId>,
    pub(super) purpose: Purpose,
    pub(super) encoding: Encoding,
    pub(super) frame: Bytes,
    pub(super) asked_at: Instant,
    stage: Stage,
    attempts: u32,
    /// The event that it led to came, its ack did not yet.
    published: Option<EventId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Unsent,
    Sent,
    /// The server refused it for now.
    WaitsUntil(Instant),
}

#[derive(Default, Debug)]
pub(super) struct Pending {
    requests: VecDeque<Request>,
    /// Bytes of the application's requests.
    bytes: usize,
}

impl Pending {
    /// The application's requests and their bytes.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.requests.iter().filter(|request| request.purpose.is_the_applications()).count(), self.bytes)
    }

    pub(super) fn push(
        &mut self,
        id: MessageId,
        room: Option<RoomId>,
        purpose: Purpose,
        (encoding, frame): (Encoding, Vec<u8>),
        now: Instant,
    ) {
        if purpose.is_the_applications() {
            self.bytes += frame.len();
        }
        // The client's own come first: what the application sends to a room needs the room to be joined.
        let index = match purpose {
            Purpose::Resume => 0,
            Purpose::Rejoin | Purpose::Question => {
                self.requests.iter().take_while(|request| !request.purpose.is_the_applications()).count()
            }
            Purpose::Application | Purpose::Join | Purpose::Leave => self.requests.len(),
        };
        let frame = frame.into();
        let request = Request {
            id,
            room,
            purpose,
            encoding,
            frame,
            asked_at: now,
            stage: Stage::Unsent,
            attempts: 0,
            published: None,
        };
        self.requests.insert(index, request);
    }

    /// Takes a request off the list: it is settled.
    pub(super) fn settle(&mut self, id: &MessageId) -> Option<Request> {
        let index = self.requests.iter().position(|request| request.id == *id)?;
        let request = self.requests.remove(index)?;
        if request.purpose.is_the_applications() {
            self.bytes -= request.frame.len();
        }
        Some(request)
    }

    pub(super) fn purpose(&self, id: &MessageId) -> Option<Purpose> {
        self.requests.iter().find(|request| request.id == *id).map(|request| request.purpose)
    }

    /// The event that a request led to has come; whether it is the answer, because no ack is to come on the connection
    /// that the request went over, which may say more.
    pub(super) fn published(&mut self, id: &MessageId, event_id: EventId) -> bool {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == *id) else { return false };
        request.published = Some(event_id);
        request.stage != Stage::Sent
    }

    /// Those that the server does not take.
    pub(super) fn larger_than(&self, sizes: &MessageSizes) -> Vec<MessageId> {
        let is_taken = |request: &&Request| sizes.takes(request.encoding, request.frame.len());
        self.requests.iter().filter(|request| !is_taken(request)).map(|request| request.id.clone()).collect()
    }

    /// Whether a `session.resume` has no answer yet.
    pub(super) fn is_resuming(&self) -> bool {
        self.requests.front().is_some_and(|request| request.purpose == Purpose::Resume)
    }

    /// Whether a join of this room is under way.
    pub(super) fn joins(&self, room: &RoomId) -> bool {
        self.requests.iter().any(|request| request.purpose.is_join() && request.room.as_ref() == Some(room))
    }

    /// Whether a leave of this room is under way.
    pub(super) fn leaves(&self, room: &RoomId) -> bool {
        let is_leave =
            |request: &Request| request.purpose == Purpose::Leave && request.room.as_ref() == Some(room);
        self.requests.iter().any(is_leave)
    }

    /// The server refused a request for now: the same bytes go again after a while, and nothing later to
    /// its room before they are answered.
    pub(super) fn retry_later(&mut self, id: &MessageId, retry_after: Option<Duration>, now: Instant) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == *id) {
            request.attempts = request.attempts.saturating_add(1);
            let step = RETRY_STEP.saturating_mul(request.attempts).min(RETRY_MAX);
            // By the cap the request has been given up, whatever the server said.
            request.stage = Stage::WaitsUntil(now + retry_after.unwrap_or(step).min(GIVE_UP_AFTER));
        }
    }

    /// The next request to send, which counts as sent from here on: if fewer than so many have no answer yet, and it
    /// `may_go`. If it may not, nothing overtakes it.
    pub(super) fn next_to_send(
        &mut self,
        unanswered_max: usize,
        may_go: impl FnOnce(Purpose) -> bool,
    ) -> Option<(Encoding, Bytes)> {
        let unanswered = self.requests.iter().filter(|request| request.stage == Stage::Sent).count();
        let (mut held_rooms, mut moving_rooms) = (BTreeSet::new(), BTreeSet::new());
        let joins = self.requests.iter().filter(|request| request.purpose.is_join());
        let joining: BTreeSet<_> = joins.map(|request| request.room.clone()).collect();
        for request in &mut self.requests {
            // Only the join's answer says that the room takes anything: it may be refused for now, and on a new connection
            // one that was asked for later may be what lets in what was asked before.
            let is_said_there = request.purpose == Purpose::Application && request.stage == Stage::Unsent;
            if is_said_there && joining.contains(&request.room) {
                continue;
            }
            // Joins and leaves of a room go one at a time: one that is refused for now and tried again would take effect
            // after what was asked later.
            if request.purpose.is_of_membership() && !moving_rooms.insert(request.room.clone()) {
                held_rooms.insert(request.room.clone());
            }
            match request.stage {
                Stage::Unsent if !held_rooms.contains(&request.room) => {
                    if unanswered >= unanswered_max || !may_go(request.purpose) {
                        return None;
                    }
                    request.stage = Stage::Sent;
                    return Some((request.encoding, request.frame.clone()));
                }
                _ if request.purpose == Purpose::Resume => return None,
                _ if request.purpose == Purpose::Question => {}
                Stage::WaitsUntil(_) => {
                    held_rooms.insert(request.room.clone());
                }
                // It was refused before, and may be again: what came later would then be before it.
                Stage::Sent if request.attempts > 0 => {
                    held_rooms.insert(request.room.clone());
                }
                Stage::Unsent | Stage::Sent => {}
            }
        }
        None
    }

    /// The connection is gone: what has no answer goes again on the next one. The client's own requests do not, since
    /// a resume takes their place. What is known to be published comes back, to be settled, and so do questions.
    pub(super) fn disconnected(&mut self) -> Vec<(MessageId, Outcome)> {
        self.requests.retain(|request| request.purpose.is_awaited());
        for request in &mut self.requests {
            if request.stage == Stage::Sent {
                request.stage = Stage::Unsent;
            }
        }
        let outcome = |request: &Request| match &request.published {
            Some(event_id) => Some(Outcome::Published(event_id.clone())),
            None => (request.purpose == Purpose::Question).then_some(Outcome::OutcomeUnknown),
        };
        self.requests.iter().filter_map(|request| Some((request.id.clone(), outcome(request)?))).collect()
    }

    /// Ends the waits that are over.
    pub(super) fn tick(&mut self, now: Instant) {
        for request in &mut self.requests {
            if matches!(request.stage, Stage::WaitsUntil(until) if until <= now) {
                request.stage = Stage::Unsent;
            }
        }
    }

    /// A request that has been without an answer for too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<&Request> {
        self.requests.iter().find(|request| now >= request.asked_at + GIVE_UP_AFTER)
    }

    /// Any request of the application, for settling all of them.
    pub(super) fn any(&self) -> Option<MessageId> {
        self.requests.front().map(|request| request.id.clone())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline = |request: &Request| match request.stage {
            Stage::WaitsUntil(until) => until.min(request.asked_at + GIVE_UP_AFTER),
            Stage::Unsent | Stage::Sent => request.asked_at + GIVE_UP_AFTER,
        };
        self.requests.iter().map(deadline).min()
    }
}
