//! A session's name: which connection, and which connections before it were the same client's.

use std::fmt;

use crate::env::Env;

/// The id in `session.welcome`: 32 hexadecimal digits and a dot between its halves.
///
/// The first half, the lineage, is handed on to the connection that takes this one over by `?session=`. So
/// what was published to everyone but this session stays excluded after a reconnect, on any node, with
/// nothing to remember. Every connection has a second half of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    lineage: u64,
    nonce: u64,
}

impl SessionId {
    pub(crate) fn first(env: &dyn Env) -> Self {
        Self { lineage: env.random(), nonce: env.random() }
    }

    pub(crate) fn after(self, env: &dyn Env) -> Self {
        Self { lineage: self.lineage, nonce: env.random() }
    }

    pub(crate) fn lineage(self) -> u64 {
        self.lineage
    }

    /// Parses the id of a `session.welcome`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (lineage, nonce) = text.split_once('.')?;
        let half = |digits: &str| {
            let plain =
                digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        Some(Self { lineage: half(lineage)?, nonce: half(nonce)? })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{:016x}", self.lineage, self.nonce)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    #[test]
    fn an_id_survives_its_text_and_hands_on_its_lineage() {
        let env = SystemEnv::inline();
        let first = SessionId::first(&env);
        let second = first.after(&env);
        assert_eq!(SessionId::parse(&first.to_string()), Some(first));
        assert_eq!(first.lineage(), second.lineage());
        assert_ne!(first, second);
        for bad in
            ["", ".", "0.0", "+000000000000000.0000000000000000", &first.to_string().to_uppercase()[..10]]
        {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }
}
