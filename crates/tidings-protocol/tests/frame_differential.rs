//! Our reader against tungstenite's, on streams that are valid, spoilt, cut short, or noise. They must give the same
//! messages, and refuse the same streams. Where tungstenite is known to differ, [`compare`] says how and why.

mod frame_support;

use std::io::{Cursor, Read, Write};

use frame_support::{LengthForm, Outcome, Random, RawFrame, Received, read_in_pieces, stream};
use tidings_protocol::frame::{FrameError, Opcode, ReaderLimits, Role};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};

/// A limit that the generated streams reach now and then, so that both sides' size checks run.
const MESSAGE_BYTES_MAX: usize = 300;
/// tungstenite does not count fragments, so here we don't either.
const LIMITS: ReaderLimits = ReaderLimits {
    text_bytes_max: MESSAGE_BYTES_MAX,
    binary_bytes_max: MESSAGE_BYTES_MAX,
    fragments_max: u32::MAX,
};

/// How tungstenite's reading of a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It wants more bytes.
    Open,
    /// With a close frame.
    Closed,
    /// By a protocol error.
    Protocol,
    /// By text that is not UTF-8.
    Utf8,
    /// By a message above the limit.
    Capacity,
}

/// A peer that has sent all that it ever will, and takes whatever is sent to it.
struct Peer<'a>(Cursor<&'a [u8]>);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_with_tungstenite(role: Role, stream: &[u8]) -> (Vec<Received>, End) {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(256)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut context = WebSocketContext::new(role, Some(config));
    let mut peer = Peer(Cursor::new(stream));
    let mut received = Vec::new();
    loop {
        received.push(match context.read(&mut peer) {
            Ok(tungstenite::Message::Text(text)) => Received::Text(text.as_str().into()),
            Ok(tungstenite::Message::Binary(bytes)) => Received::Binary(bytes.into()),
            Ok(tungstenite::Message::Ping(payload)) => Received::Ping(payload.into()),
            Ok(tungstenite::Message::Pong(payload)) => Received::Pong(payload.into()),
            Ok(tungstenite::Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.as_str().into()));
                received.push(Received::Close(close));
                return (received, End::Closed);
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (received, End::Open);
            }
            Err(Error::Protocol(_)) => return (received, End::Protocol),
            Err(Error::Utf8(_)) => return (received, End::Utf8),
            Err(Error::Capacity(_)) => return (received, End::Capacity),
            other => unreachable!("{other:?} from an in-memory stream"),
        });
    }
}

