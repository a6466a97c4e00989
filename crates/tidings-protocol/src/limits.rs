//! Every limit of the protocol and of a connection: name with unit, default, what a hit does.
//!
//! The constants are the protocol's own and never change by configuration; [`Limits`] is what an operator may set.

use std::time::Duration;

use serde::Deserialize;

/// A room's name, in bytes. A longer one is `invalid`.
pub const ROOM_BYTES_MAX: usize = 128;
/// An event's name, in bytes. A longer one is `invalid`.
pub const EVENT_BYTES_MAX: usize = 64;
/// A client's message id, in bytes. A longer one is `invalid`.
pub const MESSAGE_ID_BYTES_MAX: usize = 64;
/// A cursor, in bytes: `invalid_cursor` at the handshake, `invalid` in a message.
pub const CURSOR_BYTES_MAX: usize = 4096;
/// Nesting of `data`: `[` × 32 passes, 33 is `invalid`.
pub const DATA_DEPTH_MAX: usize = 32;
/// The sentence of a `schema` fault, in bytes. A longer one is cut.
pub const SCHEMA_FAULT_BYTES_MAX: usize = 256;
/// The pointer of a `schema` fault, in bytes. Instead of a longer one it is the nearest place around.
pub const SCHEMA_POINTER_BYTES_MAX: usize = 256;
/// A user id, in bytes of UTF-8 without control characters. A longer one is `token_claims`.
pub const USER_BYTES_MAX: usize = 128;
/// A token, in bytes. A longer one is `token_malformed`.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Events of one `room.history`; asking for more gets this many.
pub const HISTORY_PAGE_EVENTS_MAX: u32 = 1000;
/// Events of a `room.history` that names no limit.
pub const HISTORY_PAGE_EVENTS_DEFAULT: u32 = 100;
/// Bytes of one `room.history`: a page ends before it would pass this.
pub const HISTORY_PAGE_BYTES_MAX: usize = 256 * 1024;
/// Members of one `room.members`; asking for more gets this many.
pub const MEMBERS_PAGE_MAX: u32 = 1000;
/// Members of a `room.members` that names no limit.
pub const MEMBERS_PAGE_DEFAULT: u32 = 100;
/// Bytes of one `room.members`: a page ends before it would pass this, but has one member at least.
pub const MEMBERS_PAGE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one `presence.changes`: what would pass this is told an interval later.
pub const PRESENCE_CHANGES_BYTES_MAX: usize = 64 * 1024;
/// From so many members on, a room's presence is told at four times [`Limits::presence_batch_interval`].
pub const PRESENCE_CROWD_FROM: usize = 1000;
/// `info` of a presence, in bytes. More is `too_large`.
pub const PRESENCE_INFO_BYTES_MAX: usize = 4096;

/// A handshake's request line and headers, in bytes. More is answered with 431.
pub const HANDSHAKE_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Headers of a handshake. More are answered with 431.
pub const HANDSHAKE_HEADERS_MAX: usize = 64;

/// What becomes of a user's connection beyond [`Limits::connections_per_user_max`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionLimitPolicy {
    /// It is refused with 429 `connection_limit`.
    #[default]
    RefuseNewest,
    /// It takes the place of the user's oldest, which is closed with 4009.
    CloseOldest,
}
/// An issuer's key set, in bytes. A larger one counts as a failed read: the keys of before stay.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Keys of a set; those beyond are left out, with a warning. They bound what a token that names none costs.
pub const JWKS_KEYS_MAX: usize = 32;
/// How long reading a key set may take, with handshakes waiting. Longer counts as a failed read.
pub const JWKS_FETCH_DURATION_MAX: Duration = Duration::from_secs(3);
/// From one read of a key set to the next, whatever tokens name. A key that is newer is `token_signature` until then.
pub const JWKS_REFETCH_INTERVAL: Duration = Duration::from_secs(30);
/// How old a key set may be before a handshake waits for a newer one; from half of it on, it is read anew while nobody waits.
pub const JWKS_AGE_MAX: Duration = Duration::from_secs(3600);

