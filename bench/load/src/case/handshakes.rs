//! Handshakes one after the other, so many at once: connect, upgrade, be let in, go.

use std::io;
use std::time::{Duration, Instant};

use super::Window;
use crate::dialect::{Client, Dialect, Role};
use crate::plan::{Plan, Target};
use crate::report::{Latencies, Report};
use crate::swarm::{Happened, Swarm};

/// Runs it. `progress` is told the share of the time that has passed.
///
/// # Errors
/// When the server refuses one, or the system fails.
pub fn run(
    target: &Target,
    dialect: &dyn Dialect,
    plan: &Plan,
    mut progress: impl FnMut(f64),
) -> io::Result<Report> {
    let mut swarm = Swarm::new(target, dialect)?;
    let mut number = 0;
    let (mut latencies, mut opened, mut begun_at) = (Latencies::new(), 0_u64, Vec::new());
    let begun = Instant::now();
    let (mut window, mut counted_from) = (None, 0);
    let total = plan.warm_up + plan.duration;
    let mut through = Vec::new();
    loop {
        let since = begun.elapsed();
        if window.is_none() && since >= plan.warm_up {
            window = Some(Window::begin(plan));
            latencies.reset();
            counted_from = opened;
        }
        if since >= total {
            break;
        }
        progress(since.as_secs_f64() / total.as_secs_f64());
        while swarm.len() < plan.connections {
            let rooms = vec![plan.room(number % plan.rooms)];
            let key = swarm.begin(Client { number, rooms, role: Role::Subscriber }, None)?;
            begun_at.resize(begun_at.len().max(key + 1), Instant::now());
            begun_at[key] = Instant::now();
            number += 1;
        }
        let mut ended = false;
        swarm.turn(Duration::from_millis(100), |key, happened| match happened {
            Happened::Opened => through.push(key),
            Happened::Ended => ended = true,
            Happened::Message(_) | Happened::Refused => {}
        })?;
        if ended {
            return Err(io::Error::other("the server ended a connection at its handshake"));
        }
        for key in through.drain(..) {
            opened += 1;
            latencies.record(begun_at[key].elapsed(), 1);
            swarm.reset(key);
        }
    }
    let mut report = window.map(|window| window.end("handshakes", opened - counted_from)).unwrap_or_default();
    report.latency_ms = latencies.percentiles();
    Ok(report)
}
