//! RESP: what a client sends, and what a server answers (RESP3).

use bytes::Bytes;

/// What a server says.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Null,
    Number(i64),
    Text(Bytes),
    Status(&'static str),
    Failed(String),
    Array(Vec<Reply>),
    /// Said without being asked.
    Push(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"_\r\n"),
            Self::Number(number) => line(out, b':', &number.to_string()),
            Self::Text(text) => {
                line(out, b'$', &text.len().to_string());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Self::Status(status) => line(out, b'+', status),
            Self::Failed(error) => line(out, b'-', &error.replace(['\r', '\n'], " ")),
            Self::Array(replies) => all(out, b'*', replies),
            Self::Push(replies) => all(out, b'>', replies),
            Self::Map(pairs) => {
                line(out, b'%', &pairs.len().to_string());
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn all(out: &mut Vec<u8>, kind: u8, replies: &[Reply]) {
    line(out, kind, &replies.len().to_string());
    for reply in replies {
        reply.encode(out);
    }
}

/// Takes the first command off what has come: an array of texts.
pub(crate) fn take_command(read: &mut Vec<u8>) -> Option<Vec<Bytes>> {
    let mut at = 0;
    let count = number(read, &mut at, b'*')?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number(read, &mut at, b'$')?;
        command.push(Bytes::copy_from_slice(read.get(at..at + length)?));
        at += length + 2;
    }
    (at <= read.len()).then(|| drop(read.drain(..at)))?;
    Some(command)
}

fn number(read: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = read.get(*at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    assert_eq!(rest[0], kind, "a command is an array of texts");
    *at += end + 1;
    Some(std::str::from_utf8(&rest[1..end - 1]).unwrap().parse().unwrap())
}
