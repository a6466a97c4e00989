//! Real hubs and real client cores over a network and a Redis that are simulated: what is promised holds whatever goes
//! wrong, and a bug that is planted is found.
//!
//! `SIMULATION_SEED=17 cargo test -p simulation --test nodes one -- --nocapture` runs one seed and prints its trace;
//! `SIMULATION_SEEDS=2000` runs as many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod client;
mod judge;
mod line;
mod nodes;
mod plant;
mod random;
mod redis;
mod scenario;
mod trace;
mod truth;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use plant::Plant;
use scenario::{Report, run};

const SEEDS_DEFAULT: u64 = 500;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Runs seeds on every core until one says that it is enough.
fn run_all(seeds: u64, plant: Option<Plant>, enough: impl Fn(u64, &Report) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if enough(seed, &run(seed, plant, false)) {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn what_is_promised_holds_whatever_goes_wrong() {
    let seeds = from_env("SIMULATION_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let (began, all, failed) = (Instant::now(), Mutex::new(Report::default()), Mutex::new(Vec::new()));
    run_all(seeds, None, |seed, report| {
        let mut all = all.lock();
        all.events += report.events;
        all.acked += report.acked;
        all.resets += report.resets;
        all.epochs += report.epochs;
        all.skips += report.skips;
        all.connections += report.connections;
        all.faults += report.faults;
        all.simulated += report.simulated;
        if !report.broken.is_empty() {
            failed.lock().push((seed, report.broken.clone()));
        }
        false
    });
    println!("{seeds} seeds in {:?}: {:?}", began.elapsed(), all.lock());
    let mut failed = failed.into_inner();
    failed.sort();
    for (seed, broken) in &failed {
        println!("seed {seed}: {broken:#?}");
    }
    if let Some((seed, _)) = failed.first() {
        panic!(
            "{} seeds are broken; SIMULATION_SEED={seed} cargo test -p simulation --test nodes one -- --nocapture",
            failed.len()
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(one.trace.1 > 50, "seed {seed}: nothing happens");
    }
}

#[test]
fn one() {
    let Some(seed) = from_env("SIMULATION_SEED") else { return };
    let report = run(seed, None, true);
    println!("{report:?}");
    assert!(report.broken.is_empty(), "{:#?}", report.broken);
}

#[test]
fn a_planted_bug_is_found() {
    for plant in Plant::ALL {
        let found = Mutex::new(None);
        run_all(SEEDS_DEFAULT, Some(plant), |seed, report| {
            let is_found = !report.broken.is_empty();
            if is_found {
                found.lock().get_or_insert_with(|| (seed, report.broken[0].clone()));
            }
            is_found
        });
        println!("{plant:?}: {:?}", found.lock());
        assert!(found.lock().is_some(), "{plant:?} is not found in {SEEDS_DEFAULT} seeds");
    }
}
