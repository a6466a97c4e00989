//! A run: what is there, what happens to it, and what has to hold at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::client::{Order, Seen, Shell};
use crate::judge::SMALL;
use crate::line::Line;
use crate::nodes::Nodes;
use crate::plant::Plant;
use crate::random::Random;
use crate::redis::{Fault, Redis};
use crate::trace::{Trace, note};
use crate::truth::Truth;

/// A node that has diverged says so within this time of calm.
const TOLD_MAX: Duration = Duration::from_secs(15);
/// A connection through which nothing goes is given up within this time; until then the broker can't be reached.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// All is well again within this time of calm: a client takes 75 s of silence, and gives a request 120 s.
const SETTLED_MAX: Duration = Duration::from_secs(240);
/// How often is looked whether it is.
const LOOK: Duration = Duration::from_millis(250);
/// A room remembers eight earlier epochs. More would be told as losses.
const EPOCHS_MAX: usize = 7;
const ORDERS_MAX: usize = 4096;

/// What a run came to.
#[derive(Clone, Default, Debug)]
pub(crate) struct Report {
    pub(crate) trace: (u64, u64),
    pub(crate) broken: Vec<String>,
    pub(crate) events: u64,
    pub(crate) acked: u64,
    pub(crate) resets: u64,
    pub(crate) epochs: u64,
    pub(crate) skips: u64,
    pub(crate) connections: u64,
    pub(crate) faults: u64,
    pub(crate) simulated: Duration,
}

struct Member {
    line: Line,
    orders: mpsc::Sender<Order>,
    seen: Arc<Mutex<Seen>>,
}

struct Scenario {
    random: Random,
    truth: Arc<Mutex<Truth>>,
    trace: Trace,
    redis: Redis,
    nodes: Nodes,
    members: Vec<Member>,
    rooms: Vec<String>,
    connections: usize,
    /// Whether anything may be lost for good.
    loses: bool,
    epochs: usize,
    faults: u64,
}

/// Runs a seed, on this thread and in no time.
pub(crate) fn run(seed: u64, plant: Option<Plant>, printed: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let began = Instant::now();
        let mut scenario = Scenario::new(seed, plant, printed);
        scenario.chaos().await;
        let mut broken = scenario.calm().await;
        broken.extend(scenario.end());
        scenario.report(broken, began.elapsed())
    })
}

impl Scenario {
    fn new(seed: u64, plant: Option<Plant>, printed: bool) -> Self {
        let mut random = Random::new(seed);
        let (truth, trace) = (Arc::<Mutex<Truth>>::default(), Trace::new(printed));
        let redis = Redis::new(random.fork(), plant, Arc::clone(&truth), trace.clone());
        let nodes = Nodes::new(redis.clone(), seed);
        let connections = random.between(1, 2);
        for _ in 0..random.between(2, 3) {
            nodes.start(connections);
        }
        let mut rooms = vec!["one".to_owned(), format!("{SMALL}two"), "three".to_owned()];
        rooms.truncate(random.between(1, 3));
        let mut members = Vec::new();
        for number in 0..random.between(2, 5) {
            let line = Line::new(random.fork());
            let (orders, obeyed) = mpsc::channel(ORDERS_MAX);
            let seen = Arc::<Mutex<Seen>>::default();
            let shell = Shell::new(
                number,
                random.fork(),
                line.clone(),
                nodes.clone(),
                obeyed,
                Arc::clone(&seen),
                Arc::clone(&truth),
                trace.clone(),
            );
            drop(tokio::spawn(shell.run()));
            members.push(Member { line, orders, seen });
        }
        let loses = !seed.is_multiple_of(3);
        Self { random, truth, trace, redis, nodes, members, rooms, connections, loses, epochs: 0, faults: 0 }
    }

    async fn chaos(&mut self) {
        let until = Instant::now() + self.random.millis(8000, 30_000);
        for index in 0..self.members.len() {
            for room in self.rooms.clone() {
                if self.random.permille(850) {
                    self.order(index, Order::Join { room, history: 0 });
                }
            }
        }
        self.redis.set_calm(false);
        // Busy times and quiet ones.
        let mut pace = 100;
        while Instant::now() < until {
            if self.random.permille(20) {
                pace = [20, 100, 400, 3000][self.random.below(4)];
            }
            let pause = self.random.millis(1, 2 * pace);
            sleep_until(Instant::now() + pause).await;
            self.happen();
        }
    }

    fn happen(&mut self) {
        let index = self.random.below(self.members.len());
        let room = self.rooms[self.random.below(self.rooms.len())].clone();
        let follows = self.members[index].seen.lock().positions.contains_key(&room);
        match self.random.below(1000) {
            0..=599 if follows => self.order(index, Order::Publish(room)),
            600..=679 if follows => self.order(index, Order::Tell(room)),
            680..=699 if follows => self.order(index, Order::Leave(room)),
            0..=719 if !follows => {
                let history = if self.random.permille(300) { 5 } else { 0 };
                self.order(index, Order::Join { room, history });
            }
            720..=759 => self.order(index, Order::Move),
            760..=809 => self.members[index].line.cut_after(self.random.below(2000)),
            810..=814 => self.members[index].line.silence(),
            815..=829 => self.replace_node(),
            830..=999 => self.fault(),
            _ => {}
        }
    }

    fn replace_node(&mut self) {
        let before = self.nodes.count();
        if before > 1 {
            let node = self.nodes.kill(self.random.below(8));
            note!(self.trace, "node", "{node} dies");
            self.members.iter().for_each(|member| member.line.cut_from(node));
        }
        if before == 1 || self.random.permille(700) {
            self.nodes.start(self.connections);
        }
    }

