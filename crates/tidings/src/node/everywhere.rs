//! What is asked of all nodes: a user's connections, rooms with members; and what each node answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tidings_protocol::event_id::{EventId, RoomId};

use super::Node;
use crate::broker::{Answer, Answers, Question, Replies, Reply};
use crate::session_id::SessionId;

/// One connection of a user, on whichever node it is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its session, as its `session.welcome` told.
    pub session: SessionId,
    /// The node where it is: 16 hexadecimal digits.
    pub node: String,
    /// The rooms that it is in, sorted.
    pub rooms: Vec<RoomId>,
}

/// A room that has members.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its name.
    pub room: RoomId,
    /// How many users are in it, on all nodes.
    pub members: u64,
}

/// What all nodes said together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Everywhere<T> {
    /// What they said.
    pub found: T,
    /// How many nodes did not answer: they are cut off, or have just ended without a word.
    pub nodes_missing: usize,
}

impl<T> Everywhere<T> {
    fn of(replies: &Replies, found: T) -> Self {
        Self { found, nodes_missing: replies.missing }
    }
}

impl Node {
    /// The connections of a user.
    pub(crate) async fn sessions_of(self: &Arc<Self>, user: &str) -> Everywhere<Vec<SessionInfo>> {
        let replies = self.ask_all(Question::Sessions { user: user.to_owned() }).await;
        let mut sessions: Vec<_> =
            replies.all.iter().flat_map(|(node, reply)| sessions(*node, reply)).collect();
        sessions.sort_by_key(|info| info.session.to_string());
        Everywhere::of(&replies, sessions)
    }

    /// Rooms with members whose names begin with `prefix` and come after `after`, sorted, so many at most.
    pub(crate) async fn rooms_with_members(
        self: &Arc<Self>,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Everywhere<Vec<RoomInfo>> {
        let question = Question::Rooms { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        let replies = self.ask_all(question).await;
        let mut rooms = BTreeMap::new();
        for (_, reply) in &replies.all {
            let Reply::Rooms(list) = reply else { continue };
            for (room, members) in list {
                let Ok(room) = RoomId::parse(room) else { continue };
                // Each counts those of all nodes; whoever has not heard of the newest counts too few.
                let known = rooms.entry(room).or_insert(0);
                *known = (*known).max(*members);
            }
        }
        let rooms = rooms.into_iter().map(|(room, members)| RoomInfo { room, members });
        Everywhere::of(&replies, rooms.take(limit).collect())
    }

    /// Joins a user's connections to a room, whatever its rule says; how many are in it now.
    pub(crate) async fn join_user(self: &Arc<Self>, user: &str, room: &RoomId) -> Everywhere<u64> {
        self.count_all(Question::Join { user: user.to_owned(), room: room.to_string() }).await
    }

    /// Takes a user's connections out of a room; how many were in it.
    pub(crate) async fn leave_user(self: &Arc<Self>, user: &str, room: &RoomId) -> Everywhere<u64> {
        self.count_all(Question::Leave { user: user.to_owned(), room: room.to_string() }).await
    }

    async fn count_all(self: &Arc<Self>, question: Question) -> Everywhere<u64> {
        let replies = self.ask_all(question).await;
        let counts = replies.all.iter().filter_map(|(_, reply)| match reply {
            Reply::Count(count) => Some(*count),
            _ => None,
        });
        Everywhere::of(&replies, counts.sum())
    }

    async fn ask_all(self: &Arc<Self>, question: Question) -> Replies {
        let asking = self.broker.ask(&question);
        let own = self.reply(question);
        let (own, others) = match asking {
            Some(asking) => tokio::join!(own, asking),
            None => (own.await, Replies::default()),
        };
        let mut replies = others;
        replies.all.push((self.id, own));
        replies
    }

    async fn reply(self: &Arc<Self>, question: Question) -> Reply {
        match question {
            Question::Sessions { user } => {
                let mut sessions = Vec::new();
                for session in self.users.sessions_of(&user) {
                    let rooms = self.rooms_of(session).await;
                    sessions.push((session.to_string(), rooms.iter().map(RoomId::to_string).collect()));
                }
                Reply::Sessions(sessions)
            }
            Question::Rooms { prefix, after, limit } => {
                let rooms = self.rooms.with_members(&prefix, after.as_deref(), limit);
                Reply::Rooms(rooms.into_iter().map(|(room, members)| (room.to_string(), members)).collect())
            }
            Question::Join { user, room } => {
                let Ok(room) = RoomId::parse(&room) else { return Reply::Count(0) };
                let mut count = 0;
                for session in self.users.sessions_of(&user) {
                    count += u64::from(self.join(session, room.clone()).await);
                }
                Reply::Count(count)
            }
            Question::Leave { user, room } => {
                let Ok(room) = RoomId::parse(&room) else { return Reply::Count(0) };
                let mut count = 0;
                for session in self.users.sessions_of(&user) {
                    count += u64::from(self.leave(session, room.clone()).await);
                }
                Reply::Count(count)
            }
        }
    }
}

fn sessions(node: u64, reply: &Reply) -> Vec<SessionInfo> {
    let Reply::Sessions(list) = reply else { return Vec::new() };
    let info = |(session, rooms): &(String, Vec<String>)| {
        Some(SessionInfo {
            session: SessionId::parse(session)?,
            node: format!("{node:016x}"),
            rooms: rooms.iter().filter_map(|room| RoomId::parse(room).ok()).collect(),
        })
    };
    list.iter().filter_map(info).collect()
}

/// What other nodes ask is answered for as long as the hub lives.
pub(crate) struct Answering(pub(crate) Weak<Node>);

impl Answers for Answering {
    fn answer(&self, question: Question) -> Answer<'static, Option<Reply>> {
        let node = self.0.upgrade();
        Box::pin(async move {
            match node {
                Some(node) => Some(node.reply(question).await),
                None => None,
            }
        })
    }

    fn redact(&self, event: &EventId) {
        if let Some(room) = self.0.upgrade().and_then(|node| node.rooms.get(&event.room)) {
            room.redact(event.position);
        }
    }
}
