//! The limit of open files, which bounds the connections of a node.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Of this many open files in a hundred, connections may have so many; the rest is for everything else.
const CONNECTIONS_PERCENT: usize = 80;

/// Raises the soft limit of open files to the hard one and logs it. How many connections that leaves room for.
pub(crate) fn raise() -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
    let now = getrlimit(Resource::Nofile).current;
    let connections = connections_max(now);
    info!(open_files_max = now, was = before.current, connections_max = connections, "open files");
    connections
}

/// How many connections a server of this user would have room for here, and the open files that it may have: `None` is no limit.
pub(crate) fn allowed() -> (usize, Option<u64>) {
    let open_files_max = getrlimit(Resource::Nofile).maximum;
    (connections_max(open_files_max), open_files_max)
}

/// `None` is no limit at all.
fn connections_max(open_files_max: Option<u64>) -> usize {
    let open_files_max = open_files_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    open_files_max / 100 * CONNECTIONS_PERCENT + open_files_max % 100 * CONNECTIONS_PERCENT / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_four_fifths_of_the_open_files() {
        assert_eq!(connections_max(Some(1024)), 819);
        assert_eq!(connections_max(Some(20_000)), 16_000);
        assert!(connections_max(None) > usize::MAX / 2);
    }
}
