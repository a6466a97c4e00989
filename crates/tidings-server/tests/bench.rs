//! `tidings bench` against a server whose limits hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::process::Output;

use server::{Dev, run, tidings};

async fn bench(dev: &Dev, arguments: &[&str]) -> Output {
    let url = format!("ws://{}", dev.address);
    let mut command = tidings(&dev.home);
    command.args(["bench", &url, "--warm-up", "0.2", "--seconds", "1"]).args(arguments);
    run(&mut command).await
}

#[tokio::test]
async fn deliveries_within_the_limits_are_counted_and_every_one_arrives() {
    let dev = Dev::start().await;
    let pid = dev.child.id().unwrap().to_string();
    let output = bench(
        &dev,
        &[
            "--subscribers",
            "20",
            "--rooms",
            "2",
            "--room-prefix",
            "team:",
            "--rate",
            "20",
            "--pid",
            &pid,
            "--json",
        ],
    )
    .await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Twenty publishes a second, each to twenty subscribers.
    let count = report["count"].as_u64().unwrap();
    assert!((300..=500).contains(&count), "{report}");
    assert_eq!(report["exact"], true);
    assert!(report["cpu_us"].as_f64().unwrap() > 0.0 && report["latency_ms"]["p99"].as_f64().unwrap() > 0.0);

    let output = bench(&dev, &["--subscribers", "20", "--rate", "20"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("deliveries ") && text.contains("p99.9"), "{text}");
    assert!(text.contains("every message arrived exactly once"), "{text}");
}

#[tokio::test]
async fn handshakes_and_a_storm_come_to_an_end() {
    let dev = Dev::start().await;
    for (case, connections) in [("handshakes", "8"), ("storm", "100")] {
        let output = bench(&dev, &["--case", case, "--connections", connections, "--json"]).await;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{case}: {}", String::from_utf8_lossy(&output.stderr)));
        assert!(report["count"].as_u64().unwrap() >= 8, "{report}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_told_with_what_to_do() {
    let dev = Dev::start().await;
    for (arguments, told) in [
        (&["--subscribers", "20"][..], "messages_per_second"),
        (&["--secret-file", "no-such-file"], "no-such-file"),
        (&["--case", "idle"], "--pid"),
    ] {
        let output = bench(&dev, arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && error.contains(told), "{arguments:?}: {error}");
    }
    let mut command = tidings(&dev.home);
    let output = run(command.args(["bench", "http://127.0.0.1:1"])).await;
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
