//! Rooms with subscribers, a publisher each: as many publishes as can be with so many outstanding, or so many a second.

use std::io;
use std::time::{Duration, Instant};

use super::Window;
use crate::dialect::{Client, Dialect, Role};
use crate::plan::{Plan, Target};
use crate::report::{Latencies, Report};
use crate::swarm::{Happened, Swarm};

/// After the measured time, what is under way may still arrive.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A server that delivers nothing for so long will not any more.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// So small that a client that does not read is soon full.
const STOPPED_RECEIVE_BUFFER: usize = 4096;

struct Room {
    name: String,
    publisher: usize,
    published: u64,
    /// Publishes that every subscriber has.
    complete: u64,
    /// By publish modulo the ring's length: when it was meant to be sent, and how many have yet to get it.
    ring: Vec<(Instant, usize)>,
}

struct Subscriber {
    room: usize,
    got: u64,
    /// Bytes of a message that is not whole, where frames carry a stream.
    carry: u64,
}

/// Runs it. `progress` is told the share of the time that has passed.
///
/// # Errors
/// When the server refuses a client or ends a connection that reads, or the system fails.
pub fn run(
    target: &Target,
    dialect: &dyn Dialect,
    plan: &Plan,
    mut progress: impl FnMut(f64),
) -> io::Result<Report> {
    let payload = plan.payload();
    let mut swarm = Swarm::new(target, dialect)?;
    let (mut rooms, mut subscribers, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    let mut number = 0;
    let mut client = |room: &str, role| {
        number += 1;
        Client { number: number - 1, rooms: vec![room.to_owned()], role }
    };
    for index in 0..plan.rooms {
        let name = plan.room(index);
        let to_stop = (plan.subscribers as f64 * plan.stopped).round() as usize;
        let listening = plan.subscribers - to_stop - usize::from(dialect.publisher_listens());
        let publisher = swarm.open(vec![client(&name, Role::Publisher)])?;
        let slow = (0..to_stop).map(|_| client(&name, Role::Subscriber)).collect();
        stopped.extend(swarm.open_with(slow, Some(STOPPED_RECEIVE_BUFFER))?);
        let keys = swarm.open((0..listening).map(|_| client(&name, Role::Subscriber)).collect())?;
        let listener = publisher.first().copied().filter(|_| dialect.publisher_listens());
        for key in keys.into_iter().chain(listener) {
            subscribers.resize_with(subscribers.len().max(key + 1), || None);
            subscribers[key] = Some(Subscriber { room: index, got: 0, carry: 0 });
        }
        let ring = if plan.rate.is_some() { 4096 } else { plan.outstanding.next_power_of_two() };
        rooms.push(Room {
            name,
            publisher: publisher[0],
            published: 0,
            complete: 0,
            ring: vec![(Instant::now(), 0); ring],
        });
    }
    swarm.settle(Duration::from_millis(300))?;
    for key in &stopped {
        swarm.stop_reading(*key, true)?;
    }

    let listeners = plan.subscribers - (plan.subscribers as f64 * plan.stopped).round() as usize;
    let unit = dialect.unit(&rooms[0].name, &payload);
    let (mut latencies, mut delivered, mut ended) = (Latencies::new(), 0_u64, 0);
    let begun = Instant::now();
    let mut window: Option<Window> = None;
    let (mut counted_from, mut report) = (0, None);
    let mut paced = 0_u64;
    let mut progressed = (0, begun);
    let total = plan.warm_up + plan.duration;
    loop {
        let now = Instant::now();
        let since = now - begun;
        if window.is_none() && report.is_none() && since >= plan.warm_up {
            window = Some(Window::begin(plan));
            latencies.reset();
            counted_from = delivered;
        }
        if report.is_none() && since >= total {
            report = window.take().map(|window| window.end("fanout", delivered - counted_from));
            window = None;
        }
        progress((since.as_secs_f64() / total.as_secs_f64()).min(1.0));
        let publishing = report.is_none();
        let mut timeout = Duration::from_millis(100);
        if publishing {
            match plan.rate {
                None => {
                    for room in &mut rooms {
                        let mut any = false;
                        while room.published - room.complete < plan.outstanding as u64 {
                            publish(&mut swarm, dialect, room, &payload, now, listeners);
                            any = true;
                        }
                        if any {
                            swarm.send(room.publisher)?;
                        }
                    }
                }
                Some(rate) => {
                    let due = |number: u64| begun + Duration::from_secs_f64(number as f64 / rate);
                    while due(paced) <= now {
                        let index = paced as usize % rooms.len();
                        let room = &mut rooms[index];
                        publish(&mut swarm, dialect, room, &payload, due(paced), listeners);
                        swarm.send(room.publisher)?;
                        paced += 1;
                    }
                    timeout = timeout.min(due(paced).saturating_duration_since(Instant::now()));
                }
            }
        } else if rooms.iter().all(|room| room.complete == room.published) || since > total + DRAIN_MAX {
            break;
        }
        if ended > 0 {
            return Err(io::Error::other(format!("the server ended {ended} connections that read")));
        }
        let mut arrived: Option<Instant> = None;
        let mut last_key = usize::MAX;
        if delivered != progressed.0 {
            progressed = (delivered, now);
        } else if now - progressed.1 > STUCK_AFTER && rooms.iter().any(|room| room.complete < room.published)
        {
            return Err(io::Error::other(format!("nothing was delivered for {} s", STUCK_AFTER.as_secs())));
        }
        swarm.turn(timeout, |key, happened| {
            let Some(subscriber) = subscribers.get_mut(key).and_then(Option::as_mut) else { return };
            let len = match happened {
                Happened::Message(len) => len,
                Happened::Ended => {
                    ended += 1;
                    return;
                }
                Happened::Opened | Happened::Refused => return,
            };
            let count = unit.count(len, &mut subscriber.carry);
            // One look at the clock for whatever one read has brought.
            if key != last_key {
                (arrived, last_key) = (None, key);
            }
            let now = *arrived.get_or_insert_with(Instant::now);
            let room = &mut rooms[subscriber.room];
            let ring = room.ring.len() as u64;
            for _ in 0..count {
                let (meant, missing) = &mut room.ring[(subscriber.got % ring) as usize];
                subscriber.got += 1;
                delivered += 1;
                latencies.record(now.saturating_duration_since(*meant), 1);
                *missing = missing.saturating_sub(1);
                if *missing == 0 {
                    room.complete += 1;
                }
            }
        })?;
    }
    let mut report: Report = report.unwrap_or_default();
    let exact = |subscriber: &Subscriber| subscriber.got == rooms[subscriber.room].published;
    report.exact = Some(subscribers.iter().flatten().all(exact));
    report.latency_ms = latencies.percentiles();
    if !stopped.is_empty() {
        report.stopped_connected = Some(still_connected(&mut swarm, &stopped)?);
    }
    Ok(report)
}

fn publish(
    swarm: &mut Swarm<'_>,
    dialect: &dyn Dialect,
    room: &mut Room,
    payload: &str,
    meant: Instant,
    listeners: usize,
) {
    swarm.put(room.publisher, &dialect.publish(&room.name, room.published, payload));
    let ring = room.ring.len() as u64;
    room.ring[(room.published % ring) as usize] = (meant, listeners);
    room.published += 1;
}

/// How many of those that did not read were not ended meanwhile: they read what waits, and see.
fn still_connected(swarm: &mut Swarm<'_>, stopped: &[usize]) -> io::Result<usize> {
    for key in stopped {
        swarm.stop_reading(*key, false)?;
    }
    let mut ended = 0;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        swarm.turn(Duration::from_millis(20), |key, happened| {
            last = Instant::now();
            if matches!(happened, Happened::Ended) && stopped.contains(&key) {
                ended += 1;
            }
        })?;
    }
    Ok(stopped.len() - ended)
}
