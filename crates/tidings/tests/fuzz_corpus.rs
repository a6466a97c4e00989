//! What the fuzz targets must survive, replayed with every run of the tests and without a fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(missing_docs, unreachable_pub, reason = "a crate of its own, where it is public")]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 5] = [
    ("cursor", targets::cursor),
    ("envelope", targets::envelope),
    ("frame_reader", targets::frame_reader),
    ("jwt", targets::jwt),
    ("schema", targets::schema),
];

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_input_that_is_kept_holds_what_its_target_says() {
    for (target, run) in TARGETS {
        let inputs = files(&format!("corpus/{target}"));
        assert!(inputs.len() >= 10, "{target} has {} inputs", inputs.len());
        for path in inputs {
            // Shown if the target panics.
            println!("{}", path.display());
            run(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let there: BTreeSet<_> = files("fuzz_targets")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, TARGETS.map(|(target, _)| target.to_owned()).into());
}
