//! Which sockets can be read or written: epoll, level-triggered, so that one read an event is enough.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Sockets asked about at once.
const EVENTS_MAX: usize = 1024;

/// An epoll instance.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// What a socket can do.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Which one, as it was added.
    pub key: usize,
    /// It can be read, or has ended.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
}

impl Poller {
    /// An empty one.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches a socket under a key of the caller's.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&self, socket: impl AsFd, key: usize, write: bool) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(key as u64), flags(write))?)
    }

    /// Watches for writability as well, or no longer.
    ///
    /// # Errors
    /// The system's.
    pub fn watch_write(&self, socket: impl AsFd, key: usize, write: bool) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(key as u64), flags(write))?)
    }

    /// Watches a socket no longer; closing it has the same effect.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until some can do something, or for `timeout`; fills `ready`.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Duration) -> io::Result<()> {
        ready.clear();
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                key: event.data.u64() as usize,
                readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
                writable: flags.intersects(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn flags(write: bool) -> EventFlags {
    if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}
