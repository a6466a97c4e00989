//! A client for long: two hundred events a second, a cut every few seconds, and nothing is lost, doubled or out of order.

#![allow(clippy::disallowed_methods, reason = "it goes on for a while")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::driver::Driver;
use crate::stage::Stage;

const ROOM: &str = "soak";
/// An event this often.
const EVENT_EVERY: Duration = Duration::from_millis(5);
/// A request of the driver's with each so many of those.
const REQUEST_EVERY: u64 = 50;

/// Draws that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// For `SOAK_SECONDS`, or 20.
pub(crate) async fn soak(sdk: &str, mut driver: Driver) {
    let seconds = std::env::var("SOAK_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    let mut stage = Stage::set(false).await;
    let mut connect = json!({"do": "connect", "user": "ann"});
    stage.fill(&mut connect);
    driver.tell(&connect).await;
    driver.tell(&json!({"do": "join", "room": ROOM, "as": "join"})).await;
    driver.sees(&json!({"saw": "caught_up"})).await;
    stage.publish(&[ROOM.into(), "number".into(), 0.into()]).await;
    let (mut random, mut cuts, mut number) = (Random(7), 0_u64, 0_u64);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut next_cut = Instant::now() + Duration::from_secs(1);
    let mut ticks = tokio::time::interval(EVENT_EVERY);
    while Instant::now() < until {
        ticks.tick().await;
        number += 1;
        stage.publish_unanswered(ROOM, "number", &number.into()).await;
        if number.is_multiple_of(REQUEST_EVERY) {
            let label = format!("q{number}");
            let request = json!({"do": "request", "room": ROOM, "event": "own", "data": label, "as": label});
            driver.tell(&request).await;
        }
        if Instant::now() >= next_cut {
            cuts += 1;
            next_cut = Instant::now() + Duration::from_millis(1000 + random.below(4000));
            match random.below(3) {
                0 => stage.net.cut(),
                _ => stage.net.cut_after(1 + random.below(2000) as usize),
            }
        }
    }
    stage.publish(&[ROOM.into(), "number".into(), (number + 1).into()]).await;
    driver.sees(&json!({"saw": "event", "event": "number", "data": number + 1})).await;
    let asked = number / REQUEST_EVERY;
    for request in 1..=asked {
        driver.sees(&json!({"saw": "answer", "as": format!("q{}", request * REQUEST_EVERY)})).await;
    }
    let seen = driver.end().await;
    stage.end().await;
    let told = Count::of(&seen, number + 1);
    println!("{sdk}: {seconds} s, {cuts} cuts, {} events, {asked} requests: {told:?}", number + 2);
    assert_eq!(told, Count { resets: told.resets, ..Count::default() });
    assert!(cuts > 0 && told.resets == 0, "so short a cut resets nobody");
}

/// What should not be.
#[derive(Default, PartialEq, Eq, Debug)]
struct Count {
    lost: usize,
    doubled: usize,
    reordered: usize,
    requests_failed: usize,
    requests_not_once: usize,
    resets: usize,
}

impl Count {
    fn of(seen: &[Value], newest: u64) -> Self {
        let mut count = Self::default();
        let (mut numbers, mut own) = (HashMap::<u64, usize>::new(), HashMap::<&str, usize>::new());
        let (mut last, mut answers) = (None, Vec::new());
        for line in seen {
            match (line["saw"].as_str().unwrap(), line["event"].as_str()) {
                ("event", Some("number")) => {
                    let number = line["data"].as_u64().unwrap();
                    *numbers.entry(number).or_default() += 1;
                    count.reordered += usize::from(last.replace(number) > Some(number));
                }
                ("event", Some("own")) => *own.entry(line["data"].as_str().unwrap()).or_default() += 1,
                ("answer", _) if line["error"].is_string() => count.requests_failed += 1,
                ("answer", _) => answers.push(line["as"].as_str().unwrap()),
                ("reset", _) => count.resets += 1,
                _ => {}
            }
        }
        count.lost = (0..=newest).filter(|number| !numbers.contains_key(number)).count();
        count.doubled = numbers.values().filter(|times| **times > 1).count();
        answers.retain(|label| label.starts_with('q'));
        count.requests_not_once = answers.iter().filter(|label| own.get(*label) != Some(&1)).count();
        count
    }
}
