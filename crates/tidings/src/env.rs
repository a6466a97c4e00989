//! What a hub takes from the world: time, randomness, and where its shards run.
//!
//! Everything else reads the clock and draws random numbers through here, so that a test or a simulation can
//! give its own and see the same run twice.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The future that is one shard: it owns its sockets, and ends when its hub does.
pub type ShardFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The seam to the world.
pub trait Env: Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Milliseconds since 1970, for people and for tokens.
    fn unix_ms(&self) -> u64;

    /// Fills `bytes` with random numbers that nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Starts a shard and lets it run until it ends by itself.
    ///
    /// # Errors
    /// When there is nowhere to run it: no thread could be started, or there is no runtime here.
    fn run_shard(&self, index: usize, shard: ShardFuture) -> io::Result<()>;

    /// A random number that nobody can guess.
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The system's clock and randomness.
#[derive(Clone, Copy, Debug)]
pub struct SystemEnv {
    placement: Placement,
}

#[derive(Clone, Copy, Debug)]
enum Placement {
    Threads,
    Inline,
}

impl SystemEnv {
    /// Each shard on a thread of its own: for servers.
    pub fn threads() -> Self {
        Self { placement: Placement::Threads }
    }

    /// Each shard as a task of the runtime that builds the hub: for tests, and for programs that want no threads.
    pub fn inline() -> Self {
        Self { placement: Placement::Inline }
    }
}

impl Env for SystemEnv {
    fn now(&self) -> Instant {
        // Tokio's clock is the system's, unless a test has paused it.
        tokio::time::Instant::now().into_std()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Guessable epochs and session ids would be worse than a stop.
            tracing::error!(%error, "the system gives no random numbers");
            std::process::abort();
        }
    }

    fn run_shard(&self, index: usize, shard: ShardFuture) -> io::Result<()> {
        match self.placement {
            Placement::Inline => {
                let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
                runtime.spawn(shard);
            }
            Placement::Threads => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                std::thread::Builder::new()
                    .name(format!("tidings-shard-{index}"))
                    .spawn(move || runtime.block_on(shard))?;
            }
        }
        Ok(())
    }
}