/// What an operator may set. [`Limits::default`] is what production gets.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// A text message, in bytes. More closes with 1009. 64 KiB.
    pub text_message_bytes_max: usize,
    /// A binary message, in bytes. More closes with 1009. 64 KiB.
    pub binary_message_bytes_max: usize,
    /// Frames of one message. More closes with 1008. 64.
    pub fragments_max: u32,
    /// From a message's first byte to its last. Longer closes with 1008. 10 s.
    pub message_duration_max: Duration,
    /// Ping and pong frames a second. More, beyond the burst, closes with 1008. 5.
    pub control_frames_per_second: u32,
    /// Ping and pong frames at once. 20.
    pub control_frames_burst: u32,
    /// Messages a second of a connection. More, beyond the burst, is `rate_limited`. 20.
    pub messages_per_second: u32,
    /// Messages of a connection at once. 40.
    pub messages_burst: u32,
    /// Messages a second of a user, over all his connections on a node, with as many at once. More is `rate_limited`. 50.
    pub messages_per_second_per_user: u32,
    /// Publishes a second to a room on a node, whoever publishes, with as many at once. More is `rate_limited`, which
    /// closes nobody: others may have used the rate up. Ephemeral events leave half of what is at once to the rest. 1,000.
    pub publishes_per_second_per_room: u32,
    /// How long a connection may go on being `rate_limited` before it is closed with 4108. 10 s.
    pub rate_limited_duration_max: Duration,
    /// Rooms of a connection. One more is `room_limit`. 100.
    pub rooms_per_connection_max: usize,
    /// Joins a second of a connection, with as many at once. More is `rate_limited`. 10.
    pub joins_per_second: u32,
    /// Calls that wait in one (connection, room). One more, and the socket is not read. 32.
    pub waiting_calls_max: usize,
    /// Between pings. 30 s.
    pub heartbeat: Duration,
    /// Without a frame of any kind. Longer closes with 4110. 90 s.
    pub silence_max: Duration,
    /// How long `?resume=wait` waits for `session.resume`. 5 s.
    pub resume_wait_max: Duration,
    /// Between two `session.checkpoint`s. 30 s.
    pub checkpoint_interval: Duration,
    /// From a close frame of ours to the end of the socket. 1 s.
    pub close_duration_max: Duration,
    /// What waits for one connection, in bytes. More closes with 4109. 1 MiB.
    pub outbound_bytes_max: usize,
    /// What waits for one connection, in messages. More closes with 4109. 1,024.
    pub outbound_messages_max: usize,
    /// What waits for all connections of a node whose sockets don't take it, in bytes; a frame that waits for several
    /// counts for each. Above it the largest queues go first, closed with 4109. 1 GiB; the program sets 25 % of the memory.
    pub outbound_node_bytes_max: usize,
    /// A full socket that takes nothing. Longer closes with 4109. 10 s.
    pub stalled_duration_max: Duration,
    /// What waits for one shard, in entries. More, and the shard reads on from the rooms' logs. 4,096.
    pub inbox_entries_max: usize,
    /// The same in bytes. 4 MiB.
    pub inbox_bytes_max: usize,
    /// Connections of a user, on all nodes together. One more is refused with 429 `connection_limit`, or as the policy
    /// says. 5.
    pub connections_per_user_max: usize,
    /// What becomes of one more. It is refused.
    pub connections_per_user_policy: ConnectionLimitPolicy,
    /// Connections of a node. One more is refused with 503 `overloaded`. 16,000; the program sets 80 % of the open-files
    /// limit.
    pub connections_per_node_max: usize,
    /// Handshakes a second of an address; loopback is exempt. More, beyond the burst, is 429 `rate_limited`. 100.
    pub handshakes_per_second_per_ip: u32,
    /// Handshakes of an address at once. 500.
    pub handshakes_burst_per_ip: u32,
    /// Handshakes a second of a node, with as many at once. More is 503 `overloaded`. 10,000.
    pub handshakes_per_second: u32,
    /// Handshakes under way on a node. One more is 503 `overloaded`. 1,024.
    pub pending_handshakes_max: usize,
    /// Handshakes under way from one address. One more is 429 `rate_limited`. 200.
    pub pending_handshakes_per_ip_max: usize,
    /// From accepting a socket to its upgrade. 5 s.
    pub handshake_duration_max: Duration,
    /// How long an event stays in a room's history. 1 h.
    pub history_age_max: Duration,
    /// Events of a room's history. 16,384.
    pub history_events_max: usize,
    /// Bytes of a room's history. 8 MiB.
    pub history_bytes_max: usize,
    /// Keys of a room that keeps the newest event of each. One more, and the one that is oldest goes. 1,024.
    pub room_keys_max: usize,
    /// Bytes of all rooms' histories; the quietest rooms are trimmed first. 1 GiB; the program sets
    /// 10 % of the memory.
    pub history_node_bytes_max: usize,
    /// How long an idempotency id is remembered. 5 min.
    pub idempotency_window: Duration,
    /// Idempotency ids of a user. One more is `rate_limited`. 20,000.
    pub idempotency_ids_per_user_max: usize,
    /// Idempotency ids of a node, in bytes. One more is `rate_limited`. 1 GiB.
    pub idempotency_node_bytes_max: usize,
    /// How long a user whose last connection was lost is still shown as a member, so that a reconnect is no leave and
    /// join. Zero tells the leave at once; a hub takes a day at most. 10 s.
    pub presence_grace: Duration,
    /// Members up to whom a room tells each change of its presence at once. With more, changes are collected and told
    /// together. 20.
    pub presence_batch_from: usize,
    /// Between two tellings of what was collected; four times as long from [`PRESENCE_CROWD_FROM`] members on. A hub
    /// takes a minute at most. 250 ms.
    pub presence_batch_interval: Duration,
    /// How long a snapshot is shared by those who need one. 1 s.
    pub snapshot_reuse: Duration,
    /// How far past a token's `exp` it still counts. 30 s.
    pub token_leeway: Duration,
    /// How long the application may take to say whether somebody may join or publish: a rule's handler, or the
    /// memberships. Longer is `unavailable`. 5 s.
    pub access_duration_max: Duration,
    /// Users and tokens that are revoked at a time, on all nodes together. One more is refused to the application. 100,000.
    pub revocations_max: usize,
    /// How long a revocation is remembered. At least as long as tokens live: one that lives longer is good again then. 24 h.
    pub revocation_age_max: Duration,
}

