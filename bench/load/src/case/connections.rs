//! Many connections that do nothing: what one takes, what is left when all go at once, how fast all come back.

use std::io;
use std::time::{Duration, Instant};

use super::Window;
use crate::dialect::{Client, Dialect, Role};
use crate::plan::{Plan, Target};
use crate::report::{Latencies, Memory, Report};
use crate::swarm::{Happened, Swarm};
use crate::usage::Server;

/// Connections that warm a server up, so that what it takes once is not counted as theirs.
const WARM_UP_CONNECTIONS: usize = 50;
/// Memory counts as settled when it has not moved by more than this for so long.
const SETTLED_BYTES: u64 = 128 * 1024;
const SETTLED_FOR: Duration = Duration::from_secs(2);
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// How long the memory has to come back after a mass disconnect.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A client in three rooms: one of 200, one of 20, one of 5.
fn client(number: usize) -> Client {
    let room = |kind: &str, size: usize| format!("{kind}:{}", number / size);
    let rooms = vec![room("company", 200), room("team", 20), room("group", 5)];
    Client { number, rooms, role: Role::Subscriber }
}

/// Opens [`Plan::connections`], holds them for [`Plan::duration`] at least, and drops them all at once.
///
/// # Errors
/// When the server refuses one or the system fails.
pub fn idle(
    target: &Target,
    dialect: &dyn Dialect,
    plan: &Plan,
    mut progress: impl FnMut(f64),
) -> io::Result<Report> {
    let pid = plan.pid.ok_or_else(|| io::Error::other("memory needs the server's --pid"))?;
    let mut swarm = Swarm::new(target, dialect)?;
    let warm = swarm.open((0..WARM_UP_CONNECTIONS).map(client).collect())?;
    swarm.settle(Duration::from_millis(300))?;
    for key in warm {
        swarm.reset(key);
    }
    let before = settled(&mut swarm, pid, Duration::ZERO)?;
    progress(0.1);
    let window = Window::begin(plan);
    let first = WARM_UP_CONNECTIONS;
    let keys = swarm.open((first..first + plan.connections).map(client).collect())?;
    let mut report = window.end("idle", plan.connections as u64);
    progress(0.4);
    let held = settled(&mut swarm, pid, plan.duration)?;
    progress(0.6);
    for key in keys {
        swarm.reset(key);
    }
    let gone = Instant::now();
    let (mut after, mut back_after_s) = (Server::of(pid).memory(), None);
    while gone.elapsed() < BACK_WITHIN {
        swarm.turn(Duration::from_millis(250), |_, _| {})?;
        after = Server::of(pid).memory();
        if after <= before + before / 10 {
            back_after_s.get_or_insert(gone.elapsed().as_secs_f64());
        } else {
            back_after_s = None;
        }
        progress(0.6 + 0.4 * gone.elapsed().as_secs_f64() / BACK_WITHIN.as_secs_f64());
    }
    let each = held.saturating_sub(before) as f64 / plan.connections as f64;
    report.memory = Some(Memory { before, held, each, after, back_after_s });
    Ok(report)
}

fn settled(swarm: &mut Swarm<'_>, pid: u32, at_least: Duration) -> io::Result<u64> {
    let server = Server::of(pid);
    let (begun, mut since, mut last) = (Instant::now(), Instant::now(), server.memory());
    while begun.elapsed() < at_least || since.elapsed() < SETTLED_FOR && begun.elapsed() < SETTLE_MAX {
        swarm.turn(Duration::from_millis(100), |_, _| {})?;
        let now = server.memory();
        if now.abs_diff(last) > SETTLED_BYTES {
            (since, last) = (Instant::now(), now);
        }
    }
    Ok(server.memory())
}

/// Opens [`Plan::connections`], drops them all, and lets them all come back at once.
///
/// # Errors
/// When the server refuses one or the system fails.
pub fn storm(
    target: &Target,
    dialect: &dyn Dialect,
    plan: &Plan,
    mut progress: impl FnMut(f64),
) -> io::Result<Report> {
    let mut swarm = Swarm::new(target, dialect)?;
    let keys = swarm.open((0..plan.connections).map(client).collect())?;
    swarm.settle(Duration::from_millis(500))?;
    for key in keys {
        swarm.reset(key);
    }
    progress(0.5);
    let window = Window::begin(plan);
    let mut latencies = Latencies::new();
    let (mut opened, mut ended) = (0, 0);
    let begun = Instant::now();
    for number in 0..plan.connections {
        swarm.begin(client(number), None)?;
    }
    while opened < plan.connections && ended == 0 {
        swarm.turn(Duration::from_millis(100), |_, happened| match happened {
            Happened::Opened => {
                opened += 1;
                latencies.record(begun.elapsed(), 1);
            }
            Happened::Ended => ended += 1,
            Happened::Message(_) | Happened::Refused => {}
        })?;
        progress(0.5 + 0.5 * opened as f64 / plan.connections as f64);
    }
    if ended > 0 {
        return Err(io::Error::other(format!("the server ended {ended} connections that came back")));
    }
    let mut report = window.end("storm", opened as u64);
    report.latency_ms = latencies.percentiles();
    Ok(report)
}
