//! The server's side of one connection as a state machine: frames and `now` in, what to do out.
//!
//! It owns every deadline and every rate of a connection (heartbeat, silence, the time to complete a message,
//! `?resume=wait`, checkpoints, the token's end, a stalled socket, the close). It never touches a socket or a
//! room: the shell feeds [`Session::receive`], calls [`Session::tick`] at [`Session::next_deadline`] and does
//! what they say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::close::CloseCode;
use crate::codec;
use crate::error::{ErrorCode, Refusal};
use crate::frame::Inbound;
use crate::limits::{Limit, Limits};
use crate::message::{ClientMessage, MessageId};
use crate::token_bucket::TokenBucket;

/// How long a connection must have kept to its rate before an earlier `rate_limited` is forgotten.
const RATE_FORGIVEN_AFTER: Duration = Duration::from_secs(1);

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    limits: Arc<Limits>,
    heard_at: Instant,
    next_ping: Instant,
    message_must_end: Option<Instant>,
    expires: Option<Instant>,
    phase: Phase,
    messages: TokenBucket,
    joins: TokenBucket,
    controls: TokenBucket,
    /// What most connections never have.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Rare {
    next_checkpoint: Option<Instant>,
    resume_wait_ends: Option<Instant>,
    stall_ends: Option<Instant>,
    leaves: Option<Instant>,
    limited: Option<Limited>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// The socket is not read, because of us: silence is not the client's.
    Paused,
    Closing {
        ends: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
struct Limited {
    since: Instant,
    last: Instant,
}

/// What one inbound frame or message asks of the shell.
#[derive(Debug)]
pub enum Received<'a> {
    /// Nothing.
    Nothing,
    /// Send a pong with this payload; of several, the newest is enough.
    Pong(&'a [u8]),
    /// Serve this message.
    Message(ClientMessage<'a>),
    /// Answer with an error.
    Refused {
        /// The client's id, if it could be read.
        id: Option<MessageId>,
        /// Code and sentence.
        refusal: Refusal,
    },
    /// Answer with an error: the client was too fast.
    Limited {
        /// For which rate.
        limit: Limit,
        /// The client's id, if it could be read.
        id: Option<MessageId>,
        /// `rate_limited`, and when to try again.
        refusal: Refusal,
    },
    /// The client closes: answer with the same code (1000 if it gave none) and end.
    Closed(Option<CloseCode>),
    /// Close: a limit was hit.
    Close(Limit, CloseCode, &'static str),
}

/// What a deadline asks of the shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Send a ping.
    Ping,
    /// Send a `session.checkpoint`.
    Checkpoint,
    /// `?resume=wait` is over: attach the rooms.
    Attach,
    /// Close, for a limit if one was hit.
    Close(Option<Limit>, CloseCode, &'static str),
    /// The close took too long: drop the socket.
    Abort,
}

impl Session {
    /// A connection that has just been upgraded.
    pub fn new(limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            heard_at: now,
            next_ping: now + limits.heartbeat,
            message_must_end: None,
            expires: None,
            phase: Phase::Open,
            messages: TokenBucket::full(now),
            joins: TokenBucket::full(now),
            controls: TokenBucket::full(now),
            rare: None,
            limits,
        }
    }

    fn rare(&self) -> Rare {
        self.rare.as_deref().copied().unwrap_or_default()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The client asked for `?resume=wait`: no room attaches before its first message or the wait's end.
    pub fn wait_for_resume(&mut self, now: Instant) {
        self.rare_mut().resume_wait_ends = Some(now + self.limits.resume_wait_max);
    }

    /// Ends the wait; whether there was one.
    pub fn end_resume_wait(&mut self) -> bool {
        self.rare.as_mut().is_some_and(|rare| rare.resume_wait_ends.take().is_some())
    }

    /// The client asked for `?checkpoints=1`.
    pub fn send_checkpoints(&mut self, now: Instant) {
        self.rare_mut().next_checkpoint = Some(now + self.limits.checkpoint_interval);
    }

    /// Whether the client asked for `?checkpoints=1`.
    pub fn sends_checkpoints(&self) -> bool {
        self.rare().next_checkpoint.is_some()
    }

    /// When the token's life ends, leeway included; a refresh moves it.
    pub fn expire_at(&mut self, expires: Option<Instant>) {
        self.expires = expires;
    }

    /// The node is being drained: this connection is closed with 4200 at `at`.
    pub fn leave_at(&mut self, at: Instant) {
        self.rare_mut().leaves.get_or_insert(at);
    }

    /// Whether a close has begun, by either side.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Takes a message or control frame.
    pub fn receive<'a>(&mut self, inbound: Inbound<'a>, now: Instant) -> Received<'a> {
        self.heard_at = now;
        if self.is_closing() {
            return match inbound {
                Inbound::Close(close) => Received::Closed(close.map(|close| close.code)),
                _ => Received::Nothing,
            };
        }
        match inbound {
            Inbound::Ping(payload) => self.control(now, Received::Pong(payload)),
            Inbound::Pong(_) => self.control(now, Received::Nothing),
            Inbound::Close(close) => Received::Closed(close.map(|close| close.code)),
            Inbound::Text(text) => self.message(codec::decode_client_text(text), now),
            Inbound::Binary(frame) => self.message(codec::decode_client_binary(frame), now),
        }
    }

    fn control<'a>(&mut self, now: Instant, received: Received<'a>) -> Received<'a> {
        let limits = &self.limits;
        match self.controls.take(limits.control_frames_per_second, limits.control_frames_burst, now) {
            Ok(()) => received,
            Err(_) => Received::Close(
                Limit::ControlFramesPerSecond,
                CloseCode::POLICY,
                "too many ping or pong frames",
            ),
        }
    }

    fn message<'a>(
        &mut self,
        decoded: Result<ClientMessage<'a>, codec::DecodeError>,
        now: Instant,
    ) -> Received<'a> {
        // What can't be decoded costs a token as well: garbage is no way round the limit.
        let (id, decoded) = match decoded {
            Ok(message) => (message.id().cloned(), Ok(message)),
            Err(error) => (error.id, Err(error.refusal)),
        };
        let limits = &self.limits;
        if let Err(wait) = self.messages.take(limits.messages_per_second, limits.messages_burst, now) {
            let per_second = limits.messages_per_second;
            return self.too_fast(Limit::MessagesPerSecond, id, "messages", per_second, wait, now);
        }
        let message = match decoded {
            Err(refusal) => return Received::Refused { id, refusal },
            Ok(message) => message,
        };
        if matches!(message, ClientMessage::Join { .. })
            && let Err(wait) = self.joins.take(limits.joins_per_second, limits.joins_per_second, now)
        {
            let per_second = limits.joins_per_second;
            return self.too_fast(Limit::JoinsPerSecond, id, "joins", per_second, wait, now);
        }
        Received::Message(message)
    }

    /// Answers a message that was too fast for its user, whose rate is no single connection's.
    pub fn too_fast_for_user(
        &mut self,
        id: Option<MessageId>,
        wait: Duration,
        now: Instant,
    ) -> Received<'static> {
        let per_second = self.limits.messages_per_second_per_user;
        self.too_fast(Limit::MessagesPerSecondPerUser, id, "messages of a user", per_second, wait, now)
    }

    fn too_fast<'a>(
        &mut self,
        limit: Limit,
        id: Option<MessageId>,
        what: &str,
        per_second: u32,
        wait: Duration,
        now: Instant,
    ) -> Received<'a> {
        let forgiven = |limited: &Limited| now.saturating_duration_since(limited.last) > RATE_FORGIVEN_AFTER;
        let since =
            self.rare().limited.filter(|limited| !forgiven(limited)).map_or(now, |limited| limited.since);
        self.rare_mut().limited = Some(Limited { since, last: now });
        if now.saturating_duration_since(since) > self.limits.rate_limited_duration_max {
            return Received::Close(
                Limit::RateLimitedDurationMax,
                CloseCode::RATE_LIMITED,
                "too many messages for too long",
            );
        }
        let refusal = Refusal::new(ErrorCode::RateLimited, format!("{per_second} {what} a second at most"))
            .retry_after_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        Received::Limited { limit, id, refusal }
    }

    /// Says after each read whether a message has begun and is not complete.
    pub fn set_mid_message(&mut self, mid_message: bool, now: Instant) {
        self.message_must_end = match (mid_message, self.message_must_end) {
            (false, _) => None,
            (true, None) => Some(now + self.limits.message_duration_max),
            (true, some) => some,
        };
    }

    /// Says that bytes came in, also such as complete no frame.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The socket is not read for now, because of us: that is not counted as silence.
    pub fn pause_reading(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Paused;
        }
    }

    /// The socket is read again.
    pub fn resume_reading(&mut self, now: Instant) {
        if self.phase == Phase::Paused {
            self.phase = Phase::Open;
            self.heard_at = now;
            // The rest of a message may have waited in the kernel as long as we did.
            self.message_must_end = self.message_must_end.map(|_| now + self.limits.message_duration_max);
        }
    }

    /// Whether the socket is not read, because of us.
    pub fn is_paused(&self) -> bool {
        self.phase == Phase::Paused
    }

    /// Says that the socket takes nothing (`stalled`) or took something.
    pub fn set_stalled(&mut self, stalled: bool, now: Instant) {
        if stalled {
            let ends = now + self.limits.stalled_duration_max;
            self.rare_mut().stall_ends.get_or_insert(ends);
        } else if let Some(rare) = &mut self.rare {
            rare.stall_ends = None;
        }
    }

    /// A close begins: until its end, only the other side's close counts.
    pub fn close(&mut self, now: Instant) {
        if !self.is_closing() {
            self.phase = Phase::Closing { ends: now + self.limits.close_duration_max };
        }
    }

    /// The next time at which [`Session::tick`] has something to say.
    pub fn next_deadline(&self) -> Instant {
        if let Phase::Closing { ends } = self.phase {
            return ends;
        }
        let silence = (self.phase == Phase::Open).then(|| self.heard_at + self.limits.silence_max);
        let rare = self.rare();
        [
            silence,
            rare.next_checkpoint,
            rare.resume_wait_ends,
            self.message_must_end.filter(|_| self.phase == Phase::Open),
            rare.stall_ends,
            self.expires,
            rare.leaves,
        ]
        .into_iter()
        .flatten()
        .fold(self.next_ping, Instant::min)
    }

    /// What is due at `now`; to be called until it says `None`.
    pub fn tick(&mut self, now: Instant) -> Option<Due> {
        if let Phase::Closing { ends } = self.phase {
            return (now >= ends).then_some(Due::Abort);
        }
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        let rare = self.rare();
        if passed(rare.leaves) {
            return Some(Due::Close(None, CloseCode::DRAINING, "the server is being drained"));
        }
        if passed(self.expires) {
            return Some(Due::Close(None, CloseCode::TOKEN_EXPIRED, "the token has expired"));
        }
        if passed(rare.stall_ends) {
            let limit = Some(Limit::StalledDurationMax);
            return Some(Due::Close(limit, CloseCode::SLOW_CONSUMER, "the socket takes nothing"));
        }
        if self.phase == Phase::Open {
            if passed(self.message_must_end) {
                let limit = Some(Limit::MessageDurationMax);
                return Some(Due::Close(limit, CloseCode::POLICY, "a message took too long to complete"));
            }
            if now >= self.heard_at + self.limits.silence_max {
                let cause = "nothing was heard for too long";
                return Some(Due::Close(Some(Limit::SilenceMax), CloseCode::HEARTBEAT_TIMEOUT, cause));
            }
        }
        if passed(rare.resume_wait_ends) {
            self.rare_mut().resume_wait_ends = None;
            return Some(Due::Attach);
        }
        if passed(rare.next_checkpoint) {
            self.rare_mut().next_checkpoint = Some(now + self.limits.checkpoint_interval);
            return Some(Due::Checkpoint);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.limits.heartbeat;
            return Some(Due::Ping);
        }
        None
    }
}
