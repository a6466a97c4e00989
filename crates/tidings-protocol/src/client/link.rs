//! The life of a client's connection: when to connect, when to give one up, when to stop. PROTOCOL.md §1, §5, §6, §7.
//!
//! It knows nothing of rooms and requests.

use std::time::{Duration, Instant};

use super::backoff::{Backoff, part_of};
use crate::close::{CloseCode, Reaction};

/// Nothing was sent for so long: a heartbeat is due, because a browser's pongs can't be seen or caused.
const HEARTBEAT_AFTER: Duration = Duration::from_secs(25);
/// Nothing was heard for so long: the connection is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// From the order to connect to the welcome.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A connection that held this long makes the backoff start anew.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// The shortest wait after a close for pressure (41xx).
const PRESSURE_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait that a server can ask for: what it says is no reason to stay away for good.
const TOLD_WAIT_MAX: Duration = Duration::from_secs(600);

/// What a client's connection is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// A welcome came.
    Connected,
    /// A connection was lost, and the next one is waited for or being made.
    Reconnecting,
    /// The server refused the handshake for good; [`Client::reconnect`](super::Client::reconnect) tries again.
    Refused(HandshakeRefusal),
    /// It was closed, by us or by the server for good.
    Closed,
}

/// How a handshake failed. PROTOCOL.md §1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HandshakeRefusal {
    /// The HTTP status; none if there was no answer.
    pub status: Option<u16>,
    /// The problem's `code`.
    pub code: Option<String>,
    /// For people: what is wrong, and what to do.
    pub message: Option<String>,
    /// The answer's `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// What goes into a connection's URL, beside the token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectUrl {
    /// `?session=`: the last welcome's, whose slot is taken over.
    pub session: Option<String>,
    /// `?resume=wait`: a `session.resume` follows.
    pub resume_wait: bool,
    /// Whether the token has to be fetched anew.
    pub fresh_token: bool,
}

/// What a tick found to be done.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    Heartbeat,
    Connect(ConnectUrl),
    /// Give the connection up.
    Disconnect(CloseCode),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No connection until then.
    Waiting { until: Instant },
    /// A connection is being made.
    Opening { since: Instant },
    /// A welcome came.
    Open { since: Instant, heard_at: Instant, sent_at: Instant },
    /// None, and none will be.
    Over,
}

#[derive(Debug)]
pub(super) struct Link {
    state: State,
    told_state: State,
    phase: Phase,
    backoff: Backoff,
    /// Another 1002, 1003, 1007 or 1009 is one too many.
    has_tried_once: bool,
    /// The next connection needs a new token.
    needs_token: bool,
    /// The connection that is being made has one.
    has_fresh_token: bool,
    /// When `session.reconnect` wants us to move.
    move_at: Option<Instant>,
    session: Option<String>,
    random_state: u64,
}

