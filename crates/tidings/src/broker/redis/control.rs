//! What nodes tell each other beside what rooms do: on one channel that all of them listen to.
//!
//! It is carried at most once. What must not be missed is stored as well ([`super::orders`], or with a user's places), and
//! the message is only the quicker way.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use serde::Serialize;
use tracing::warn;

use super::Shared;
use super::link::Link;
use crate::auth::UserId;
use crate::broker::{Question, Reply};
use crate::local_users::Lost;
use crate::session_id::SessionId;

/// The kind of these messages: `c NODE WHAT`, then what there is to say; numbers big-endian.
const CONTROL: u8 = b'c';
/// There are orders to be read.
const ORDERS: u8 = b'o';
/// Sessions of a user have lost their places: `USER_LENGTH USER`, and the sessions with a space between.
const REPLACED_BY_OWN: u8 = b'r';
const REPLACED_AS_OLDEST: u8 = b'l';
/// An event for a user's connections: `USER_LENGTH USER FRAME`.
const EVENT: u8 = b'e';
/// A question for every node, and an answer to one: its number, and JSON.
const QUESTION: u8 = b'q';
const REPLY: u8 = b'a';

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Orders,
    Replaced {
        user: UserId,
        sessions: Vec<SessionId>,
        lost: Lost,
    },
    Event {
        user: UserId,
        frame: Bytes,
    },
    Question {
        number: u64,
        question: Question,
    },
    /// `to` is the node that asked.
    Reply {
        to: u64,
        number: u64,
        reply: Reply,
    },
}

impl Control {
    fn write(&self, node: u64) -> Vec<u8> {
        let mut message = vec![CONTROL];
        message.put_u64(node);
        match self {
            Self::Orders => message.put_u8(ORDERS),
            Self::Replaced { user, sessions, lost } => {
                message.put_u8(match lost {
                    Lost::ToItsOwn => REPLACED_BY_OWN,
                    Lost::AsTheOldest => REPLACED_AS_OLDEST,
                });
                put_user(&mut message, user);
                let sessions: Vec<_> = sessions.iter().map(ToString::to_string).collect();
                message.put_slice(sessions.join(" ").as_bytes());
            }
            Self::Event { user, frame } => {
                message.put_u8(EVENT);
                put_user(&mut message, user);
                message.put_slice(frame);
            }
            Self::Question { number, question } => {
                message.put_u8(QUESTION);
                message.put_u64(*number);
                put_json(&mut message, question);
            }
            Self::Reply { to, number, reply } => {
                message.put_u8(REPLY);
                message.put_u64(*to);
                message.put_u64(*number);
                put_json(&mut message, reply);
            }
        }
        message
    }

    /// Who sent it, and what it says; nothing of what a later version may say.
    fn parse(message: &Bytes) -> Option<(u64, Option<Self>)> {
        let (node, rest) = message.strip_prefix(&[CONTROL])?.split_first_chunk()?;
        let (what, rest) = rest.split_first()?;
        let control = match *what {
            ORDERS => Self::Orders,
            REPLACED_BY_OWN | REPLACED_AS_OLDEST => {
                let (user, sessions) = split_user(rest)?;
                let sessions = std::str::from_utf8(sessions).ok()?.split(' ');
                let sessions = sessions.map(SessionId::parse).collect::<Option<_>>()?;
                let own = *what == REPLACED_BY_OWN;
                Self::Replaced { user, sessions, lost: if own { Lost::ToItsOwn } else { Lost::AsTheOldest } }
            }
            EVENT => {
                let (user, frame) = split_user(rest)?;
                Self::Event { user, frame: message.slice_ref(frame) }
            }
            QUESTION => {
                let (number, question) = rest.split_first_chunk()?;
                // One of a later version is left to those who know it.
                let Ok(question) = serde_json::from_slice(question) else {
                    return Some((u64::from_be_bytes(*node), None));
                };
                Self::Question { number: u64::from_be_bytes(*number), question }
            }
            REPLY => {
                let (to, rest) = rest.split_first_chunk()?;
                let (number, reply) = rest.split_first_chunk()?;
                Self::Reply {
                    to: u64::from_be_bytes(*to),
                    number: u64::from_be_bytes(*number),
                    reply: serde_json::from_slice(reply).ok()?,
                }
            }
            _ => return Some((u64::from_be_bytes(*node), None)),
        };
        Some((u64::from_be_bytes(*node), Some(control)))
    }
}

fn put_json(message: &mut Vec<u8>, value: &impl Serialize) {
    // Texts and numbers alone: there is nothing that can't be written, and a vector takes everything.
    let _ = serde_json::to_writer(message, value);
}

fn put_user(message: &mut Vec<u8>, user: &UserId) {
    message.put_u16(user.as_str().len() as u16);
    message.put_slice(user.as_str().as_bytes());
}

fn split_user(rest: &[u8]) -> Option<(UserId, &[u8])> {
    let (length, rest) = rest.split_first_chunk()?;
    let (user, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((UserId::parse(std::str::from_utf8(user).ok()?).ok()?, rest))
}

/// Does what another node says.
pub(super) fn take(link: &Arc<Link>, message: &Bytes) {
    let shared: &Shared = &link.shared;
    let Some((node, control)) = Control::parse(message) else {
        return warn!("a message that is none of ours on the control channel");
    };
    if node == shared.node {
        return;
    }
    match control {
        Some(Control::Orders) => shared.orders.announced.notify_one(),
        Some(Control::Replaced { user, sessions, lost }) => {
            for session in sessions {
                shared.local_users.replace(user.as_str(), session, lost);
            }
        }
        Some(Control::Event { user, frame }) => {
            shared.local_users.send(user.as_str(), &frame);
        }
        Some(Control::Question { number, question }) => link.answer(node, number, question),
        Some(Control::Reply { to, number, reply }) if to == shared.node => {
            shared.asking.take(number, node, reply);
        }
        Some(Control::Reply { .. }) | None => {}
    }
}

impl Link {
    /// Tells the other nodes, if there is a connection, and waits for nothing.
    pub(super) fn tell(self: &Arc<Self>, control: &Control) {
        self.carry(self.shared.keyspace.control_channel(), control.write(self.shared.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    #[test]
    fn what_a_node_says_is_what_the_others_read() {
        let env = SystemEnv::inline();
        let user = UserId::parse("ann é").unwrap();
        let sessions = vec![SessionId::first(&env), SessionId::first(&env)];
        for control in [
            Control::Orders,
            Control::Replaced { user: user.clone(), sessions: sessions.clone(), lost: Lost::ToItsOwn },
            Control::Replaced { user: user.clone(), sessions, lost: Lost::AsTheOldest },
            Control::Event { user, frame: Bytes::from_static(b"\x81\x02{}") },
            Control::Question { number: 3, question: Question::Sessions { user: "ann é".to_owned() } },
            Control::Reply { to: 5, number: 3, reply: Reply::Rooms(vec![("chat:a".to_owned(), 7)]) },
        ] {
            let message = Bytes::from(control.write(7));
            assert_eq!(Control::parse(&message), Some((7, Some(control.clone()))));
            for length in 0..10.min(message.len()) {
                assert_eq!(Control::parse(&message.slice(..length)), None, "{control:?} {length}");
            }
        }
        assert_eq!(Control::parse(&Bytes::from_static(b"c\0\0\0\0\0\0\0\x09zwhat")), Some((9, None)));
        assert_eq!(Control::parse(&Bytes::from_static(b"c\0\0\0\0\0\0\0\x09r\0\x03annno")), None);
    }
}
