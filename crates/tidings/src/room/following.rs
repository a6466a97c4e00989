//! A room that a broker sequences: its log here follows the broker's while somebody on this node wants it.
//!
//! The rules are `tidings_protocol::follower`'s; here they meet the log, the shards that listen, and those who wait for
//! a read. What is stored for whom is the same as in a room that this node sequences.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_protocol::event_id::{Epoch, Position};
use tidings_protocol::follower::{Ask, Carried, Change, Follower, LogState, Message, Page, ReadNumber, Step};
use tidings_protocol::room_log::{LogBounds, Recovery, RoomLog};
use tokio::sync::oneshot;

use super::sharing::Sharing;
use super::{Room, State};
use crate::inbox::Entry;
use crate::metrics::Metrics;
use crate::newest::{Key, Newest};
use crate::publication::{Draft, Publication, REDACTED_RECORD};

/// This node's clock and the broker's may differ by so much.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);
/// An event takes more here than there: its frame has a position, and its publication a place in memory.
const BYTES_FACTOR: usize = 4;

/// What the log here may hold where the broker's may hold `broker`: nothing goes here before it has gone there, so that
/// what is not here any more is lost.
pub(super) fn bounds(broker: &LogBounds) -> LogBounds {
    LogBounds {
        age_max: broker.age_max.saturating_add(CLOCKS_DIFFER_MAX),
        events_max: broker.events_max,
        bytes_max: broker.bytes_max.saturating_mul(BYTES_FACTOR),
    }
}

/// A room's following.
#[derive(Default)]
pub(super) struct Following {
    follower: Follower<Bytes>,
    /// How many want the log here: shards that listen, and whoever is about to.
    held: usize,
    /// Those who wait for a read of at least this number.
    waiting: Vec<(ReadNumber, oneshot::Sender<()>)>,
    /// This node has let go of events that the broker still has.
    forgot: bool,
    /// When the position is to be compared with the broker's.
    check_at: Option<Instant>,
    pub(super) sharing: Sharing,
}

impl Following {
    /// Somebody more wants the log; whether nobody did before.
    pub(super) fn hold(&mut self) -> bool {
        self.held += 1;
        if self.held == 1 {
            self.follower.begin();
        }
        self.held == 1
    }

    /// Somebody less does; whether nobody does any more.
    pub(super) fn release(&mut self) -> bool {
        self.held -= 1;
        if self.held == 0 {
            self.follower.end();
            self.waiting.clear();
            self.sharing.end();
        }
        self.held == 0
    }

    pub(super) fn is_held(&self) -> bool {
        self.held > 0
    }

    pub(super) fn forgot(&mut self) {
        self.forgot = true;
    }

    /// Waits for the read of this number, or a later one, to bring the log in line with the broker's.
    fn wait(&mut self, read: ReadNumber) -> Broken {
        let (healed, wait) = oneshot::channel();
        if self.waiting.len() == self.waiting.capacity() {
            // While the broker is away people come and give up: what they leave behind must not pile up.
            self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        }
        self.waiting.push((read, healed));
        Broken(wait)
    }
}

/// Waits for a room that does not follow the broker's log. It ends with an error if nobody holds the room any more.
pub(crate) struct Broken(oneshot::Receiver<()>);

impl Broken {
    pub(crate) async fn healed(self) -> Result<(), oneshot::error::RecvError> {
        self.0.await
    }
}

/// What has to happen before a position can be judged.
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// The log has to follow the broker's. Then ask again.
    Healing(Broken),
    /// The log does not have what follows the position, and the broker may: a read, which has to be sent if there is
    /// something to ask.
    Read(Broken, Option<Ask>),
}

impl Room {
    /// Whether somebody on this node wants its log.
    pub(crate) fn is_held(&self) -> bool {
        self.state.lock().following.as_ref().is_some_and(|following| following.is_held())
    }

    /// Somebody wants the log; whether the broker is to be told.
    pub(crate) fn hold(&self) -> bool {
        self.state.lock().following.as_mut().is_some_and(|following| following.hold())
    }

    /// Somebody does not want it any more; whether the broker is to be told.
    pub(crate) fn release(&self) -> bool {
        self.state.lock().following.as_mut().is_some_and(|following| following.release())
    }

    /// Whether a client at `from` can be told what follows.
    pub(crate) fn is_ready(&self, from: Option<Position>) -> bool {
        let state = self.state.lock();
        state.following.as_ref().is_none_or(|following| {
            let is_lost = |from| matches!(state.log.recover(from), Recovery::Reset(_));
            following.follower.is_following()
                && following.sharing.roster.is_listed()
                && !from.is_some_and(is_lost)
        })
    }

    /// What has to happen before a client at `from` can be told what follows.
    pub(crate) fn need(&self, from: Option<Position>) -> Need {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(following) = &mut state.following else { return Need::Nothing };
        if !following.follower.is_following() {
            return Need::Healing(following.wait(0));
        }
        if !following.sharing.roster.is_listed() {
            return Need::Healing(Broken(following.sharing.wait()));
        }
        let Some(from) = from else { return Need::Nothing };
        let Recovery::Reset(_) = state.log.recover(from) else { return Need::Nothing };
        let is_expired = from.epoch == state.log.top().epoch && from.offset <= state.log.top().offset;
        if is_expired && !following.forgot {
            // The broker keeps no more than this node does.
            return Need::Nothing;
        }
        let (read, ask) = following.follower.refresh(is_expired);
        Need::Read(following.wait(read), ask)
    }

