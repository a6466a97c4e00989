//! One test a rule of RFC 6455, seen through the reader. The rules of one header alone are tested beside its parser.

mod frame_support;

use frame_support::{LengthForm, Outcome, RawFrame, Received, WIDE, read_in_pieces, stream};
use tidings_protocol::frame::{FrameError, Inbound, MessageReader, Opcode, ReaderLimits, Role};
use tidings_protocol::limits::{Limit, Limits};

const ROLES: [Role; 2] = [Role::Server, Role::Client];

fn text(bytes: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Role::Server, Opcode::Text, bytes)
}

fn binary(bytes: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Role::Server, Opcode::Binary, bytes)
}

fn more(bytes: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Role::Server, Opcode::Continuation, bytes)
}

fn control(opcode: Opcode, bytes: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame::new(Role::Server, opcode, bytes)
}

fn read(frames: &[RawFrame]) -> Outcome {
    read_in_pieces(Role::Server, &stream(frames), [], &WIDE)
}

#[track_caller]
fn assert_fails(frames: &[RawFrame], error: FrameError) {
    assert_eq!(read(frames).error, Some(error));
}

#[test]
fn a_whole_frame_is_borrowed_from_the_input() {
    for role in ROLES {
        let long = "é".repeat(40_000);
        let frames = [
            RawFrame::new(role, Opcode::Text, long.as_bytes()),
            RawFrame::new(role, Opcode::Binary, [1, 2, 3]),
            RawFrame::new(role, Opcode::Ping, *b"ping"),
        ];
        let mut input = stream(&frames);
        let addresses = input.as_ptr_range();
        let mut reader = MessageReader::new(role);
        let mut start = 0;
        for frame in &frames {
            let mut used = 0;
            let payload = match reader.read(&mut input[start..], &mut used, &WIDE).unwrap().unwrap() {
                Inbound::Text(text) => text.as_bytes(),
                Inbound::Binary(payload) | Inbound::Ping(payload) => payload,
                other => panic!("{other:?}"),
            };
            assert_eq!(payload, frame.payload);
            assert!(addresses.contains(&payload.as_ptr()));
            assert_eq!(reader.buffered_bytes(), 0);
            assert!(!reader.is_mid_message());
            start += used;
        }
        assert_eq!(start, input.len());
    }
}

#[test]
fn a_payload_that_comes_whole_behind_its_header_is_borrowed_too() {
    let mut input = binary([7; 20]).bytes();
    let mut reader = MessageReader::new(Role::Server);
    let (header, payload) = input.split_at_mut(6);
    let mut used = 0;
    for piece in header.chunks_mut(2) {
        assert_eq!(reader.read(piece, &mut used, &WIDE), Ok(None));
    }
    let addresses = payload.as_ptr_range();
    let Ok(Some(Inbound::Binary(bytes))) = reader.read(payload, &mut used, &WIDE) else { panic!() };
    assert_eq!(bytes, [7; 20]);
    assert!(addresses.contains(&bytes.as_ptr()));
}

#[test]
fn an_idle_reader_is_small_and_holds_nothing() {
    assert!(size_of::<MessageReader>() <= 120, "{}", size_of::<MessageReader>());
    let mut input = stream(&[text("Hel").not_final(), control(Opcode::Ping, "p"), more("lo")]);
    let mut reader = MessageReader::new(Role::Server);
    let mut used = 0;
    assert!(!reader.is_mid_message());
    for (index, byte) in input.chunks_mut(1).enumerate() {
        let done = reader.read(byte, &mut used, &WIDE).unwrap().is_some();
        assert_eq!(used, 1);
        assert_eq!(reader.is_mid_message(), index + 1 < 24, "byte {index}");
        assert_eq!(done, index + 1 == 16 || index + 1 == 24, "byte {index}");
    }
    assert!(reader.buffered_bytes() > 0);
    assert_eq!(reader.read(&mut [], &mut used, &WIDE), Ok(None));
    assert_eq!(reader.buffered_bytes(), 0);
}

