//! A byte stream into messages (RFC 6455 §5.4–5.6). It owns what is incomplete of one connection and nothing else:
//! between messages it holds no allocation. It must never allocate by a length that a peer claims, give a message
//! that is not judged to its last byte, or go on after a fault.

use std::ops::Range;

use super::header::{HEADER_BYTES_MAX, Header};
use super::utf8::TextBuffer;
use super::{CloseFrame, FrameError, Inbound, Opcode, ReaderLimits, Role, mask};
use crate::limits::Limit;

/// Reads one connection's frames.
///
/// A whole message that lies in one frame and in one piece of input is borrowed from the input: nothing is allocated
/// or copied. Anything else is collected here and freed by the call after the one that gave it out, so call
/// [`read`](Self::read) until it gives `None`.
#[derive(Debug)]
pub struct MessageReader {
    role: Role,
    stage: Stage,
    /// The data message that has begun, if any.
    message: Option<Message>,
    /// The control frame that has begun, as far as it has come: one may lie between a message's fragments.
    control: Vec<u8>,
}

/// Where in the stream the next byte belongs.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Into a header, of which `len` bytes have come.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: u8 },
    /// Into a payload, of which `header.length` bytes are to come; the key is turned to the next of them.
    Payload(Header),
    /// Into a header, once what was given out is freed.
    Delivered(Held),
    /// Nowhere: after a close frame everything is discarded (RFC 6455 §1.4).
    Closed,
    /// Nowhere: the peer broke a rule.
    Failed(FrameError),
}

impl Stage {
    const NEXT_FRAME: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
}

/// Which of the reader's two buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Control,
    Message,
}

/// The data message that is being collected.
#[derive(Debug)]
struct Message {
    body: Body,
    frames: u32,
}

#[derive(Debug)]
enum Body {
    Text(TextBuffer),
    Binary(Vec<u8>),
}

/// Where a complete message or control frame lies.
enum Complete {
    /// Whole in the input; nothing of it was collected.
    Input(Kind, Range<usize>),
    /// In `self.control`.
    Control(Opcode),
    /// In `self.message`, and judged.
    Message,
}

/// What a complete payload is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Binary,
    /// A close, ping or pong.
    Control(Opcode),
}

impl Default for MessageReader {
    /// A server's reader.
    fn default() -> Self {
        Self::new(Role::Server)
    }
}

impl MessageReader {
    /// A reader at the beginning of a stream, that is: behind the handshake.
    pub fn new(role: Role) -> Self {
        Self { role, stage: Stage::NEXT_FRAME, message: None, control: Vec::new() }
    }

