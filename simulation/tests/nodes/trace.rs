//! What happened in a run, in order: two runs of one seed have the same.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A run's record.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Inner>);

struct Inner {
    began: Instant,
    /// Whether it is printed as it comes.
    printed: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hasher: DefaultHasher,
    lines: u64,
    line: String,
}

impl Trace {
    pub(crate) fn new(printed: bool) -> Self {
        Self(Arc::new(Inner { began: Instant::now(), printed, state: Mutex::default() }))
    }

    pub(crate) fn note(&self, who: impl fmt::Display, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        let mut state = self.0.state.lock();
        let state = &mut *state;
        state.line.clear();
        let ms = self.0.began.elapsed().as_millis();
        // A string takes everything.
        let _ = write!(state.line, "{ms:>7} {who}: {what}");
        state.line.hash(&mut state.hasher);
        state.lines += 1;
        if self.0.printed {
            println!("{}", state.line);
        }
    }

    /// A number for all of it, and how many lines it has.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let state = self.0.state.lock();
        (state.hasher.finish(), state.lines)
    }
}

/// `note!(trace, who, "what {}", happened)`
macro_rules! note {
    ($trace:expr, $who:expr, $($what:tt)*) => { $trace.note($who, format_args!($($what)*)) };
}
pub(crate) use note;
