//! The Rust client for long: two hundred events a second, a cut every few seconds, and nothing is lost, doubled or out of
//! order. The other clients have their own: `sdks/typescript/test/soak_real.ts`, `sdks/python/tests/soak.py`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidings_client::{Request, RoomEvent, RoomEvents, State};

use crate::server::within;
use crate::stage::Stage;

const ROOM: &str = "soak";
/// An event this often.
const EVENT_EVERY: Duration = Duration::from_millis(5);
/// A request of the client's own with each so many of those.
const REQUEST_EVERY: u64 = 50;

/// Draws that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the client was told, each number with how often.
#[derive(Default)]
struct Seen {
    numbers: HashMap<u64, usize>,
    own: HashMap<u64, usize>,
    out_of_order: usize,
    resets: usize,
}

/// For `SOAK_SECONDS`, or 20.
pub(crate) async fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    let mut stage = Stage::set(false, None).await;
    let client = stage.client("ann");
    let (room, events) = client.join(ROOM).await.unwrap();
    let seeing = tokio::spawn(see(events));
    stage.publish(&[ROOM.into(), "number".into(), 0.into()]).await;
    let (mut random, mut cuts, mut number) = (Random(7), 0, 0_u64);
    let mut requests = Vec::<(u64, Request)>::new();
    let mut ticks = tokio::time::interval(EVENT_EVERY);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut next_cut = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        ticks.tick().await;
        number += 1;
        stage.publish_unanswered(ROOM, "number", &number.into()).await;
        if number.is_multiple_of(REQUEST_EVERY) {
            requests.push((number, room.request("own", &number)));
        }
        match client.state() {
            State::Connected if Instant::now() >= next_cut => {
                cuts += 1;
                next_cut = Instant::now() + Duration::from_millis(1000 + random.below(4000));
                match random.below(3) {
                    0 => stage.net.cut(),
                    _ => stage.net.cut_after(1 + random.below(2000) as usize),
                }
            }
            // Cut so often, it would wait for half a minute each time.
            State::Reconnecting => client.reconnect(),
            _ => {}
        }
    }
    stage.publish(&[ROOM.into(), "last".into(), Value::Null]).await;
    client.reconnect();
    let seen = within(seeing).await.unwrap();
    let (asked, mut not_once) = (requests.len(), 0);
    for (number, request) in requests {
        within(request).await.unwrap();
        not_once += usize::from(seen.own.get(&number) != Some(&1));
    }
    let lost = (0..=number).filter(|number| !seen.numbers.contains_key(number)).count();
    let doubled = seen.numbers.values().filter(|times| **times > 1).count();
    let Seen { out_of_order, resets, .. } = seen;
    println!(
        "{seconds} s, {cuts} cuts, {} events, {asked} requests: {lost} lost, {doubled} doubled, {out_of_order} out of \
         order, {not_once} requests not once, {resets} resets",
        number + 1 + asked as u64,
    );
    assert!(cuts > 0);
    assert_eq!((lost, doubled, out_of_order, not_once, resets), (0, 0, 0, 0, 0));
    stage.end().await;
}

/// Takes what comes until the last of it.
async fn see(mut events: RoomEvents) -> Seen {
    let (mut seen, mut newest) = (Seen::default(), None);
    while let Some(event) = events.next().await {
        match event {
            RoomEvent::Event(event) if &*event.event == "last" => break,
            RoomEvent::Event(event) => {
                let number: u64 = event.data.json().unwrap();
                if &*event.event == "number" {
                    *seen.numbers.entry(number).or_default() += 1;
                    seen.out_of_order += usize::from(newest.replace(number) > Some(number));
                } else {
                    *seen.own.entry(number).or_default() += 1;
                }
            }
            RoomEvent::Reset(_) => seen.resets += 1,
            _ => {}
        }
    }
    seen
}
