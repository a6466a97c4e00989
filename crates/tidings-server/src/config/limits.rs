//! `[limits]`: the library's limits by their own names, durations in seconds and short ones in milliseconds. What is left
//! out keeps its default.

use std::time::Duration;

use serde::Deserialize;
use tidings::Limits;
use tidings::protocol::limits::ConnectionLimitPolicy;

macro_rules! section {
    (plain { $($name:ident: $type:ty,)* } seconds { $($key:ident => $duration:ident,)* }
        milliseconds { $($short_key:ident => $short:ident,)* }) => {
        /// The limits that a file may set.
        #[derive(Deserialize, Default, Debug)]
        #[serde(deny_unknown_fields)]
        pub(super) struct LimitsSection {
            $($name: Option<$type>,)*
            $($key: Option<u64>,)*
            $($short_key: Option<u64>,)*
        }

        impl LimitsSection {
            /// Sets those that the file has.
            pub(super) fn apply(&self, limits: &mut Limits) {
                $(if let Some(value) = self.$name {
                    limits.$name = value;
                })*
                $(if let Some(seconds) = self.$key {
                    limits.$duration = Duration::from_secs(seconds);
                })*
                $(if let Some(milliseconds) = self.$short_key {
                    limits.$short = Duration::from_millis(milliseconds);
                })*
            }
        }
    };
}

section! {
    plain {
        text_message_bytes_max: usize,
        binary_message_bytes_max: usize,
        fragments_max: u32,
        control_frames_per_second: u32,
        control_frames_burst: u32,
        messages_per_second: u32,
        messages_burst: u32,
        messages_per_second_per_user: u32,
        publishes_per_second_per_room: u32,
        rooms_per_connection_max: usize,
        joins_per_second: u32,
        outbound_bytes_max: usize,
        outbound_messages_max: usize,
        outbound_node_bytes_max: usize,
        connections_per_user_max: usize,
        connections_per_user_policy: ConnectionLimitPolicy,
        connections_per_node_max: usize,
        handshakes_per_second_per_ip: u32,
        handshakes_burst_per_ip: u32,
        handshakes_per_second: u32,
        pending_handshakes_max: usize,
        pending_handshakes_per_ip_max: usize,
        history_events_max: usize,
        history_bytes_max: usize,
        room_keys_max: usize,
        history_node_bytes_max: usize,
        idempotency_ids_per_user_max: usize,
        idempotency_node_bytes_max: usize,
        presence_batch_from: usize,
        revocations_max: usize,
    }
    seconds {
        message_duration_max_seconds => message_duration_max,
        rate_limited_duration_max_seconds => rate_limited_duration_max,
        heartbeat_seconds => heartbeat,
        silence_max_seconds => silence_max,
        stalled_duration_max_seconds => stalled_duration_max,
        handshake_duration_max_seconds => handshake_duration_max,
        history_age_max_seconds => history_age_max,
        presence_grace_seconds => presence_grace,
        idempotency_window_seconds => idempotency_window,
        access_duration_max_seconds => access_duration_max,
        revocation_age_max_seconds => revocation_age_max,
    }
    milliseconds {
        presence_batch_interval_milliseconds => presence_batch_interval,
    }
}