    /// Reads the next message or control frame from the front of `input`, which it unmasks in place.
    ///
    /// `used` becomes the number of bytes that were consumed: call it again with what follows them. `Ok(None)` says
    /// that all of `input` was consumed and what is incomplete of it is kept. After a close frame everything is
    /// consumed and nothing is given. How a stream is cut into inputs never changes what it means.
    ///
    /// # Errors
    /// The first rule of RFC 6455 or limit that the peer broke, as soon as it can be known: a header is judged
    /// before its payload is waited for, text as it comes. The reader then gives the same error for ever.
    pub fn read<'a>(
        &'a mut self,
        input: &'a mut [u8],
        used: &mut usize,
        limits: &ReaderLimits,
    ) -> Result<Option<Inbound<'a>>, FrameError> {
        *used = 0;
        let complete = match self.advance(input, used, limits) {
            Ok(Some(complete)) => complete,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.fail(error);
                *used = input.len();
                return Err(error);
            }
        };
        let inbound = match complete {
            Complete::Input(kind, range) => Inbound::parse(kind, &input[range]),
            Complete::Control(opcode) => Inbound::parse(Kind::Control(opcode), &self.control),
            Complete::Message => match &self.message {
                Some(Message { body: Body::Text(text), .. }) => Ok(Inbound::Text(text.as_str())),
                Some(Message { body: Body::Binary(bytes), .. }) => Ok(Inbound::Binary(bytes)),
                None => return Ok(None),
            },
        };
        match inbound {
            Ok(Inbound::Close(_)) => self.stage = Stage::Closed,
            Ok(_) => {}
            Err(error) => self.stage = Stage::Failed(error),
        }
        inbound.map(Some)
    }

    /// Whether a message or a frame has begun and is not complete: there is a time limit for that.
    pub fn is_mid_message(&self) -> bool {
        match self.stage {
            Stage::Header { len, .. } => len > 0 || self.message.is_some(),
            Stage::Payload(_) => true,
            Stage::Delivered(held) => held == Held::Control && self.message.is_some(),
            Stage::Closed | Stage::Failed(_) => false,
        }
    }

    /// Whether a new reader would go on just the same: it holds nothing, and has met no end and no fault.
    pub fn is_as_new(&self) -> bool {
        match self.stage {
            Stage::Header { len, .. } => len == 0 && self.message.is_none(),
            Stage::Delivered(held) => held == Held::Message || self.message.is_none(),
            Stage::Payload(_) | Stage::Closed | Stage::Failed(_) => false,
        }
    }

    /// What it holds on the heap, in bytes: at most twice what has come of one message and one control frame, and
    /// zero between messages.
    pub fn buffered_bytes(&self) -> usize {
        let body = self.message.as_ref().map_or(0, |message| match &message.body {
            Body::Text(text) => text.capacity(),
            Body::Binary(bytes) => bytes.capacity(),
        });
        body + self.control.capacity()
    }

    /// Consumes input up to the end of the next message or control frame.
    fn advance(
        &mut self,
        input: &mut [u8],
        used: &mut usize,
        limits: &ReaderLimits,
    ) -> Result<Option<Complete>, FrameError> {
        loop {
            match &mut self.stage {
                Stage::Header { bytes, len } => {
                    let Some(header) = take_header(bytes, len, &input[*used..], used, self.role)? else {
                        return Ok(None);
                    };
                    self.begin_frame(&header, limits)?;
                    self.stage = Stage::Payload(header);
                }
                Stage::Payload(header) => {
                    let start = *used;
                    let piece = front(&mut input[start..], header.length);
                    if self.role == Role::Server {
                        header.key = mask::apply(piece, header.key);
                    }
                    *used += piece.len();
                    header.length -= piece.len() as u64;
                    let header = *header;
                    if let Some(complete) = self.take_piece(&header, piece, start)? {
                        return Ok(Some(complete));
                    }
                    if header.length > 0 {
                        return Ok(None);
                    }
                    self.stage = Stage::NEXT_FRAME;
                }
                Stage::Delivered(held) => {
                    match held {
                        Held::Control => self.control = Vec::new(),
                        Held::Message => self.message = None,
                    }
                    self.stage = Stage::NEXT_FRAME;
                }
                Stage::Closed => {
                    self.free();
                    *used = input.len();
                    return Ok(None);
                }
                Stage::Failed(error) => return Err(*error),
            }
        }
    }

    /// Judges a header by what came before it, and counts it.
    fn begin_frame(&mut self, header: &Header, limits: &ReaderLimits) -> Result<(), FrameError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = match (header.opcode, &mut self.message) {
            (Opcode::Continuation, None) => return Err(FrameError::UnexpectedContinuation),
            (Opcode::Continuation, Some(message)) => message,
            (_, Some(_)) => return Err(FrameError::ExpectedContinuation),
            (opcode, none) => none.insert(Message::new(opcode)),
        };
        message.frames = message.frames.saturating_add(1);
        if message.frames > limits.fragments_max {
            return Err(FrameError::TooManyFragments { limit: limits.fragments_max });
        }
        let (limit, name) = match message.body {
            Body::Text(_) => (limits.text_bytes_max, Limit::TextMessageBytesMax),
            Body::Binary(_) => (limits.binary_bytes_max, Limit::BinaryMessageBytesMax),
        };
        if header.length > limit.saturating_sub(message.len()) as u64 {
            return Err(FrameError::MessageTooLarge { limit, name });
        }
        Ok(())
    }

    /// Takes the next piece of a payload, which begins at `start` in the input; `header.length` says what is missing
    /// behind it. Gives what it completes.
    fn take_piece(
        &mut self,
        header: &Header,
        piece: &[u8],
        start: usize,
    ) -> Result<Option<Complete>, FrameError> {
        let is_complete = header.length == 0 && header.is_final;
        let range = start..start + piece.len();
        if header.opcode.is_control() {
            if is_complete && header.opcode == Opcode::Close {
                // Good or bad, it is the end: what had begun is void.
                self.message = None;
            }
            if is_complete && self.control.is_empty() {
                self.stage = Stage::NEXT_FRAME;
                return Ok(Some(Complete::Input(Kind::Control(header.opcode), range)));
            }
            self.control.extend_from_slice(piece);
            if is_complete {
                self.stage = Stage::Delivered(Held::Control);
                return Ok(Some(Complete::Control(header.opcode)));
            }
            return Ok(None);
        }

        // A data frame's header put the message there.
        let Some(message) = &mut self.message else { return Err(FrameError::UnexpectedContinuation) };
        if is_complete && message.len() == 0 {
            let kind = message.kind();
            self.message = None;
            self.stage = Stage::NEXT_FRAME;
            return Ok(Some(Complete::Input(kind, range)));
        }
        message.push(header, piece)?;
        if is_complete {
            message.finish()?;
            self.stage = Stage::Delivered(Held::Message);
            return Ok(Some(Complete::Message));
        }
        Ok(None)
    }

    fn fail(&mut self, error: FrameError) {
        self.stage = Stage::Failed(error);
        self.free();
    }

    fn free(&mut self) {
        self.message = None;
        self.control = Vec::new();
    }
}

