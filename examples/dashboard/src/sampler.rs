//! What this machine does, as samples.

use serde::Serialize;
use sysinfo::{Networks, System};

/// One value of one series.
#[derive(Serialize, Debug)]
pub(crate) struct Sample {
    pub(crate) series: String,
    pub(crate) value: f64,
    /// How to show it: `ratio` (of one), `bytes`, `bytes_per_second` or `count`.
    unit: &'static str,
}

/// Reads the system's own figures.
pub(crate) struct Sampler {
    system: System,
    networks: Networks,
    read_at: std::time::Instant,
}

impl Sampler {
    /// A sampler of this system.
    ///
    /// # Errors
    /// When the system has no such figures.
    pub(crate) fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            system: System::new()?,
            networks: Networks::new_with_refreshed_list()?,
            read_at: std::time::Instant::now(),
        })
    }

    /// Everything as of now; rates are since the last call.
    pub(crate) fn samples(&mut self, viewers: u64) -> Vec<Sample> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        let seconds = self.read_at.elapsed().as_secs_f64().max(1e-3);
        self.read_at = std::time::Instant::now();
        let (received, sent) = self.networks.values().fold((0, 0), |(received, sent), network| {
            (received + network.received(), sent + network.transmitted())
        });
        let sample = |series: &str, value, unit| Sample { series: series.to_owned(), value, unit };
        let load = System::load_average().map_or(0.0, |load| load.one);
        let mut samples = vec![
            sample("cpu", f64::from(self.system.global_cpu_usage()) / 100.0, "ratio"),
            sample("memory", self.system.used_memory() as f64, "bytes"),
            sample("swap", self.system.used_swap() as f64, "bytes"),
            sample("load", load, "count"),
            sample("network in", received as f64 / seconds, "bytes_per_second"),
            sample("network out", sent as f64 / seconds, "bytes_per_second"),
            sample("viewers", viewers as f64, "count"),
        ];
        let cores = self.system.cpus().iter().enumerate();
        samples.extend(cores.map(|(number, core)| {
            sample(&format!("cpu {number}"), f64::from(core.usage()) / 100.0, "ratio")
        }));
        samples
    }
}
