//! A client's line to a node: slow, in order, cut after any byte, or silent.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::random::Random;

/// Pieces on their way in one direction.
const PIECES_MAX: usize = 1024;

/// A client's line, whatever node it leads to just now.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

struct State {
    random: Random,
    /// The node that it leads to.
    node: Option<usize>,
    calm: bool,
    silent: bool,
    /// So many bytes, and it is cut.
    bytes_left: Option<usize>,
    tasks: Vec<AbortHandle>,
}

/// The client's end.
pub(crate) struct End {
    line: Line,
    pub(crate) from_node: mpsc::Receiver<Bytes>,
    pub(crate) to_node: mpsc::Sender<Bytes>,
}

/// What becomes of bytes on their way.
enum Way {
    Arrive(usize),
    Vanish,
    /// Only so many arrive, and it is over.
    Cut(usize),
}

impl Line {
    pub(crate) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            node: None,
            calm: false,
            silent: false,
            bytes_left: None,
            tasks: Vec::new(),
        })))
    }

    /// Begins anew, to this node.
    pub(crate) fn open(&self, node: usize, stream: DuplexStream) -> End {
        self.cut();
        let (mut read, mut write) = tokio::io::split(stream);
        let (to_client, from_node) = mpsc::channel(PIECES_MAX);
        let (to_node, mut from_client) = mpsc::channel::<Bytes>(PIECES_MAX);
        let line = self.clone();
        let down = tokio::spawn(async move {
            let mut buffer = vec![0; 8 * 1024];
            loop {
                let count = read.read(&mut buffer).await.unwrap_or_default();
                line.wait().await;
                let (arrives, is_over) = line.way(count).arrives();
                let piece = Bytes::copy_from_slice(&buffer[..arrives]);
                let is_gone = arrives > 0 && to_client.send(piece).await.is_err();
                if count == 0 || is_over || is_gone {
                    return;
                }
            }
        })
        .abort_handle();
        let (line, its_down) = (self.clone(), down.clone());
        let up = tokio::spawn(async move {
            while let Some(piece) = from_client.recv().await {
                line.wait().await;
                let (arrives, is_over) = line.way(piece.len()).arrives();
                if write.write_all(&piece[..arrives]).await.is_err() || is_over {
                    break;
                }
            }
            its_down.abort();
        })
        .abort_handle();
        let mut state = self.0.lock();
        state.node = Some(node);
        state.tasks = vec![down, up];
        End { line: self.clone(), from_node, to_node }
    }

    pub(crate) fn cut(&self) {
        let mut state = self.0.lock();
        for task in state.tasks.drain(..) {
            task.abort();
        }
        (state.node, state.silent, state.bytes_left) = (None, false, None);
    }

    /// It is cut if it leads there.
    pub(crate) fn cut_from(&self, node: usize) {
        if self.0.lock().node == Some(node) {
            self.cut();
        }
    }

    pub(crate) fn cut_after(&self, bytes: usize) {
        self.0.lock().bytes_left = Some(bytes);
    }

    pub(crate) fn silence(&self) {
        self.0.lock().silent = true;
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.0.lock().silent
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        let mut state = self.0.lock();
        state.calm = calm;
        if calm {
            state.bytes_left = None;
        }
    }

    async fn wait(&self) {
        let delay = {
            let state = &mut *self.0.lock();
            match (state.calm, state.random.below(50)) {
                (false, 0) => state.random.millis(100, 2000),
                _ => state.random.millis(1, 20),
            }
        };
        sleep_until(Instant::now() + delay).await;
    }

    fn way(&self, bytes: usize) -> Way {
        let mut state = self.0.lock();
        if state.silent {
            return Way::Vanish;
        }
        match &mut state.bytes_left {
            Some(left) if *left <= bytes => Way::Cut(*left),
            Some(left) => {
                *left -= bytes;
                Way::Arrive(bytes)
            }
            None => Way::Arrive(bytes),
        }
    }
}

impl Way {
    fn arrives(self) -> (usize, bool) {
        match self {
            Self::Arrive(bytes) => (bytes, false),
            Self::Vanish => (0, false),
            Self::Cut(bytes) => (bytes, true),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.line.cut();
    }
}
