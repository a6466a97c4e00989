//! Properties of whole streams: how they are cut never matters, and what a writer wrote is what a reader gives.

mod frame_support;

use frame_support::{Random, RawFrame, Received, WIDE, read_in_pieces, stream};
use proptest::prelude::*;
use tidings_protocol::close::CloseCode;
use tidings_protocol::frame::{
    MessageReader, Opcode, ReaderLimits, Role, frame, put_close, put_frame, put_masked_close,
    put_masked_frame,
};

const ROLES: [Role; 2] = [Role::Server, Role::Client];
const NARROW: ReaderLimits = ReaderLimits { text_bytes_max: 100, binary_bytes_max: 150, fragments_max: 4 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_stream_means_the_same_however_it_is_cut(seed: u64, spoilt in 0..4_usize, narrow: bool, is_server: bool) {
        let mut random = Random(seed);
        let role = if is_server { Role::Server } else { Role::Client };
        let limits = if narrow { NARROW } else { WIDE };
        let mut bytes = stream(&random.valid_frames(role));
        for _ in 0..spoilt {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        let whole = read_in_pieces(role, &bytes, [], &limits);
        prop_assert_eq!(&read_in_pieces(role, &bytes, vec![1; bytes.len()], &limits), &whole);
        for _ in 0..4 {
            let cuts = random.cuts(bytes.len());
            prop_assert_eq!(&read_in_pieces(role, &bytes, cuts, &limits), &whole);
        }
    }

    #[test]
    fn random_bytes_mean_the_same_however_they_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..80), cuts in proptest::collection::vec(0..7_usize, 80)) {
        for role in ROLES {
            let whole = read_in_pieces(role, &bytes, [], &NARROW);
            prop_assert_eq!(&read_in_pieces(role, &bytes, cuts.clone(), &NARROW), &whole);
        }
    }

    #[test]
    fn what_was_written_is_what_is_read(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..300), key: [u8; 4], code in prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16], cuts in proptest::collection::vec(0..60_usize, 40)) {
        let control = &bytes[..bytes.len().min(125)];
        let reason = &text[..text.floor_char_boundary(123)];
        let expected = vec![
            Received::Text(text.clone()),
            Received::Ping(control.into()),
            Received::Pong(control.into()),
            Received::Binary(bytes.clone()),
            Received::Close(Some((code, reason.into()))),
        ];
        let (mut from_server, mut from_client) = (Vec::new(), Vec::new());
        for (opcode, payload) in [(Opcode::Text, text.as_bytes()), (Opcode::Ping, control), (Opcode::Pong, control), (Opcode::Binary, &bytes)] {
            put_masked_frame(&mut from_client, opcode, payload, key);
            let before = from_server.len();
            put_frame(&mut from_server, opcode, payload);
            let (front, back) = payload.split_at(payload.len() / 2);
            prop_assert_eq!(&frame(opcode, &[front, back])[..], &from_server[before..]);
        }
        put_close(&mut from_server, CloseCode(code), &text);
        put_masked_close(&mut from_client, CloseCode(code), &text, key);
        prop_assert_eq!(&read_in_pieces(Role::Server, &from_client, cuts.clone(), &WIDE).received, &expected);
        prop_assert_eq!(&read_in_pieces(Role::Client, &from_server, cuts, &WIDE).received, &expected);
    }
}

#[test]
fn every_byte_of_a_large_message_survives_masking_fragments_and_cuts() {
    let mut random = Random(0x51de);
    for length in [65_535, 65_536, 65_537, 1 << 20, (4 << 20) + 3] {
        let bytes = random.bytes(length);
        let text = random.text(length);
        let mut written = Vec::new();
        put_masked_frame(&mut written, Opcode::Binary, &bytes, [0x9d, 0x01, 0xe2, 0x77]);
        put_masked_frame(&mut written, Opcode::Text, text.as_bytes(), [0x9d, 0x01, 0xe2, 0x77]);
        // The same text in fragments that cut code points.
        let mut fragments = text.as_bytes().chunks(8_191).peekable();
        let mut opcode = Opcode::Text;
        while let Some(fragment) = fragments.next() {
            let frame = RawFrame::new(Role::Server, opcode, fragment);
            if fragments.peek().is_some() { frame.not_final() } else { frame }.put(&mut written);
            opcode = Opcode::Continuation;
        }
        for piece in [written.len(), 65_536, 1_447] {
            let cuts = vec![piece; written.len() / piece];
            let outcome = read_in_pieces(Role::Server, &written, cuts, &WIDE);
            let [Received::Binary(one), Received::Text(two), Received::Text(three)] = &outcome.received[..]
            else {
                panic!("{length} in pieces of {piece}: {:?}", outcome.error)
            };
            assert!(*one == bytes && *two == text && *three == text, "{length} in pieces of {piece}");
        }
    }
}

#[test]
fn an_echo_of_borrowed_bytes_is_byte_for_byte() {
    let mut random = Random(7);
    let payload = random.bytes(100_000);
    let mut input = Vec::new();
    put_masked_frame(&mut input, Opcode::Binary, &payload, [1, 2, 3, 4]);
    let mut echoed = Vec::new();
    let mut reader = MessageReader::new(Role::Server);
    let Ok(Some(tidings_protocol::frame::Inbound::Binary(bytes))) = reader.read(&mut input, &mut 0, &WIDE)
    else {
        panic!()
    };
    put_frame(&mut echoed, Opcode::Binary, bytes);
    assert!(read_in_pieces(Role::Client, &echoed, [], &WIDE).received == [Received::Binary(payload)]);
}
