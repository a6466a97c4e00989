//! What was measured, as JSON and for people.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A case's result. What a case does not measure is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The case's name.
    pub case: String,
    /// Deliveries, answers or handshakes in the measured time.
    pub count: u64,
    /// The measured time.
    pub seconds: f64,
    /// Count by time.
    pub per_second: f64,
    /// The server's CPU by count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<f64>,
    /// The server's CPU by time: 1.0 is a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_busy: Option<f64>,
    /// The generator's own CPU by time.
    pub generator_busy: f64,
    /// From the moment at which a message was meant to be sent to its delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// Every message was delivered exactly once to every subscriber.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// The busy time of each of the server's threads that were asked for, by time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads_busy: Vec<f64>,
    /// Of stopped readers, those still connected at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_connected: Option<usize>,
    /// Memory of the server, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// 90 of 100 are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// 999 of 1,000 are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// A server's memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Before any connection.
    pub before: u64,
    /// With all of them, idle.
    pub held: u64,
    /// What one takes.
    pub each: f64,
    /// So long after all have gone.
    pub after: u64,
    /// Seconds from the mass disconnect until it was within 10 % of `before`; none if it never was.
    pub back_after_s: Option<f64>,
}

/// Latencies as they come.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        // Three digits from a microsecond to a minute can always be made.
        #[expect(clippy::expect_used, reason = "the bounds are constants")]
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds"))
    }

    /// One, or several at once that have the same.
    pub fn record(&mut self, latency: Duration, count: u64) {
        self.0.saturating_record_n((latency.as_micros() as u64).max(1), count);
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// What they come to.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1000.0,
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}