impl Limits {
    /// How long the changes of a room's presence are collected before they are told, in a room of so many members.
    pub fn presence_interval(&self, members: usize) -> Duration {
        self.presence_batch_interval * if members < PRESENCE_CROWD_FROM { 1 } else { 4 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_message_bytes_max: 64 * 1024,
            binary_message_bytes_max: 64 * 1024,
            fragments_max: 64,
            message_duration_max: Duration::from_secs(10),
            control_frames_per_second: 5,
            control_frames_burst: 20,
            messages_per_second: 20,
            messages_burst: 40,
            messages_per_second_per_user: 50,
            publishes_per_second_per_room: 1000,
            rate_limited_duration_max: Duration::from_secs(10),
            rooms_per_connection_max: 100,
            joins_per_second: 10,
            waiting_calls_max: 32,
            heartbeat: Duration::from_secs(30),
            silence_max: Duration::from_secs(90),
            resume_wait_max: Duration::from_secs(5),
            checkpoint_interval: Duration::from_secs(30),
            close_duration_max: Duration::from_secs(1),
            outbound_bytes_max: 1024 * 1024,
            outbound_messages_max: 1024,
            outbound_node_bytes_max: 1024 * 1024 * 1024,
            stalled_duration_max: Duration::from_secs(10),
            inbox_entries_max: 4096,
            inbox_bytes_max: 4 * 1024 * 1024,
            connections_per_user_max: 5,
            connections_per_user_policy: ConnectionLimitPolicy::RefuseNewest,
            connections_per_node_max: 16_000,
            handshakes_per_second_per_ip: 100,
            handshakes_burst_per_ip: 500,
            handshakes_per_second: 10_000,
            pending_handshakes_max: 1024,
            pending_handshakes_per_ip_max: 200,
            handshake_duration_max: Duration::from_secs(5),
            history_age_max: Duration::from_secs(3600),
            history_events_max: 16_384,
            history_bytes_max: 8 * 1024 * 1024,
            room_keys_max: 1024,
            history_node_bytes_max: 1024 * 1024 * 1024,
            idempotency_window: Duration::from_secs(300),
            idempotency_ids_per_user_max: 20_000,
            idempotency_node_bytes_max: 1024 * 1024 * 1024,
            presence_grace: Duration::from_secs(10),
            presence_batch_from: 20,
            presence_batch_interval: Duration::from_millis(250),
            snapshot_reuse: Duration::from_secs(1),
            token_leeway: Duration::from_secs(30),
            access_duration_max: Duration::from_secs(5),
            revocations_max: 100_000,
            revocation_age_max: Duration::from_secs(24 * 3600),
        }
    }
}

