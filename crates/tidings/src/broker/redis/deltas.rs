//! Changes of who is in a room, as its channel carries them.
//!
//! ```text
//! d EPOCH BEFORE ' ' COUNT '\n' then COUNT times: KIND USER_BYTES ' ' INFO_BYTES '\n' USER INFO
//! ```
//!
//! `BEFORE` is the revision that they follow; KIND is `j` for a join, `u` for an update, `l` for a departure, and INFO
//! is JSON or nothing.

use std::sync::Arc;

use serde_json::value::RawValue;
use tidings_protocol::event_id::{Epoch, OFFSET_MAX};
use tidings_protocol::message::PresenceChange;

use super::log::number;
use crate::auth::UserId;
use crate::presence::Info;
use crate::roster::{Change, Deltas, Revision};

/// The kind of a message that brings changes of the presence.
pub(super) const DELTAS: u8 = b'd';

/// Reads a message of kind [`DELTAS`], which is anybody's who can publish on that channel.
pub(super) fn parse(message: &[u8]) -> Option<Deltas> {
    let (epoch, rest) = message.strip_prefix(&[DELTAS])?.split_at_checked(Epoch::LEN)?;
    let epoch = Epoch::parse(std::str::from_utf8(epoch).ok()?).ok()?;
    let (before, rest) = number(rest, b' ')?;
    let (count, mut rest) = number(rest, b'\n')?;
    if before.checked_add(count)? > OFFSET_MAX {
        return None;
    }
    // What is claimed reserves nothing: six bytes are the least that a change takes.
    let mut changes = Vec::with_capacity(usize::try_from(count).ok()?.min(rest.len() / 6));
    for _ in 0..count {
        let (change, next) = change(rest)?;
        changes.push(change);
        rest = next;
    }
    let before = Revision { epoch, rev: before };
    let complete = rest.is_empty();
    complete.then_some(Deltas { before, changes, bytes: message.len() })
}

fn change(bytes: &[u8]) -> Option<(Change, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let kind = match kind {
        b'j' => PresenceChange::Join,
        b'u' => PresenceChange::Update,
        b'l' => PresenceChange::Leave,
        _ => return None,
    };
    let (user_bytes, rest) = number(rest, b' ')?;
    let (info_bytes, rest) = number(rest, b'\n')?;
    let (name, rest) = rest.split_at_checked(usize::try_from(user_bytes).ok()?)?;
    let (shown, rest) = rest.split_at_checked(usize::try_from(info_bytes).ok()?)?;
    Some((Change { kind, user: user(name)?, info: info(shown)? }, rest))
}

pub(super) fn user(name: &[u8]) -> Option<UserId> {
    UserId::parse(std::str::from_utf8(name).ok()?).ok()
}

/// What somebody shows, or that he shows nothing; none if it is no JSON.
pub(super) fn info(shown: &[u8]) -> Option<Info> {
    if shown.is_empty() {
        return Some(None);
    }
    let text = std::str::from_utf8(shown).ok()?.to_owned();
    RawValue::from_string(text).ok().map(|info| Some(Arc::from(info)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(before: u64, changes: &[(char, String, Option<u32>)]) -> Vec<u8> {
        let mut message = format!("dk3f9a1qz{before} {}\n", changes.len());
        for (kind, user, info) in changes {
            let info = info.map(|info| info.to_string()).unwrap_or_default();
            message.push_str(&format!("{kind}{} {}\n{user}{info}", user.len(), info.len()));
        }
        message.into()
    }

    fn changes() -> impl Strategy<Value = Vec<(char, String, Option<u32>)>> {
        let kind = prop_oneof![Just('j'), Just('u'), Just('l')];
        proptest::collection::vec((kind, "[a-zé ]{1,20}", any::<Option<u32>>()), 0..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(before in 0..=OFFSET_MAX - 10, changes in changes()) {
            let read = parse(&written(before, &changes)).unwrap();
            prop_assert_eq!(read.before.rev, before);
            let letter = |kind| match kind {
                PresenceChange::Join => 'j',
                PresenceChange::Update => 'u',
                PresenceChange::Leave => 'l',
            };
            let shown = |info: Info| info.map(|info| info.get().parse().unwrap());
            let read: Vec<_> = read
                .changes
                .into_iter()
                .map(|change| (letter(change.kind), change.user.as_str().to_owned(), shown(change.info)))
                .collect();
            prop_assert_eq!(read, changes);
        }

        #[test]
        fn a_message_that_was_cut_or_grew_is_refused(changes in changes(), at: proptest::sample::Index) {
            let whole = written(7, &changes);
            prop_assert!(parse(&whole[..at.index(whole.len())]).is_none());
            prop_assert!(parse(&[&whole[..], b"x"].concat()).is_none());
        }

        #[test]
        fn garbage_is_refused_and_never_panics(mut message: Vec<u8>) {
            let _ = parse(&message);
            message.splice(0..0, *b"dk3f9a1qz1 3\n");
            let _ = parse(&message);
        }
    }

    #[test]
    fn a_claim_reserves_no_memory_and_what_is_no_json_is_refused() {
        assert!(parse(b"dk3f9a1qz1 9007199254740990\n").is_none());
        assert!(parse(b"dk3f9a1qz1 1\nj3 1\nann{").is_none());
        assert!(parse(b"dk3f9a1qz1 1\nj0 0\n").is_none());
    }
}
