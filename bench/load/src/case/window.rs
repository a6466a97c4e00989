//! The measured time: clock, the server's CPU and our own, at its two ends.

use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::report::Report;
use crate::usage::Server;

/// A measurement that has begun.
pub struct Window {
    begun: Instant,
    server: Option<Server>,
    threads: Option<String>,
    cpu: Duration,
    threads_cpu: Vec<Duration>,
    own_cpu: Duration,
}

impl Window {
    /// Begins now.
    pub fn begin(plan: &Plan) -> Self {
        let server = plan.pid.map(Server::of);
        let threads = plan.threads.clone();
        Self {
            cpu: server.as_ref().map(Server::cpu).unwrap_or_default(),
            threads_cpu: threads_cpu(server.as_ref(), threads.as_deref()),
            own_cpu: Server::of(std::process::id()).cpu(),
            server,
            threads,
            begun: Instant::now(),
        }
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends now, with so much counted.
    pub fn end(self, case: &str, count: u64) -> Report {
        let time = self.begun.elapsed();
        let own = Server::of(std::process::id()).cpu().saturating_sub(self.own_cpu);
        let cpu = self.server.as_ref().map(|server| server.cpu().saturating_sub(self.cpu));
        let after = threads_cpu(self.server.as_ref(), self.threads.as_deref());
        let busy = |cpu: Duration| cpu.as_secs_f64() / time.as_secs_f64();
        Report {
            case: case.to_owned(),
            count,
            seconds: time.as_secs_f64(),
            per_second: count as f64 / time.as_secs_f64(),
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / (count as f64).max(1.0)),
            cpu_busy: cpu.map(busy),
            generator_busy: busy(own),
            threads_busy: after
                .iter()
                .zip(&self.threads_cpu)
                .map(|(after, before)| busy(after.saturating_sub(*before)))
                .collect(),
            ..Report::default()
        }
    }
}

fn threads_cpu(server: Option<&Server>, threads: Option<&str>) -> Vec<Duration> {
    server.zip(threads).map(|(server, threads)| server.cpu_of_threads(threads)).unwrap_or_default()
}
