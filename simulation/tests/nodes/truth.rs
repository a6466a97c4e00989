//! What has really happened to rooms, which no part of what is simulated can see.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A position: epoch and offset.
pub(crate) type Place = (String, u64);

/// The truth about every room.
#[derive(Default)]
pub(crate) struct Truth {
    rooms: BTreeMap<String, Room>,
    /// What was broken.
    pub(crate) broken: Vec<String>,
}

#[derive(Default)]
struct Room {
    /// What was stored under each position, on any server.
    events: BTreeMap<Place, String>,
    /// The earlier lives of each epoch, with the newest offset that they share.
    parents: BTreeMap<String, Vec<Place>>,
    /// How often something was lost, or may have been.
    losses: usize,
    /// Idempotency ids were lost.
    ids_lost: bool,
    /// Stored events were lost and nothing else.
    log_lost: bool,
    /// The newest offset that there ever was.
    top: u64,
}

impl Truth {
    /// A script has left a room in this epoch; whether it is a new one.
    pub(crate) fn epoch(&mut self, room: &str, epoch: &Bytes, parents: &Bytes) -> bool {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let room = self.room(room);
        let epochs = room.parents.len();
        room.parents.entry(text(epoch)).or_insert_with(|| {
            let parents = text(parents);
            let parents = parents.split(',').filter_map(|parent| parent.split_once('.'));
            parents.map(|(epoch, top)| (epoch.to_owned(), top.parse().unwrap())).collect()
        });
        room.parents.len() > epochs
    }

    /// A server has stored and sent these.
    pub(crate) fn published(&mut self, room: &str, message: &Bytes) {
        let Some((head, records)) = split(message) else { return };
        let (epoch, mut offset) = head;
        let mut broken = Vec::new();
        let about = self.room(room);
        for record in records {
            let data = data_of(record).unwrap_or_default();
            let place = (epoch.clone(), offset);
            match about.events.get(&place) {
                Some(known) if *known != data => {
                    broken.push(format!("I2: {room}@{epoch}.{offset} names {known} and {data}"));
                }
                _ => drop(about.events.insert(place, data)),
            }
            about.top = about.top.max(offset);
            offset += 1;
        }
        self.broken.extend(broken);
    }

    /// Something of a room was lost, or may have been.
    pub(crate) fn lost(&mut self, room: &str) {
        self.room(room).losses += 1;
    }

    /// Ids of a room were lost.
    pub(crate) fn ids_lost(&mut self, room: &str) {
        self.room(room).ids_lost = true;
    }

    /// Events of a room are not stored any more.
    pub(crate) fn log_lost(&mut self, room: &str) {
        self.room(room).log_lost = true;
    }

    pub(crate) fn has_lost_log(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.log_lost)
    }

    /// A server has answered that a publication is there.
    pub(crate) fn answered(&mut self, room: &str, epoch: &str, place: &Place) {
        if !self.holds(room, epoch, place) {
            self.broken.push(format!("I6: {place:?} is the answer to a publish, and not in {room}@{epoch}"));
        }
    }

    pub(crate) fn losses(&self, room: &str) -> usize {
        self.rooms.get(room).map_or(0, |room| room.losses)
    }

    pub(crate) fn has_lost_ids(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.ids_lost)
    }

    pub(crate) fn top(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |room| room.top)
    }

    /// What was stored there, or in the life that shares this offset.
    pub(crate) fn event(&self, room: &str, place: &Place) -> Option<&str> {
        let room = self.rooms.get(room)?;
        let parents = room.parents.get(&place.0).into_iter().flatten();
        let first = parents.filter(|(_, top)| place.1 <= *top).map(|(parent, _)| (parent.clone(), place.1));
        let event = first.chain([place.clone()]).find_map(|place| room.events.get(&place));
        event.map(String::as_str)
    }

    /// Whether the log of `epoch` has in it what was at `place`.
    pub(crate) fn holds(&self, room: &str, epoch: &str, place: &Place) -> bool {
        let Some(parents) = self.rooms.get(room).and_then(|room| room.parents.get(epoch)) else {
            return false;
        };
        place.0 == epoch || parents.iter().any(|(parent, top)| *parent == place.0 && place.1 <= *top)
    }

    fn room(&mut self, room: &str) -> &mut Room {
        self.rooms.entry(room.to_owned()).or_default()
    }
}

/// Epoch, first offset and records of a message.
fn split(message: &[u8]) -> Option<(Place, Vec<&[u8]>)> {
    let (epoch, rest) = message.strip_prefix(b"p")?.split_at_checked(8)?;
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, after) = rest.split_at(end);
        let line = String::from_utf8_lossy(line).into_owned();
        *rest = &after[1..];
        Some(line)
    };
    let mut rest = rest;
    let first = line(&mut rest)?.split(' ').next()?.parse().ok()?;
    let mut records = Vec::new();
    while let Some(length) = line(&mut rest) {
        let (record, after) = rest.split_at_checked(length.parse().ok()?)?;
        records.push(record);
        rest = after;
    }
    Some(((String::from_utf8_lossy(epoch).into_owned(), first), records))
}

/// What was published, out of how it is stored.
pub(crate) fn data_of(record: &[u8]) -> Option<String> {
    const BEGIN: &[u8] = br#""data":""#;
    let start = record.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    let end = record[start..].iter().position(|byte| *byte == b'"')?;
    Some(String::from_utf8_lossy(&record[start..start + end]).into_owned())
}