#[test]
fn memory_follows_what_came_and_not_what_is_claimed() {
    for opcode in [Opcode::Text, Opcode::Binary] {
        let mut bytes = RawFrame::new(Role::Server, opcode, vec![b'a'; 1 << 20]).bytes();
        let mut reader = MessageReader::new(Role::Server);
        let mut came = 0;
        let last = bytes.len() - 1;
        for piece in bytes[..last].chunks_mut(1000) {
            came += piece.len();
            let mut used = 0;
            assert_eq!(reader.read(piece, &mut used, &WIDE), Ok(None));
            assert!(reader.buffered_bytes() <= 2 * came, "{} for {came}", reader.buffered_bytes());
        }
        assert_eq!(reader.buffered_bytes(), 1 << 20, "the known end caps the doubling");
    }
}

#[test]
fn a_lie_about_the_length_allocates_nothing() {
    let limits = ReaderLimits { text_bytes_max: usize::MAX, binary_bytes_max: usize::MAX, fragments_max: 1 };
    for claimed in [65_536_u64, 1 << 40, (1 << 63) - 1] {
        let mut header = [&[0x82, 0xff][..], &claimed.to_be_bytes(), &[0; 4], b"abc"].concat();
        let mut reader = MessageReader::new(Role::Server);
        let mut used = 0;
        assert_eq!(reader.read(&mut header, &mut used, &limits), Ok(None));
        assert!((3..=8).contains(&reader.buffered_bytes()), "{}", reader.buffered_bytes());
    }
}

#[test]
fn many_small_fragments_do_not_copy_the_message_every_time() {
    let mut reader = MessageReader::new(Role::Server);
    let mut first = binary([0; 16]).not_final().bytes();
    let mut used = 0;
    assert_eq!(reader.read(&mut first, &mut used, &WIDE), Ok(None));
    let mut capacities = std::collections::BTreeSet::new();
    for _ in 0..10_000 {
        let mut fragment = more([0; 16]).not_final().bytes();
        assert_eq!(reader.read(&mut fragment, &mut used, &WIDE), Ok(None));
        capacities.insert(reader.buffered_bytes());
    }
    assert!(capacities.len() < 20, "{capacities:?}");
}

#[test]
fn fragments_are_one_message_and_control_frames_may_lie_between_them() {
    let outcome = read(&[
        text("a").not_final(),
        control(Opcode::Ping, "1"),
        more("b").not_final(),
        more("").not_final(),
        control(Opcode::Pong, "2"),
        more("c"),
        binary([0xff]),
    ]);
    let expected = vec![
        Received::Ping(b"1".into()),
        Received::Pong(b"2".into()),
        Received::Text("abc".into()),
        Received::Binary(vec![0xff]),
    ];
    assert_eq!(outcome, Outcome { received: expected, error: None, is_mid_message: false });
}

#[test]
fn continuations_follow_beginnings() {
    assert_fails(&[more("a")], FrameError::UnexpectedContinuation);
    assert_fails(&[more("a").not_final()], FrameError::UnexpectedContinuation);
    assert_fails(&[text("a"), more("a")], FrameError::UnexpectedContinuation);
    assert_fails(&[text("").not_final(), more(""), more("")], FrameError::UnexpectedContinuation);
    for second in [text("b"), binary("b"), text("b").not_final()] {
        assert_fails(&[text("a").not_final(), second.clone()], FrameError::ExpectedContinuation);
        assert_fails(&[binary("").not_final(), second], FrameError::ExpectedContinuation);
    }
}

#[test]
fn the_peer_of_each_role_masks_or_does_not() {
    for (role, error) in [(Role::Server, FrameError::Unmasked), (Role::Client, FrameError::Masked)] {
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close] {
            let right = RawFrame::new(role, opcode, "").bytes();
            assert_eq!(read_in_pieces(role, &right, [], &WIDE).error, None);
            let wrong = RawFrame::new(other, opcode, "").bytes();
            assert_eq!(read_in_pieces(role, &wrong, [], &WIDE).error, Some(error));
        }
    }
    assert_eq!(
        read_in_pieces(Role::Client, &RawFrame::new(Role::Client, Opcode::Text, "hi").bytes(), [], &WIDE)
            .received,
        [Received::Text("hi".into())]
    );
}

