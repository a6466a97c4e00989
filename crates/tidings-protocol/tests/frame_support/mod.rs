//! What the tests of `frame` share: a reader driven over a stream that is cut anywhere, raw frames that may break
//! every rule, and a seeded source of both.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part")]

use tidings_protocol::frame::{FrameError, Inbound, MessageReader, Opcode, ReaderLimits, Role};

/// Limits that nothing reaches by accident.
pub const WIDE: ReaderLimits =
    ReaderLimits { text_bytes_max: 16 << 20, binary_bytes_max: 16 << 20, fragments_max: u32::MAX };

/// An [`Inbound`] that outlives its buffers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Inbound<'_>> for Received {
    fn from(inbound: Inbound<'_>) -> Self {
        match inbound {
            Inbound::Text(text) => Self::Text(text.into()),
            Inbound::Binary(bytes) => Self::Binary(bytes.into()),
            Inbound::Ping(payload) => Self::Ping(payload.into()),
            Inbound::Pong(payload) => Self::Pong(payload.into()),
            Inbound::Close(close) => Self::Close(close.map(|close| (close.code.0, close.reason.into()))),
        }
    }
}

/// What a stream meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub received: Vec<Received>,
    pub error: Option<FrameError>,
    /// Whether the stream ended inside a message or frame.
    pub is_mid_message: bool,
}

/// Reads a whole stream in pieces of the given lengths, the last one being what is left. Checks on the way what
/// holds for every stream.
pub fn read_in_pieces(
    role: Role,
    stream: &[u8],
    lengths: impl IntoIterator<Item = usize>,
    limits: &ReaderLimits,
) -> Outcome {
    let mut reader = MessageReader::new(role);
    let mut received = Vec::new();
    let mut stream = stream.to_vec();
    let mut rest = stream.as_mut_slice();
    let mut lengths = lengths.into_iter();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(rest.len()).min(rest.len());
        let (mut piece, behind) = rest.split_at_mut(length);
        rest = behind;
        loop {
            let mut used = usize::MAX;
            match reader.read(piece, &mut used, limits) {
                Ok(Some(inbound)) => received.push(inbound.into()),
                Ok(None) => {
                    assert_eq!(used, piece.len(), "None means that everything was consumed");
                    assert!(
                        reader.is_mid_message() || reader.buffered_bytes() == 0,
                        "an idle reader holds nothing"
                    );
                    if reader.is_as_new() {
                        reader = MessageReader::new(role);
                    }
                    break;
                }
                Err(error) => {
                    assert_eq!(
                        reader.read(&mut [0x81, 0x00], &mut used, limits),
                        Err(error),
                        "it stays failed"
                    );
                    assert!(!reader.is_mid_message());
                    assert_eq!(reader.buffered_bytes(), 0, "a failed reader holds nothing");
                    return Outcome { received, error: Some(error), is_mid_message: false };
                }
            }
            piece = &mut piece[used..];
        }
    }
    Outcome { received, error: None, is_mid_message: reader.is_mid_message() }
}

/// How a raw frame writes its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LengthForm {
    Minimal,
    Bits16,
    Bits64,
    /// 64 bits, the top one set.
    TopBit,
}

/// A frame that may break any rule.
#[derive(Clone, Debug)]
pub struct RawFrame {
    pub first: u8,
    pub key: Option<[u8; 4]>,
    pub form: LengthForm,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// A final frame with the mask that a peer of `role` uses.
    pub fn new(role: Role, opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        let key = (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
        Self { first: 0x80 | opcode as u8, key, form: LengthForm::Minimal, payload: payload.into() }
    }

    /// The same, to be continued.
    pub fn not_final(mut self) -> Self {
        self.first &= 0x7f;
        self
    }

    /// Its bytes, written here independently of the crate's own writer.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mask_bit = if self.key.is_some() { 0x80 } else { 0 };
        let length = self.payload.len();
        let form = match self.form {
            LengthForm::Minimal if length < 126 => LengthForm::Minimal,
            LengthForm::Minimal if length < 65_536 => LengthForm::Bits16,
            LengthForm::Minimal => LengthForm::Bits64,
            form => form,
        };
        out.push(self.first);
        match form {
            LengthForm::Minimal => out.push(mask_bit | length as u8),
            LengthForm::Bits16 => {
                out.push(mask_bit | 126);
                out.extend((length as u16).to_be_bytes());
            }
            LengthForm::Bits64 => {
                out.push(mask_bit | 127);
                out.extend((length as u64).to_be_bytes());
            }
            LengthForm::TopBit => {
                out.push(mask_bit | 127);
                out.extend((length as u64 | 1 << 63).to_be_bytes());
            }
        }
        match self.key {
            Some(key) => {
                out.extend(key);
                out.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            }
            None => out.extend(&self.payload),
        }
    }