impl Message {
    /// An empty one; only text is checked as text.
    fn new(opcode: Opcode) -> Self {
        let body =
            if opcode == Opcode::Text { Body::Text(TextBuffer::default()) } else { Body::Binary(Vec::new()) };
        Self { body, frames: 0 }
    }

    fn kind(&self) -> Kind {
        match self.body {
            Body::Text(_) => Kind::Text,
            Body::Binary(_) => Kind::Binary,
        }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends a piece, behind which `header.length` bytes are missing.
    fn push(&mut self, header: &Header, piece: &[u8]) -> Result<(), FrameError> {
        match &mut self.body {
            Body::Text(text) => text.push(piece, |text, more| {
                text.reserve_exact(growth(text.len(), text.capacity(), more, header));
            })?,
            Body::Binary(bytes) => {
                bytes.reserve_exact(growth(bytes.len(), bytes.capacity(), piece.len(), header));
                bytes.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    /// Ends the message.
    fn finish(&self) -> Result<(), FrameError> {
        match &self.body {
            Body::Text(text) => text.finish(),
            Body::Binary(_) => Ok(()),
        }
    }
}

impl<'a> Inbound<'a> {
    /// A complete payload as what it is.
    fn parse(kind: Kind, payload: &'a [u8]) -> Result<Self, FrameError> {
        Ok(match kind {
            Kind::Text => {
                Self::Text(simdutf8::basic::from_utf8(payload).map_err(|_| FrameError::InvalidUtf8)?)
            }
            Kind::Binary => Self::Binary(payload),
            Kind::Control(Opcode::Ping) => Self::Ping(payload),
            Kind::Control(Opcode::Pong) => Self::Pong(payload),
            Kind::Control(_) => Self::Close(CloseFrame::parse(payload)?),
        })
    }
}

/// Takes a header from the front of `input`, behind the `len` bytes of it that came before. `None`: all of `input`
/// was taken and there is more of the header to come.
fn take_header(
    bytes: &mut [u8; HEADER_BYTES_MAX],
    len: &mut u8,
    input: &[u8],
    used: &mut usize,
    role: Role,
) -> Result<Option<Header>, FrameError> {
    let before = usize::from(*len);
    if before == 0
        && let Some((header, taken)) = Header::parse(input, role)?
    {
        *used += taken;
        return Ok(Some(header));
    }
    let room = &mut bytes[before..];
    let copied = room.len().min(input.len());
    room[..copied].copy_from_slice(&input[..copied]);
    let whole = before + copied;
    match Header::parse(&bytes[..whole], role)? {
        Some((header, taken)) => {
            *used += taken - before;
            Ok(Some(header))
        }
        None => {
            // A header that lacks something is shorter than the longest one, so the cast keeps its value.
            *len = whole as u8;
            *used += copied;
            Ok(None)
        }
    }
}

/// The first `length` bytes of `input`, or all of it.
fn front(input: &mut [u8], length: u64) -> &mut [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(input.len());
    &mut input[..length]
}

/// How much to reserve for `more` bytes: capacity doubles, so that small pieces are not copied over and over, but
/// never past what the message can still bring. The claimed length only ever lowers it.
fn growth(len: usize, capacity: usize, more: usize, header: &Header) -> usize {
    if capacity - len >= more {
        return 0;
    }
    let doubled = capacity.saturating_mul(2).saturating_sub(len);
    let wanted = if header.is_final {
        let missing = usize::try_from(header.length).unwrap_or(usize::MAX);
        doubled.min(more.saturating_add(missing))
    } else {
        doubled
    };
    wanted.max(more)
}
