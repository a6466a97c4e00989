//! The limit: what the system allows, and no server. Plain dialect, one thread, epoll.
//!
//! Messages of a turn are put once into a buffer of their room, and that is written to each member with one call: no
//! token, no log, no queue. A member that does not take all of it at once is dropped.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use slab::Slab;
use tidings_load::poller::{Poller, Ready};
use tidings_protocol::frame::{Inbound, MessageReader, Opcode, ReaderLimits, put_frame};

const LISTENER: usize = usize::MAX;
/// What a handshake's key of zeros and ones matters to a client that does not look: the generator does not.
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Member {
    stream: TcpStream,
    reader: MessageReader,
    /// None until it is upgraded, and for those that want their messages back.
    room: Option<usize>,
    upgraded: bool,
}

#[derive(Default)]
struct Room {
    members: Vec<usize>,
    turn: Vec<u8>,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok());
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0)))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(&listener, LISTENER, false)?;
    let limits = ReaderLimits::from(&tidings_protocol::limits::Limits::default());
    let (mut members, mut rooms) = (Slab::<Member>::new(), Vec::<Room>::new());
    let (mut by_name, mut dirty, mut dead) = (HashMap::<String, usize>::new(), Vec::new(), Vec::new());
    let (mut buffer, mut ready, mut echo) = (vec![0; 256 * 1024], Vec::new(), Vec::new());
    loop {
        poller.wait(&mut ready, Duration::from_secs(1))?;
        for Ready { key, .. } in &ready {
            if *key == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let entry = members.vacant_entry();
                    poller.add(&stream, entry.key(), false)?;
                    entry.insert(Member {
                        stream,
                        reader: MessageReader::default(),
                        room: None,
                        upgraded: false,
                    });
                }
                continue;
            }
            let Some(member) = members.get_mut(*key) else { continue };
            let read = match member.stream.read(&mut buffer) {
                Ok(read) if read > 0 => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                _ => {
                    dead.push(*key);
                    continue;
                }
            };
            if !member.upgraded {
                // The generator sends its request whole.
                let request = String::from_utf8_lossy(&buffer[..read]);
                let path = request.split(' ').nth(1).unwrap_or_default();
                if let Some(name) = path.strip_prefix("/room/") {
                    let room = *by_name.entry(name.to_owned()).or_insert_with(|| {
                        rooms.push(Room::default());
                        rooms.len() - 1
                    });
                    rooms[room].members.push(*key);
                    member.room = Some(room);
                }
                member.upgraded = true;
                member.stream.write_all(UPGRADE)?;
                continue;
            }
            let mut at = 0;
            echo.clear();
            while at < read {
                let mut used = 0;
                let inbound = member.reader.read(&mut buffer[at..read], &mut used, &limits);
                match (inbound, member.room) {
                    (Ok(Some(Inbound::Text(text))), Some(room)) => {
                        if rooms[room].turn.is_empty() {
                            dirty.push(room);
                        }
                        put_frame(&mut rooms[room].turn, Opcode::Text, text.as_bytes());
                    }
                    (Ok(Some(Inbound::Text(text))), None) => {
                        put_frame(&mut echo, Opcode::Text, text.as_bytes());
                    }
                    (Ok(_), _) => {}
                    (Err(_), _) => dead.push(*key),
                }
                at += used;
            }
            if !echo.is_empty() && member.stream.write(&echo).ok() != Some(echo.len()) {
                dead.push(*key);
            }
        }
        for room in dirty.drain(..) {
            let Room { members: keys, turn } = &mut rooms[room];
            for key in keys.iter() {
                if members.get_mut(*key).and_then(|member| member.stream.write(turn).ok()) != Some(turn.len())
                {
                    dead.push(*key);
                }
            }
            turn.clear();
        }
        dead.sort_unstable();
        dead.dedup();
        for key in dead.drain(..) {
            if let Some(room) = members.try_remove(key).and_then(|member| member.room) {
                rooms[room].members.retain(|member| *member != key);
            }
        }
    }
}