impl Link {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            state: State::Connecting,
            told_state: State::Connecting,
            phase: Phase::Waiting { until: now },
            backoff: Backoff::default(),
            has_tried_once: false,
            needs_token: false,
            has_fresh_token: false,
            move_at: None,
            session: None,
            random_state: seed,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The state, if it is another than the last time.
    pub(super) fn take_change(&mut self) -> Option<State> {
        (self.state != self.told_state).then(|| {
            self.told_state = self.state.clone();
            self.state.clone()
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Closed
    }

    /// A 64-bit random number (SplitMix64).
    pub(super) fn random(&mut self) -> u64 {
        self.random_state = self.random_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn welcomed(&mut self, session: &str, now: Instant) {
        if matches!(self.phase, Phase::Opening { .. }) {
            self.phase = Phase::Open { since: now, heard_at: now, sent_at: now };
            self.session = Some(session.to_owned());
            self.state = State::Connected;
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if let Phase::Open { heard_at, .. } = &mut self.phase {
            *heard_at = now;
        }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        if let Phase::Open { sent_at, .. } = &mut self.phase {
            *sent_at = now;
        }
    }

    /// `session.reconnect`: the moment is drawn now, and holds also if the close comes earlier.
    pub(super) fn told_to_reconnect(&mut self, after_ms: u64, within_ms: u64, now: Instant) {
        let after = Duration::from_millis(after_ms).min(TOLD_WAIT_MAX);
        let window = Duration::from_millis(within_ms).min(TOLD_WAIT_MAX).saturating_sub(after);
        let random = self.random();
        self.move_at = Some(now + after + part_of(window, random));
    }

    /// The connection ended. Whether there was one.
    pub(super) fn closed(&mut self, code: Option<CloseCode>, now: Instant) -> bool {
        if !matches!(self.phase, Phase::Opening { .. } | Phase::Open { .. }) {
            return false;
        }
        self.settle_backoff(now);
        let moved_at = self.move_at.take();
        match CloseCode::reaction(code) {
            Reaction::Stop => self.end(),
            Reaction::TryOnce if self.has_tried_once => self.end(),
            Reaction::TryOnce => {
                self.has_tried_once = true;
                self.wait(Duration::ZERO, now);
            }
            Reaction::BackOff => self.wait(Duration::ZERO, now),
            Reaction::BackOffAtLeastASecond => self.wait(PRESSURE_WAIT_MIN, now),
            Reaction::ReconnectInWindow => match moved_at {
                Some(moment) => self.wait_until(moment.max(now)),
                None => self.wait(Duration::ZERO, now),
            },
            Reaction::RefreshToken => {
                self.needs_token = true;
                self.wait(Duration::ZERO, now);
            }
        }
        true
    }

    pub(super) fn refused(&mut self, refusal: &HandshakeRefusal, now: Instant) {
        if !matches!(self.phase, Phase::Opening { .. }) {
            return;
        }
        match refusal.status {
            // A token that was just fetched is not going to get better.
            Some(401) if !self.has_fresh_token => {
                self.needs_token = true;
                self.wait(Duration::ZERO, now);
            }
            Some(400 | 401 | 403 | 404 | 409) => {
                self.phase = Phase::Over;
                self.state = State::Refused(refusal.clone());
            }
            // 426 is what a plain request gets from a good URL: then something between here and there stands in the way.
            _ => self.wait(refusal.retry_after.unwrap_or_default().min(TOLD_WAIT_MAX), now),
        }
    }

    pub(super) fn reconnect(&mut self, now: Instant) {
        let is_refused = matches!(self.state, State::Refused(_));
        if is_refused || matches!(self.phase, Phase::Waiting { .. }) {
            self.needs_token |= is_refused;
            // What failed while there was no network says nothing about the server.
            self.backoff.reset();
            self.wait_until(now);
        }
    }

    /// Ends it for good. Whether there was a connection.
    pub(super) fn close(&mut self) -> bool {
        let was_there = matches!(self.phase, Phase::Opening { .. } | Phase::Open { .. });
        self.end();
        was_there
    }

    pub(super) fn tick(&mut self, now: Instant) -> Due {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Opening { since: now };
                self.has_fresh_token = std::mem::take(&mut self.needs_token);
                Due::Connect(ConnectUrl {
                    session: self.session.clone(),
                    resume_wait: false,
                    fresh_token: self.has_fresh_token,
                })
            }
            Phase::Open { .. } if self.move_at.is_some_and(|moment| moment <= now) => {
                self.settle_backoff(now);
                self.wait_until(now);
                Due::Disconnect(CloseCode::DRAINING)
            }
            Phase::Opening { since } if now >= since + CONNECT_MAX => self.drop_connection(now),
            Phase::Open { heard_at, .. } if now >= heard_at + SILENCE_MAX => self.drop_connection(now),
            Phase::Open { sent_at, .. } if now >= sent_at + HEARTBEAT_AFTER => {
                self.sent(now);
                Due::Heartbeat
            }
            _ => Due::Nothing,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Opening { since } => Some(since + CONNECT_MAX),
            Phase::Open { heard_at, sent_at, .. } => {
                let regular = (heard_at + SILENCE_MAX).min(sent_at + HEARTBEAT_AFTER);
                Some(self.move_at.map_or(regular, |moment| moment.min(regular)))
            }
            Phase::Over => None,
        }
    }

    /// Ends a connection that is of no use.
    pub(super) fn drop_connection(&mut self, now: Instant) -> Due {
        self.settle_backoff(now);
        self.wait(Duration::ZERO, now);
        Due::Disconnect(CloseCode::HEARTBEAT_TIMEOUT)
    }

    /// Starts the counting anew if the connection held.
    fn settle_backoff(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open { since, .. } if now >= since + STABLE_AFTER) {
            self.backoff.reset();
            self.has_tried_once = false;
        }
    }

    /// Backs off, for `least` at least: the draw comes on top, so that nobody comes back in step.
    fn wait(&mut self, least: Duration, now: Instant) {
        let random = self.random();
        let until = now + least + self.backoff.next(random);
        self.wait_until(until);
    }

    fn wait_until(&mut self, until: Instant) {
        self.move_at = None;
        self.phase = Phase::Waiting { until };
        if self.state != State::Connecting {
            self.state = State::Reconnecting;
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.state = State::Closed;
    }
}
