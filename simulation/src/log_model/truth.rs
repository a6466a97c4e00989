//! What really happened, which nobody in the model may look at: only the properties read it.
//!
//! Every event knows the one that stood before it in its log when it was appended, so that "a contiguous slice of one
//! log" is one comparison at each delivery, and no state has to hold what a client saw.

/// The number of an event; a log that begins anew begins with one of these too, at offset 0.
pub type Event = u8;
/// The number of an epoch: the model's random ones never collide.
pub type Epoch = u8;
/// A place in a log.
pub type Offset = u8;
/// What somebody wants to publish: its idempotency id and its payload in one.
pub type Publication = u8;

/// `epoch.offset`: an event's id, or a position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The log's life.
    pub epoch: Epoch,
    /// The offset in it.
    pub offset: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Happened {
    /// What stood before it; itself, where the log began.
    before: Event,
    place: Place,
    publication: Publication,
}

/// All events and epochs that ever were.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Truth {
    events: Vec<Happened>,
    /// Of each epoch, the event behind which it began.
    epochs: Vec<Event>,
}

impl Truth {
    /// How many events and beginnings of logs there were.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many epochs there were.
    pub fn epochs(&self) -> usize {
        self.epochs.len()
    }

    /// A log begins, under a new epoch.
    pub fn begin_log(&mut self) -> (Epoch, Event) {
        let root = self.events.len() as Event;
        let epoch = self.begin_epoch(root);
        self.events.push(Happened { before: root, place: Place { epoch, offset: 0 }, publication: 0 });
        (epoch, root)
    }

    /// A log goes on behind `base`, under a new epoch.
    pub fn begin_epoch(&mut self, base: Event) -> Epoch {
        self.epochs.push(base);
        (self.epochs.len() - 1) as Epoch
    }

    /// Notes a new event; none if its id names another one already.
    pub fn append(&mut self, before: Event, place: Place, publication: Publication) -> Option<Event> {
        if self.events.iter().any(|event| event.place == place && event.publication != 0) {
            return None;
        }
        self.events.push(Happened { before, place, publication });
        Some((self.events.len() - 1) as Event)
    }

    /// What an event is of.
    pub fn publication(&self, event: Event) -> Publication {
        self.events[usize::from(event)].publication
    }

    /// The id that an event was given first.
    pub fn place(&self, event: Event) -> Place {
        self.events[usize::from(event)].place
    }

    /// What stood before an event.
    pub fn before(&self, event: Event) -> Event {
        self.events[usize::from(event)].before
    }

    /// An event and all that stood before it, newest first.
    fn back_from(&self, top: Event) -> impl Iterator<Item = Event> {
        let step = |&event: &Event| Some(self.before(event)).filter(|before| *before != event);
        std::iter::successors(Some(top), step)
    }

    /// The event at `offset` of the log that ends with `top`.
    pub fn at(&self, top: Event, offset: Offset) -> Option<Event> {
        self.back_from(top).find(|event| self.place(*event).offset == offset)
    }

    /// Whether the log that ends with `top` holds an event, trimmed or not.
    pub fn holds(&self, top: Event, event: Event) -> bool {
        self.back_from(top).any(|earlier| earlier == event)
    }

    /// The event of a publication in the log that ends with `top`, trimmed or not.
    pub fn published(&self, top: Event, publication: Publication) -> Option<Event> {
        self.back_from(top).find(|event| self.publication(*event) == publication)
    }

    /// The one event that an id names: given out under this epoch, or before it.
    pub fn named(&self, place: Place) -> Option<Event> {
        let given = self.events.iter().position(|event| event.place == place && event.publication != 0);
        match given {
            Some(event) => Some(event as Event),
            None => self.at(self.epochs[usize::from(place.epoch)], place.offset),
        }
    }
}
