//! Many clients of one server: opened, driven, counted in one thread.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::dialect::{Client, Dialect, Role, Step};
use crate::link::{Link, Progress, Seen};
use crate::plan::Target;
use crate::poller::{Poller, Ready};

const READ_BYTES_MAX: usize = 256 * 1024;
/// Handshakes under way while a swarm opens.
const IN_FLIGHT_MAX: usize = 100;
/// Frames shorter than this are looked at: heartbeats, and what a dialect's opening waits for.
const HEARTBEAT_BYTES_MAX: usize = 64;
/// As long as a server's reason to refuse something may be.
const REFUSAL_BYTES_MAX: usize = 512;
/// A client that is not ready after so long will never be.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// Clients, and the sockets under them.
pub struct Swarm<'a> {
    target: &'a Target,
    dialect: &'a dyn Dialect,
    poller: Poller,
    members: Slab<Member>,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
}

struct Member {
    client: Client,
    link: Link,
    steps: VecDeque<Step>,
    connecting: bool,
    is_open: bool,
    watches_write: bool,
    stopped: bool,
}

/// What happened to a client.
#[derive(Clone, Copy, Debug)]
pub enum Happened {
    /// It is in: upgraded, and through its dialect's opening.
    Opened,
    /// A text or binary frame of so many bytes.
    Message(u64),
    /// The server said no to something that it sent; the turn ends with the reason.
    Refused,
    /// The server ended it, or began to.
    Ended,
}

