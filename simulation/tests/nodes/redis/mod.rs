//! Redis in memory: two servers of which one is the master, with what may happen to them.
//!
//! The nodes reach it through the production's own client and scripts; what is written here is what stands behind them:
//! keys, commands, pub/sub, replication, and faults.

mod connections;
mod data;
mod faults;
mod lua;
mod reply;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::plant::Plant;
use crate::random::Random;
use crate::trace::{Trace, note};
use crate::truth::Truth;
use connections::Connection;
use data::Data;
pub(crate) use faults::Fault;
use lua::{Commands, Interpreter};
use reply::Reply;

/// Where the servers' calendar begins, in milliseconds since 1970.
const UNIX_START_MS: u64 = 1_795_468_800_000;
/// What stands before a room's name in its keys, and after it.
const KEY: (&str, char) = ("tidings:1:{", '}');

/// The servers, and whoever is connected to them.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Mutex<World>>);

pub(crate) struct World {
    servers: [Server; 2],
    /// The one that a new connection leads to.
    primary: usize,
    /// The other has not heard yet that it is no master any more.
    split: bool,
    lua: Interpreter,
    connections: BTreeMap<u64, Connection>,
    connections_made: u64,
    random: Random,
    /// So many of a thousand messages don't reach a subscriber.
    lost_permille: usize,
    /// The network between nodes and servers is at its best.
    calm: bool,
    plant: Option<Plant>,
    truth: Arc<Mutex<Truth>>,
    trace: Trace,
    began: Instant,
}

struct Server {
    data: Data,
    /// As it was at some earlier time, for a restart from an old file.
    snapshot: Data,
    lineage: String,
    is_master: bool,
    /// Nothing is carried out before.
    hangs_until: Instant,
    scripts: BTreeSet<String>,
}

impl Redis {
    pub(crate) fn new(random: Random, plant: Option<Plant>, truth: Arc<Mutex<Truth>>, trace: Trace) -> Self {
        let mut random = random;
        let mut server = |is_master| Server {
            data: Data::default(),
            snapshot: Data::default(),
            lineage: lineage(&mut random),
            is_master,
            hangs_until: Instant::now(),
            scripts: BTreeSet::new(),
        };
        let mut servers = [server(true), server(false)];
        servers[1].lineage = servers[0].lineage.clone();
        Self(Arc::new(Mutex::new(World {
            servers,
            primary: 0,
            split: false,
            lua: Interpreter::new(),
            connections: BTreeMap::new(),
            connections_made: 0,
            random,
            lost_permille: 0,
            calm: true,
            plant,
            truth,
            trace,
            began: Instant::now(),
        })))
    }

    /// Where a room's log stands at the master; none if it has none.
    pub(crate) fn position(&self, room: &str) -> Option<(String, u64)> {
        let world = self.0.lock();
        world.servers[world.primary].data.position(room)
    }

    /// What the master stores of a room, by offset.
    pub(crate) fn log(&self, room: &str) -> Vec<(u64, String)> {
        let world = self.0.lock();
        let key = key(room, "log");
        let members = world.servers[world.primary].data.members(&key);
        members
            .filter_map(|(offset, member)| Some((*offset as u64, crate::truth::data_of(member)?)))
            .collect()
    }
}

impl World {
    fn now_ms(&self) -> u64 {
        UNIX_START_MS + self.began.elapsed().as_millis() as u64
    }

    /// Carries out a command; what is to be said to who sent it, which may be several things.
    fn execute(&mut self, connection: u64, command: &[Bytes]) -> Vec<Reply> {
        let Some(server) = self.connections.get(&connection).map(|connection| connection.server) else {
            return Vec::new();
        };
        let name = String::from_utf8_lossy(&command[0]).to_ascii_uppercase();
        let reply = match &*name {
            "HELLO" => Reply::Map(vec![(Reply::text("server"), Reply::text("redis"))]),
            "CLIENT" => Reply::Status("OK"),
            "SUBSCRIBE" | "UNSUBSCRIBE" => return self.subscribe(connection, &name, &command[1..]),
            "PUBLISH" => {
                self.publish(server, &command[1], &command[2]);
                Reply::Number(1)
            }
            "SCRIPT" => Reply::text(&self.load(server, &command[2])),
            "EVAL" => {
                let sha = self.load(server, &command[1]);
                self.evaluate(connection, server, &sha, &command[2..])
            }
            "EVALSHA" => {
                let sha = String::from_utf8_lossy(&command[1]).into_owned();
                if self.servers[server].scripts.contains(&sha) && self.lua.knows(&sha) {
                    self.evaluate(connection, server, &sha, &command[2..])
                } else {
                    Reply::Failed("NOSCRIPT No matching script".to_owned())
                }
            }
            _ => Reply::Failed(format!("ERR unknown command '{name}'")),
        };
        vec![reply]
    }

