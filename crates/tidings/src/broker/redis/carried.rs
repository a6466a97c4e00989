//! What a room's channel carries, and what a node does with it: publications for the log, and what is not stored.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use tidings_protocol::follower::{Ask, Carried, Message};
use tracing::warn;

use super::Shared;
use super::message::{PUBLICATIONS, Published};
use crate::auth::UserId;
use crate::publication::Excluded;
use crate::room::Room;

/// The kind of a message that brings an event which is not stored: `e NODE LINEAGE USER_LENGTH USER FRAME`, the user's
/// length zero if nobody is excluded; numbers big-endian.
const EPHEMERAL: u8 = b'e';

/// Takes a message of a room's channel; what the room has to read then.
pub(super) fn take(shared: &Shared, room: &Arc<Room>, message: &Bytes) -> Option<Ask> {
    match message.first() {
        Some(&PUBLICATIONS) => {
            let bytes = message.len();
            let Some(Published { first, at_ms, records }) = Published::parse(message) else {
                warn!(room = %room.id, "a message that is none of ours on a room's channel");
                return None;
            };
            let events = (first.offset..)
                .zip(records)
                .map(|(offset, record)| Carried { offset, at_ms, record })
                .collect();
            let message = Message { epoch: first.epoch, events, bytes };
            room.take_message(message, &shared.metrics, shared.env.now())
        }
        Some(&EPHEMERAL) => {
            if let Some((node, except, frame)) = parse_ephemeral(message)
                && node != shared.node
            {
                room.hand_on_ephemeral(&frame, except.as_ref(), &shared.metrics);
            }
            None
        }
        // Of a later version of the format's kinds.
        _ => None,
    }
}

/// An event that is not stored, as it is carried.
pub(super) fn ephemeral(node: u64, except: Option<&Excluded>, frame: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + 8 + 8 + 2 + 128 + frame.len());
    message.put_u8(EPHEMERAL);
    message.put_u64(node);
    let user = except.map_or("", |except| except.user.as_str());
    message.put_u64(except.map_or(0, |except| except.lineage));
    message.put_u16(user.len() as u16);
    message.put_slice(user.as_bytes());
    message.put_slice(frame);
    message
}

fn parse_ephemeral(message: &Bytes) -> Option<(u64, Option<Excluded>, Bytes)> {
    let (_, rest) = message.split_first()?;
    let (node, rest) = rest.split_first_chunk()?;
    let (lineage, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (user, frame) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let except = match user {
        [] => None,
        user => {
            let user = UserId::parse(std::str::from_utf8(user).ok()?).ok()?;
            Some(Excluded { user, lineage: u64::from_be_bytes(*lineage) })
        }
    };
    Some((u64::from_be_bytes(*node), except, message.slice_ref(frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ephemeral_event_is_carried_with_whom_it_is_not_for() {
        let ann = Excluded { user: UserId::parse("ann").unwrap(), lineage: 7 };
        for except in [None, Some(ann)] {
            let message = Bytes::from(ephemeral(3, except.as_ref(), b"frame"));
            let expected = Some((3, except, Bytes::from_static(b"frame")));
            assert_eq!(parse_ephemeral(&message), expected);
            for length in 0..message.len() - 5 {
                assert_eq!(parse_ephemeral(&message.slice(..length)), None, "{length}");
            }
        }
    }
}
