//! What happens to servers and to the connections that lead to them.

use std::time::Duration;

use tokio::time::Instant;

use super::data::Data;
use super::{Redis, World, key, lineage, room_of};
use crate::trace::note;

/// What may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// One connection, or all.
    Cut,
    CutAll,
    /// Nothing goes through one any more.
    Silence,
    /// Nothing is carried out for a while.
    Hang(Duration),
    /// From now on so many of a thousand messages are lost.
    LoseMessages(usize),
    /// The other server is promoted when it has everything.
    Handover,
    /// The server is restarted with all that it had.
    Restart,
    /// The script cache is emptied.
    ForgetScripts,
    /// The file for a restart is written.
    Save,
    // From here on something may be lost.
    /// The master dies, and the other server is promoted with what it has.
    Failover,
    /// The other server is promoted with what it has, and the master does not know yet.
    Split,
    /// The server is restarted from an old file.
    RestartOld,
    /// FLUSHALL.
    Wipe,
    /// One key is gone.
    LoseKey,
}

impl Redis {
    pub(crate) fn suffer(&self, fault: Fault) {
        let world = &mut *self.0.lock();
        note!(world.trace, "redis", "{fault:?}");
        let primary = world.primary;
        match fault {
            Fault::Cut => {
                if let Some(number) = world.any_connection() {
                    world.cut(number);
                }
            }
            Fault::CutAll => world.cut_where(|_| true),
            Fault::Silence => {
                if let Some(number) = world.any_connection()
                    && let Some(connection) = world.connections.get_mut(&number)
                {
                    connection.silent = true;
                }
            }
            Fault::Hang(time) => world.servers[primary].hangs_until = Instant::now() + time,
            Fault::LoseMessages(permille) => world.lost_permille = permille,
            Fault::Handover => {
                world.end_split();
                world.replicate();
                world.promote();
                let keeps_connections = world.random.permille(500);
                if !keeps_connections {
                    world.cut_where(|connection| connection.server == primary);
                }
            }
            Fault::Restart => world.restart(primary),
            Fault::ForgetScripts => world.servers[primary].scripts.clear(),
            Fault::Save => world.servers[primary].snapshot = world.servers[primary].data.clone(),
            Fault::Failover => {
                world.end_split();
                world.compare(&world.servers[primary].data, &world.servers[1 - primary].data);
                world.promote();
                world.cut_where(|connection| connection.server == primary);
            }
            Fault::Split => {
                world.end_split();
                world.compare(&world.servers[primary].data, &world.servers[1 - primary].data);
                world.promote();
                world.servers[primary].is_master = true;
                world.split = true;
            }
            Fault::RestartOld => {
                let old = world.servers[primary].snapshot.clone();
                world.compare(&world.servers[primary].data, &old);
                world.servers[primary].data = old;
                world.restart(primary);
            }
            Fault::Wipe => {
                world.compare(&world.servers[primary].data, &Data::default());
                world.servers[primary].data.clear();
            }
            Fault::LoseKey => world.lose_key(),
        }
    }

    /// From now on or until now the network is at its best, there is one master, and nobody loses anything.
    pub(crate) fn set_calm(&self, calm: bool) {
        let world = &mut *self.0.lock();
        world.calm = calm;
        if calm {
            world.lost_permille = 0;
            world.end_split();
            world.replicate();
            let now = Instant::now();
            world.servers.iter_mut().for_each(|server| server.hangs_until = now);
        }
    }

    /// Whether there are connections through which nothing goes.
    pub(crate) fn has_silent(&self) -> bool {
        self.0.lock().connections.values().any(|connection| connection.silent)
    }

    /// A node's machine is gone.
    pub(crate) fn cut_node(&self, node: usize) {
        self.0.lock().cut_where(|connection| connection.node == node);
    }
}

impl World {
    fn any_connection(&mut self) -> Option<u64> {
        let count = self.connections.len();
        let index = (count > 0).then(|| self.random.below(count))?;
        self.connections.keys().nth(index).copied()
    }

    /// The other server is the master now.
    fn promote(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        self.servers[new].lineage = lineage(&mut self.random);
        self.servers[new].is_master = true;
        self.servers[old].is_master = false;
        self.servers[old].hangs_until = Instant::now();
        self.primary = new;
    }

    /// Whoever was a master beside the master hears that it is none, and takes over all that the master has.
    fn end_split(&mut self) {
        if !self.split {
            return;
        }
        let other = 1 - self.primary;
        self.compare(&self.servers[other].data, &self.servers[self.primary].data);
        self.split = false;
        self.servers[other].is_master = false;
        self.replicate();
        if self.random.permille(500) {
            self.cut_where(|connection| connection.server == other);
        }
    }

    fn restart(&mut self, server: usize) {
        self.servers[server].lineage = lineage(&mut self.random);
        self.servers[server].scripts.clear();
        self.cut_where(|connection| connection.server == server);
        self.replicate();
    }

    /// Counts a loss for every room of which `new` is not all that `old` is.
    fn compare(&self, old: &Data, new: &Data) {
        for meta in old.keys_ending(":meta") {
            let Some(room) = room_of(&meta) else { continue };
            let log = key(&room, "log");
            let has_all =
                old.position(&room) == new.position(&room) && old.members(&log).eq(new.members(&log));
            if !has_all {
                self.truth.lock().lost(&room);
                note!(
                    self.trace,
                    "redis",
                    "{room}: {:?} became {:?}",
                    old.position(&room),
                    new.position(&room)
                );
            }
        }
    }

    fn lose_key(&mut self) {
        let part = [":meta", ":log", ":ids:0", ":ids:1"][self.random.below(4)];
        let keys = self.servers[self.primary].data.keys_ending(part);
        if keys.is_empty() {
            return;
        }
        let key = &keys[self.random.below(keys.len())];
        self.servers[self.primary].data.delete(key);
        note!(self.trace, "redis", "{} is gone", String::from_utf8_lossy(key));
        if let Some(room) = room_of(key) {
            let mut truth = self.truth.lock();
            match part {
                ":log" => truth.log_lost(&room),
                ":meta" => truth.lost(&room),
                _ => {}
            }
            truth.ids_lost(&room);
        }
    }
}
