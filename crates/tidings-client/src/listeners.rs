//! Who listens, and what waits for each of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// So many events wait for one who takes them; then none is taken from the server until he has, and what came meanwhile
/// is asked for again.
const QUEUE_EVENTS_MAX: usize = 1024;

/// Events on their way to the application.
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Notify,
}

struct Waiting<T> {
    events: VecDeque<T>,
    /// Something had no place, and is to be asked for when all of these are taken.
    overflowed: bool,
    ended: bool,
}

/// What is taken from a queue.
pub(crate) enum Taken<T> {
    Event(T),
    /// All were taken, and more was left out.
    Overflowed,
    Ended,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let waiting = Waiting { events: VecDeque::new(), overflowed: false, ended: false };
        Self { waiting: Mutex::new(waiting), changed: Notify::new() }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.lock().events.len()).finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    /// One that nothing comes into.
    pub(crate) fn ended() -> Self {
        let queue = Self::default();
        queue.end();
        queue
    }

    /// Takes an event if there is a place for it.
    fn push(&self, event: T) {
        let mut waiting = self.waiting.lock();
        if waiting.overflowed || waiting.events.len() >= QUEUE_EVENTS_MAX {
            waiting.overflowed = true;
        } else {
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Whether the next event would have no place; it is known then that there was one.
    fn is_full(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.overflowed |= waiting.events.len() >= QUEUE_EVENTS_MAX;
        waiting.overflowed
    }

    fn end(&self) {
        self.waiting.lock().ended = true;
        self.changed.notify_one();
    }

    /// The next event, as soon as there is one.
    pub(crate) async fn take(&self) -> Taken<T> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Taken::Event(event);
                }
                if std::mem::take(&mut waiting.overflowed) {
                    return Taken::Overflowed;
                }
                if waiting.ended {
                    return Taken::Ended;
                }
            }
            // A change since then is remembered.
            self.changed.notified().await;
        }
    }
}

/// Those who listen; one who is gone is let go of.
pub(crate) struct Listeners<T>(Vec<Weak<Queue<T>>>);

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Listeners<T> {
    pub(crate) fn add(&mut self) -> Arc<Queue<T>> {
        let queue = Arc::new(Queue::default());
        self.0.push(Arc::downgrade(&queue));
        queue
    }

    pub(crate) fn tell(&mut self, event: &T) {
        self.tell_each(|| event.clone());
    }

    /// Tells each of them something of its own.
    pub(crate) fn tell_each(&mut self, mut event: impl FnMut() -> T) {
        self.live(|queue| queue.push(event()));
    }

    /// Whether one of them has no place for more.
    pub(crate) fn are_full(&mut self) -> bool {
        let mut full = false;
        self.live(|queue| full |= queue.is_full());
        full
    }

    pub(crate) fn end(&mut self) {
        self.live(Queue::end);
    }

    /// Whether there are any.
    pub(crate) fn are_some(&mut self) -> bool {
        self.live(|_| {});
        !self.0.is_empty()
    }

    fn live(&mut self, mut call: impl FnMut(&Queue<T>)) {
        self.0.retain(|listener| listener.upgrade().map(|queue| call(&queue)).is_some());
    }
}
