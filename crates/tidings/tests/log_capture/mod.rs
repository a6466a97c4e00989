//! Logs that a test reads, and the log that every test with a hub keeps for the gate (`tests/canary/`).
//!
//! The gate looks in it for tokens and secrets. `./test` says where by `TIDINGS_TEST_LOGS`; without it nothing is kept.
#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a part of the tests that use it")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use tidings::{BuildError, HubBuilder};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::prelude::*;

/// This process's file in the gate's folder.
static KEPT: LazyLock<Option<Arc<File>>> = LazyLock::new(|| {
    let folder = std::env::var_os("TIDINGS_TEST_LOGS")?;
    let program = std::env::current_exe().unwrap();
    let name = format!("hub-{}-{}.log", program.file_name().unwrap().display(), std::process::id());
    let file = File::options().create(true).append(true).open(Path::new(&folder).join(name)).unwrap();
    Some(Arc::new(file))
});

/// Keeps all that this process logs from now on, unless a test has begun to read it itself.
///
/// The client that somebody else wrote is left out: it logs its own requests, tokens and all, and is none of ours.
pub fn keep() {
    if let Some(file) = &*KEPT {
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Arc::clone(file));
        let ours = filter_fn(|event| !event.target().contains("tungstenite"));
        // The first of a process counts for all of its tests.
        let _ = tracing_subscriber::registry().with(layer.with_filter(ours)).try_init();
    }
}

/// Where a test's own subscriber keeps what it logs, beside what it does with it.
pub fn kept() -> BoxMakeWriter {
    KEPT.as_ref().map_or_else(|| BoxMakeWriter::new(io::sink), |file| BoxMakeWriter::new(Arc::clone(file)))
}

/// The test kit's hub, whose log is kept, and its metrics whenever somebody has done with it.
#[derive(Clone, Debug)]
pub struct TestHub(tidings::testing::TestHub);

impl TestHub {
    pub fn start(builder: HubBuilder) -> Result<Self, BuildError> {
        keep();
        tidings::testing::TestHub::start(builder).map(Self)
    }

    pub fn start_seeded(builder: HubBuilder, seed: u64) -> Result<Self, BuildError> {
        keep();
        tidings::testing::TestHub::start_seeded(builder, seed).map(Self)
    }
}

impl Deref for TestHub {
    type Target = tidings::testing::TestHub;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        tracing::debug!(metrics = ?self.hub().metrics(), "done with a hub");
    }
}

/// Everything that a subscriber with this writer has logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What is there by now.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &*KEPT {
            (&**file).write_all(bytes)?;
        }
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
