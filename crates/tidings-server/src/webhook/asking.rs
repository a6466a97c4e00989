//! Asking the backend while a client waits: once, for a bounded time, so many at a time; an answer of another shape is none.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings::RoomId;
use tidings::auth::Identity;
use tokio::sync::Semaphore;

use super::Kind;
use super::backend::Backend;
use super::cloud_event;
use super::counts::Counts;

/// So many are asked at a time. Who comes then waits for his turn, within the time that he has.
const ASKED_AT_ONCE_MAX: usize = 256;

/// Asks.
pub(crate) struct Asking {
    backend: Arc<Backend>,
    wait: Duration,
    at_once: Semaphore,
    counts: Arc<Counts>,
}

/// Why there is no answer that counts, for the log.
#[derive(Debug)]
pub(crate) struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the webhook: {}", self.0)
    }
}

impl std::error::Error for Unanswered {}

/// Whether somebody may connect.
#[derive(Serialize)]
pub(crate) struct Connect<'a> {
    pub(crate) user: &'a str,
    pub(crate) claims: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MayConnect {
    pub(crate) allow: bool,
    #[serde(default)]
    pub(crate) rooms: Vec<RoomId>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

impl MayConnect {
    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let rooms = self.rooms.iter().map(|room| size_of::<RoomId>() + room.as_str().len());
        rooms.sum::<usize>() + self.reason.as_ref().map_or(0, String::len)
    }
}

/// Whether somebody may join.
#[derive(Serialize)]
pub(crate) struct Join<'a> {
    pub(crate) user: &'a str,
    pub(crate) room: &'a str,
    pub(crate) claims: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MayJoin {
    allow: bool,
}

/// The token's claims, as they were signed.
pub(crate) fn claims(identity: &Identity) -> Box<RawValue> {
    // They were JSON when the token was verified.
    identity.claims().unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl Asking {
    pub(crate) fn new(backend: Arc<Backend>, wait: Duration, counts: Arc<Counts>) -> Self {
        Self { backend, wait, at_once: Semaphore::new(ASKED_AT_ONCE_MAX), counts }
    }

    /// Whether the backend lets somebody in; within `wait_max`, should that be sooner.
    pub(crate) async fn may_connect(
        &self,
        question: &Connect<'_>,
        wait_max: Duration,
    ) -> Result<MayConnect, Unanswered> {
        self.ask(Kind::Connect, question.user, question, self.wait.min(wait_max)).await
    }

    pub(crate) async fn may_join(&self, question: &Join<'_>) -> Result<bool, Unanswered> {
        let MayJoin { allow } = self.ask(Kind::Join, question.user, question, self.wait).await?;
        Ok(allow)
    }

    /// What an event of `user` leads to.
    pub(crate) async fn event<A: DeserializeOwned>(
        &self,
        user: &str,
        question: &impl Serialize,
    ) -> Result<A, Unanswered> {
        self.ask(Kind::Event, user, question, self.wait).await
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        kind: Kind,
        subject: &str,
        question: &impl Serialize,
        wait: Duration,
    ) -> Result<A, Unanswered> {
        self.counts.count_done(kind);
        let answer = tokio::time::timeout(wait, self.put(kind, subject, question, wait));
        let answer = answer.await.unwrap_or_else(|_| Err(Unanswered(format!("no answer in {wait:?}"))));
        if answer.is_err() {
            self.counts.count_failed(kind);
        }
        answer
    }

    async fn put<A: DeserializeOwned>(
        &self,
        kind: Kind,
        subject: &str,
        question: &impl Serialize,
        wait: Duration,
    ) -> Result<A, Unanswered> {
        let written =
            cloud_event::write(kind, subject, question).map_err(|error| Unanswered(error.to_string()))?;
        let _turn = self.at_once.acquire().await.map_err(|error| Unanswered(error.to_string()))?;
        let reply = self.backend.post(&written.id, written.body.into(), wait).await;
        let reply = reply.map_err(|error| Unanswered(error.to_string()))?;
        if reply.status != StatusCode::OK {
            return Err(Unanswered(format!("the answer is {}, and only 200 counts", reply.status)));
        }
        let answer = serde_json::from_slice(&reply.body).map(|Object(answer)| answer);
        answer.map_err(|error| Unanswered(format!("no answer to a {}: {error}", kind.name())))
    }
}

/// Something that has to be written as an object: serde would take a list of its fields as well, and `[true]` lets nobody in.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}
