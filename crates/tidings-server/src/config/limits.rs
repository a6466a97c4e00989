//! `[limits]`: the library's limits by their own names, durations in seconds and short ones in milliseconds. What is left
//! out keeps its default.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings::Limits;
use tidings::protocol::limits::ConnectionLimitPolicy;

macro_rules! section {
    (plain { $($(#[$doc:meta])* $name:ident: $type:ty,)* }
        seconds { $($(#[$seconds_doc:meta])* $key:ident => $duration:ident,)* }
        milliseconds { $($(#[$short_doc:meta])* $short_key:ident => $short:ident,)* }) => {
        /// What clients may use up, and what becomes of one more. Each hit is counted in `tidings_limit_hits_total`.
        #[derive(Deserialize, JsonSchema, Default, Debug)]
        #[serde(deny_unknown_fields)]
        pub(super) struct LimitsSection {
            $($(#[$doc])* $name: Option<$type>,)*
            $($(#[$seconds_doc])* $key: Option<u64>,)*
            $($(#[$short_doc])* $short_key: Option<u64>,)*
        }

        impl LimitsSection {
            /// Sets those that the file has.
            pub(super) fn apply(&self, limits: &mut Limits) {
                $(if let Some(value) = self.$name {
                    limits.$name = value.into();
                })*
                $(if let Some(seconds) = self.$key {
                    limits.$duration = Duration::from_secs(seconds);
                })*
                $(if let Some(milliseconds) = self.$short_key {
                    limits.$short = Duration::from_millis(milliseconds);
                })*
            }

            /// Whether somebody has set a key.
            pub(super) fn is_set(&self, key: &str) -> bool {
                match key {
                    $(stringify!($name) => self.$name.is_some(),)*
                    $(stringify!($key) => self.$key.is_some(),)*
                    $(stringify!($short_key) => self.$short_key.is_some(),)*
                    _ => false,
                }
            }
        }

        /// What a key has in these limits, as a file would say it.
        pub(crate) fn value_of(limits: &Limits, key: &str) -> Option<Value> {
            match key {
                $(stringify!($name) => serde_json::to_value(<$type>::from(limits.$name)).ok(),)*
                $(stringify!($key) => Some(limits.$duration.as_secs().into()),)*
                $(stringify!($short_key) => serde_json::to_value(limits.$short.as_millis()).ok(),)*
                _ => None,
            }
        }

        /// The key that sets the library's limit of this name.
        pub(super) fn key_of(limit: &str) -> Option<&'static str> {
            match limit {
                $(stringify!($name) => Some(stringify!($name)),)*
                $(stringify!($duration) => Some(stringify!($key)),)*
                $(stringify!($short) => Some(stringify!($short_key)),)*
                _ => None,
            }
        }
    };
}

/// What a key has that nobody sets. The program may know better, by the machine: then its description says so.
pub(super) fn default_of(key: &str) -> Option<Value> {
    value_of(&Limits::default(), key)
}

/// What becomes of a user's connection beyond his limit.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema, Debug)]
#[serde(rename_all = "snake_case")]
enum OneMore {
    RefuseNewest,
    CloseOldest,
}

impl From<OneMore> for ConnectionLimitPolicy {
    fn from(one_more: OneMore) -> Self {
        match one_more {
            OneMore::RefuseNewest => Self::RefuseNewest,
            OneMore::CloseOldest => Self::CloseOldest,
        }
    }
}

impl From<ConnectionLimitPolicy> for OneMore {
    fn from(policy: ConnectionLimitPolicy) -> Self {
        match policy {
            ConnectionLimitPolicy::RefuseNewest => Self::RefuseNewest,
            ConnectionLimitPolicy::CloseOldest => Self::CloseOldest,
        }
    }
}

section! {
    plain {
        /// A text message, in bytes. More closes with 1009. 64 KiB.
        text_message_bytes_max: usize,
        /// A binary message, in bytes. More closes with 1009. 64 KiB.
        binary_message_bytes_max: usize,
        /// Frames of one message. More closes with 1008. 64.
        fragments_max: u32,
        /// Ping and pong frames a second. More, beyond the burst, closes with 1008. 5.
        control_frames_per_second: u32,
        /// Ping and pong frames at once. 20.
        control_frames_burst: u32,
        /// Messages a second of a connection. More, beyond the burst, is `rate_limited`. 20.
        messages_per_second: u32,
        /// Messages of a connection at once. 40.
        messages_burst: u32,
        /// Messages a second of a user, over all his connections on a node, with as many at once. More is `rate_limited`. 50.
        messages_per_second_per_user: u32,
        /// Publishes a second to a room on a node, whoever publishes, with as many at once. More is `rate_limited`, which
        /// closes nobody: others may have used the rate up. Ephemeral events leave half of what is at once to the rest. 1,000.
        publishes_per_second_per_room: u32,
        /// Rooms of a connection. One more is `room_limit`. 100.
        rooms_per_connection_max: usize,
        /// Joins a second of a connection, with as many at once. More is `rate_limited`. 10.
        joins_per_second: u32,
        /// What waits for one connection, in bytes. More closes with 4109. 1 MiB.
        outbound_bytes_max: usize,
        /// What waits for one connection, in messages. More closes with 4109. 1,024.
        outbound_messages_max: usize,
        /// What waits for all connections of a node whose sockets don't take it, in bytes; a frame that waits for several
        /// counts for each. Above it the largest queues go first, closed with 4109. 1 GiB; the program sets 25 % of the memory.
        outbound_node_bytes_max: usize,
        /// Connections of a user, on all nodes together. One more is refused with 429 `connection_limit`, or as the policy
        /// says. 5.
        connections_per_user_max: usize,
        /// What becomes of one more. It is refused.
        connections_per_user_policy: OneMore,
        /// Connections of a node. One more is refused with 503 `overloaded`. 16,000; the program sets 80 % of the open-files
        /// limit.
        connections_per_node_max: usize,
        /// Handshakes a second of an address; loopback is exempt. More, beyond the burst, is 429 `rate_limited`. 100.
        handshakes_per_second_per_ip: u32,
        /// Handshakes of an address at once. 500.
        handshakes_burst_per_ip: u32,
        /// Handshakes a second of a node, with as many at once. More is 503 `overloaded`. 10,000.
        handshakes_per_second: u32,
        /// Handshakes under way on a node. One more is 503 `overloaded`. 1,024.
        pending_handshakes_max: usize,
        /// Handshakes under way from one address. One more is 429 `rate_limited`. 200.
        pending_handshakes_per_ip_max: usize,
        /// Events of a room's history. 16,384.
        history_events_max: usize,
        /// Bytes of a room's history. 8 MiB.
        history_bytes_max: usize,
        /// Keys of a room that keeps the newest event of each. One more, and the one that is oldest goes. 1,024.
        room_keys_max: usize,
        /// Bytes of all rooms' histories; the quietest rooms are trimmed first. 1 GiB; the program sets
        /// 10 % of the memory.
        history_node_bytes_max: usize,
        /// Idempotency ids of a user. One more is `rate_limited`. 20,000.
        idempotency_ids_per_user_max: usize,
        /// Idempotency ids of a node, in bytes. One more is `rate_limited`. 1 GiB.
        idempotency_node_bytes_max: usize,
        /// Members up to whom a room tells each change of its presence at once. With more, changes are collected and told
        /// together. 20.
        presence_batch_from: usize,
        /// Users and tokens that are revoked at a time, on all nodes together. One more is refused to the application. 100,000.
        revocations_max: usize,
    }
    seconds {
        /// From a message's first byte to its last. Longer closes with 1008. 10 s.
        message_duration_max_seconds => message_duration_max,
        /// How long a connection may go on being `rate_limited` before it is closed with 4108. 10 s.
        rate_limited_duration_max_seconds => rate_limited_duration_max,
        /// Between pings. 30 s.
        heartbeat_seconds => heartbeat,
        /// Without a frame of any kind. Longer closes with 4110. 90 s.
        silence_max_seconds => silence_max,
        /// A full socket that takes nothing. Longer closes with 4109. 10 s.
        stalled_duration_max_seconds => stalled_duration_max,
        /// From accepting a socket to its upgrade. 5 s.
        handshake_duration_max_seconds => handshake_duration_max,
        /// How long an event stays in a room's history. 1 h.
        history_age_max_seconds => history_age_max,
        /// How long a user whose last connection was lost is still shown as a member, so that a reconnect is no leave and
        /// join. Zero tells the leave at once; a hub takes a day at most. 10 s.
        presence_grace_seconds => presence_grace,
        /// How long an idempotency id is remembered. 5 min.
        idempotency_window_seconds => idempotency_window,
        /// How long the application may take to say whether somebody may join or publish: a rule's handler, or the
        /// memberships. Longer is `unavailable`. 5 s.
        access_duration_max_seconds => access_duration_max,
        /// How long a revocation is remembered. At least as long as tokens live: one that lives longer is good again then. 24 h.
        revocation_age_max_seconds => revocation_age_max,
    }
    milliseconds {
        /// Between two tellings of what was collected; four times as long from 1,000 members on. A hub
        /// takes a minute at most. 250 ms.
        presence_batch_interval_milliseconds => presence_batch_interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comment above each field of the library's limits.
    fn comments() -> std::collections::HashMap<String, String> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tidings-protocol/src/limits.rs");
        let source = std::fs::read_to_string(source).unwrap();
        let fields = source.split_once("pub struct Limits {").unwrap().1.split_once("\n}").unwrap().0;
        let (mut comments, mut comment) = (std::collections::HashMap::new(), Vec::new());
        for line in fields.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("/// ") {
                comment.push(text);
            } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':'))
            {
                comments.insert(name.to_owned(), std::mem::take(&mut comment).join(" "));
            }
        }
        comments
    }

    #[test]
    fn a_key_is_described_as_the_library_describes_its_limit() {
        let schema = crate::config::schema::schema();
        let described = schema["properties"]["limits"]["properties"].as_object().unwrap();
        let mut keys = 0;
        for (limit, comment) in comments() {
            let Some(key) = key_of(&limit) else { continue };
            let comment = comment.replace("[`PRESENCE_CROWD_FROM`]", "1,000");
            assert_eq!(described[key]["description"], comment, "{key}");
            assert_eq!(Some(&described[key]["default"]), default_of(key).as_ref(), "{key}");
            keys += 1;
        }
        assert_eq!(keys, described.len());
    }
}
