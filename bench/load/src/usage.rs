//! What a server takes: CPU and memory of a process and its children, from `/proc`.

use std::fs;
use std::time::Duration;

/// A server's processes.
#[derive(Clone, Debug)]
pub struct Server {
    pids: Vec<u32>,
}

impl Server {
    /// A process and whatever descends from it now.
    pub fn of(pid: u32) -> Self {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| Some((pid, parent(pid)?)))
            .collect();
        let mut pids = vec![pid];
        let mut at = 0;
        while let Some(of) = pids.get(at).copied() {
            pids.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
            at += 1;
        }
        Self { pids }
    }

    /// CPU time of every thread that lives, to the nanosecond.
    pub fn cpu(&self) -> Duration {
        self.threads().map(|(_, cpu)| cpu).sum()
    }

    /// The same of each thread whose name begins so, in the order of their names.
    pub fn cpu_of_threads(&self, name: &str) -> Vec<Duration> {
        let mut threads: Vec<_> = self.threads().filter(|(thread, _)| thread.starts_with(name)).collect();
        threads.sort();
        threads.into_iter().map(|(_, cpu)| cpu).collect()
    }

    fn threads(&self) -> impl Iterator<Item = (String, Duration)> {
        self.pids.iter().flat_map(|pid| {
            fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().filter_map(|task| {
                let name = fs::read_to_string(task.path().join("comm")).ok()?;
                let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
                let nanos = schedstat.split(' ').next()?.parse().ok()?;
                Some((name.trim_end().to_owned(), Duration::from_nanos(nanos)))
            })
        })
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let of = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        self.pids.iter().filter_map(of).sum()
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