#[test]
fn reserved_bits_are_refused_also_between_fragments() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for mut frame in [more("b"), control(Opcode::Ping, "")] {
            frame.first |= bits;
            assert_fails(&[text("a").not_final(), frame], FrameError::ReservedBits);
        }
    }
}

#[test]
fn a_length_that_is_longer_than_needed_is_refused() {
    for (length, form) in [
        (0, LengthForm::Bits16),
        (125, LengthForm::Bits16),
        (125, LengthForm::Bits64),
        (126, LengthForm::Bits64),
        (65_535, LengthForm::Bits64),
    ] {
        let frame = RawFrame { form, ..binary(vec![0; length]) };
        assert_fails(&[frame], FrameError::NonMinimalLength);
    }
    for (length, form) in
        [(126, LengthForm::Bits16), (65_535, LengthForm::Bits16), (65_536, LengthForm::Bits64)]
    {
        assert_eq!(
            read(&[RawFrame { form, ..binary(vec![0; length]) }]).received,
            [Received::Binary(vec![0; length])]
        );
    }
}

#[test]
fn a_size_limit_counts_the_whole_message_and_is_judged_at_the_header() {
    let limits = ReaderLimits { text_bytes_max: 10, binary_bytes_max: 200, fragments_max: 100 };
    let at = |frames: &[RawFrame]| {
        // Only the last frame's header: its payload must not be waited for.
        let mut bytes = stream(frames);
        bytes.truncate(bytes.len() - frames.last().unwrap().payload.len());
        read_in_pieces(Role::Server, &bytes, [], &limits).error
    };
    let too_large = |limit| {
        let name = if limit == 10 { Limit::TextMessageBytesMax } else { Limit::BinaryMessageBytesMax };
        Some(FrameError::MessageTooLarge { limit, name })
    };
    assert_eq!(at(&[text("0123456789")]), None);
    assert_eq!(at(&[text("0123456789a")]), too_large(10));
    assert_eq!(at(&[binary([0; 200])]), None);
    assert_eq!(at(&[binary([0; 201])]), too_large(200));
    assert_eq!(at(&[text("01234").not_final(), more("56789")]), None);
    assert_eq!(at(&[text("01234").not_final(), more("56789a")]), too_large(10));
    assert_eq!(at(&[text("0123456789").not_final(), more("").not_final(), more("a")]), too_large(10));
    // Bytes of an unfinished code point count as well.
    assert_eq!(
        at(&[text("01234567\u{e9}"), text(b"012345678\xc3").not_final(), more(b"\xa9")]),
        too_large(10)
    );
    // A control frame is no part of the message.
    assert_eq!(at(&[text("01234").not_final(), control(Opcode::Ping, [0; 125]), more("56789")]), None);
    let huge = [&[0x82, 0xff][..], &((1_u64 << 63) - 1).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(read_in_pieces(Role::Server, &huge, [], &limits).error, too_large(200));
}

#[test]
fn fragments_are_counted_also_when_they_are_empty() {
    let limits = ReaderLimits { fragments_max: 3, ..WIDE };
    let read = |fragments: usize| {
        let mut frames = vec![text("").not_final()];
        frames.extend(vec![more("").not_final(); fragments - 2]);
        frames.push(more(""));
        read_in_pieces(Role::Server, &stream(&[frames.clone(), frames].concat()), [], &limits)
    };
    assert_eq!(read(3).received, vec![Received::Text(String::new()); 2]);
    assert_eq!(read(4).error, Some(FrameError::TooManyFragments { limit: 3 }));
}

#[test]
fn the_operators_limits_become_the_readers() {
    let limits = ReaderLimits::from(&Limits::default());
    assert_eq!(limits, ReaderLimits { text_bytes_max: 65_536, binary_bytes_max: 65_536, fragments_max: 64 });
}

/// Autobahn's 6.3 and 6.4: text that breaks in its middle, and is to be refused there.
const BROKEN: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
/// The byte of `BROKEN` that no code point can have: F4 is followed by 8F at most.
const BREAKS_AT: usize = 12;

#[test]
fn broken_text_fails_at_the_very_byte_in_the_middle_of_a_frame() {
    let bytes = text(BROKEN).bytes();
    for piece in [1, 2, 3, 5] {
        let mut reader = MessageReader::new(Role::Server);
        let mut bytes = bytes.clone();
        let failed = bytes
            .chunks_mut(piece)
            .position(|input| reader.read(input, &mut 0, &WIDE) == Err(FrameError::InvalidUtf8));
        assert_eq!(failed, Some((6 + BREAKS_AT) / piece), "pieces of {piece}");
    }
}

#[test]
fn broken_text_fails_in_the_fragment_that_breaks_it() {
    for cut in 0..BROKEN.len() {
        let (front, back) = BROKEN.split_at(cut);
        let outcome = read(&[text(front).not_final()]);
        assert_eq!(outcome.error, (cut > BREAKS_AT).then_some(FrameError::InvalidUtf8), "cut at {cut}");
        assert_fails(&[text(front).not_final(), more(back).not_final()], FrameError::InvalidUtf8);
    }
}

#[test]
fn text_may_be_cut_in_a_code_point_but_not_end_in_one() {
    let whole = "κόσμε-🦀-é".as_bytes();
    for cut in 0..=whole.len() {
        let (front, back) = whole.split_at(cut);
        let outcome = read(&[text(front).not_final(), control(Opcode::Ping, ""), more(back)]);
        assert_eq!(outcome.received[1], Received::Text("κόσμε-🦀-é".into()));
        let is_boundary = std::str::from_utf8(front).is_ok();
        let error = (!is_boundary).then_some(FrameError::InvalidUtf8);
        assert_eq!(read(&[text(front)]).error, error);
        assert_eq!(read(&[text(front).not_final(), more("")]).error, error);
        assert_eq!(read(&[binary(front)]).error, None);
    }
}

#[test]
fn surrogates_overlong_forms_and_stray_bytes_are_not_utf8() {
    for bad in [
        &b"\xed\xa0\x80"[..],
        b"\xed\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\x80",
        b"\xff",
        b"\xf8\x88\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xc1\xbf",
    ] {
        assert_fails(&[text(bad)], FrameError::InvalidUtf8);
        assert_fails(&[text(bad).not_final()], FrameError::InvalidUtf8);
        assert_fails(&[control(Opcode::Close, [b"\x03\xe8", bad].concat())], FrameError::InvalidUtf8);
    }
}

#[test]
fn a_close_is_parsed_and_ends_the_stream() {
    let close = |payload: &[u8]| read(&[control(Opcode::Close, payload)]);
    assert_eq!(close(b"").received, [Received::Close(None)]);
    assert_eq!(close(b"\x03\xe8").received, [Received::Close(Some((1000, String::new())))]);
    assert_eq!(close(b"\x0f\xa9bye").received, [Received::Close(Some((4009, "bye".into())))]);
    assert_eq!(close(b"\x03").error, Some(FrameError::CloseLength));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(close(&code.to_be_bytes()).error, Some(FrameError::CloseCode(code)));
    }
    // What follows it is discarded, whatever it is, and what had begun before it is void.
    for after in [&text("late").bytes()[..], &[0xff; 40], &control(Opcode::Close, "").bytes()] {
        let frames = stream(&[text("begun").not_final(), control(Opcode::Close, "")]);
        let outcome = read_in_pieces(Role::Server, &[&frames, after].concat(), [3, 5, 9, 1, 1], &WIDE);
        assert_eq!(
            outcome,
            Outcome { received: vec![Received::Close(None)], error: None, is_mid_message: false }
        );
    }
}

#[test]
fn a_close_frees_the_message_that_it_interrupts() {
    for payload in [&b""[..], b"\x00\x00"] {
        let mut input = stream(&[text("begun").not_final(), control(Opcode::Close, payload)]);
        let mut reader = MessageReader::new(Role::Server);
        let outcome = reader.read(&mut input, &mut 0, &WIDE);
        assert_eq!(outcome.is_ok(), payload.is_empty());
        assert_eq!(reader.buffered_bytes(), 0);
        assert!(!reader.is_mid_message());
    }
}

#[test]
fn messages_before_a_fault_are_given_before_it() {
    let outcome = read(&[text("one"), binary("two"), control(Opcode::Ping, ""), more("")]);
    assert_eq!(outcome.received.len(), 3);
    assert_eq!(outcome.error, Some(FrameError::UnexpectedContinuation));
}