    /// The connection to the broker was lost.
    pub(crate) fn disconnected(&self) {
        if let Some(following) = &mut self.state.lock().following {
            following.follower.disconnected();
            following.sharing.disconnected();
        }
    }

    /// Whether the broker is to confirm a subscription.
    pub(crate) fn waits_for_subscription(&self) -> bool {
        let state = self.state.lock();
        state.following.as_ref().is_some_and(|following| following.follower.is_subscribing())
    }

    /// The broker has confirmed the subscription; what is to be read then.
    pub(crate) fn subscribed(&self) -> Option<Ask> {
        let mut state = self.state.lock();
        let following = state.following.as_mut()?;
        following.sharing.subscribed();
        following.follower.subscribed()
    }

    /// A read came to nothing; what is to be read instead.
    pub(crate) fn read_failed(&self, read: ReadNumber) -> Option<Ask> {
        self.state.lock().following.as_mut()?.follower.failed(read)
    }

    /// When the position should be compared with the broker's, and what it is: it is due `interval` after the last
    /// comparison or the last event.
    pub(crate) fn due_check(&self, now: Instant, interval: Duration) -> Option<Position> {
        let mut state = self.state.lock();
        let following = state.following.as_mut()?;
        if !following.follower.is_following() {
            return None;
        }
        let due = *following.check_at.get_or_insert(now + interval) <= now;
        if !due {
            return None;
        }
        following.check_at = Some(now + interval);
        following.follower.position()
    }

    /// The broker's position, asked for when this node's was `ours`; what is to be read if they differ.
    pub(crate) fn check(&self, ours: Position, broker: Position) -> Option<Ask> {
        self.state.lock().following.as_mut()?.follower.check(ours, broker)
    }

    /// Takes what was published, if it is what follows; what is to be read if it is not.
    pub(crate) fn take_message(
        &self,
        message: Message<Bytes>,
        metrics: &Metrics,
        now: Instant,
    ) -> Option<Ask> {
        let mut state = self.state.lock();
        let following = state.following.as_mut()?;
        let step = following.follower.message(message);
        if !matches!(step.change, Change::None) {
            following.check_at = None;
        }
        self.apply(&mut state, step, metrics, now)
    }

    /// Takes what a read has brought; what is to be read next.
    pub(crate) fn take_page(
        &self,
        read: ReadNumber,
        page: Page<Bytes>,
        metrics: &Metrics,
        now: Instant,
    ) -> Option<Ask> {
        let mut state = self.state.lock();
        let step = state.following.as_mut()?.follower.answer(read, page);
        self.apply(&mut state, step, metrics, now)
    }

    fn apply(&self, state: &mut State, step: Step<Bytes>, metrics: &Metrics, now: Instant) -> Option<Ask> {
        match step.change {
            Change::None => {}
            Change::Append(events) => {
                let epoch = state.log.top().epoch;
                for event in events {
                    let at_ms = event.at_ms;
                    let (publication, about) = self.publication(epoch, &event);
                    state.store(&self.rules, &self.bounds, &publication, about, metrics, at_ms);
                    state.hand_on(&publication, metrics);
                }
                state.used_at = now;
                for listener in &state.listeners {
                    listener.inbox.ring();
                }
            }
            Change::Replace(log, events) => self.replace(state, &log, events, metrics),
        }
        self.redact_again(state);
        if let (Some(read), Some(following)) = (step.healed, &mut state.following) {
            for (_, waiting) in following.waiting.extract_if(.., |(number, _)| *number <= read) {
                // Whoever has stopped waiting does not want to know.
                let _ = waiting.send(());
            }
        }
        step.ask
    }

    /// The log begins anew, and every shard judges its members by the positions that they have.
    fn replace(&self, state: &mut State, log: &LogState, events: Vec<Carried<Bytes>>, metrics: &Metrics) {
        let after = events.first().map_or(log.top, |first| first.offset - 1);
        state.log = RoomLog::restored(log.epoch, after, &log.parents);
        if let Some(rare) = &mut state.rare {
            rare.newest = Newest::default();
        }
        if let Some(following) = &mut state.following {
            following.forgot = false;
        }
        for event in events {
            let at_ms = event.at_ms;
            let (publication, about) = self.publication(log.epoch, &event);
            state.store(&self.rules, &self.bounds, &publication, about, metrics, at_ms);
        }
        let top = state.log.top();
        for listener in &mut state.listeners {
            // Whatever it was behind with is gone: it reads on from here.
            listener.behind = false;
            listener.inbox.push(Entry::Replaced { room: listener.room, top });
        }
        state.tell_caught_up();
        metrics.logs_replaced.add(1);
    }

    fn publication(&self, epoch: Epoch, event: &Carried<Bytes>) -> (Arc<Publication>, Option<Key>) {
        let position = Position { epoch, offset: event.offset };
        match Draft::from_record(&event.record) {
            Some(mut draft) => {
                let about = draft.about.take();
                (Arc::new(draft.publish(&self.id, position, event.at_ms)), about)
            }
            None => {
                if event.record != REDACTED_RECORD {
                    tracing::warn!(room = %self.id, %position, "an event in the broker's log is none of ours: left out");
                }
                (Arc::new(Publication::without_event(&self.id, position)), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gives_up_while_the_broker_is_away_leaves_nothing_behind() {
        let mut following = Following::default();
        following.hold();
        let _patient = following.wait(0);
        for _ in 0..100_000 {
            drop(following.wait(0));
        }
        assert!(following.waiting.len() < 100, "{}", following.waiting.len());
        assert!(
            following.waiting.iter().any(|(_, waiting)| !waiting.is_closed()),
            "the patient one waits on"
        );
    }
}
