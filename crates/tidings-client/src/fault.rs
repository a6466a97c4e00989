//! Why there is no connection, as far as is known.

use std::fmt;

use tidings_protocol::client::HandshakeRefusal;
use tidings_protocol::close::CloseCode;

/// Why there is no connection: how the last one ended, or why the last one could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConnectionFault {
    /// The HTTP status of a refused handshake, or the close code of a connection; none where the server said nothing.
    pub status: Option<u16>,
    /// The refusal's code (`token_expired`, `connection_limit` …); none for a close.
    pub code: Option<String>,
    /// For people: what is wrong, and what to do; empty where nobody said so.
    pub message: String,
}

impl ConnectionFault {
    pub(crate) fn closed(code: Option<CloseCode>, reason: &str) -> Self {
        Self { status: code.map(|code| code.0), code: None, message: reason.to_owned() }
    }
}

impl From<&HandshakeRefusal> for ConnectionFault {
    fn from(refusal: &HandshakeRefusal) -> Self {
        Self {
            status: refusal.status,
            code: refusal.code.clone(),
            message: refusal.message.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        let parts = [&*status, self.code.as_deref().unwrap_or_default(), &*self.message];
        let said: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if said.is_empty() {
            return f.write_str("the connection is lost");
        }
        f.write_str(&said.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_sentence_of_what_is_known() {
        let refusal = HandshakeRefusal {
            status: Some(429),
            code: Some("connection_limit".to_owned()),
            message: Some("five at most".to_owned()),
            retry_after: None,
        };
        assert_eq!(ConnectionFault::from(&refusal).to_string(), "429 connection_limit five at most");
        assert_eq!(ConnectionFault::closed(Some(CloseCode(4006)), "").to_string(), "4006");
        assert_eq!(ConnectionFault::closed(None, "").to_string(), "the connection is lost");
    }
}
