//! Text that arrives in pieces. It owns the check of each piece as it comes, so that bytes that can't become UTF-8
//! any more are refused at once, in the middle of a frame (RFC 6455 §8.1), and code points may be cut anywhere.

use super::FrameError;

/// The text of a message so far.
#[derive(Default, Debug)]
pub(super) struct TextBuffer {
    text: String,
    /// The beginning of a code point whose end has not come.
    tail: [u8; 4],
    tail_len: u8,
}

impl TextBuffer {
    /// Appends a piece; `reserve` makes room for a number of bytes before they are copied.
    ///
    /// # Errors
    /// [`FrameError::InvalidUtf8`] as soon as nothing that could follow would make it UTF-8.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        reserve: impl FnOnce(&mut String, usize),
    ) -> Result<(), FrameError> {
        reserve(&mut self.text, piece.len() + usize::from(self.tail_len));
        let piece = self.complete_tail(piece)?;
        let (whole, tail) = piece.split_at(piece.len() - unfinished_bytes(piece));
        self.text.push_str(simdutf8::basic::from_utf8(whole).map_err(|_| FrameError::InvalidUtf8)?);
        for byte in tail {
            self.push_to_tail(*byte)?;
        }
        Ok(())
    }

    /// Ends the text.
    ///
    /// # Errors
    /// [`FrameError::InvalidUtf8`] when a code point is unfinished.
    pub(super) fn finish(&self) -> Result<(), FrameError> {
        if self.tail_len == 0 { Ok(()) } else { Err(FrameError::InvalidUtf8) }
    }

    /// What is whole of the text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Every byte that was pushed.
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.tail_len)
    }

    /// What is allocated.
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Takes from `piece` what the tail needs to become a code point.
    fn complete_tail<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], FrameError> {
        while self.tail_len > 0 {
            let Some((byte, rest)) = piece.split_first() else { break };
            self.push_to_tail(*byte)?;
            piece = rest;
        }
        Ok(piece)
    }

    /// Puts one byte into the tail, and the tail into the text if that makes it whole.
    fn push_to_tail(&mut self, byte: u8) -> Result<(), FrameError> {
        let len = usize::from(self.tail_len);
        // Four bytes are a code point or a fault, so the tail never needs a fifth.
        *self.tail.get_mut(len).ok_or(FrameError::InvalidUtf8)? = byte;
        match std::str::from_utf8(&self.tail[..=len]) {
            Ok(whole) => {
                self.text.push_str(whole);
                self.tail_len = 0;
            }
            Err(fault) if fault.error_len().is_none() => self.tail_len += 1,
            Err(_) => return Err(FrameError::InvalidUtf8),
        }
        Ok(())
    }
}

/// How many bytes at the end of `piece` look like the beginning of a code point that is cut.
fn unfinished_bytes(piece: &[u8]) -> usize {
    for (index, byte) in piece.iter().rev().take(3).enumerate() {
        let code_point_bytes = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x00..=0x7f => 1,
        };
        let here = index + 1;
        return if code_point_bytes > here { here } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the standard library says that `bytes` can't become UTF-8 any more, counted in bytes looked at.
    fn fault_at(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len())
            .find(|end| std::str::from_utf8(&bytes[..*end]).is_err_and(|fault| fault.error_len().is_some()))
    }

    fn push_all(pieces: &[&[u8]]) -> Result<String, usize> {
        let mut buffer = TextBuffer::default();
        let mut bytes = 0;
        for (index, piece) in pieces.iter().enumerate() {
            buffer.push(piece, |_, _| {}).map_err(|_| index)?;
            bytes += piece.len();
            assert_eq!(buffer.len(), bytes);
        }
        buffer.finish().map_err(|_| pieces.len())?;
        Ok(buffer.as_str().to_owned())
    }

    #[test]
    fn every_sequence_of_edge_bytes_fails_at_the_byte_that_spoils_it() {
        let edges = [
            0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed,
            0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff,
        ];
        let mut sequences = vec![Vec::new()];
        for _ in 0..4 {
            sequences = sequences
                .iter()
                .flat_map(|front: &Vec<u8>| edges.iter().map(|byte| [front.as_slice(), &[*byte]].concat()))
                .collect();
        }
        for sequence in sequences {
            let pieces: Vec<&[u8]> = sequence.chunks(1).collect();
            let expected = match fault_at(&sequence) {
                Some(end) => Err(end - 1),
                None => String::from_utf8(sequence.clone()).map_err(|_| sequence.len()),
            };
            assert_eq!(push_all(&pieces), expected, "{sequence:x?}");
            // In one piece it fails in that piece if a byte spoils it, else at the end.
            let at_once = expected.map_err(|at| usize::from(at == sequence.len()));
            assert_eq!(push_all(&[&sequence]), at_once, "{sequence:x?}");
        }
    }

    proptest! {
        #[test]
        fn text_survives_any_cut(text in "\\PC{0,40}", at in proptest::collection::vec(0..200_usize, 0..6)) {
            let mut at: Vec<usize> = at.into_iter().map(|at| at.min(text.len())).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            prop_assert_eq!(push_all(&pieces), Ok(text.clone()));
        }
    }
}
