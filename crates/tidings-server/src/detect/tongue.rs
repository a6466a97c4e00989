//! The languages that sources are in, by their files' names, and what names in them are made of.

/// By which rules comments and quotes are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tongue {
    JavaScript,
    Python,
    Rust,
}

impl Tongue {
    /// Of a file's name; none for what is no source.
    pub(crate) fn of(path: &str) -> Option<Self> {
        // As Express's own generator has called it for ever.
        if path == "www" || path.ends_with("/www") {
            return Some(Self::JavaScript);
        }
        match path.rsplit_once('.')?.1 {
            "js" | "mjs" | "cjs" | "ts" | "mts" | "cts" => Some(Self::JavaScript),
            "py" => Some(Self::Python),
            "rs" => Some(Self::Rust),
            _ => None,
        }
    }
}

/// Whether a byte can be in a name, in any of them.
pub(crate) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}
