//! An SDK's driver: a program that is told what to do and says what it saw. `sdks/scenario/README.md`.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::rust_driver;
use crate::server::{kept_stderr, within};

/// The longest wait: a client takes 75 s to find that nothing comes any more, and up to 1 s and a connection to be back.
const AWAIT_MAX: Duration = Duration::from_secs(110);

/// A driver that runs.
pub(crate) struct Driver {
    commands: Option<Box<dyn AsyncWrite + Unpin + Send + Sync>>,
    seen: Arc<Seen>,
    reading: JoinHandle<()>,
    process: Option<Child>,
}

#[derive(Default)]
struct Seen {
    lines: Mutex<Lines>,
    changed: Notify,
}

#[derive(Default)]
struct Lines {
    all: Vec<Value>,
    /// Those that nobody has waited for yet.
    unawaited: VecDeque<Value>,
    ended: bool,
}

impl Driver {
    /// Starts a program, in a folder, with the variable in which it is told of an authority.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        folder: &Path,
        authority: Option<(&str, &Path)>,
    ) -> Self {
        let mut command = Command::new(program);
        command.envs(authority);
        command.args(arguments).current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(kept_stderr());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process: Some(process), ..Self::of(stdin, stdout) }
    }

    /// The Rust SDK's, which is in this program; it believes this authority, or those of the system.
    pub(crate) fn rust(authority: Option<Vec<u8>>) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (read, write) = tokio::io::split(ours);
        // A state that is past before anybody looks is not seen. On a thread of its own, who waits for one looks before the
        // client goes on.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(rust_driver::run(theirs, authority));
        });
        Self::of(write, read)
    }

    fn of(
        commands: impl AsyncWrite + Unpin + Send + Sync + 'static,
        output: impl AsyncRead + Unpin + Send + 'static,
    ) -> Self {
        let seen: Arc<Seen> = Arc::default();
        let reading = tokio::spawn(read(output, Arc::clone(&seen)));
        Self { commands: Some(Box::new(commands)), seen, reading, process: None }
    }

    pub(crate) async fn tell(&mut self, command: &Value) {
        let line = format!("{command}\n");
        let commands = self.commands.as_mut().unwrap();
        commands.write_all(line.as_bytes()).await.unwrap();
        commands.flush().await.unwrap();
    }

    /// Waits for a line that has all of these fields, and was not waited for before.
    pub(crate) async fn sees(&self, wanted: &Value) {
        let found = async {
            loop {
                let changed = self.seen.changed.notified();
                {
                    let mut lines = self.seen.lines.lock();
                    if let Some(index) = lines.unawaited.iter().position(|line| has(line, wanted)) {
                        lines.unawaited.remove(index);
                        return;
                    }
                    assert!(!lines.ended, "the driver has ended before {wanted}: {:#?}", lines.all);
                }
                changed.await;
            }
        };
        if tokio::time::timeout(AWAIT_MAX, found).await.is_err() {
            panic!("not seen: {wanted}\n{:#?}", self.seen.lines.lock().all);
        }
    }

    /// Ends it; all that it saw.
    pub(crate) async fn end(mut self) -> Vec<Value> {
        if let Some(mut commands) = self.commands.take() {
            commands.shutdown().await.unwrap();
        }
        within(&mut self.reading).await.unwrap();
        if let Some(mut process) = self.process.take() {
            assert_eq!(within(process.wait()).await.unwrap().code(), Some(0), "how the driver has ended");
        }
        std::mem::take(&mut self.seen.lines.lock().all)
    }
}

async fn read(output: impl AsyncRead + Unpin, seen: Arc<Seen>) {
    let mut lines = BufReader::new(output.take(u64::MAX)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let mut known = seen.lines.lock();
        known.all.push(line.clone());
        known.unawaited.push_back(line);
        drop(known);
        seen.changed.notify_one();
    }
    seen.lines.lock().ended = true;
    seen.changed.notify_one();
}

fn has(line: &Value, wanted: &Value) -> bool {
    wanted.as_object().unwrap().iter().all(|(key, value)| line.get(key) == Some(value))
}
