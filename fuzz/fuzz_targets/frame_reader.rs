//! The frame reader on any bytes: it never panics, holds nothing when idle, and how a stream is cut never changes
//! what it means. The input's first bytes choose role, limits and cuts; the rest is the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_protocol::frame::{FrameError, MessageReader, ReaderLimits, Role};

const WIDE: ReaderLimits =
    ReaderLimits { text_bytes_max: 1 << 20, binary_bytes_max: 1 << 20, fragments_max: u32::MAX };
const NARROW: ReaderLimits = ReaderLimits { text_bytes_max: 40, binary_bytes_max: 60, fragments_max: 3 };

/// What the stream means, each message as its debug text, when it comes in pieces of `length` bytes and, in turn, of
/// `next` bytes.
fn read(
    role: Role,
    limits: &ReaderLimits,
    stream: &[u8],
    length: usize,
    next: usize,
) -> (Vec<String>, Option<FrameError>) {
    let mut reader = MessageReader::new(role);
    let mut stream = stream.to_vec();
    let mut rest = stream.as_mut_slice();
    let mut lengths = [length, next].into_iter().cycle();
    let mut received = Vec::new();
    while !rest.is_empty() {
        let cut = lengths.next().unwrap_or(1).min(rest.len());
        let (mut piece, behind) = rest.split_at_mut(cut);
        rest = behind;
        loop {
            let mut used = 0;
            match reader.read(piece, &mut used, limits) {
                Ok(Some(inbound)) => received.push(format!("{inbound:?}")),
                Ok(None) => {
                    assert_eq!(used, piece.len());
                    assert!(reader.is_mid_message() || reader.buffered_bytes() == 0);
                    break;
                }
                Err(error) => return (received, Some(error)),
            }
            piece = &mut piece[used..];
        }
    }
    (received, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[choice, length, next], stream)) = bytes.split_first_chunk() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let limits = if choice & 2 == 0 { WIDE } else { NARROW };
    let whole = read(role, &limits, stream, stream.len(), 1);
    assert_eq!(read(role, &limits, stream, 1, 1), whole);
    assert_eq!(read(role, &limits, stream, length.max(1).into(), next.max(1).into()), whole);
});
