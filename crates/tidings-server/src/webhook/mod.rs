//! What `tidings serve` asks a backend and what it tells it, put together from the configuration. docs/webhooks.md has the whole of it.
//!
//! What is asked is asked once, and no answer is a no. What is told is on disk before it is sent.

mod answers;
mod asking;
mod backend;
mod cloud_event;
mod connecting;
mod counts;
mod dead_letters;
mod event;
mod outbox;
mod queue;
mod signing;
mod telling;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidings::{AccessError, HubBuilder, Memberships, RoomRules};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::Failure;

use answers::Answers;
use asking::{Asking, Join};
pub(crate) use backend::{Backend, InvalidUrl};
use connecting::Connecting;
pub(crate) use counts::{Counts, Row};
pub(crate) use dead_letters::DeadLetter;
pub(crate) use outbox::{Outbox, has_outbox};
use queue::Queue;
pub(crate) use signing::{InvalidSecret, SigningKey};
use telling::Telling;

/// What a hook is about. The first three are asked, the others told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema, Debug)]
pub(crate) enum Kind {
    #[serde(rename = "connect")]
    Connect,
    #[serde(rename = "join")]
    Join,
    #[serde(rename = "event")]
    Event,
    #[serde(rename = "disconnect")]
    Disconnect,
    #[serde(rename = "room.occupied")]
    Occupied,
    #[serde(rename = "room.vacated")]
    Vacated,
    #[serde(rename = "presence")]
    Presence,
}

impl Kind {
    pub(crate) const ASKED: [Self; 3] = [Self::Connect, Self::Join, Self::Event];
    pub(crate) const TOLD: [Self; 4] = [Self::Disconnect, Self::Occupied, Self::Vacated, Self::Presence];

    /// As the configuration and the metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Join => "join",
            Self::Event => "event",
            Self::Disconnect => "disconnect",
            Self::Occupied => "room.occupied",
            Self::Vacated => "room.vacated",
            Self::Presence => "presence",
        }
    }

    /// As a CloudEvent has it.
    pub(crate) fn event_type(self) -> String {
        format!("dev.tidings.{}", self.name())
    }
}

/// What the configuration says of webhooks.
pub(crate) struct Settings {
    pub(crate) backend: Backend,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) wait: Duration,
    pub(crate) kept_for: Duration,
    pub(crate) outbox: PathBuf,
    pub(crate) outbox_bytes_max: u64,
}

/// The webhooks of a server.
pub(crate) struct Webhooks {
    kinds: Vec<Kind>,
    asking: Arc<Asking>,
    kept_for: Duration,
    joins: Arc<Answers<bool>>,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    telling: Option<(JoinHandle<()>, oneshot::Sender<Duration>)>,
}

impl Webhooks {
    /// Opens the outbox, and goes on to tell what waits in it.
    ///
    /// # Errors
    /// When the outbox can't be used.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        let Settings { backend, kinds, wait, kept_for, outbox: directory, outbox_bytes_max } = settings;
        let (backend, counts) = (Arc::new(backend), Arc::new(Counts::default()));
        let queue = Arc::new(Queue::new(kinds.clone(), Arc::clone(&counts)));
        let telling = if Kind::TOLD.iter().any(|kind| kinds.contains(kind)) {
            let outbox = Outbox::open(&directory, outbox_bytes_max)
                .await
                .map_err(|error| error.failure(&directory))?;
            let (finish, finished) = oneshot::channel();
            let telling = Telling::new(Arc::clone(&backend), outbox, Arc::clone(&queue), Arc::clone(&counts));
            Some((tokio::spawn(telling.run(finished)), finish))
        } else {
            None
        };
        let asking = Arc::new(Asking::new(backend, wait, Arc::clone(&counts)));
        let joins = Arc::new(Answers::new(kept_for));
        Ok(Self { kinds, asking, kept_for, joins, queue, counts, telling })
    }

    /// Lets the hub tell what is to be told.
    pub(crate) fn observe(&self, hub: HubBuilder) -> HubBuilder {
        match self.telling {
            Some(_) => hub.observe(queue::Watcher(Arc::clone(&self.queue))),
            None => hub,
        }
    }

    /// The memberships that there are, with the backend beside them if it says who may connect.
    pub(crate) fn memberships(&self, known: Option<Arc<dyn Memberships>>) -> Option<Arc<dyn Memberships>> {
        if !self.kinds.contains(&Kind::Connect) {
            return known;
        }
        Some(Arc::new(Connecting::new(Arc::clone(&self.asking), known, self.kept_for)))
    }

    /// The rule with the backend as who says who may join.
    pub(crate) fn asked_to_join(&self, rules: RoomRules) -> RoomRules {
        let (asking, joins) = (Arc::clone(&self.asking), Arc::clone(&self.joins));
        rules.join_if(move |identity, room| {
            let (asking, joins) = (Arc::clone(&asking), Arc::clone(&joins));
            async move {
                let claims = asking::claims(&identity);
                let key = answers::key(&[identity.user().as_str(), room.as_str(), claims.get()]);
                if let Some(allow) = joins.get(&key) {
                    return Ok(allow);
                }
                let question = Join { user: identity.user().as_str(), room: room.as_str(), claims: &claims };
                let allow = asking.may_join(&question).await.map_err(AccessError::from)?;
                joins.keep(key, allow, size_of::<bool>());
                Ok(allow)
            }
        })
    }

    /// An event that the backend serves.
    pub(crate) fn serve_event(&self, hub: HubBuilder, event: &str) -> HubBuilder {
        event::serve(hub, event, Arc::clone(&self.asking))
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Stores all that there is to tell, and goes on to send what is due for this long.
    pub(crate) async fn finish(self, within: Duration) {
        let Some((telling, finish)) = self.telling else { return };
        // One that is gone already has panicked, as is told next.
        let _ = finish.send(within);
        if let Err(error) = telling.await {
            tracing::error!(%error, "what was to be told may not have been stored");
        }
    }
}
