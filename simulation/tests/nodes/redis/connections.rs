//! Connections to the servers: slow, in order, and cut at any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::reply::{Reply, take_command};
use super::{Redis, World};
use crate::trace::note;

/// What a pipe holds.
const PIPE_BYTES: usize = 256 * 1024;

pub(super) struct Connection {
    pub(super) server: usize,
    /// Which node made it.
    pub(super) node: usize,
    pub(super) channels: BTreeSet<Bytes>,
    /// What its last read of each room said, for plants: epoch and newest offset.
    pub(super) read: BTreeMap<Bytes, (Bytes, u64)>,
    /// Nothing goes through it any more, in either direction, and nobody is told.
    pub(super) silent: bool,
    waiting: VecDeque<u8>,
    wake: Arc<Notify>,
    tasks: Vec<AbortHandle>,
}

impl Connection {
    pub(super) fn say(&mut self, reply: &Reply) {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        self.waiting.extend(bytes);
        self.wake.notify_one();
    }
}

impl Redis {
    /// A node connects to the server that is the master now, as far as is known.
    pub(crate) async fn dial(self, node: usize) -> io::Result<DuplexStream> {
        let delay = self.0.lock().delay();
        sleep_until(Instant::now() + delay).await;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (read, write) = tokio::io::split(ours);
        let wake = Arc::new(Notify::new());
        let mut world = self.0.lock();
        world.connections_made += 1;
        let number = world.connections_made;
        let reader = tokio::spawn(self.clone().read(number, read)).abort_handle();
        let writer = tokio::spawn(self.clone().write(number, write, Arc::clone(&wake))).abort_handle();
        let connection = Connection {
            server: world.primary,
            node,
            channels: BTreeSet::new(),
            read: BTreeMap::new(),
            silent: false,
            waiting: VecDeque::new(),
            wake,
            tasks: vec![reader, writer],
        };
        world.connections.insert(number, connection);
        note!(world.trace, "redis", "node {node} connects to server {}: {number}", world.primary);
        Ok(theirs)
    }

    async fn read(self, number: u64, mut read: ReadHalf<DuplexStream>) {
        let (mut buffer, mut come) = (vec![0; 16 * 1024], Vec::new());
        loop {
            let count = read.read(&mut buffer).await.unwrap_or_default();
            if count == 0 {
                return self.0.lock().cut(number);
            }
            come.extend_from_slice(&buffer[..count]);
            let delay = self.0.lock().delay();
            sleep_until(Instant::now() + delay).await;
            loop {
                let hangs_until = self.0.lock().hangs_until(number);
                let Some(until) = hangs_until else { break };
                sleep_until(until).await;
            }
            let mut world = self.0.lock();
            if world.connections.get(&number).is_none_or(|connection| connection.silent) {
                come.clear();
                continue;
            }
            while let Some(command) = take_command(&mut come) {
                for reply in world.execute(number, &command) {
                    if let Some(connection) = world.connections.get_mut(&number) {
                        connection.say(&reply);
                    }
                }
            }
        }
    }

    async fn write(self, number: u64, mut write: WriteHalf<DuplexStream>, wake: Arc<Notify>) {
        loop {
            wake.notified().await;
            let delay = self.0.lock().delay();
            sleep_until(Instant::now() + delay).await;
            let bytes: Vec<u8> = {
                let mut world = self.0.lock();
                let Some(connection) = world.connections.get_mut(&number) else { return };
                let bytes = connection.waiting.drain(..).collect();
                if connection.silent {
                    continue;
                }
                bytes
            };
            if write.write_all(&bytes).await.is_err() {
                return self.0.lock().cut(number);
            }
        }
    }
}

impl World {
    /// Ends a connection; what was on its way is lost.
    pub(super) fn cut(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            for task in connection.tasks {
                task.abort();
            }
        }
    }

    pub(super) fn cut_where(&mut self, is_cut: impl Fn(&Connection) -> bool) {
        let cut: Vec<_> = self.connections.iter().filter(|(_, connection)| is_cut(connection)).collect();
        let cut: Vec<_> = cut.into_iter().map(|(number, _)| *number).collect();
        for number in cut {
            self.cut(number);
        }
    }

    fn hangs_until(&self, number: u64) -> Option<Instant> {
        let server = self.connections.get(&number)?.server;
        Some(self.servers[server].hangs_until).filter(|until| *until > Instant::now())
    }
}