    fn fault(&mut self) {
        let fault = match self.random.below(100) {
            0..=24 => Fault::Cut,
            25..=29 => Fault::CutAll,
            30..=36 => Fault::Silence,
            37..=44 => Fault::Hang(self.random.millis(100, 4000)),
            45..=64 => Fault::LoseMessages([0, 0, 20, 200, 900][self.random.below(5)]),
            65..=70 => Fault::Handover,
            71..=73 => Fault::Restart,
            74..=75 => Fault::ForgetScripts,
            76..=81 => Fault::Save,
            _ if !self.loses => Fault::Cut,
            82..=87 => Fault::Failover,
            88..=92 => Fault::Split,
            93..=95 => Fault::RestartOld,
            96..=97 => Fault::Wipe,
            _ => Fault::LoseKey,
        };
        let begins_epochs = matches!(
            fault,
            Fault::Handover | Fault::Restart | Fault::Failover | Fault::Split | Fault::RestartOld
        );
        self.epochs += usize::from(begins_epochs);
        if begins_epochs && self.epochs > EPOCHS_MAX {
            return;
        }
        self.faults += 1;
        self.redis.suffer(fault);
    }

    fn order(&self, index: usize, order: Order) {
        // One that has too many orders does not get this one.
        let _ = self.members[index].orders.try_send(order);
    }

    /// Nothing more goes wrong: what has to come right, and when.
    async fn calm(&mut self) -> Vec<String> {
        note!(self.trace, "scenario", "calm");
        self.redis.set_calm(true);
        let since = Instant::now();
        let told_until =
            since + TOLD_MAX + if self.redis.has_silent() { SILENCE_MAX } else { Duration::ZERO };
        // Whoever is connected all the time is told by its node.
        let mut awaited = BTreeSet::new();
        for (index, member) in self.members.iter().enumerate() {
            let is_silent = member.line.is_silent();
            member.line.set_calm(true);
            let seen = member.seen.lock();
            if seen.connected_at.is_some() && !is_silent {
                awaited.extend(seen.positions.keys().map(|room| (index, room.clone())));
            }
        }
        loop {
            let now = Instant::now();
            awaited.retain(|(index, room)| {
                let seen = self.members[*index].seen.lock();
                let stays = seen.connected_at.is_some_and(|at| at <= since);
                let Some(position) = seen.positions.get(room).filter(|_| stays) else { return false };
                *position != self.redis.position(room)
            });
            let mut broken = Vec::new();
            if now >= told_until {
                broken = awaited
                    .iter()
                    .map(|(index, room)| {
                        let position = self.members[*index].seen.lock().positions.get(room).cloned();
                        let master = self.redis.position(room);
                        format!(
                            "I4: client {index} is at {position:?} in {room} and the broker at {master:?}"
                        )
                    })
                    .collect();
            } else if now >= since + SETTLED_MAX {
                broken = self.unsettled();
            }
            let is_settled = awaited.is_empty() && self.unsettled().is_empty();
            if is_settled || !broken.is_empty() || now >= since + SETTLED_MAX {
                return broken;
            }
            sleep_until(now + LOOK).await;
        }
    }

    /// What is not as it should be in the end.
    fn unsettled(&self) -> Vec<String> {
        let mut unsettled = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let seen = member.seen.lock();
            if seen.connected_at.is_none() || seen.waiting > 0 {
                unsettled.push(format!("client {index} never settles: {} wait", seen.waiting));
            }
            for (room, position) in &seen.positions {
                let master = self.redis.position(room);
                if *position != master {
                    unsettled
                        .push(format!("I4: client {index} ends at {position:?} in {room}, not {master:?}"));
                }
            }
        }
        unsettled
    }

    /// What is stored in the end is what was promised.
    fn end(&self) -> Vec<String> {
        let truth = self.truth.lock();
        let mut broken = truth.broken.clone();
        for room in &self.rooms {
            let Some((epoch, top)) = self.redis.position(room) else { continue };
            let log: BTreeMap<_, _> = self.redis.log(room).into_iter().collect();
            let mut data: Vec<_> = log.values().collect();
            data.sort();
            let twice = data.windows(2).find(|pair| pair[0] == pair[1]);
            if let (Some(twice), false) = (twice, truth.has_lost_ids(room)) {
                broken.push(format!("I6: {} is stored twice in {room}", twice[0]));
            }
            let acked = self.members.iter().flat_map(|member| member.seen.lock().acked.clone());
            for (_, place, data) in acked.filter(|(of, ..)| of == room) {
                let lives = truth.holds(room, &epoch, &place) && place.1 <= top;
                if !lives && truth.losses(room) == 0 {
                    broken.push(format!("I5: {data} was acked as {room} {place:?}, and is lost"));
                }
                if lives && log.get(&place.1).is_some_and(|stored| *stored != data) {
                    broken.push(format!(
                        "I5: {data} was acked as {room} {place:?}, where {:?} is",
                        log.get(&place.1)
                    ));
                }
            }
        }
        broken
    }

    fn report(&self, broken: Vec<String>, simulated: Duration) -> Report {
        let mut report =
            Report { trace: self.trace.sum(), broken, faults: self.faults, simulated, ..Report::default() };
        for member in &self.members {
            let seen = member.seen.lock();
            report.events += seen.events;
            report.acked += seen.acked.len() as u64;
            report.resets += seen.resets;
            report.epochs += seen.epochs;
            report.skips += seen.skips;
            report.connections += seen.connections;
        }
        report
    }
}
