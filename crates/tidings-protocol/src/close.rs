//! Close codes: what ends a connection, and what a client does next. PROTOCOL.md §6; RFC 6455 §7.4.

use std::fmt;

/// A WebSocket close code as it stands in a close frame.
///
/// The range carries the meaning, so that a client handles a code that it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Done.
    pub const NORMAL: Self = Self(1000);
    /// The server or the page goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// RFC 6455 was broken.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of data that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Text that is not UTF-8.
    pub const INVALID_UTF8: Self = Self(1007);
    /// A rule of the server was broken: fragments, pings, time to complete a message.
    pub const POLICY: Self = Self(1008);
    /// A message above the limit.
    pub const TOO_LARGE: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL: Self = Self(1011);
    /// The server restarts.
    pub const RESTART: Self = Self(1012);
    /// Come back later.
    pub const TRY_LATER: Self = Self(1013);
    /// The client's version is not served.
    pub const VERSION: Self = Self(4000);
    /// The token was revoked or is not valid any more.
    pub const TOKEN_INVALID: Self = Self(4001);
    /// What was asked is not allowed.
    pub const FORBIDDEN: Self = Self(4003);
    /// Disconnected by the application or an operator.
    pub const KICKED: Self = Self(4006);
    /// The slot of the per-user limit went to another connection.
    pub const TAKEN_OVER: Self = Self(4009);
    /// The node has too much to do.
    pub const OVERLOADED: Self = Self(4100);
    /// Too many messages for too long.
    pub const RATE_LIMITED: Self = Self(4108);
    /// The client does not read fast enough.
    pub const SLOW_CONSUMER: Self = Self(4109);
    /// Nothing was heard for the silence limit.
    pub const HEARTBEAT_TIMEOUT: Self = Self(4110);
    /// The node is being shut down in order.
    pub const DRAINING: Self = Self(4200);
    /// Connections are being spread anew.
    pub const REBALANCE: Self = Self(4201);
    /// The token's life is over.
    pub const TOKEN_EXPIRED: Self = Self(4300);

    /// Whether a close frame may carry this code (RFC 6455 §7.4.2; 1005, 1006 and 1015 never go on the wire).
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// What a client does after this code. `None` stands for a connection that ended without a close frame.
    pub fn reaction(code: Option<Self>) -> Reaction {
        match code.map_or(1006, |code| code.0) {
            1000 | 1008 => Reaction::Stop,
            1002 | 1003 | 1007 | 1009 => Reaction::TryOnce,
            4000..=4099 => Reaction::Stop,
            4100..=4199 => Reaction::BackOffAtLeastASecond,
            4200..=4299 => Reaction::ReconnectInWindow,
            4300..=4399 => Reaction::RefreshToken,
            _ => Reaction::BackOff,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client does when a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Nothing by itself: the end is final.
    Stop,
    /// Report a bug; one more try at most.
    TryOnce,
    /// Back off, then resume.
    BackOff,
    /// Back off, a second at least, then resume.
    BackOffAtLeastASecond,
    /// Reconnect at a random time inside the window that `session.reconnect` told, then resume.
    ReconnectInWindow,
    /// Fetch a token, then resume.
    RefreshToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_place_on_the_wire_are_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert!(!CloseCode(code).may_be_sent(), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4109, 4999] {
            assert!(CloseCode(code).may_be_sent(), "{code}");
        }
    }

    #[test]
    fn the_range_carries_the_meaning() {
        assert_eq!(CloseCode::reaction(None), Reaction::BackOff);
        assert_eq!(CloseCode::reaction(Some(CloseCode(4042))), Reaction::Stop);
        assert_eq!(CloseCode::reaction(Some(CloseCode(4150))), Reaction::BackOffAtLeastASecond);
        assert_eq!(CloseCode::reaction(Some(CloseCode(4250))), Reaction::ReconnectInWindow);
        assert_eq!(CloseCode::reaction(Some(CloseCode(4301))), Reaction::RefreshToken);
        assert_eq!(CloseCode::reaction(Some(CloseCode(1012))), Reaction::BackOff);
        assert_eq!(CloseCode::reaction(Some(CloseCode(1009))), Reaction::TryOnce);
    }
}