    /// Its bytes alone.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// Frames one after the other.
pub fn stream(frames: &[RawFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.put(&mut out));
    out
}

/// A seeded random source (SplitMix64): the same seed gives the same streams everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// UTF-8 of about `length` bytes, from code points of every length and the edges of their ranges.
    pub fn text(&mut self, length: usize) -> String {
        let mut text = String::new();
        while text.len() < length {
            text.push(self.pick(&[
                'a',
                'b',
                '{',
                '\u{0}',
                '\u{7f}',
                '\u{80}',
                'é',
                '\u{7ff}',
                '\u{800}',
                '€',
                '\u{d7ff}',
                '\u{e000}',
                '\u{ffff}',
                '\u{10000}',
                '🦀',
                '\u{10ffff}',
            ]));
        }
        text
    }

    /// Lengths of pieces: whole, byte by byte, or small and mixed.
    pub fn cuts(&mut self, stream_len: usize) -> Vec<usize> {
        match self.below(4) {
            0 => Vec::new(),
            1 => vec![1; stream_len],
            _ => {
                let longest = self.pick(&[3, 9, 40]);
                (0..stream_len).map(|_| self.below(longest)).collect()
            }
        }
    }

    /// Frames that a peer of `role` may send: whole and fragmented messages with control frames anywhere.
    pub fn valid_frames(&mut self, role: Role) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        for _ in 0..1 + self.below(4) {
            self.put_control(role, &mut frames);
            let length = self.pick(&[0, 1, 2, 5, 8, 17, 60, 125, 126, 127, 160]);
            let (opcode, payload) = if self.once_in(3) {
                (Opcode::Binary, self.bytes(length))
            } else {
                (Opcode::Text, self.text(length).into_bytes())
            };
            let mut cuts: Vec<usize> =
                (0..self.pick(&[0, 0, 1, 2, 4])).map(|_| self.below(payload.len() + 1)).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let fragments = cuts.len() - 1;
            for (index, cut) in cuts.windows(2).enumerate() {
                let opcode = if index == 0 { opcode } else { Opcode::Continuation };
                let frame = self.masked(RawFrame::new(role, opcode, &payload[cut[0]..cut[1]]));
                frames.push(if index + 1 == fragments { frame } else { frame.not_final() });
                if index + 1 < fragments {
                    self.put_control(role, &mut frames);
                }
            }
        }
        if self.once_in(4) {
            let payload = self.close_payload();
            frames.push(self.masked(RawFrame::new(role, Opcode::Close, payload)));
        }
        frames
    }

    fn put_control(&mut self, role: Role, frames: &mut Vec<RawFrame>) {
        if self.once_in(3) {
            let opcode = self.pick(&[Opcode::Ping, Opcode::Pong]);
            let length = self.pick(&[0, 1, 4, 30, 125]);
            let payload = self.bytes(length);
            frames.push(self.masked(RawFrame::new(role, opcode, payload)));
        }
    }

    fn masked(&mut self, mut frame: RawFrame) -> RawFrame {
        frame.key = frame.key.map(|_| self.pick(&[[0; 4], [1, 2, 3, 4], [0xff, 0, 0x80, 0x7f]]));
        frame
    }

    /// Mostly good: no code, or a code that may be sent and a reason.
    fn close_payload(&mut self) -> Vec<u8> {
        if self.once_in(4) {
            return Vec::new();
        }
        let code: u16 = if self.once_in(4) {
            self.pick(&[0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2999, 5000, u16::MAX])
        } else {
            self.pick(&[
                1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999,
            ])
        };
        let length = self.pick(&[0, 1, 10, 119]);
        [&code.to_be_bytes(), self.text(length).as_bytes()].concat()
    }
}
