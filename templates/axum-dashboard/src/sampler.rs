//! What this machine does, as samples: stored, then published.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sysinfo::System;
use tokio::time::MissedTickBehavior;

use crate::app::{App, Failure};
use crate::database::Sample;
use crate::realtime::rooms::room_of;

/// The board that everyone watches who signs up.
pub const BOARD: &str = "machine";
const EVENT: &str = "sample";

/// Reads the system's own figures.
pub struct Sampler(System);

impl Sampler {
    /// Fails on a system that has no such figures.
    pub fn new() -> Result<Self, sysinfo::Error> {
        System::new().map(Self)
    }

    /// Stores everything and publishes it, once an interval.
    pub async fn run(mut self, app: App, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = pass_on(&app, &self.samples()).await {
                // The next are as good: none is kept.
                tracing::warn!(?error, "samples were not stored, or not published");
            }
        }
    }

    /// Everything as of now. Each is one value of one series.
    fn samples(&mut self) -> Vec<Sample> {
        let system = &mut self.0;
        system.refresh_cpu_usage();
        system.refresh_memory();
        let used = system.used_memory() as f64 / system.total_memory().max(1) as f64;
        let values = [
            ("cpu", f64::from(system.global_cpu_usage()) / 100.0, "ratio"),
            ("memory", used, "ratio"),
            (
                "load",
                System::load_average().map_or(0.0, |load| load.one),
                "count",
            ),
        ];
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let sample = |(series, value, unit): (&str, f64, &str)| Sample {
            series: series.to_owned(),
            value,
            unit: unit.to_owned(),
            at,
        };
        values.map(sample).into()
    }
}

async fn pass_on(app: &App, samples: &[Sample]) -> Result<(), Failure> {
    app.database.store(BOARD, samples).await?;
    app.realtime
        .rooms
        .broadcast_all(&room_of(BOARD)?, EVENT, samples)
        .await
}
