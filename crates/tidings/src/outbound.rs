//! What waits for one socket: shared frames in order, bounded in bytes and in messages.
//!
//! No connection owns a write buffer: after a partial write the frame stays at the front, with an offset. Whoever
//! pushes looks at [`Outbound::is_over`] and applies the room's overflow policy; nothing here drops by itself.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use tidings_protocol::limits::Limits;

/// Frames up to this size are gathered into one buffer; larger ones are written where they lie.
const GATHER_FRAME_BYTES_MAX: usize = 4096;
/// One write takes so many buffers at most.
const SLICES_MAX: usize = 64;
/// An idle connection keeps room for so many frames.
const IDLE_CAPACITY_MAX: usize = 4;

/// One connection's queue.
#[derive(Default)]
pub(crate) struct Outbound {
    frames: VecDeque<Bytes>,
    /// How much of the first frame is written.
    written: usize,
    bytes: usize,
}

impl Outbound {
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether more waits than a connection may have. One frame alone is always admitted.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        self.frames.len() > 1
            && (self.bytes > limits.outbound_bytes_max || self.frames.len() > limits.outbound_messages_max)
    }

    /// Whether so much waits that nothing should be added that can wait elsewhere: a replay, a client's next request.
    pub(crate) fn is_half_full(&self, limits: &Limits) -> bool {
        self.bytes > limits.outbound_bytes_max / 2 || self.frames.len() > limits.outbound_messages_max / 2
    }

    /// Drops what has not been begun. A frame that is partly written stays, or the other side could read no
    /// close frame after it.
    pub(crate) fn drop_unbegun(&mut self) {
        let keep = usize::from(self.written > 0);
        self.frames.truncate(keep);
        self.bytes = self.frames.iter().map(Bytes::len).sum::<usize>() - self.written;
    }

    /// Writes with `write` until all is written or the socket takes no more; `Ok(true)` when all is. A small
    /// frame is copied into `gather` with its neighbours, so that one call carries them all.
    pub(crate) fn flush(
        &mut self,
        gather: &mut Vec<u8>,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while !self.frames.is_empty() {
            let offered;
            let result = if self.frames.len() > 1 && self.small(0) {
                gather.clear();
                let mut skip = self.written;
                for frame in &self.frames {
                    if frame.len() > GATHER_FRAME_BYTES_MAX || gather.len() + frame.len() > gather.capacity()
                    {
                        break;
                    }
                    gather.extend_from_slice(&frame[skip..]);
                    skip = 0;
                }
                offered = gather.len();
                write(&[IoSlice::new(gather)])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.frames.len().min(SLICES_MAX);
                let mut skip = self.written;
                for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                    *slice = IoSlice::new(&frame[skip..]);
                    skip = 0;
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
        if self.frames.capacity() > IDLE_CAPACITY_MAX {
            self.frames = VecDeque::new();
        }
        Ok(true)
    }

    fn small(&self, index: usize) -> bool {
        self.frames.get(index).is_some_and(|frame| frame.len() <= GATHER_FRAME_BYTES_MAX)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = self.frames.front() {
            let rest = front.len() - self.written;
            if written < rest {
                self.written += written;
                return;
            }
            written -= rest;
            self.written = 0;
            self.frames.pop_front();
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
            outbound.push(frame.into());
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
