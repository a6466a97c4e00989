//! Which link carries a room: one of a few that are fixed, or in a cluster one of those to the master of its slot.
//!
//! A cluster's slots move, and its masters change. Then a room's link changes: it is let go of at the old one and taken
//! up at the new one, where it heals like after any lost connection.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{ConnectionAddr, ConnectionInfo};
use tidings_protocol::event_id::RoomId;
use tracing::{debug, info, warn};

use super::Shared;
use super::address::Place;
use super::link::Link;
use super::publishing::Publishing;
use super::slots::{self, Server, SlotMap};
use crate::room::Room;

/// A cluster is not asked for its slots more often, whatever happens.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// So often in a row an older map is not believed: those who know better may be slow. After that it is another cluster.
const DOUBTS_MAX: u32 = 20;
/// And at least so often while something is amiss.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The links of a node, and which carries what.
pub(super) struct Routes {
    pub(super) shared: Arc<Shared>,
    connections: usize,
    table: RwLock<Table>,
    /// Rooms that somebody wants and no link carries: the next look at the cluster's slots finds them one.
    homeless: Mutex<HashMap<RoomId, Arc<Room>>>,
    pub(super) publishing: Publishing,
}

enum Table {
    Fixed(Vec<Arc<Link>>),
    Cluster { map: SlotMap, shards: HashMap<Server, Shard> },
}

/// The links to one master.
struct Shard {
    /// Their probes' hash tag, whose slot is that master's.
    tag: String,
    links: Vec<Arc<Link>>,
}

impl Table {
    fn link(&self, tag: &str) -> Option<&Arc<Link>> {
        let links = match self {
            Self::Fixed(links) => links,
            Self::Cluster { map, shards } => &shards.get(map.master(slots::slot_of(tag))?)?.links,
        };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tag);
        links.get(hash as usize % links.len().max(1))
    }

    fn links(&self) -> Vec<Arc<Link>> {
        match self {
            Self::Fixed(links) => links.clone(),
            Self::Cluster { shards, .. } => {
                shards.values().flat_map(|shard| shard.links.iter().cloned()).collect()
            }
        }
    }
}

impl Routes {
    /// Links to one master.
    pub(super) fn fixed(shared: Arc<Shared>, connections: usize, place: &Place) -> Arc<Self> {
        let routes = Self::new(shared, connections, Table::Fixed(Vec::new()));
        let links = routes.open(place, None);
        *routes.table.write() = Table::Fixed(links);
        routes
    }

    /// Links to every master of a cluster, once [`Routes::follow`] has found them.
    pub(super) fn cluster(shared: Arc<Shared>, connections: usize) -> Arc<Self> {
        let table = Table::Cluster { map: SlotMap::default(), shards: HashMap::new() };
        Self::new(shared, connections, table)
    }

    fn new(shared: Arc<Shared>, connections: usize, table: Table) -> Arc<Self> {
        let (table, homeless, publishing) = (RwLock::new(table), Mutex::default(), Publishing::default());
        Arc::new(Self { shared, connections, table, homeless, publishing })
    }

    fn open(self: &Arc<Self>, place: &Place, tag: Option<&str>) -> Vec<Arc<Link>> {
        let link =
            |index| Link::new(Arc::clone(&self.shared), Arc::downgrade(self), place.clone(), index, tag);
        let links: Vec<_> = (0..self.connections).map(link).collect();
        for link in &links {
            drop(self.shared.runtime.spawn(Arc::clone(link).run()));
        }
        links
    }

    /// The link that carries what has this hash tag, as a room's name is one: always the same while the cluster's slots
    /// stay where they are. None while nobody is known to have them.
    pub(super) fn link(&self, tag: &str) -> Option<Arc<Link>> {
        self.table.read().link(tag).cloned()
    }

    /// The first of a few fixed links.
    pub(super) fn first(&self) -> Option<Arc<Link>> {
        match &*self.table.read() {
            Table::Fixed(links) => links.first().cloned(),
            Table::Cluster { .. } => None,
        }
    }

    /// A room is held now, or is not any more.
    pub(super) fn touch(&self, room: &Arc<Room>) {
        // Held meanwhile, so that a link which is let go of has nobody new.
        let table = self.table.read();
        match table.link(room.id.as_str()) {
            Some(link) => link.touch(room),
            None => drop(self.homeless.lock().insert(room.id.clone(), Arc::clone(room))),
        }
    }

    /// A link's server says that it does not carry this room, or not any more.
    pub(super) fn stray(&self, room: Arc<Room>) {
        self.homeless.lock().insert(room.id.clone(), room);
        self.shared.slots_moved.notify_one();
    }

