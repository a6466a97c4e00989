//! Who may do what in which room, and what a room keeps. Deny by default: a room that no rule covers does not exist.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tidings_protocol::event_id::{InvalidId, Offset, RoomId};
use tidings_protocol::limits::Limits;
use tidings_protocol::message::EventName;
use tidings_protocol::room_log::LogBounds;

use crate::access::{Access, AccessError, Gate};
use crate::auth::Identity;
use crate::newest::{Key, KeyPointer};
use crate::publication::Payload;

/// What becomes of a member that reads more slowly than a room publishes. Whatever it does not get is told to it as a
/// `room.skip`, so that its position is always right. PROTOCOL.md §3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// More than a full queue closes its connection with 4109; it comes back and resumes, and has lost nothing. For
    /// whatever must not be missed.
    #[default]
    Disconnect,
    /// What it has not read and is more than half a queue behind the newest is dropped, the oldest first.
    DropOldest,
    /// As soon as its socket is full, it gets of what it has not read the newest event of each key
    /// ([`RoomRules::key`]). For dashboards: who reads slowly sees the newest state, and never an old one.
    Conflate,
}

/// What the members of a room are told of each other. PROTOCOL.md §3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Who comes, changes and goes.
    On,
    /// How many they are, and not who: `room.members` answers with the number alone.
    Counts,
    /// Nothing by itself. The list can be asked for.
    Off,
}

