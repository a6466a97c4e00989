//! One client's socket: handshake, then frames counted by their headers; payloads are looked at only where asked.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tidings_protocol::frame::{Opcode, put_masked_frame};

/// The mask of every frame. A mask protects proxies from pages; nobody is protected from a benchmark.
const MASK: [u8; 4] = [0x21, 0x43, 0x65, 0x87];

/// A client's socket.
pub struct Link {
    stream: TcpStream,
    phase: Phase,
    /// Frames shorter than this are given with their payload; others are only counted.
    collect_below: usize,
    header: [u8; 10],
    header_len: u8,
    opcode: u8,
    length: u64,
    /// Bytes of the current payload that are still to come.
    missing: u64,
    collected: Vec<u8>,
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Header,
    Payload,
}

/// One frame of a server.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Bytes of its payload.
    pub len: u64,
    /// The payload, if the link collects frames of this length.
    pub payload: Option<&'a [u8]>,
}

/// How a read went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The connection goes on.
    Open,
    /// The other side ended it.
    Ended,
}

impl Link {
    /// Begins to connect; the socket can be written when it has.
    ///
    /// # Errors
    /// The system's, such as no open files left.
    pub fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(bytes) = receive_buffer {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            stream: socket.into(),
            phase: Phase::Handshake,
            collect_below: usize::MAX,
            header: [0; 10],
            header_len: 0,
            opcode: 0,
            length: 0,
            missing: 0,
            collected: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// From now on only frames shorter than this are given with their payload.
    pub fn collect_below(&mut self, bytes: usize) {
        self.collect_below = bytes;
    }

    /// Whether the handshake is through.
    pub fn is_upgraded(&self) -> bool {
        self.phase != Phase::Handshake
    }

    /// Queues raw bytes: the handshake.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Queues a text message.
    pub fn put_text(&mut self, text: &[u8]) {
        put_masked_frame(&mut self.unsent, Opcode::Text, text, MASK);
    }

    /// Queues a binary message.
    pub fn put_binary(&mut self, bytes: &[u8]) {
        put_masked_frame(&mut self.unsent, Opcode::Binary, bytes, MASK);
    }

    /// Queues the answer to a ping.
    pub fn put_pong(&mut self, payload: &[u8]) {
        put_masked_frame(&mut self.unsent, Opcode::Pong, payload, MASK);
    }

    /// Writes what is queued; whether all of it went.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Ends the connection at once, without leaving a port in TIME_WAIT.
    pub fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(std::time::Duration::ZERO));
    }

    /// Reads once, into a buffer that all links share, and tells every frame that is complete with it.
    ///
    /// # Errors
    /// The socket's, or a handshake that was refused.
    pub fn read(&mut self, buffer: &mut [u8], mut see: impl FnMut(Seen<'_>)) -> io::Result<Progress> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Ok(Progress::Ended),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Open),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..read];
        if self.phase == Phase::Handshake {
            self.collected.extend_from_slice(rest);
            let Some(end) = self.collected.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(Progress::Open);
            };
            if !self.collected.starts_with(b"HTTP/1.1 101") {
                return Err(io::Error::other(String::from_utf8_lossy(&self.collected).into_owned()));
            }
            let behind = self.collected.len() - (end + 4);
            rest = &rest[rest.len() - behind..];
            self.collected = Vec::new();
            self.phase = Phase::Header;
        }
        self.frames(rest, &mut see)?;
        Ok(Progress::Open)
    }

    fn frames(&mut self, mut rest: &[u8], see: &mut impl FnMut(Seen<'_>)) -> io::Result<()> {
        loop {
            if self.phase == Phase::Header {
                let Some(used) = self.take_header(rest)? else { return Ok(()) };
                rest = &rest[used..];
                self.missing = self.length;
                self.phase = Phase::Payload;
            }
            let piece = usize::try_from(self.missing).unwrap_or(usize::MAX).min(rest.len());
            let collect = self.length < self.collect_below as u64;
            if (piece as u64) < self.missing {
                if collect {
                    self.collected.extend_from_slice(&rest[..piece]);
                }
                self.missing -= piece as u64;
                return Ok(());
            }
            let seen = Seen { opcode: self.opcode, len: self.length, payload: None };
            if !collect {
                see(seen);
            } else if self.collected.is_empty() {
                see(Seen { payload: Some(&rest[..piece]), ..seen });
            } else {
                self.collected.extend_from_slice(&rest[..piece]);
                see(Seen { payload: Some(&self.collected), ..seen });
                self.collected = Vec::new();
            }
            rest = &rest[piece..];
            self.phase = Phase::Header;
        }
    }

    /// Takes a header from the front; how many of `rest`'s bytes it used, or none if it is not whole.
    fn take_header(&mut self, rest: &[u8]) -> io::Result<Option<usize>> {
        let before = usize::from(self.header_len);
        let copied = rest.len().min(self.header.len() - before);
        self.header[before..before + copied].copy_from_slice(&rest[..copied]);
        let have = before + copied;
        let whole = if have < 2 { 2 } else { 2 + [0, 2, 8][extension(self.header[1])] };
        if have < whole {
            self.header_len = have as u8;
            return Ok(None);
        }
        let bytes = &self.header[2..whole];
        self.opcode = self.header[0] & 0x0f;
        self.length = match bytes.len() {
            0 => u64::from(self.header[1]),
            _ => bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if self.header[1] & 0x80 != 0 {
            return Err(io::Error::other("the server masks its frames"));
        }
        self.header_len = 0;
        Ok(Some(whole - before))
    }
}

fn extension(second: u8) -> usize {
    match second & 0x7f {
        126 => 1,
        127 => 2,
        _ => 0,
    }
}
