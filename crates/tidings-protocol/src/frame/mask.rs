//! The XOR that a client's payloads travel under (RFC 6455 §5.3). It owns speed and phase; it must never decide
//! whether a frame is masked.

/// Masks `bytes` in place, or unmasks them (it is its own inverse), and gives the key for the byte that follows them.
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    // Eight bytes at once in a loop without branches: the compiler turns it into vector instructions.
    let [a, b, c, d] = key;
    let wide_key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide_key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    let mut next = key;
    next.rotate_left(bytes.len() % key.len());
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn byte_i_is_masked_with_key_byte_i_modulo_four(bytes in proptest::collection::vec(any::<u8>(), 0..200), key: [u8; 4], offset in 0..8_usize, cut: usize) {
            let offset = offset.min(bytes.len());
            let expected: Vec<u8> = bytes[offset..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut masked = bytes[offset..].to_vec();
            let (front, back) = masked.split_at_mut(cut % (bytes.len() - offset + 1));
            let next = apply(front, key);
            apply(back, next);
            prop_assert_eq!(masked, expected);
        }
    }
}