macro_rules! named_limits {
    ($($variant:ident => $name:literal,)*) => {
        /// A limit that was hit, under the name of its field in [`Limits`] or of its constant: so it stands in metrics.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Limit {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Its place in [`Limit::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

named_limits! {
    TextMessageBytesMax => "text_message_bytes_max",
    BinaryMessageBytesMax => "binary_message_bytes_max",
    FragmentsMax => "fragments_max",
    MessageDurationMax => "message_duration_max",
    ControlFramesPerSecond => "control_frames_per_second",
    MessagesPerSecond => "messages_per_second",
    MessagesPerSecondPerUser => "messages_per_second_per_user",
    PublishesPerSecondPerRoom => "publishes_per_second_per_room",
    RateLimitedDurationMax => "rate_limited_duration_max",
    RoomsPerConnectionMax => "rooms_per_connection_max",
    JoinsPerSecond => "joins_per_second",
    WaitingCallsMax => "waiting_calls_max",
    SilenceMax => "silence_max",
    CloseDurationMax => "close_duration_max",
    OutboundBytesMax => "outbound_bytes_max",
    OutboundMessagesMax => "outbound_messages_max",
    OutboundNodeBytesMax => "outbound_node_bytes_max",
    StalledDurationMax => "stalled_duration_max",
    InboxEntriesMax => "inbox_entries_max",
    InboxBytesMax => "inbox_bytes_max",
    ConnectionsPerUserMax => "connections_per_user_max",
    ConnectionsPerNodeMax => "connections_per_node_max",
    HandshakesPerSecondPerIp => "handshakes_per_second_per_ip",
    HandshakesPerSecond => "handshakes_per_second",
    PendingHandshakesMax => "pending_handshakes_max",
    PendingHandshakesPerIpMax => "pending_handshakes_per_ip_max",
    HandshakeDurationMax => "handshake_duration_max",
    HandshakeHead => "handshake_head",
    HistoryAgeMax => "history_age_max",
    HistoryEventsMax => "history_events_max",
    HistoryBytesMax => "history_bytes_max",
    RoomKeysMax => "room_keys_max",
    HistoryNodeBytesMax => "history_node_bytes_max",
    IdempotencyIdsPerUserMax => "idempotency_ids_per_user_max",
    IdempotencyNodeBytesMax => "idempotency_node_bytes_max",
    TokenBytesMax => "token_bytes_max",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limits_name_is_its_own() {
        for (index, limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(limit.index(), index);
            // As Debug writes it, in the spelling of fields.
            let spelled: String = format!("{limit:?}")
                .chars()
                .flat_map(|char| char.is_uppercase().then_some('_').into_iter().chain(char.to_lowercase()))
                .collect();
            assert_eq!(spelled.trim_start_matches('_'), limit.name());
        }
    }
}
