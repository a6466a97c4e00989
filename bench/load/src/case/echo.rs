//! Clients that send requests and wait for the answers, so many outstanding each: for Tidings, acked publishes.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::Window;
use crate::dialect::{Client, Dialect, Role};
use crate::plan::{Plan, PlanError, Target};
use crate::report::{Latencies, Report};
use crate::swarm::{Happened, Swarm};

struct Requester {
    sent: u64,
    outstanding: VecDeque<Instant>,
    carry: u64,
}

/// Runs it. `progress` is told the share of the time that has passed.
///
/// # Errors
/// When the dialect has no requests, the server ends a connection, or the system fails.
pub fn run(
    target: &Target,
    dialect: &dyn Dialect,
    plan: &Plan,
    mut progress: impl FnMut(f64),
) -> io::Result<Report> {
    let payload = plan.payload();
    let mut swarm = Swarm::new(target, dialect)?;
    let client = |number| Client { number, rooms: Vec::new(), role: Role::Requester };
    let keys = swarm.open((0..plan.connections).map(client).collect())?;
    swarm.settle(Duration::from_millis(200))?;
    let mut requesters: Vec<_> =
        keys.iter().map(|_| Requester { sent: 0, outstanding: VecDeque::new(), carry: 0 }).collect();
    // The keys of a fresh swarm count from 0, as the requesters do.
    let (mut latencies, mut answered, mut ended) = (Latencies::new(), 0_u64, 0);
    let unit = dialect.answer(&payload);
    let begun = Instant::now();
    let mut window = None;
    let mut counted_from = 0;
    let total = plan.warm_up + plan.duration;
    loop {
        let now = Instant::now();
        let since = now - begun;
        if window.is_none() && since >= plan.warm_up {
            window = Some(Window::begin(plan));
            latencies.reset();
            counted_from = answered;
        }
        if since >= total {
            break;
        }
        progress(since.as_secs_f64() / total.as_secs_f64());
        for (key, requester) in requesters.iter_mut().enumerate() {
            if requester.outstanding.len() == plan.outstanding {
                continue;
            }
            let client = swarm.client(key).cloned().ok_or_else(|| io::Error::other("a connection ended"))?;
            while requester.outstanding.len() < plan.outstanding {
                let request = dialect
                    .request(&client, requester.sent, &payload)
                    .ok_or_else(|| io::Error::other(PlanError::NoRequests.to_string()))?;
                swarm.put(key, &request);
                requester.sent += 1;
                requester.outstanding.push_back(now);
            }
            swarm.send(key)?;
        }
        if ended > 0 {
            return Err(io::Error::other(format!("the server ended {ended} connections")));
        }
        swarm.turn(Duration::from_millis(100), |key, happened| match happened {
            Happened::Message(len) => {
                let requester = &mut requesters[key];
                for _ in 0..unit.count(len, &mut requester.carry) {
                    if let Some(sent) = requester.outstanding.pop_front() {
                        answered += 1;
                        latencies.record(sent.elapsed(), 1);
                    }
                }
            }
            Happened::Opened | Happened::Refused => {}
            Happened::Ended => ended += 1,
        })?;
    }
    let mut report = window.map(|window| window.end("echo", answered - counted_from)).unwrap_or_default();
    report.latency_ms = latencies.percentiles();
    Ok(report)
}