    /// Whether what is published comes back through every link.
    pub(super) fn is_ready(&self) -> bool {
        let table = self.table.read();
        let is_whole = match &*table {
            Table::Fixed(_) => true,
            Table::Cluster { map, .. } => map.is_up && map.slots_without_master() == 0,
        };
        let now = self.shared.env.now();
        is_whole && table.links().iter().all(|link| link.probe.is_ready(now))
    }

    /// Every link to another server than this one connects anew.
    pub(super) fn leave_all_but(&self, master: &ConnectionAddr) {
        for link in self.table.read().links() {
            link.leave_all_but(master);
        }
    }

    /// Ends every link.
    pub(super) fn stop(&self) {
        for link in self.table.read().links() {
            link.retire();
        }
    }

    /// Keeps the links in line with a cluster's slots.
    pub(super) async fn follow(self: Arc<Self>, seeds: Vec<ConnectionInfo>) {
        let Some(like) = seeds.first().cloned() else { return };
        let (mut told, mut doubts) = (false, 0);
        loop {
            let asked = self.servers(&seeds, &like);
            match slots::ask(&asked).await {
                Ok(map) if doubts < DOUBTS_MAX && self.knows_better(&map) => doubts += 1,
                Ok(map) => {
                    (told, doubts) = (false, 0);
                    self.take(map, &like);
                }
                Err(error) if !told => {
                    warn!(%error, "no server says where the cluster's slots are: asking again");
                    told = true;
                }
                Err(error) => debug!(%error, "no server says where the cluster's slots are"),
            }
            let homeless = std::mem::take(&mut *self.homeless.lock());
            for room in homeless.values() {
                self.touch(room);
            }
            #[expect(clippy::disallowed_methods, reason = "not more often, however many ask for it")]
            tokio::time::sleep(ASK_INTERVAL).await;
            let moved = self.shared.slots_moved.notified();
            if doubts == 0 && self.is_well() {
                moved.await;
            } else {
                // Whether it was told or has waited long enough.
                let _ = tokio::time::timeout(ASK_AGAIN, moved).await;
            }
        }
    }

    /// Those who can say where the slots are: not always the same ones first, for these may be gone.
    fn servers(&self, seeds: &[ConnectionInfo], like: &ConnectionInfo) -> Vec<ConnectionInfo> {
        let mut servers = match &*self.table.read() {
            Table::Cluster { map, .. } => map.masters().iter().map(|master| master.info(like)).collect(),
            Table::Fixed(_) => Vec::new(),
        };
        for seed in seeds {
            if !servers.iter().any(|server: &ConnectionInfo| server.addr() == seed.addr()) {
                servers.push(seed.clone());
            }
        }
        let first = self.shared.env.random() as usize % servers.len().max(1);
        servers.rotate_left(first);
        servers
    }

    fn knows_better(&self, map: &SlotMap) -> bool {
        matches!(&*self.table.read(), Table::Cluster { map: known, .. } if map.is_older_than(known))
    }

    fn is_well(&self) -> bool {
        let table = self.table.read();
        let Table::Cluster { map, .. } = &*table else { return true };
        let is_connected = |link: &Arc<Link>| link.connected().is_some();
        map.is_up && map.slots_without_master() == 0 && table.links().iter().all(is_connected)
    }

    /// Takes what a cluster says of its slots: links to new masters begin, those to others end, and every room goes to
    /// the link that carries it now.
    fn take(self: &Arc<Self>, new: SlotMap, like: &ConnectionInfo) {
        let mut table = self.table.write();
        let Table::Cluster { map, shards } = &mut *table else { return };
        if *map == new {
            return;
        }
        let is_gone =
            |server: &Server, shard: &mut Shard| new.master(slots::slot_of(&shard.tag)) != Some(server);
        let gone: Vec<_> = shards.extract_if(is_gone).collect();
        for server in new.masters() {
            if shards.contains_key(&server) {
                continue;
            }
            let Some(tag) = new.tag_at(&server, (0..).map(|number: u64| number.to_string())) else {
                continue;
            };
            let place = Place::Servers(vec![server.info(like)]);
            let links = self.open(&place, Some(&tag));
            shards.insert(server, Shard { tag, links });
        }
        *map = new;
        info!(
            masters = shards.len(),
            slots_without_master = map.slots_without_master(),
            "a cluster's slots are known"
        );
        let mut moved = Vec::new();
        for link in gone.iter().flat_map(|(_, shard)| &shard.links) {
            moved.extend(link.give_up(|_| true));
            link.retire();
        }
        let table = &*table;
        for link in table.links() {
            let is_elsewhere =
                |room: &Room| table.link(room.id.as_str()).is_none_or(|carries| !Arc::ptr_eq(carries, &link));
            moved.extend(link.give_up(is_elsewhere));
        }
        // While nobody can take them up elsewhere yet: what comes after this is that.
        for room in &moved {
            room.disconnected();
        }
        self.homeless.lock().extend(moved.into_iter().map(|room| (room.id.clone(), room)));
    }
}
