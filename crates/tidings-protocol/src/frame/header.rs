//! The first 2–14 bytes of a frame (RFC 6455 §5.2): parse and write. It owns every rule that one header can be
//! judged by alone; it must never know what came before it, nor allocate.

use super::{CONTROL_BYTES_MAX, FrameError, Role};

/// The longest header: two bytes, a 64-bit length, a mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASK_BIT: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is for (RFC 6455 §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that has begun.
    Continuation = 0x0,
    /// A text message, or the first frame of one.
    Text = 0x1,
    /// A binary message, or the first frame of one.
    Binary = 0x2,
    /// The last frame of its sender.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xa,
}

impl Opcode {
    /// Whether it is a close, ping or pong: never fragmented, at most 125 bytes, allowed between fragments.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn parse(first: u8) -> Result<Self, FrameError> {
        Ok(match first & OPCODE_BITS {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            reserved => return Err(FrameError::ReservedOpcode(reserved)),
        })
    }
}

/// A frame's header, judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    /// Whether it is the last frame of its message.
    pub(super) is_final: bool,
    /// Zero where frames are not masked.
    pub(super) key: [u8; 4],
    /// The payload's length as the peer claims it, below 2^63: nothing to allocate by.
    pub(super) length: u64,
}

impl Header {
    /// Parses the header at the front of `bytes` and says how long it is. `None`: there is more of it to come.
    ///
    /// What is there is judged even while the rest is missing, in the order of the bytes: the answer depends on
    /// the stream alone and not on how it was cut.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(super) fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        check_reserved_bits(first)?;
        let opcode = Opcode::parse(first)?;
        let is_final = first & FIN != 0;
        if opcode.is_control() && !is_final {
            return Err(FrameError::FragmentedControl);
        }

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let is_masked = second & MASK_BIT != 0;
        match role {
            Role::Server if !is_masked => return Err(FrameError::Unmasked),
            Role::Client if is_masked => return Err(FrameError::Masked),
            Role::Server | Role::Client => {}
        }
        let short = second & !MASK_BIT;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(FrameError::ControlTooLong);
        }
        if opcode == Opcode::Close && short == 1 {
            return Err(FrameError::CloseLength);
        }

        let (length, rest) = match short {
            LENGTH_16 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u16::from_be_bytes(*length);
                if length < LENGTH_16.into() {
                    return Err(FrameError::NonMinimalLength);
                }
                (u64::from(length), rest)
            }
            LENGTH_64 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(*length);
                if length >> 63 != 0 {
                    return Err(FrameError::LengthTopBit);
                }
                if length <= u16::MAX.into() {
                    return Err(FrameError::NonMinimalLength);
                }
                (length, rest)
            }
            short => (u64::from(short), rest),
        };

        let (key, rest) = if is_masked {
            let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (*key, rest)
        } else {
            ([0; 4], rest)
        };
        Ok(Some((Self { opcode, is_final, key, length }, bytes.len() - rest.len())))
    }
}

/// The one place that judges reserved bits. permessage-deflate (RFC 7692 §6) will allow the first of them here, on
/// the first frame of a data message.
fn check_reserved_bits(first: u8) -> Result<(), FrameError> {
    if first & RESERVED_BITS == 0 { Ok(()) } else { Err(FrameError::ReservedBits) }
}

/// Appends the header of a whole, final message: the length in the fewest bytes, then the mask's key if there is one.
pub(super) fn put_header(out: &mut Vec<u8>, opcode: Opcode, length: usize, key: Option<[u8; 4]>) {
    let mask_bit = if key.is_some() { MASK_BIT } else { 0 };
    out.push(FIN | opcode as u8);
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < LENGTH_16) {
        out.push(mask_bit | short);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(mask_bit | LENGTH_16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(mask_bit | LENGTH_64);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
        Header::parse(bytes, Role::Server)
    }

    #[test]
    fn a_header_is_what_was_written_at_every_length_form() {
        for (length, bytes) in
            [(0, 2), (1, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)]
        {
            for (role, key) in [(Role::Server, Some([1, 2, 3, 4])), (Role::Client, None)] {
                let mut out = Vec::new();
                put_header(&mut out, Opcode::Binary, length, key);
                let whole = bytes + key.map_or(0, |key| key.len());
                assert_eq!(out.len(), whole);
                let header = Header {
                    opcode: Opcode::Binary,
                    is_final: true,
                    key: key.unwrap_or_default(),
                    length: length as u64,
                };
                for cut in 0..whole {
                    assert_eq!(Header::parse(&out[..cut], role), Ok(None), "{length} cut at {cut}");
                }
                out.push(0xff);
                assert_eq!(Header::parse(&out, role), Ok(Some((header, whole))));
            }
        }
    }

    #[test]
    fn every_reserved_bit_is_refused_on_every_opcode() {
        for bits in 1..8_u8 {
            for first in (0..=0x0f).flat_map(|opcode| [opcode, FIN | opcode]) {
                assert_eq!(parse(&[bits << 4 | first]), Err(FrameError::ReservedBits), "{bits} {first:x}");
            }
        }
    }

    #[test]
    fn reserved_opcodes_are_refused() {
        for opcode in (0x3..0x8).chain(0xb..=0xf) {
            assert_eq!(parse(&[FIN | opcode, MASK_BIT]), Err(FrameError::ReservedOpcode(opcode)));
        }
    }

    #[test]
    fn each_role_demands_the_other_roles_masking() {
        assert_eq!(parse(&[0x81, 0x00]), Err(FrameError::Unmasked));
        assert_eq!(Header::parse(&[0x81, 0x80], Role::Client), Err(FrameError::Masked));
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        for opcode in [0x8, 0x9, 0xa] {
            assert_eq!(parse(&[opcode]), Err(FrameError::FragmentedControl));
            for long in [126, 127] {
                assert_eq!(parse(&[FIN | opcode, MASK_BIT | long]), Err(FrameError::ControlTooLong));
            }
            assert_eq!(parse(&[FIN | opcode, MASK_BIT | 125]), Ok(None));
        }
        assert_eq!(parse(&[0x88, MASK_BIT | 1]), Err(FrameError::CloseLength));
        assert_eq!(parse(&[0x89, MASK_BIT | 1]), Ok(None));
    }

    #[test]
    fn lengths_are_minimal_and_below_the_top_bit() {
        let long = |length: u64| [&[0x82, MASK_BIT | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
        let medium = |length: u16| [&[0x82, MASK_BIT | 126][..], &length.to_be_bytes(), &[0; 4]].concat();
        for length in [0, 1, 125] {
            assert_eq!(parse(&medium(length)), Err(FrameError::NonMinimalLength), "{length}");
        }
        for length in [0, 125, 126, 65_535] {
            assert_eq!(parse(&long(length)), Err(FrameError::NonMinimalLength), "{length}");
        }
        for length in [1 << 63, u64::MAX] {
            assert_eq!(parse(&long(length)), Err(FrameError::LengthTopBit), "{length}");
        }
        for (bytes, length) in
            [(medium(126), 126), (long(65_536), 65_536), (long((1 << 63) - 1), (1 << 63) - 1)]
        {
            assert_eq!(parse(&bytes).unwrap().unwrap().0.length, length);
        }
    }
}