impl<'a> Swarm<'a> {
    /// None yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new(target: &'a Target, dialect: &'a dyn Dialect) -> io::Result<Self> {
        Ok(Self {
            target,
            dialect,
            poller: Poller::new()?,
            members: Slab::new(),
            buffer: vec![0; READ_BYTES_MAX],
            ready: Vec::new(),
        })
    }

    /// Begins to connect a client; its key.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&mut self, client: Client, receive_buffer: Option<usize>) -> io::Result<usize> {
        let mut link = Link::connect(self.target.address, receive_buffer)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.dialect.path(&client),
            self.target.host
        );
        link.put_raw(request.as_bytes());
        let steps = self.dialect.opening(&client).into();
        let entry = self.members.vacant_entry();
        let key = entry.key();
        self.poller.add(link.stream(), key, true)?;
        entry.insert(Member {
            client,
            link,
            steps,
            connecting: true,
            is_open: false,
            watches_write: true,
            stopped: false,
        });
        Ok(key)
    }

    /// Opens clients, so many handshakes at once, and waits until all are in; their keys, in their order.
    ///
    /// # Errors
    /// When one is refused or lost, or does not get in within 30 s.
    pub fn open(&mut self, clients: Vec<Client>) -> io::Result<Vec<usize>> {
        self.open_with(clients, None)
    }

    /// The same with a receive buffer of so many bytes for each.
    ///
    /// # Errors
    /// As [`Swarm::open`].
    pub fn open_with(
        &mut self,
        clients: Vec<Client>,
        receive_buffer: Option<usize>,
    ) -> io::Result<Vec<usize>> {
        let (mut keys, wanted) = (Vec::with_capacity(clients.len()), clients.len());
        let (mut opened, mut ended, mut progress_at) = (0, 0, Instant::now());
        let mut clients = clients.into_iter();
        while opened < wanted {
            while keys.len() - opened < IN_FLIGHT_MAX
                && let Some(client) = clients.next()
            {
                keys.push(self.begin(client, receive_buffer)?);
            }
            let before = opened;
            self.turn(Duration::from_millis(100), |_, happened| match happened {
                Happened::Opened => opened += 1,
                Happened::Ended => ended += 1,
                Happened::Message(_) | Happened::Refused => {}
            })?;
            if ended > 0 {
                return Err(io::Error::other(format!(
                    "{ended} connections ended while {wanted} were opened"
                )));
            }
            if opened > before {
                progress_at = Instant::now();
            } else if progress_at.elapsed() > OPEN_MAX {
                return Err(io::Error::other(format!("only {opened} of {wanted} clients came in")));
            }
        }
        Ok(keys)
    }

    /// Waits until nothing has come for `quiet`.
    ///
    /// # Errors
    /// The sockets'.
    pub fn settle(&mut self, quiet: Duration) -> io::Result<()> {
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            self.turn(Duration::from_millis(20), |_, _| last = Instant::now())?;
        }
        Ok(())
    }

    /// Waits for at most `timeout` until something happens, and tells each thing that did.
    ///
    /// # Errors
    /// A refused handshake. A lost connection is told as [`Happened::Ended`].
    pub fn turn(&mut self, timeout: Duration, mut on: impl FnMut(usize, Happened)) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        let waited = self.poller.wait(&mut ready, timeout);
        for Ready { key, readable, writable } in ready.drain(..) {
            let Some(member) = self.members.get_mut(key) else { continue };
            if writable {
                member.connecting = false;
                member.flush(&self.poller, key)?;
            }
            if !readable || member.stopped {
                continue;
            }
            let (mut ended, mut refusal) = (false, None);
            let progress = member.read(&mut self.buffer, self.dialect, &mut refusal, |happened| {
                ended |= matches!(happened, Happened::Ended);
                on(key, happened);
            });
            if let Some(refusal) = refusal {
                return Err(io::Error::other(refusal));
            }
            match progress {
                Ok(Progress::Open) => member.flush(&self.poller, key)?,
                Ok(Progress::Ended) => {
                    if !ended {
                        on(key, Happened::Ended);
                    }
                    self.members.remove(key);
                }
                Err(error) if error.kind() == io::ErrorKind::Other => return Err(error),
                Err(_) => {
                    if !ended {
                        on(key, Happened::Ended);
                    }
                    self.members.remove(key);
                }
            }
        }
        self.ready = ready;
        waited
    }

    /// Queues a message of a client's.
    pub fn put(&mut self, key: usize, message: &[u8]) {
        if let Some(member) = self.members.get_mut(key) {
            match self.dialect.binary() {
                true => member.link.put_binary(message),
                false => member.link.put_text(message),
            }
        }
    }

    /// Sends what is queued for a client, with one call.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, key: usize) -> io::Result<()> {
        match self.members.get_mut(key) {
            Some(member) => member.flush(&self.poller, key),
            None => Ok(()),
        }
    }

    /// Stops to read a client, or goes on.
    ///
    /// # Errors
    /// The system's.
    pub fn stop_reading(&mut self, key: usize, stop: bool) -> io::Result<()> {
        let Some(member) = self.members.get_mut(key) else { return Ok(()) };
        if member.stopped != stop {
            member.stopped = stop;
            if stop {
                self.poller.remove(member.link.stream())?;
            } else {
                self.poller.add(member.link.stream(), key, false)?;
            }
        }
        Ok(())
    }

    /// Drops a client's connection at once.
    pub fn reset(&mut self, key: usize) {
        if let Some(member) = self.members.try_remove(key) {
            member.link.reset();
        }
    }

    /// Who a client is.
    pub fn client(&self, key: usize) -> Option<&Client> {
        self.members.get(key).map(|member| &member.client)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Member {
    fn flush(&mut self, poller: &Poller, key: usize) -> io::Result<()> {
        if self.connecting {
            return Ok(());
        }
        // A broken socket is told by the next read.
        let waits = matches!(self.link.send(), Ok(false));
        if waits != self.watches_write && !self.stopped {
            self.watches_write = waits;
            poller.watch_write(self.link.stream(), key, waits)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        dialect: &dyn Dialect,
        refusal: &mut Option<String>,
        mut on: impl FnMut(Happened),
    ) -> io::Result<Progress> {
        let mut answers: Vec<Answer> = Vec::new();
        let mut upgraded = self.is_open;
        let (steps, is_open, client) = (&mut self.steps, &mut self.is_open, &self.client);
        let progress = self.link.read(buffer, |Seen { opcode, len, payload }| {
            upgraded = true;
            match opcode {
                8 => on(Happened::Ended),
                9 => answers.push(Answer::Pong(payload.unwrap_or_default().to_vec())),
                1 | 2 if *is_open => {
                    if let Some(answer) = payload.and_then(|payload| dialect.heartbeat(payload)) {
                        answers.push(Answer::Message(answer.to_vec()));
                    } else if let Some(reason) = payload.and_then(|payload| dialect.refusal(payload)) {
                        *refusal = Some(reason);
                        on(Happened::Refused);
                    } else {
                        on(Happened::Message(len));
                    }
                }
                1 | 2 => advance(steps, payload.unwrap_or_default(), dialect, client, &mut answers),
                _ => {}
            }
        })?;
        if !*is_open && (upgraded || self.link.is_upgraded()) {
            while let Some(Step::Send(_)) = steps.front() {
                if let Some(Step::Send(message)) = steps.pop_front() {
                    answers.push(Answer::Message(message));
                }
            }
            if steps.is_empty() {
                *is_open = true;
                // Who says something may be told no; the others are many, and only counted.
                let listens = self.client.role == Role::Subscriber;
                self.link.collect_below(if listens { HEARTBEAT_BYTES_MAX } else { REFUSAL_BYTES_MAX });
                on(Happened::Opened);
            }
        }
        for answer in answers {
            match answer {
                Answer::Pong(payload) => self.link.put_pong(&payload),
                Answer::Message(message) if dialect.binary() => self.link.put_binary(&message),
                Answer::Message(message) => self.link.put_text(&message),
            }
        }
        Ok(progress)
    }
}

enum Answer {
    Pong(Vec<u8>),
    Message(Vec<u8>),
}

/// Takes a message against the step that waits, and what may be sent after it.
fn advance(
    steps: &mut VecDeque<Step>,
    message: &[u8],
    dialect: &dyn Dialect,
    client: &Client,
    answers: &mut Vec<Answer>,
) {
    let contains = |needle: &str| message.windows(needle.len()).any(|window| window == needle.as_bytes());
    match steps.front() {
        Some(Step::Await(needle)) if contains(needle) => {}
        Some(Step::Learn(needle)) if contains(needle) => {
            answers.push(Answer::Message(dialect.learned(client, message)));
        }
        _ => return,
    }
    steps.pop_front();
    while let Some(Step::Send(_)) = steps.front() {
        if let Some(Step::Send(message)) = steps.pop_front() {
            answers.push(Answer::Message(message));
        }
    }
}