impl From<bool> for Presence {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// What a snapshot handler gives: the room's state as JSON.
pub type SnapshotResult = Result<Box<RawValue>, SnapshotError>;
type SnapshotFuture = Pin<Box<dyn Future<Output = SnapshotResult> + Send>>;
type SnapshotFn = dyn Fn(RoomId) -> SnapshotFuture + Send + Sync;

/// A snapshot handler failed: the client gets its `room.reset` without a state.
#[derive(Debug)]
pub struct SnapshotError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for SnapshotError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl SnapshotError {
    /// The error's own words, for the log.
    pub fn message(&self) -> String {
        self.0.to_string()
    }
}

/// The rule of all rooms whose names fit a pattern.
///
/// ```
/// use tidings::{Access, RoomRules};
/// let chat = RoomRules::new("chat:*").join(Access::Members).publish(Access::Members).history_events(500);
/// let board = RoomRules::new("board").join(Access::Anyone).presence(false); // only the application publishes
/// ```
#[derive(Clone)]
pub struct RoomRules {
    pattern: String,
    pub(crate) join: Gate,
    pub(crate) publish: Gate,
    pub(crate) presence: Presence,
    pub(crate) any_event: bool,
    ephemeral: Vec<String>,
    history_age: Option<Duration>,
    history_events: Option<usize>,
    history_bytes: Option<usize>,
    replay_events: Option<usize>,
    pub(crate) overflow: Overflow,
    key: Option<String>,
    pub(crate) retain: bool,
    /// Parsed by the rule book.
    key_pointer: KeyPointer,
    /// The history's bounds under the node's limits; the rule book knows them.
    pub(crate) bounds: LogBounds,
    /// How many keys a room keeps the newest event of; likewise.
    pub(crate) keys_max: usize,
    pub(crate) snapshot: Option<Arc<SnapshotFn>>,
}

impl RoomRules {
    /// A rule for the rooms that fit `pattern`: a room's name, or a beginning followed by `*`, or `*` for all.
    /// Until something else is said, [`Access::Members`] join, [`Access::Nobody`] publishes, presence is on and
    /// the history has the bounds of [`Limits`].
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            join: Gate::Of(Access::Members),
            publish: Gate::Of(Access::Nobody),
            presence: Presence::On,
            any_event: false,
            ephemeral: Vec::new(),
            history_age: None,
            history_events: None,
            history_bytes: None,
            replay_events: None,
            overflow: Overflow::Disconnect,
            key: None,
            retain: false,
            key_pointer: KeyPointer::default(),
            bounds: LogBounds { age_max: Duration::ZERO, events_max: 0, bytes_max: 0 },
            keys_max: 0,
            snapshot: None,
        }
    }

    /// Who may join.
    #[must_use]
    pub fn join(mut self, access: Access) -> Self {
        self.join = Gate::Of(access);
        self
    }

    /// Whom this handler lets may join: it is asked at every join and resume, and again when a token is refreshed. It
    /// stands in the place of [`RoomRules::join`].
    ///
    /// One that fails, panics or takes longer than [`Limits::access_duration_max`] lets nobody: the client is told
    /// `unavailable`. Nobody is joined to such a room on connect, whatever his token names.
    ///
    /// ```
    /// use tidings::RoomRules;
    /// let game = RoomRules::new("game:*").join_if(|identity, room| async move {
    ///     // Here the application's own database would be asked.
    ///     Ok(room.as_str().ends_with(identity.user().as_str()))
    /// });
    /// ```
    #[must_use]
    pub fn join_if<H, F>(mut self, handler: H) -> Self
    where
        H: Fn(Identity, RoomId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<bool, AccessError>> + Send + 'static,
    {
        self.join = Gate::asks(handler);
        self
    }

    /// Which of those who have joined may publish.
    #[must_use]
    pub fn publish(mut self, access: Access) -> Self {
        self.publish = Gate::Of(access);
        self
    }

    /// Those who have joined and whom this handler lets may publish: it is asked at every event that no handler of the
    /// hub's serves, and the events of a connection in the room stay in their order. Else as [`RoomRules::join_if`].
    #[must_use]
    pub fn publish_if<H, F>(mut self, handler: H) -> Self
    where
        H: Fn(Identity, RoomId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<bool, AccessError>> + Send + 'static,
    {
        self.publish = Gate::asks(handler);
        self
    }

    /// What members are told of each other: a [`Presence`], or `true` for [`Presence::On`] and `false` for
    /// [`Presence::Off`].
    ///
    /// ```
    /// use tidings::{Presence, RoomRules};
    /// let stage = RoomRules::new("stage:*").presence(Presence::Counts);
    /// ```
    #[must_use]
    pub fn presence(mut self, presence: impl Into<Presence>) -> Self {
        self.presence = presence.into();
        self
    }

    /// Lets members who may publish send events that have neither a handler nor a schema, with any data: for development,
    /// and where the application trusts its clients. Otherwise such an event is `unknown_event`.
    #[must_use]
    pub fn any_event(mut self) -> Self {
        self.any_event = true;
        self
    }

    /// Which events are ephemeral, such as typing or cursors: an event's name, or a beginning followed by `*`. May be
    /// said several times.
    ///
    /// If such an event has no handler, a member who may publish sends it to every other connection of the room. It
    /// has no position and is in no history, its id is no idempotency key, and it is the first to be dropped where
    /// too much waits. PROTOCOL.md §2.
    ///
    /// ```
    /// use tidings::{Access, RoomRules};
    /// let chat = RoomRules::new("chat:*").publish(Access::Members).ephemeral("typing.*").ephemeral("cursor");
    /// ```
    #[must_use]
    pub fn ephemeral(mut self, pattern: impl Into<String>) -> Self {
        self.ephemeral.push(pattern.into());
        self
    }

    /// How long events stay. Never more than [`Limits::history_age_max`].
    #[must_use]
    pub fn history_age(mut self, age: Duration) -> Self {
        self.history_age = Some(age);
        self
    }

    /// How many events stay. Never more than [`Limits::history_events_max`].
    #[must_use]
    pub fn history_events(mut self, events: usize) -> Self {
        self.history_events = Some(events);
        self
    }

    /// How many bytes stay. Never more than [`Limits::history_bytes_max`].
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = Some(bytes);
        self
    }

    /// How many events are replayed to a client that comes back, at most: one that has missed more gets a `room.reset`
    /// and the newest so many. Until something else is said, all that are stored.
    #[must_use]
    pub fn replay_events(mut self, events: usize) -> Self {
        self.replay_events = Some(events);
        self
    }

    /// What becomes of a member that reads too slowly. [`Overflow::Disconnect`] until something else is said.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Where in the data of this room's events it stands what an event is about, as a JSON pointer (RFC 6901): for
    /// [`Overflow::Conflate`] and [`RoomRules::retain`]. An event's key is its name and that value; until a pointer is
    /// given, and where it leads to nothing, the name alone.
    ///
    /// ```
    /// use tidings::{Access, Overflow, RoomRules};
    /// // {"event":"sample","data":{"host":"db1","cpu":0.4}}: the newest sample of each host.
    /// let board = RoomRules::new("metrics").join(Access::Anyone).overflow(Overflow::Conflate).key("/host").retain();
    /// ```
    #[must_use]
    pub fn key(mut self, pointer: impl Into<String>) -> Self {
        self.key = Some(pointer.into());
        self
    }

    /// Keeps the newest event of each key, for as long as the history's age, and gives them to whoever joins without a
    /// position, or gets a `room.reset` without a snapshot: so he has the whole picture at once.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// The room's state for clients that have missed too much; it comes in their `room.reset`.
    ///
    /// Store before you publish, and let clients apply events by key: the state may hold effects of events that
    /// still follow. One call runs at a time per room, and its result is shared for a second.
    #[must_use]
    pub fn snapshot<S, F, R>(mut self, snapshot: S) -> Self
    where
        S: Fn(RoomId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, SnapshotError>> + Send + 'static,
        R: Serialize,
    {
        self.snapshot = Some(Arc::new(move |room| {
            let state = snapshot(room);
            Box::pin(async move { Ok(to_raw_value(&state.await?)?) })
        }));
        self
    }

    pub(crate) fn check(&self) -> Result<(), RuleFault> {
        let name = self.pattern.strip_suffix('*').unwrap_or(&self.pattern);
        if self.pattern != "*"
            && let Err(fault) = RoomId::parse(name)
        {
            return Err(RuleFault::Room(self.pattern.clone(), fault));
        }
        if let Some(pointer) = self.key.as_ref().filter(|pointer| KeyPointer::parse(pointer).is_none()) {
            return Err(RuleFault::Key(pointer.clone()));
        }
        let pointers = [&self.join, &self.publish].map(Gate::invalid_pointer);
        if let Some(pointer) = pointers.into_iter().flatten().next() {
            return Err(RuleFault::Claim(pointer.to_owned()));
        }
        match self.ephemeral.iter().find(|pattern| !can_fit_an_event(pattern)) {
            Some(pattern) => Err(RuleFault::Ephemeral(pattern.clone())),
            None => Ok(()),
        }
    }

    fn fits(&self, room: &str) -> bool {
        fits(&self.pattern, room)
    }

    /// Whether events of this name are ephemeral in the rule's rooms.
    pub(crate) fn is_ephemeral(&self, event: &EventName) -> bool {
        self.ephemeral.iter().any(|pattern| fits(pattern, event.as_str()))
    }

    /// The key of an event, if the rule's rooms keep the newest of each.
    pub(crate) fn key_of(&self, event: &EventName, payload: &Payload<'_>) -> Option<Key> {
        let keeps = self.retain || self.overflow == Overflow::Conflate;
        keeps.then(|| self.key_pointer.key(event, payload))
    }

    /// How many events are replayed at most.
    pub(crate) fn replay_events_max(&self) -> Offset {
        self.replay_events.map_or(Offset::MAX, |events| events as Offset)
    }

    fn log_bounds(&self, limits: &Limits) -> LogBounds {
        LogBounds {
            age_max: self.history_age.unwrap_or(limits.history_age_max).min(limits.history_age_max),
            events_max: self
                .history_events
                .unwrap_or(limits.history_events_max)
                .min(limits.history_events_max),
            bytes_max: self.history_bytes.unwrap_or(limits.history_bytes_max).min(limits.history_bytes_max),
        }
    }
}

/// Whether a name is the pattern, or begins as a pattern that ends with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// Whether an application's event can have a name that fits.
fn can_fit_an_event(pattern: &str) -> bool {
    // A beginning is tried with one more letter: `ack` alone is reserved, and what begins like it is not.
    let example = pattern.strip_suffix('*').map(|beginning| format!("{beginning}x"));
    EventName::parse(example.as_deref().unwrap_or(pattern)).is_ok_and(|name| !name.is_reserved())
}

/// What is wrong with a rule.
#[derive(Debug)]
pub(crate) enum RuleFault {
    /// Its pattern can fit no room.
    Room(String, InvalidId),
    /// A pattern of ephemeral events can fit none.
    Ephemeral(String),
    /// The key's pointer is none.
    Key(String),
    /// A claim's pointer is none.
    Claim(String),
}

/// All rules, in the order in which they were given: the first that fits a room is its rule.
#[derive(Default)]
pub(crate) struct RuleBook(Vec<Arc<RoomRules>>);

impl RuleBook {
    pub(crate) fn new(mut rules: Vec<RoomRules>, limits: &Limits) -> Result<Self, RuleFault> {
        rules.iter().try_for_each(RoomRules::check)?;
        for rule in &mut rules {
            rule.bounds = rule.log_bounds(limits);
            rule.keys_max = limits.room_keys_max;
            rule.key_pointer = rule.key.as_deref().and_then(KeyPointer::parse).unwrap_or_default();
        }
        Ok(Self(rules.into_iter().map(Arc::new).collect()))
    }

    pub(crate) fn of(&self, room: &str) -> Option<&Arc<RoomRules>> {
        self.0.iter().find(|rule| rule.fits(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let book = RuleBook::new(
            vec![
                RoomRules::new("chat:lobby").join(Access::Anyone),
                RoomRules::new("chat:*"),
                RoomRules::new("*").join(Access::Nobody),
            ],
            &Limits::default(),
        )
        .unwrap();
        let join = |room| match &book.of(room)?.join {
            Gate::Of(access) => Some(access.clone()),
            Gate::Asks(_) => None,
        };
        assert_eq!(join("chat:lobby"), Some(Access::Anyone));
        assert_eq!(join("chat:lobby2"), Some(Access::Members));
        assert_eq!(join("news"), Some(Access::Nobody));
        assert!(RuleBook::default().of("chat").is_none());
    }

    #[test]
    fn a_pattern_that_can_fit_no_room_is_refused() {
        for bad in ["", "chat *", "a*b", "**", "chat:**"] {
            assert!(RuleBook::new(vec![RoomRules::new(bad)], &Limits::default()).is_err(), "{bad}");
        }
        assert!(RuleBook::new(vec![RoomRules::new("*"), RoomRules::new("a*")], &Limits::default()).is_ok());
    }

    #[test]
    fn a_pointer_that_points_to_no_claim_is_refused() {
        let claim = |pointer| Access::claim(pointer, "admin");
        let book = |rule: RoomRules| RuleBook::new(vec![rule], &Limits::default());
        assert!(book(RoomRules::new("*").join(claim("/role")).publish(claim("/role"))).is_ok());
        for rule in [RoomRules::new("*").join(claim("role")), RoomRules::new("*").publish(claim("role"))] {
            assert!(matches!(book(rule), Err(RuleFault::Claim(pointer)) if pointer == "role"));
        }
    }

    #[test]
    fn ephemeral_events_are_named_or_begin_as_said() {
        let event = |name| EventName::parse(name).unwrap();
        let rule = RoomRules::new("*").ephemeral("typing.*").ephemeral("cursor");
        for (name, ephemeral) in
            [("typing.start", true), ("cursor", true), ("cursors", false), ("typing", false)]
        {
            assert_eq!(rule.is_ephemeral(&event(name)), ephemeral, "{name}");
        }
        assert!(!RoomRules::new("*").is_ephemeral(&event("typing.start")));
        for bad in ["", "typing *", "a*b", "**", "ack", "room.*", "presence.heartbeat"] {
            let refused =
                RuleBook::new(vec![RoomRules::new("*").ephemeral("ok").ephemeral(bad)], &Limits::default());
            assert!(matches!(refused, Err(RuleFault::Ephemeral(pattern)) if pattern == bad), "{bad}");
        }
        assert!(
            RuleBook::new(vec![RoomRules::new("a").ephemeral("*").ephemeral("ack*")], &Limits::default())
                .is_ok()
        );
    }

    #[test]
    fn a_rule_narrows_the_limits_and_never_widens_them() {
        let limits = Limits::default();
        let bounds = RoomRules::new("a").history_events(10).history_bytes(usize::MAX).log_bounds(&limits);
        assert_eq!((bounds.events_max, bounds.bytes_max), (10, limits.history_bytes_max));
    }
}
