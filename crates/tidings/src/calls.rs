//! Calls of handlers that carry an id: a retry joins the running call or gets the stored answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_protocol::event_id::RoomId;
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::message::MessageId;

use crate::auth::UserId;
use crate::env::Env;
use crate::idempotency::{Claim, IdempotencyIds, RequestKey};
use crate::users::ConnectionKey;

/// The calls of the last five minutes.
pub(crate) struct Calls(IdempotencyIds<Arc<Mutex<Call>>>);

enum Call {
    /// It runs, and these connections wait for its answer beside the one that began it.
    Running(Vec<ConnectionKey>),
    Answered(Bytes),
}

/// What to do with a call.
pub(crate) enum Begin {
    /// Run it, and [`Calls::finish`] this ticket.
    Run(Ticket),
    /// It runs already; its answer will go to this connection too.
    Joined,
    /// It has run; this was its answer.
    Answered(Bytes),
    /// The id was used for another request.
    Conflict,
    /// No room to remember the id, for this limit.
    Full(Limit),
}

/// A running call's claim on its id.
pub(crate) struct Ticket {
    key: RequestKey,
    call: Arc<Mutex<Call>>,
}

impl Calls {
    pub(crate) fn new(env: &dyn Env, limits: &Limits) -> Self {
        Self(IdempotencyIds::new(env, limits))
    }

    /// A hash of what a request asks for, to tell a retry from another request under the same id.
    pub(crate) fn fingerprint(&self, event: &str, data: &[u8]) -> u64 {
        self.0.fingerprint(&(event, data))
    }

    pub(crate) fn begin(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        id: &MessageId,
        fingerprint: u64,
        connection: ConnectionKey,
        now: Instant,
    ) -> Begin {
        let key = self.0.key(user, &(room, id), fingerprint);
        let call = Arc::new(Mutex::new(Call::Running(Vec::new())));
        match self.0.claim(key, Arc::clone(&call), now) {
            Claim::New => Begin::Run(Ticket { key, call }),
            Claim::Known(known) => match &mut *known.lock() {
                Call::Running(waiting) => {
                    waiting.push(connection);
                    Begin::Joined
                }
                Call::Answered(answer) => Begin::Answered(answer.clone()),
            },
            Claim::Conflict => Begin::Conflict,
            Claim::Full(limit) => Begin::Full(limit),
        }
    }

    /// Ends a call; gives back who else waits for the answer. A refused call does not use its id up.
    pub(crate) fn finish(&self, ticket: &Ticket, answer: &Bytes, refused: bool) -> Vec<ConnectionKey> {
        let mut call = ticket.call.lock();
        if refused {
            self.0.release(ticket.key);
        }
        match std::mem::replace(&mut *call, Call::Answered(answer.clone())) {
            Call::Running(waiting) => waiting,
            Call::Answered(_) => Vec::new(),
        }
    }

    pub(crate) fn sweep(&self, now: Instant) {
        self.0.sweep(now);
    }
}