    fn load(&mut self, server: usize, script: &Bytes) -> String {
        let text = std::str::from_utf8(script).expect("a script is text");
        let run = self.plant.map_or_else(|| text.to_owned(), |plant| plant.in_script(text));
        let sha = self.lua.load(script, &run);
        self.servers[server].scripts.insert(sha.clone());
        sha
    }

    fn evaluate(&mut self, connection: u64, server: usize, sha: &str, rest: &[Bytes]) -> Reply {
        let keys: usize = std::str::from_utf8(&rest[0]).unwrap().parse().unwrap();
        let (keys, argv) = rest[1..].split_at(keys);
        let is_read = argv.len() == 5 && keys.len() == 4;
        if self.plant == Some(Plant::NoPositions)
            && argv.len() == 2
            && keys.first().is_some_and(|key| key.ends_with(b":meta"))
        {
            return Reply::Failed("ERR no positions".to_owned());
        }
        let now_ms = self.now_ms();
        let old_read = is_read && self.plant == Some(Plant::OldReads);
        let Server { data, snapshot, lineage, is_master, .. } = &mut self.servers[server];
        let data = if old_read { snapshot } else { data };
        let mut running = Running { data, lineage, is_master: *is_master, now_ms, published: Vec::new() };
        let reply = self.lua.run(sha, keys, argv, &mut running);
        let published = running.published;
        self.note_rooms(server, keys);
        if let (true, Reply::Array(answers)) = (keys.len() == 4 && argv.len() > 8, &reply) {
            self.note_answers(server, &keys[0], answers);
        }
        for (channel, message) in published {
            self.publish(server, &channel, &message);
        }
        if let (true, Reply::Array(page)) = (is_read, &reply)
            && let (Some(Reply::Text(epoch)), Some(Reply::Text(top))) = (page.first(), page.get(1))
            && let Some(connection) = self.connections.get_mut(&connection)
        {
            let channel = keys[1].slice(..keys[1].len() - ":log".len());
            let top = std::str::from_utf8(top).ok().and_then(|top| top.parse().ok());
            connection.read.insert(channel, (epoch.clone(), top.unwrap_or_default()));
        }
        if let Reply::Failed(error) = &reply
            && !error.starts_with("NOTMASTER")
        {
            note!(self.trace, "redis", "a script failed: {error}");
        }
        if self.random.permille(300) {
            self.replicate();
        }
        reply
    }

    /// What the scripts have made of rooms, for the truth.
    fn note_rooms(&self, server: usize, keys: &[Bytes]) {
        let mut truth = self.truth.lock();
        let data = &self.servers[server].data;
        for key in keys.iter().filter(|key| key.ends_with(b":meta")) {
            if let (Some(room), Some(epoch), Some(parents)) =
                (room_of(key), data.field(key, "epoch"), data.field(key, "parents"))
            {
                let is_new = truth.epoch(&room, epoch, parents);
                if self.split && server != self.primary {
                    let [here, there] =
                        [server, self.primary].map(|server| self.servers[server].data.position(&room));
                    // The other master will never know of it; or this one does not know what the other has, and tells so
                    // whoever comes from there.
                    if is_new || here != there {
                        truth.lost(&room);
                    }
                }
            }
        }
    }

    /// What a publish was answered, for the truth.
    fn note_answers(&self, server: usize, meta: &Bytes, answers: &[Reply]) {
        let room = room_of(meta);
        let epoch = self.servers[server].data.field(meta, "epoch");
        let (Some(room), Some(epoch)) = (room, epoch) else { return };
        for answer in answers {
            let Reply::Text(answer) = answer else { continue };
            let answer = String::from_utf8_lossy(answer);
            // `sEPOCH.OFFSET`, `dEPOCH.OFFSET`
            if let Some((place, offset)) = answer.split_once('.')
                && let Ok(offset) = offset.parse()
            {
                let epoch = String::from_utf8_lossy(epoch);
                self.truth.lock().answered(&room, &epoch, &(place[1..].to_owned(), offset));
            }
        }
    }

