//! What can be wrong with a peer's bytes. It owns the faults, their close codes and their sentences; it must never
//! quote the peer's bytes, for the sentences go into close frames and logs.

use std::fmt;

use crate::close::CloseCode;
use crate::limits::Limit;

/// Why a peer's bytes are refused. The connection is over: a reader that gave one gives it again for ever.
///
/// Its `Display` is a sentence of at most 123 bytes, fit for the reason of the close frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// A client's frame without a mask (RFC 6455 §5.1).
    Unmasked,
    /// A server's frame with a mask (RFC 6455 §5.1).
    Masked,
    /// A reserved bit that no extension gave a meaning (RFC 6455 §5.2).
    ReservedBits,
    /// An opcode without a meaning (RFC 6455 §5.2).
    ReservedOpcode(u8),
    /// A control frame that is not final (RFC 6455 §5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (RFC 6455 §5.5).
    ControlTooLong,
    /// A length written with more bytes than it needs (RFC 6455 §5.2).
    NonMinimalLength,
    /// A 64-bit length with its top bit set (RFC 6455 §5.2).
    LengthTopBit,
    /// A continuation where no message has begun (RFC 6455 §5.4).
    UnexpectedContinuation,
    /// A new message inside an unfinished one (RFC 6455 §5.4).
    ExpectedContinuation,
    /// A close payload of one byte: half a code (RFC 6455 §5.5.1).
    CloseLength,
    /// A close code without a place on the wire (RFC 6455 §7.4).
    CloseCode(u16),
    /// Text or a close reason that is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// A message above its limit.
    MessageTooLarge {
        /// What was allowed, in bytes.
        limit: usize,
        /// Which limit that is: of text, or of binary messages.
        name: Limit,
    },
    /// A message in more frames than allowed.
    TooManyFragments {
        /// What was allowed, in frames.
        limit: u32,
    },
}

impl FrameError {
    /// The code of the close frame that answers it.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_UTF8,
            Self::MessageTooLarge { .. } => CloseCode::TOO_LARGE,
            Self::TooManyFragments { .. } => CloseCode::POLICY,
            _ => CloseCode::PROTOCOL,
        }
    }

    /// The limit that was hit, if one was.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::MessageTooLarge { name, .. } => Some(*name),
            Self::TooManyFragments { .. } => Some(Limit::FragmentsMax),
            _ => None,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "a client's frames must be masked",
            Self::Masked => "a server's frames must not be masked",
            Self::ReservedBits => "a reserved bit is set that no extension uses here",
            Self::ReservedOpcode(opcode) => return write!(f, "the opcode {opcode} is reserved"),
            Self::FragmentedControl => "a control frame must not be fragmented",
            Self::ControlTooLong => "a control frame holds at most 125 bytes",
            Self::NonMinimalLength => "a length must be written in the fewest bytes",
            Self::LengthTopBit => "the top bit of a 64-bit length must not be set",
            Self::UnexpectedContinuation => "a continuation came where no message had begun",
            Self::ExpectedContinuation => "a message began inside an unfinished one",
            Self::CloseLength => "a close payload is empty or begins with a code of two bytes",
            Self::CloseCode(code) => return write!(f, "the close code {code} has no place on the wire"),
            Self::InvalidUtf8 => "text must be UTF-8",
            Self::MessageTooLarge { limit, .. } => {
                return write!(f, "the message is larger than the limit of {limit} bytes");
            }
            Self::TooManyFragments { limit } => {
                return write!(f, "the message has more fragments than the limit of {limit}");
            }
        })
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn every_fault_has_its_code_and_a_sentence_that_fits_a_close_frame() {
        for (error, code) in [
            (FrameError::Unmasked, 1002),
            (FrameError::Masked, 1002),
            (FrameError::ReservedBits, 1002),
            (FrameError::ReservedOpcode(15), 1002),
            (FrameError::FragmentedControl, 1002),
            (FrameError::ControlTooLong, 1002),
            (FrameError::NonMinimalLength, 1002),
            (FrameError::LengthTopBit, 1002),
            (FrameError::UnexpectedContinuation, 1002),
            (FrameError::ExpectedContinuation, 1002),
            (FrameError::CloseLength, 1002),
            (FrameError::CloseCode(u16::MAX), 1002),
            (FrameError::InvalidUtf8, 1007),
            (FrameError::MessageTooLarge { limit: usize::MAX, name: Limit::TextMessageBytesMax }, 1009),
            (FrameError::TooManyFragments { limit: u32::MAX }, 1008),
        ] {
            assert_eq!(error.close_code(), CloseCode(code), "{error}");
            let sentence = error.to_string();
            assert!((1..=CLOSE_REASON_BYTES_MAX).contains(&sentence.len()), "{sentence}");
        }
    }
}
