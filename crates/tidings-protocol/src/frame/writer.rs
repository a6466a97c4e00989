//! Frames into buffers (RFC 6455 §5). It owns the form: lengths in the fewest bytes, one final frame a message. It
//! must never choose a mask: the key comes from the caller, for this crate has no randomness.

use bytes::Bytes;

use super::header::{HEADER_BYTES_MAX, put_header};
use super::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, Opcode, mask};
use crate::close::CloseCode;

/// Appends one whole frame, as a server sends it. A control frame's payload is at most 125 bytes.
pub fn put_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(
        !opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX,
        "a control frame of {}",
        payload.len()
    );
    out.reserve(HEADER_BYTES_MAX + payload.len());
    put_header(out, opcode, payload.len(), None);
    out.extend_from_slice(payload);
}

/// One whole frame as a server sends it, contiguous and shared: a broadcast is encoded once and cloned per member.
/// `parts` follow one another in the payload (a binary message has a header, its JSON and its bytes).
pub fn frame(opcode: Opcode, parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum();
    debug_assert!(!opcode.is_control() || length <= CONTROL_BYTES_MAX, "a control frame of {length}");
    let mut out = Vec::with_capacity(HEADER_BYTES_MAX + length);
    put_header(&mut out, opcode, length, None);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into()
}

/// Bytes that most headers take: those of payloads from 126 bytes to 64 KiB.
const HEADER_GAP: usize = 4;

/// A server's frame that is written where it will stay: the payload is appended first, piece by piece, and the header
/// is put in front of it when the length is known.
#[derive(Debug)]
pub struct FrameBuffer(Vec<u8>);

impl FrameBuffer {
    /// An empty one, with room for a payload of so many bytes.
    pub fn with_capacity(payload_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_GAP + payload_bytes);
        bytes.extend_from_slice(&[0; HEADER_GAP]);
        Self(bytes)
    }

    /// What the payload is appended to. What stands there already is not to be touched.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The payload so far.
    pub fn written(&self) -> &[u8] {
        &self.0[HEADER_GAP..]
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.0.len() - HEADER_GAP
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole frame. A control frame's payload is at most 125 bytes.
    pub fn finish(mut self, opcode: Opcode) -> Vec<u8> {
        let length = self.len();
        debug_assert!(!opcode.is_control() || length <= CONTROL_BYTES_MAX, "a control frame of {length}");
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        put_header(&mut header, opcode, length, None);
        if header.len() == HEADER_GAP {
            self.0[..HEADER_GAP].copy_from_slice(&header);
        } else {
            // The other lengths cost a move of the payload.
            self.0.splice(..HEADER_GAP, header);
        }
        self.0
    }
}

/// Appends one whole frame, as a client sends it. `key` must be unpredictable (RFC 6455 §5.3). A control frame's
/// payload is at most 125 bytes.
pub fn put_masked_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    debug_assert!(
        !opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX,
        "a control frame of {}",
        payload.len()
    );
    out.reserve(HEADER_BYTES_MAX + payload.len());
    put_header(out, opcode, payload.len(), Some(key));
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], key);
}

/// Appends a close frame, as a server sends it. The reason is cut at a character to fit its 123 bytes; a code that
/// [may not be sent](CloseCode::may_be_sent) leaves the payload empty, which says "no code".
pub fn put_close(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    put_frame(out, Opcode::Close, &close_payload(code, reason));
}

/// Appends a close frame, as a client sends it: [`put_close`] under a mask.
pub fn put_masked_close(out: &mut Vec<u8>, code: CloseCode, reason: &str, key: [u8; 4]) {
    put_masked_frame(out, Opcode::Close, &close_payload(code, reason), key);
}

fn close_payload(code: CloseCode, reason: &str) -> Vec<u8> {
    if !code.may_be_sent() {
        return Vec::new();
    }
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    [&code.0.to_be_bytes(), reason.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_the_rfc() {
        // RFC 6455 §5.7.
        let mut out = Vec::new();
        put_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        put_masked_frame(&mut out, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        out.clear();
        put_frame(&mut out, Opcode::Ping, b"Hello");
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(frame(Opcode::Binary, &[&[0; 256]])[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(frame(Opcode::Binary, &[&[0; 65_536]])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn frames_are_appended_and_parts_follow_one_another() {
        let mut out = b"before".to_vec();
        put_frame(&mut out, Opcode::Binary, b"abc");
        assert_eq!(out, b"before\x82\x03abc");
        assert_eq!(&frame(Opcode::Binary, &[b"a", b"", b"bc"])[..], b"\x82\x03abc");
        assert_eq!(&frame(Opcode::Text, &[])[..], b"\x81\x00");
    }

    #[test]
    fn a_frame_that_is_written_in_place_is_the_same_frame() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let mut buffer = FrameBuffer::with_capacity(10);
            assert!(buffer.is_empty());
            for piece in payload.chunks(1000) {
                buffer.payload().extend_from_slice(piece);
            }
            assert_eq!(buffer.len(), length as usize);
            assert_eq!(buffer.finish(Opcode::Binary), frame(Opcode::Binary, &[&payload]), "{length}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        put_close(&mut out, CloseCode::NORMAL, "done");
        assert_eq!(out, b"\x88\x06\x03\xe8done");
        for (reason, kept) in
            [("é".repeat(100), 122), ("a".repeat(123), 123), ("a".repeat(124), 123), ("🦀".repeat(40), 120)]
        {
            out.clear();
            put_close(&mut out, CloseCode::POLICY, &reason);
            assert_eq!(out[..4], [0x88, kept + 2, 0x03, 0xf0]);
            assert_eq!(&out[4..], &reason.as_bytes()[..kept.into()]);
        }
    }

    #[test]
    fn a_code_that_may_not_be_sent_leaves_the_payload_empty() {
        let mut out = Vec::new();
        put_close(&mut out, CloseCode(1006), "lost");
        assert_eq!(out, [0x88, 0x00]);
        out.clear();
        put_masked_close(&mut out, CloseCode(1005), "", [1, 2, 3, 4]);
        assert_eq!(out, [0x88, 0x80, 1, 2, 3, 4]);
    }
}