/// `stream` with its last frame brought to its end by zeros. Where that frame breaks a rule, this lets a reader see
/// it that looks at whole frames only; no zeros mend what is broken.
fn with_last_frame_complete(stream: &[u8]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let mut at = 0;
    while at < stream.len() {
        let mut byte = |at: usize| {
            if stream.len() <= at {
                stream.resize(at + 1, 0);
            }
            stream[at]
        };
        let second = byte(at + 1);
        let (length_bytes, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let long = (0..length_bytes).fold(0, |length, index| length << 8 | u64::from(byte(at + 2 + index)));
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let header = 2 + length_bytes + mask_bytes;
        byte(at + header - 1);
        let length = short + long;
        if length > MESSAGE_BYTES_MAX as u64 {
            // Both judge the length itself by the header alone.
            return stream;
        }
        at += header + length as usize;
        if stream.len() < at {
            stream.resize(at, 0);
        }
    }
    stream
}

/// What tungstenite makes of a close frame whose code it does not take.
fn replaced_close() -> Received {
    Received::Close(Some((1002, "Protocol violation".into())))
}

/// Our reading against tungstenite's.
fn compare(role: Role, stream: &[u8], ours: &Outcome) {
    // tungstenite reports a fault when it has the whole frame, we as soon as it can be known (reserved bits and
    // opcodes at the first byte, text in the middle of a frame). So where we saw a fault, it gets the rest of the frame.
    let judged = if ours.error.is_some() { with_last_frame_complete(stream) } else { stream.to_vec() };
    let (received, end) = read_with_tungstenite(role, &judged);
    let describe = || format!("{role:?} {stream:02x?}\nours: {ours:?}\ntungstenite: {received:?} {end:?}");

    let mut expected = ours.received.clone();
    match ours.error {
        None if matches!(expected.last(), Some(Received::Close(_))) => {
            if let Some(Received::Close(Some((1014, _)))) = expected.last() {
                // Registered with IANA ("bad gateway") after tungstenite's list was made.
                expected.pop();
                expected.push(replaced_close());
            }
            assert_eq!(end, End::Closed, "{}", describe());
        }
        None => assert_eq!(end, End::Open, "{}", describe()),
        Some(FrameError::NonMinimalLength) => {
            // tungstenite takes any form of a length, though RFC 6455 §5.2 wants the shortest. So it may go on; only
            // what came before can be compared.
            assert!(received.starts_with(&expected), "{}", describe());
            return;
        }
        Some(FrameError::ControlTooLong) => {
            // The same, for a control frame: a long form is already too long for us, whatever length it holds. One
            // that is truly too long is refused by both.
            assert!(received.starts_with(&expected), "{}", describe());
            assert!(received.len() > expected.len() || end != End::Open, "{}", describe());
            return;
        }
        Some(FrameError::CloseCode(_)) => {
            // tungstenite gives a close frame with a code of its own instead of an error; it answers 1002 as we do.
            // It looks at the reason's UTF-8 first.
            if end == End::Closed {
                expected.push(replaced_close());
            } else {
                assert_eq!(end, End::Utf8, "{}", describe());
            }
        }
        Some(FrameError::InvalidUtf8) => assert_eq!(end, End::Utf8, "{}", describe()),
        Some(FrameError::MessageTooLarge { .. }) => assert_eq!(end, End::Capacity, "{}", describe()),
        // A frame may break several rules, and then each has its own order; a header's fault is never one of text.
        // A 64-bit length with its top bit set is a matter of size to tungstenite.
        Some(_) => assert!(matches!(end, End::Protocol | End::Capacity), "{}", describe()),
    }
    assert!(received == expected, "{}", describe());
}

/// How often each outcome was seen, so that a generator gone dull fails the test.
#[derive(Default)]
struct Seen(std::collections::BTreeMap<&'static str, u32>);

impl Seen {
    fn count(&mut self, outcome: &Outcome) {
        *self.0.entry(name(outcome)).or_default() += 1;
    }

    #[track_caller]
    fn assert_each(&self, names: &[&'static str], times: u32) {
        for name in names {
            assert!(self.0.get(name).is_some_and(|seen| *seen >= times), "{name}: {:?}", self.0);
        }
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome.error {
        None if matches!(outcome.received.last(), Some(Received::Close(_))) => "closed",
        None if outcome.is_mid_message => "cut short",
        None => "valid",
        Some(FrameError::Unmasked) => "unmasked",
        Some(FrameError::Masked) => "masked",
        Some(FrameError::ReservedBits) => "reserved bits",
        Some(FrameError::ReservedOpcode(_)) => "reserved opcode",
        Some(FrameError::FragmentedControl) => "fragmented control",
        Some(FrameError::ControlTooLong) => "control too long",
        Some(FrameError::NonMinimalLength) => "non-minimal length",
        Some(FrameError::LengthTopBit) => "length top bit",
        Some(FrameError::UnexpectedContinuation) => "unexpected continuation",
        Some(FrameError::ExpectedContinuation) => "expected continuation",
        Some(FrameError::CloseLength) => "close length",
        Some(FrameError::CloseCode(_)) => "close code",
        Some(FrameError::InvalidUtf8) => "invalid utf-8",
        Some(FrameError::MessageTooLarge { .. }) => "message too large",
        Some(_) => "other",
    }
}

/// Every fault that a peer of either role may make.
const FAULTS: [&str; 12] = [
    "reserved bits",
    "reserved opcode",
    "fragmented control",
    "control too long",
    "non-minimal length",
    "length top bit",
    "unexpected continuation",
    "expected continuation",
    "close length",
    "close code",
    "invalid utf-8",
    "message too large",
];

fn run(role: Role, seed: u64, streams: usize, generate: impl Fn(&mut Random, Role) -> Vec<u8>) -> Seen {
    let mut random = Random(seed);
    let mut seen = Seen::default();
    for _ in 0..streams {
        let stream = generate(&mut random, role);
        let ours = read_in_pieces(role, &stream, random.cuts(stream.len()), &LIMITS);
        compare(role, &stream, &ours);
        seen.count(&ours);
    }
    seen
}

/// A valid stream with a few of its frames made wrong in one respect each.
fn wrong_frames(random: &mut Random, role: Role) -> Vec<u8> {
    let mut frames = random.valid_frames(role);
    for _ in 0..1 + random.below(2) {
        let at = random.below(frames.len());
        let frame = &mut frames[at];
        match random.below(12) {
            0 => frame.first ^= 0x10 << random.below(3),
            1 | 2 => frame.first = frame.first & 0xf0 | random.below(16) as u8,
            3 => frame.first ^= 0x80,
            4 => frame.key = if frame.key.is_some() { None } else { Some([1, 2, 3, 4]) },
            5 => frame.form = random.pick(&[LengthForm::Bits16, LengthForm::Bits64, LengthForm::TopBit]),
            6 => {
                let length = random.pick(&[0, 1, 2, 126, 127, 299, 300, 301, 400]);
                frame.payload = random.bytes(length);
            }
            7 => frame.payload = b"\x03".into(),
            8 if !frame.payload.is_empty() => {
                let at = random.below(frame.payload.len());
                frame.payload[at] = random.pick(&[0x80, 0xc0, 0xed, 0xf4, 0xf5, 0xff, 0x41]);
            }
            9 => {
                let frame = frame.clone();
                frames.insert(at, frame);
            }
            10 => {
                // A close with any code.
                let code = random.below(0x1_0000) as u16;
                frame.first = 0x80 | Opcode::Close as u8;
                frame.payload = code.to_be_bytes().into();
            }
            _ => {
                frames.swap_remove(at);
                if frames.is_empty() {
                    frames.push(RawFrame::new(role, Opcode::Ping, ""));
                }
            }
        }
    }
    stream(&frames)
}

/// A valid stream with bytes changed, put in, taken out or doubled.
fn changed_bytes(random: &mut Random, role: Role) -> Vec<u8> {
    let mut bytes = stream(&random.valid_frames(role));
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.pick(&[0x00, 0x01, 0x7e, 0x7f, 0x80, 0x81, 0x88, 0xfe, 0xff]),
            3 => bytes.insert(at, random.next() as u8),
            4 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {
                let end = bytes.len().min(at + random.below(20));
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
        }
    }
    bytes
}

/// Noise behind a first byte or two that make it likely to get somewhere.
fn noise(random: &mut Random, role: Role) -> Vec<u8> {
    let length = random.below(40);
    let mut bytes = random.bytes(length);
    if !random.once_in(4) {
        let mask_bit = if role == Role::Server { 0x80 } else { 0 };
        let opcode = random.pick(&[0x01, 0x02, 0x81, 0x82, 0x88, 0x89, 0x8a]);
        let length = random.pick(&[0, 1, 2, 3, 5, 8, 13, 125, 126, 127]);
        bytes.splice(0..0, [opcode, mask_bit | length]);
    }
    bytes
}

const ROLES: [Role; 2] = [Role::Server, Role::Client];

#[test]
fn valid_streams() {
    for role in ROLES {
        let seen = run(role, 1, 10_000, |random, role| {
            let mut frames = random.valid_frames(role);
            frames.retain(|frame| frame.first != 0x88);
            stream(&frames)
        });
        assert_eq!(seen.0.into_iter().collect::<Vec<_>>(), [("valid", 10_000)]);
    }
}

#[test]
fn streams_that_are_cut_short() {
    for role in ROLES {
        let seen = run(role, 2, 12_000, |random, role| {
            let mut bytes = stream(&random.valid_frames(role));
            let length = random.below(bytes.len());
            bytes.truncate(length);
            bytes
        });
        seen.assert_each(&["cut short"], 6_000);
        // Now and then the cut is where a message ends.
        seen.assert_each(&["valid"], 200);
    }
}

#[test]
fn streams_with_wrong_frames() {
    for (role, unwanted) in ROLES.into_iter().zip(["unmasked", "masked"]) {
        let seen = run(role, 3, 20_000, wrong_frames);
        seen.assert_each(&FAULTS, 20);
        seen.assert_each(&["valid", "closed", unwanted], 300);
    }
}

#[test]
fn streams_with_changed_bytes() {
    for (role, unwanted) in ROLES.into_iter().zip(["unmasked", "masked"]) {
        let seen = run(role, 4, 20_000, changed_bytes);
        seen.assert_each(&FAULTS[..6], 1);
        seen.assert_each(&["valid", "cut short", "closed", "invalid utf-8", unwanted], 300);
    }
}

#[test]
fn noise_that_looks_like_frames() {
    for role in ROLES {
        let seen = run(role, 5, 20_000, noise);
        seen.assert_each(&["cut short", "closed", "invalid utf-8", "close code", "length top bit"], 50);
    }
}
