//! What a command line asks for: shared by `tidings-load` and `tidings bench`.

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::case;
use crate::dialect::Dialect;
use crate::plan::{Plan, Target};
use crate::report::Report;

/// The case, and how much of it.
#[derive(Args, Clone, Debug)]
pub struct Asked {
    /// What to ask of the server
    #[arg(long, value_enum, default_value = "fanout")]
    pub case: Case,
    /// Rooms
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// What the rooms' names begin with: a rule must let members join and publish there
    #[arg(long, value_name = "NAME", default_value = "r")]
    pub room_prefix: String,
    /// Subscribers of each room
    #[arg(long, default_value_t = 1000)]
    pub subscribers: usize,
    /// Bytes of a message's data
    #[arg(long, default_value_t = 128)]
    pub bytes: usize,
    /// Publishes of a room, or requests of a client, that wait for their end
    #[arg(long, default_value_t = 8)]
    pub outstanding: usize,
    /// Publishes a second in all, instead of as many as can be
    #[arg(long)]
    pub rate: Option<f64>,
    /// Connections of echo, handshakes, idle and storm
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// The share of subscribers that stops to read
    #[arg(long, default_value_t = 0.0)]
    pub stopped: f64,
    /// Seconds before the measured time
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// The server's process, if it runs on this machine, for its CPU and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Besides, the busy time of each of its threads whose name begins so
    #[arg(long, value_name = "NAME")]
    pub threads: Option<String>,
}

/// What to ask of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Case {
    /// Publishes into rooms, delivered to all of their subscribers
    Fanout,
    /// Requests that are answered: acked publishes
    Echo,
    /// Handshakes, one after the other
    Handshakes,
    /// Connections that do nothing: memory (needs --pid)
    Idle,
    /// All connections come back at once
    Storm,
}

impl Asked {
    /// Runs the case. `progress` is told the share of it that is done.
    ///
    /// # Errors
    /// When the server refuses or ends what it should not, or the system fails.
    pub fn run(
        &self,
        target: &Target,
        dialect: &dyn Dialect,
        progress: impl FnMut(f64),
    ) -> io::Result<Report> {
        let plan = Plan {
            rooms: self.rooms.max(1),
            room_prefix: self.room_prefix.clone(),
            subscribers: self.subscribers.max(2),
            bytes: self.bytes,
            outstanding: self.outstanding.max(1),
            rate: self.rate,
            connections: self.connections.max(1),
            stopped: self.stopped.clamp(0.0, 0.9),
            warm_up: seconds(self.warm_up),
            duration: seconds(self.seconds),
            pid: self.pid,
            threads: self.threads.clone(),
        };
        match self.case {
            Case::Fanout => case::fanout::run(target, dialect, &plan, progress),
            Case::Echo => case::echo::run(target, dialect, &plan, progress),
            Case::Handshakes => case::handshakes::run(target, dialect, &plan, progress),
            Case::Idle => case::connections::idle(target, dialect, &plan, progress),
            Case::Storm => case::connections::storm(target, dialect, &plan, progress),
        }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1))
}
