//! RFC 6455 without IO: bytes in, messages out, and frames into buffers.
//!
//! It owns the wire below the JSON: headers, masking, fragments, UTF-8, close payloads and the size limits that
//! keep a peer from making us allocate. It must never read or write a socket, look at a clock, answer a frame by
//! itself (pongs and close replies are the session's decision) or trust a length that a peer claims.
//!
//! [`MessageReader`] turns a byte stream into [`Inbound`] messages; [`put_frame`], [`frame`], [`put_masked_frame`]
//! and [`put_close`] write. Extensions are not spoken yet: the reserved bits are judged in one function of `header`.

mod error;
mod header;
mod mask;
mod reader;
mod utf8;
mod writer;

pub use error::FrameError;
pub use header::Opcode;
pub use reader::MessageReader;
pub use writer::{FrameBuffer, frame, put_close, put_frame, put_masked_close, put_masked_frame};

use crate::close::CloseCode;
use crate::limits::Limits;

/// The payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// The reason of a close frame, in bytes of UTF-8: a control payload without its code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Which side of a connection we are (RFC 6455 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// We demand masked frames and send unmasked ones.
    Server,
    /// We demand unmasked frames and send masked ones.
    Client,
}

/// What a peer may make us collect. It is passed with every read, so that an idle reader does not carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReaderLimits {
    /// A text message over all of its frames, in bytes. More is [`FrameError::MessageTooLarge`].
    pub text_bytes_max: usize,
    /// A binary message over all of its frames, in bytes. More is [`FrameError::MessageTooLarge`].
    pub binary_bytes_max: usize,
    /// Frames of one message, empty ones counted. More is [`FrameError::TooManyFragments`].
    pub fragments_max: u32,
}

impl From<&Limits> for ReaderLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            text_bytes_max: limits.text_message_bytes_max,
            binary_bytes_max: limits.binary_message_bytes_max,
            fragments_max: limits.fragments_max,
        }
    }
}

/// One whole message of a peer, or one control frame. It borrows from the bytes that were read or, if it came in
/// pieces, from the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inbound<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; its payload (≤ 125 bytes) belongs into the pong.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The peer's last frame; `None` when it gave no code. Whatever follows it is discarded (RFC 6455 §1.4).
    Close(Option<CloseFrame<'a>>),
}

/// The payload of a close frame (RFC 6455 §5.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseFrame<'a> {
    /// Why; a reader gives only codes that [may be sent](CloseCode::may_be_sent).
    pub code: CloseCode,
    /// For people, at most 123 bytes.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Parses a close frame's payload.
    ///
    /// # Errors
    /// [`FrameError::CloseLength`] for a single byte, [`FrameError::CloseCode`] for a code without a place on the
    /// wire, [`FrameError::InvalidUtf8`] for the reason.
    fn parse(payload: &'a [u8]) -> Result<Option<Self>, FrameError> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() { Ok(None) } else { Err(FrameError::CloseLength) };
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        if !code.may_be_sent() {
            return Err(FrameError::CloseCode(code.0));
        }
        let reason = simdutf8::basic::from_utf8(reason).map_err(|_| FrameError::InvalidUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}
