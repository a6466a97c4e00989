//! The board without a port.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../../crates/tidings/tests/log_capture/mod.rs"]
mod log_capture;

use std::collections::BTreeSet;

use serde_json::json;
use tidings::Hub;

use self::log_capture::TestHub;
use crate::board;
use crate::sampler::Sampler;

#[tokio::test(start_paused = true)]
async fn a_viewer_has_the_picture_with_one_request_and_can_say_nothing() {
    let hub = TestHub::start(Hub::builder().rule(board::rule())).unwrap();
    let (room, mut sampler) = (hub.hub().room(&board::room()), Sampler::new().unwrap());
    let mut series = BTreeSet::new();
    for _ in 0..3 {
        for sample in sampler.samples(1) {
            room.broadcast("sample", &sample).await.unwrap();
            series.insert(sample.series);
        }
    }
    assert!(series.len() >= 8, "{series:?}");
    let mut viewer = hub.connect("viewer").await;
    viewer.join(board::ROOM).await;
    let mut seen = BTreeSet::new();
    for _ in 0..series.len() {
        let sample = viewer.next_event().await;
        assert!(sample["data"]["value"].is_f64(), "{sample}");
        seen.insert(sample["data"]["series"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, series, "one value each");
    let refused = viewer.request_in(board::ROOM, "sample", json!({"series": "cpu", "value": 0.0})).await;
    assert_eq!(refused["data"]["code"], "forbidden");
}
