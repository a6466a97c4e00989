//! Which link carries a room: one of a few that are fixed, or in a cluster one of those to the master of its slot.
//!
//! A cluster's slots move, and its masters change. Then a room's link changes: it is let go of at the old one and taken
//! up at the new one, where it heals like after any lost connection.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::iter;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::{ConnectionAddr, ConnectionInfo};
use tidings_protocol::event_id::RoomId;
use tracing::{debug, info, warn};

use super::Shared;
use super::address::Place;
use super::link::Link;
use super::probe::Probe;
use super::publishing::Publishing;
use super::slots::{self, Server, SlotMap};
use super::user_keys::CONTROL_TAG;
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
    /// The link of what is neither a room's nor a user's: always one, so that it keeps its order. In a cluster it carries
    /// nothing else, and leads to wherever the slot of that is.
    pub(super) control: Arc<Link>,
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
    master: ConnectionInfo,
    /// Their probes' hash tag, whose slot is that master's.
    tag: String,
    links: Vec<Arc<Link>>,
}

impl Table {
    fn link(&self, tag: &str) -> Option<&Arc<Link>> {
        let links = match self {
            Self::Fixed(links) => links,
            Self::Cluster { .. } => &self.shard(tag)?.links,
        };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tag);
        links.get(hash as usize % links.len().max(1))
    }

    fn shard(&self, tag: &str) -> Option<&Shard> {
        let Self::Cluster { map, shards } = self else { return None };
        shards.get(map.master(slots::slot_of(tag))?)
    }

    /// The links that carry rooms.
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
        let routes = Arc::new_cyclic(|routes| {
            let control = control_link(&shared, routes, place.clone(), None);
            let others = (1..connections).map(|index| link(&shared, routes, place.clone(), index, None));
            let links = iter::once(Arc::clone(&control)).chain(others).collect();
            Self::new(shared, connections, control, Table::Fixed(links))
        });
        routes.run(&routes.links());
        routes
    }

    /// Links to every master of a cluster, once [`Routes::follow`] has found them.
    pub(super) fn cluster(shared: Arc<Shared>, connections: usize) -> Arc<Self> {
        Arc::new_cyclic(|routes| {
            let place = Place::Slot { tag: CONTROL_TAG, routes: Weak::clone(routes) };
            let control = control_link(&shared, routes, place, Some(CONTROL_TAG));
            let table = Table::Cluster { map: SlotMap::default(), shards: HashMap::new() };
            Self::new(shared, connections, control, table)
        })
    }

    fn new(shared: Arc<Shared>, connections: usize, control: Arc<Link>, table: Table) -> Self {
        let (table, homeless, publishing) = (RwLock::new(table), Mutex::default(), Publishing::default());
        Self { shared, connections, control, table, homeless, publishing }
    }

    fn run(&self, links: &[Arc<Link>]) {
        for link in links {
            drop(self.shared.runtime.spawn(Arc::clone(link).run()));
        }
    }

    /// The link that carries what has this hash tag, as a room's name is one: always the same while the cluster's slots
    /// stay where they are. None while nobody is known to have them.
    pub(super) fn link(&self, tag: &str) -> Option<Arc<Link>> {
        self.table.read().link(tag).cloned()
    }

    /// The link that carries what is kept for a user under this hash tag: among fixed ones that of the control.
    pub(super) fn link_of_user(&self, tag: &str) -> Option<Arc<Link>> {
        match &*self.table.read() {
            Table::Fixed(_) => Some(Arc::clone(&self.control)),
            table => table.link(tag).cloned(),
        }
    }

    /// How the master is reached that has the slot of this hash tag; none while nobody is known to have it.
    pub(super) fn master(&self, tag: &str) -> Option<ConnectionInfo> {
        self.table.read().shard(tag).map(|shard| shard.master.clone())
    }

    /// Every link.
    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.table.read().links();
        if !links.iter().any(|link| Arc::ptr_eq(link, &self.control)) {
            links.push(Arc::clone(&self.control));
        }
        links
    }

    /// A room is held now, or is not any more.
    pub(super) fn touch(&self, room: &Arc<Room>) {
        // Held meanwhile, so that a link which is let go of has nobody new.
        let table = self.table.read();
        match table.link(room.id.as_str()) {
            Some(link) => link.touch(room),
            None if room.is_held() => drop(self.homeless.lock().insert(room.id.clone(), Arc::clone(room))),
            None => drop(self.homeless.lock().remove(&room.id)),
        }
    }

    /// A link's server says that it does not carry this room, or not any more.
    pub(super) fn stray(&self, room: Arc<Room>) {
        self.homeless.lock().insert(room.id.clone(), room);
        self.shared.slots_moved.notify_one();
    }

    /// Whether what is published comes back through every link.
    pub(super) fn is_ready(&self) -> bool {
        let now = self.shared.env.now();
        self.is_whole() && self.links().iter().all(|link| link.probe.is_ready(now))
    }

    fn is_whole(&self) -> bool {
        match &*self.table.read() {
            Table::Fixed(_) => true,
            Table::Cluster { map, .. } => map.is_up && map.slots_without_master() == 0,
        }
    }

    /// Every link to another server than this one connects anew.
    pub(super) fn leave_all_but(&self, master: &ConnectionAddr) {
        for link in self.links() {
            link.leave_all_but(master);
        }
    }

    /// Ends every link.
    pub(super) fn stop(&self) {
        for link in self.links() {
            link.retire();
        }
    }

    /// Keeps the links in line with a cluster's slots.
    pub(super) async fn follow(self: Arc<Self>, seeds: Vec<ConnectionInfo>) {
        let Some(like) = seeds.first().cloned() else { return };
        let (mut told, mut doubts, mut is_known) = (false, 0, false);
        loop {
            let asked = self.servers(&seeds, &like);
            match slots::ask(&asked).await {
                Ok(map) if doubts < DOUBTS_MAX && self.knows_better(&map) => doubts += 1,
                Ok(map) => {
                    (told, doubts) = (false, 0);
                    self.take(map, &like);
                    if !std::mem::replace(&mut is_known, true) {
                        // Before that there is nowhere to connect to.
                        self.run(&[Arc::clone(&self.control)]);
                    }
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
        self.is_whole() && self.links().iter().all(|link| link.connected().is_some())
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
            let master = server.info(like);
            let place = Place::Servers(vec![master.clone()]);
            let routes = Arc::downgrade(self);
            let link = |index| link(&self.shared, &routes, place.clone(), index, Some(&tag));
            let links: Vec<_> = (0..self.connections).map(link).collect();
            self.run(&links);
            shards.insert(server, Shard { master, tag, links });
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
        if let Some(shard) = table.shard(CONTROL_TAG) {
            self.control.leave_all_but(shard.master.addr());
        }
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

fn link(
    shared: &Arc<Shared>,
    routes: &Weak<Routes>,
    place: Place,
    index: usize,
    tag: Option<&str>,
) -> Arc<Link> {
    let probe = Probe::new(shared, index, tag);
    Link::new(Arc::clone(shared), Weak::clone(routes), place, probe, None)
}

/// The one that listens to what nodes tell each other.
fn control_link(shared: &Arc<Shared>, routes: &Weak<Routes>, place: Place, tag: Option<&str>) -> Arc<Link> {
    let (probe, channel) = (Probe::new(shared, 0, tag), shared.keyspace.control_channel());
    Link::new(Arc::clone(shared), Weak::clone(routes), place, probe, Some(channel))
}
