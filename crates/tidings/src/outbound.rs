//! What waits for one socket: shared frames in order, bounded in bytes and in messages.
//!
//! No connection owns a write buffer: after a partial write the frames stay at the front, with an offset. Whoever
//! pushes looks at [`Outbound::is_over`] and applies the room's overflow policy; nothing here drops by itself.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use tidings_protocol::limits::Limits;

use crate::publication::Publication;

/// Pieces up to this size are gathered into one buffer; larger ones are written where they lie.
const GATHER_PIECE_BYTES_MAX: usize = 4096;
/// One write takes so many buffers at most.
const SLICES_MAX: usize = 64;

/// One connection's queue. Most of the time nothing waits, or one piece for the length of a turn: neither takes an
/// allocation.
#[derive(Default)]
pub(crate) struct Outbound {
    front: Option<Piece>,
    rest: VecDeque<Piece>,
    /// How much of the front is written: it is shorter than 4 GiB.
    written: u32,
    bytes: usize,
    messages: u32,
}

/// Whole frames, one after the other, that are shared with other connections or not.
#[derive(Clone)]
pub(crate) enum Piece {
    /// One frame.
    Frame(Bytes),
    /// An event of a room, where the room's log has it.
    Event(Arc<Publication>),
    /// Several events of a room.
    Events(Arc<[u8]>, u32),
}

impl Piece {
    /// How many frames.
    pub(crate) fn messages(&self) -> u32 {
        match self {
            Self::Frame(_) | Self::Event(_) => 1,
            Self::Events(_, count) => *count,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame,
            Self::Event(publication) => publication.frame(),
            Self::Events(frames, _) => frames,
        }
    }
}

impl From<Bytes> for Piece {
    fn from(frame: Bytes) -> Self {
        Self::Frame(frame)
    }
}

impl Outbound {
    pub(crate) fn push(&mut self, piece: Piece) {
        self.bytes += piece.bytes().len();
        self.messages += piece.messages();
        if self.front.is_none() {
            self.front = Some(piece);
        } else {
            self.rest.push_back(piece);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether more waits than a connection may have. One piece alone is always admitted.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        !self.rest.is_empty()
            && (self.bytes > limits.outbound_bytes_max
                || self.messages as usize > limits.outbound_messages_max)
    }

    /// Whether so much waits that nothing should be added that can wait elsewhere: a replay, a client's next request.
    pub(crate) fn is_half_full(&self, limits: &Limits) -> bool {
        self.bytes > limits.outbound_bytes_max / 2
            || self.messages as usize > limits.outbound_messages_max / 2
    }

    /// Drops what has not been begun. A piece that is partly written stays, or the other side could read no
    /// close frame after it.
    pub(crate) fn drop_unbegun(&mut self) {
        self.rest = VecDeque::new();
        if self.written == 0 {
            self.front = None;
        }
        self.bytes = self.front.as_ref().map_or(0, |front| front.bytes().len() - self.written as usize);
        self.messages = self.front.as_ref().map_or(0, Piece::messages);
    }

    /// Writes with `write` until all is written or the socket takes no more; `Ok(true)` when all is. A small
    /// piece is copied into `gather` with its neighbours, so that one call carries them all.
    pub(crate) fn flush(
        &mut self,
        gather: &mut Vec<u8>,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while let Some(front) = &self.front {
            let begun = &front.bytes()[self.written as usize..];
            let offered;
            let result = if self.rest.is_empty() {
                offered = begun.len();
                write(&[IoSlice::new(begun)])
            } else if begun.len() <= GATHER_PIECE_BYTES_MAX {
                gather.clear();
                gather.extend_from_slice(begun);
                for frames in self.rest.iter().map(Piece::bytes) {
                    if frames.len() > GATHER_PIECE_BYTES_MAX
                        || gather.len() + frames.len() > gather.capacity()
                    {
                        break;
                    }
                    gather.extend_from_slice(frames);
                }
                offered = gather.len();
                write(&[IoSlice::new(gather)])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let pieces = std::iter::once(begun).chain(self.rest.iter().map(Piece::bytes));
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                offered = slices[..count].iter().map(|slice| slice.len()).sum();
                write(&slices[..count])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    // A short write means a full socket: asking again would only cost the answer.
                    if written < offered {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
        Ok(true)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = &self.front {
            let rest = front.bytes().len() - self.written as usize;
            if written < rest {
                self.written += written as u32;
                return;
            }
            written -= rest;
            self.written = 0;
            self.messages -= front.messages();
            self.front = self.rest.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(frames: &[usize]) -> (Outbound, Vec<u8>) {
        let mut outbound = Outbound::default();
        let mut all = Vec::new();
        for (index, len) in frames.iter().enumerate() {
            let frame = vec![index as u8; *len];
            all.extend_from_slice(&frame);
            outbound.push(Bytes::from(frame).into());
        }
        (outbound, all)
    }

    /// A socket that takes `room` bytes a call.
    fn drain(outbound: &mut Outbound, room: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let mut gather = Vec::with_capacity(16 * 1024);
        while !outbound
            .flush(&mut gather, |slices| {
                let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = offered.len().min(room);
                got.extend_from_slice(&offered[..taken]);
                Ok(taken)
            })
            .unwrap()
        {}
        got
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_socket_takes() {
        let (small, large) =
            ([1, 20, 5, 300, 3].as_slice(), [1, 200, 4096, 4097, 10, 70_000, 3, 3, 20_000].as_slice());
        for (room, frames) in
            [(1, small), (3, small), (1000, large), (4096, large), (5000, large), (1 << 20, large)]
        {
            let (mut outbound, all) = queue(frames);
            assert_eq!(drain(&mut outbound, room), all, "{room} a call");
            assert_eq!((outbound.bytes(), outbound.is_empty()), (0, true));
        }
    }

    #[test]
    fn small_frames_share_a_write() {
        let (mut outbound, _) = queue(&[100; 50]);
        let mut calls = 0;
        let done = outbound.flush(&mut Vec::with_capacity(64 * 1024), |slices| {
            calls += 1;
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!((done.unwrap(), calls), (true, 1));
    }

    #[test]
    fn a_begun_frame_outlives_the_drop() {
        let (mut outbound, _) = queue(&[10, 10, 10]);
        let mut first = true;
        let done = outbound.flush(&mut Vec::with_capacity(64), |_| {
            if std::mem::take(&mut first) { Ok(4) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        assert!(!done.unwrap());
        outbound.drop_unbegun();
        assert_eq!(outbound.bytes(), 6);
        assert_eq!(drain(&mut outbound, 100), [0; 6]);
        let (mut untouched, _) = queue(&[10, 10]);
        untouched.drop_unbegun();
        assert!(untouched.is_empty());
    }

    #[test]
    fn one_frame_of_any_size_is_admitted() {
        let limits = Limits::default();
        let (outbound, _) = queue(&[limits.outbound_bytes_max * 2]);
        assert!(!outbound.is_over(&limits));
        let (outbound, _) = queue(&[limits.outbound_bytes_max * 2, 1]);
        assert!(outbound.is_over(&limits));
        let (outbound, _) = queue(&vec![1; limits.outbound_messages_max + 1]);
        assert!(outbound.is_over(&limits));
    }
}
