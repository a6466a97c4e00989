//! Why a call to Redis gave no answer, by what has to be done about it.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A call that failed. Unless it is `NotMaster` or `Refused`, it may have been carried out all the same: a publish is
/// tried again with the same idempotency id.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server is a replica. Its connection leads to the wrong place: drop it.
    NotMaster,
    /// The server, or this slot of the cluster, can't do it now.
    Unavailable(RedisError),
    /// The connection failed, or the answer took too long.
    Io(RedisError),
    /// The server will never do it: a missing permission, or a key that is not ours.
    Refused(RedisError),
    /// It answered what no script of ours says.
    Malformed(&'static str),
    /// It did not answer in time.
    Late,
    /// No server is to be found.
    Nowhere(&'static str),
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                // A replica that has lost its master is a replica.
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown => Self::NotMaster,
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::BusyLoading => Self::Unavailable(error),
                // A slot that migrates, found out in the middle of a script.
                ServerErrorKind::ResponseError
                    if error.detail().is_some_and(|text| text.contains("non local key")) =>
                {
                    Self::Unavailable(error)
                }
                _ => Self::Refused(error),
            },
            ErrorKind::Extension => match error.code() {
                Some("NOTMASTER") => Self::NotMaster,
                // No memory left, too few replicas, another's endless script, a disk that is full.
                Some("OOM" | "NOREPLICAS" | "BUSY" | "MISCONF") => Self::Unavailable(error),
                _ => Self::Refused(error),
            },
            // An answer that is not RESP leaves the connection as useless as a closed one.
            ErrorKind::Io | ErrorKind::Parse => Self::Io(error),
            _ => Self::Refused(error),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMaster => {
                f.write_str("the Redis server is a replica: the address has to lead to the master")
            }
            Self::Unavailable(error) => write!(f, "Redis can't do this now: {error}"),
            Self::Io(error) => write!(f, "the connection to Redis failed: {error}"),
            Self::Refused(error) => write!(f, "Redis refuses this: {error}"),
            Self::Late => f.write_str("Redis did not answer in time"),
            Self::Nowhere(what) => f.write_str(what),
            Self::Malformed(what) => write!(f, "Redis answered something else than {what}"),
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &str) -> CallError {
        let answer = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
        answer.extract_error().unwrap_err().into()
    }

    #[test]
    fn an_error_says_what_to_do_about_it() {
        for replica in [
            "NOTMASTER this server is a replica",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ] {
            assert!(matches!(told(replica), CallError::NotMaster), "{replica}");
        }
        for passing in [
            "MOVED 3999 127.0.0.1:6381",
            "ASK 3999 127.0.0.1:6381",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "ERR Script attempted to access a non local key in a cluster node script: 03e7, on @user_script:1.",
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
        ] {
            assert!(matches!(told(passing), CallError::Unavailable(_)), "{passing}");
        }
        for lasting in [
            "NOPERM this user has no permissions to run the 'info' command",
            "NOAUTH Authentication required.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "ERR unknown command 'EVALSHA'",
        ] {
            assert!(matches!(told(lasting), CallError::Refused(_)), "{lasting}");
        }
        let closed = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(matches!(closed.into(), CallError::Io(_)));
    }
}
