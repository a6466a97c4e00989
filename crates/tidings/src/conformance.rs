//! Echo, for the Autobahn test suite: same type and bytes out. Everything but this handler is what real
//! connections use. Only with the feature `conformance`, which no release has.

use bytes::Bytes;
use tidings_protocol::frame::{self, Inbound, Opcode};

/// The frame that answers a data message; none for control frames, which are served as ever.
pub(crate) fn echo(inbound: Inbound<'_>) -> Option<Bytes> {
    match inbound {
        Inbound::Text(text) => Some(frame::frame(Opcode::Text, &[text.as_bytes()])),
        Inbound::Binary(bytes) => Some(frame::frame(Opcode::Binary, &[bytes])),
        Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => None,
    }
}
