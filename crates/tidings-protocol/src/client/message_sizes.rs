//! How large a message a server takes: for a larger one it closes the connection, and the next one too. PROTOCOL.md §7.

use crate::codec::Encoding;
use crate::message::ClientLimits;

/// The sizes of one connection. A server that tells none sets none.
#[derive(Default, Debug)]
pub(super) struct MessageSizes {
    text_bytes: Option<usize>,
    binary_bytes: Option<usize>,
}

impl MessageSizes {
    /// The sizes of a connection that begins with these limits.
    pub(super) fn new(limits: &ClientLimits) -> Self {
        let told = |bytes: usize| (bytes > 0).then_some(bytes);
        Self { text_bytes: told(limits.text_message_bytes), binary_bytes: told(limits.binary_message_bytes) }
    }

    /// Whether a message of so many bytes is taken.
    pub(super) fn takes(&self, encoding: Encoding, bytes: usize) -> bool {
        let bytes_max = match encoding {
            Encoding::Text => self.text_bytes,
            Encoding::Binary => self.binary_bytes,
        };
        bytes_max.is_none_or(|bytes_max| bytes <= bytes_max)
    }
}