    /// Sends a message to whoever subscribes, at this server and at those that follow it.
    fn publish(&mut self, server: usize, channel: &Bytes, message: &Bytes) {
        if let Some(room) = room_of(channel) {
            if self.split && server != self.primary {
                self.truth.lock().lost(&room);
            }
            self.truth.lock().published(&room, message);
        }
        for connection in self.connections.values_mut() {
            let follows = connection.server == server || (server == self.primary && !self.split);
            if !follows || !connection.channels.contains(channel) {
                continue;
            }
            if self.random.permille(self.lost_permille) {
                note!(self.trace, "redis", "a message is lost on its way to {}", connection.node);
                continue;
            }
            let message = match (self.plant, connection.read.get_mut(channel)) {
                (Some(plant), Some(read)) => plant.in_message(message, read),
                _ => message.clone(),
            };
            let push = [Reply::text("message"), Reply::Text(channel.clone()), Reply::Text(message)];
            connection.say(&Reply::Push(push.into()));
        }
    }

    fn subscribe(&mut self, connection: u64, name: &str, channels: &[Bytes]) -> Vec<Reply> {
        let Some(connection) = self.connections.get_mut(&connection) else { return Vec::new() };
        let mut replies = Vec::new();
        for channel in channels {
            if name == "SUBSCRIBE" {
                connection.channels.insert(channel.clone());
            } else {
                connection.channels.remove(channel);
            }
            let count = Reply::Number(connection.channels.len() as i64);
            let name = Reply::text(&name.to_ascii_lowercase());
            replies.push(Reply::Push(vec![name, Reply::Text(channel.clone()), count]));
        }
        replies
    }

    /// The other server has all that the master has.
    fn replicate(&mut self) {
        if !self.split {
            let data = self.servers[self.primary].data.clone();
            let lineage = self.servers[self.primary].lineage.clone();
            let other = &mut self.servers[1 - self.primary];
            (other.data, other.lineage) = (data, lineage);
        }
    }

    /// How long something takes on its way.
    fn delay(&mut self) -> Duration {
        match (self.calm, self.random.below(100)) {
            (false, 0) => self.random.millis(100, 900),
            (false, 1..=4) => self.random.millis(10, 100),
            _ => Duration::from_micros(self.random.between(200, 4000) as u64),
        }
    }
}

/// A script that is being run.
struct Running<'a> {
    data: &'a mut Data,
    lineage: &'a str,
    is_master: bool,
    now_ms: u64,
    published: Vec<(Bytes, Bytes)>,
}

impl Commands for Running<'_> {
    fn call(&mut self, name: &str, args: &[Bytes]) -> Result<Reply, String> {
        match (name, args) {
            ("INFO", _) => {
                let role = if self.is_master { "master" } else { "slave" };
                Ok(Reply::text(&format!("role:{role}\r\nmaster_replid:{}\r\n", self.lineage)))
            }
            ("TIME", _) => {
                let (seconds, micros) = (self.now_ms / 1000, self.now_ms % 1000 * 1000);
                Ok(Reply::Array(vec![Reply::text(&seconds.to_string()), Reply::text(&micros.to_string())]))
            }
            ("PUBLISH" | "SPUBLISH", [channel, message]) => {
                self.published.push((channel.clone(), message.clone()));
                Ok(Reply::Number(1))
            }
            _ if !self.is_master => Err("READONLY You can't write against a read only replica.".to_owned()),
            _ => self.data.command(name, args, self.now_ms),
        }
    }
}

impl Data {
    fn position(&self, room: &str) -> Option<(String, u64)> {
        let key = key(room, "meta");
        let text = |field| self.field(&key, field).map(|text| String::from_utf8_lossy(text).into_owned());
        Some((text("epoch")?, text("seq")?.parse().ok()?))
    }
}

fn lineage(random: &mut Random) -> String {
    format!("{:016x}{:016x}{:08x}", random.next(), random.next(), random.next() as u32)
}

fn key(room: &str, part: &str) -> Vec<u8> {
    format!("{}{room}{}:{part}", KEY.0, KEY.1).into_bytes()
}

/// The room of a key or channel.
fn room_of(key: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(KEY.0)?;
    Some(rest.split_once(KEY.1)?.0.to_owned())
}
