//! The memory of this machine, or of the control group that the server runs in, and what of it queues and histories may take.

use rustix::system::sysinfo;
use tidings::Limits;
use tracing::info;

/// Of the memory in a hundred, what waits for clients may take so much, and the rooms' histories so much.
const OUTBOUND_PERCENT: usize = 25;
const HISTORY_PERCENT: usize = 10;
/// Where a control group (version 2) says how much its processes may take.
const GROUP_MAX_FILE: &str = "/sys/fs/cgroup/memory.max";

/// Sets the limits that are a share of the memory.
pub(crate) fn share(limits: &mut Limits) {
    let group = std::fs::read_to_string(GROUP_MAX_FILE).ok();
    let memory = of_group(group.as_deref()).unwrap_or(usize::MAX).min(of_machine());
    limits.outbound_node_bytes_max = percent(memory, OUTBOUND_PERCENT).max(limits.outbound_bytes_max);
    limits.history_node_bytes_max = percent(memory, HISTORY_PERCENT);
    info!(
        memory_bytes = memory,
        outbound_node_bytes_max = limits.outbound_node_bytes_max,
        history_node_bytes_max = limits.history_node_bytes_max,
        "memory"
    );
}

fn of_machine() -> usize {
    let system = sysinfo();
    (system.totalram as usize).saturating_mul(system.mem_unit as usize)
}

/// `max` is no limit at all.
fn of_group(text: Option<&str>) -> Option<usize> {
    text?.trim().parse().ok()
}

fn percent(of: usize, percent: usize) -> usize {
    of / 100 * percent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_and_a_tenth_of_what_there_is() {
        let mut limits = Limits::default();
        share(&mut limits);
        assert!(limits.outbound_node_bytes_max <= of_machine() / 4);
        assert!(limits.history_node_bytes_max <= of_machine() / 10 && limits.history_node_bytes_max > 0);
        assert_eq!(of_group(Some("1073741824\n")), Some(1 << 30));
        assert_eq!((of_group(Some("max\n")), of_group(None)), (None, None));
    }
}
