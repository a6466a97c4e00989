//! Presence where there are many: changes are told together, lists come in pages, and a number may be all that is told.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod log_capture;

use std::collections::BTreeMap;
use std::time::Duration;

use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::testing::TestClient;
use tidings::{Access, Hub, HubBuilder, Limits, Presence, RoomId, RoomRules};
use tokio::time::{Instant, advance};

const CROWD: usize = 10_000;

/// Limits under which a user whose connection is lost stays for hours: so that ten thousand of them need no socket.
fn lasting() -> Limits {
    let mut limits = Limits::default();
    limits.presence_grace = Duration::from_secs(3600);
    limits
}

fn open(limits: Limits) -> HubBuilder {
    Hub::builder().rule(RoomRules::new("*").join(Access::Anyone)).limits(limits)
}

fn room() -> RoomId {
    RoomId::parse("a").unwrap()
}

async fn joined(hub: &TestHub, user: &str) -> TestClient {
    let mut client = hub.connect(user).await;
    client.join("a").await;
    client
}

/// Users who have joined, and are members until their grace ends.
async fn come(hub: &TestHub, users: std::ops::Range<usize>) {
    for number in users {
        drop(joined(hub, &format!("user{number:05}")).await);
    }
}

/// Somebody who keeps the list by the rules of PROTOCOL.md §7.
struct Viewer {
    client: TestClient,
    members: BTreeMap<String, Value>,
    rev: u64,
    /// How many messages of presence have come.
    told: usize,
    /// How often the list was asked for.
    asked: usize,
}

impl Viewer {
    async fn join(hub: &TestHub, user: &str) -> Self {
        let client = joined(hub, user).await;
        let mut viewer = Self { client, members: BTreeMap::new(), rev: 0, told: 0, asked: 0 };
        viewer.ask(1000).await;
        viewer
    }

    /// Asks for the list, page by page. What was told meanwhile is kept by the client and comes after it.
    async fn ask(&mut self, limit: u32) -> usize {
        self.asked += 1;
        self.members.clear();
        let (mut rev, mut pages) = (None, 0);
        let mut data = json!({"limit": limit});
        loop {
            let page = self.client.request_in("a", "room.members", data).await["data"].clone();
            pages += 1;
            rev = rev.or(page["rev"].as_u64());
            self.put(&page["members"]);
            if page["next"].is_null() {
                self.rev = rev.unwrap();
                return pages;
            }
            data = json!({"limit": limit, "after": page["next"]});
        }
    }

    fn put(&mut self, members: &Value) {
        for member in members.as_array().into_iter().flatten() {
            self.members.insert(member["user"].as_str().unwrap().to_owned(), member["info"].clone());
        }
    }

    /// The next message of presence, applied; asks again where something is missing.
    async fn follow(&mut self) -> Value {
        let message = self.client.next_where(is_presence).await;
        self.told += 1;
        let data = &message["data"];
        let rev = data["rev"].as_u64().unwrap();
        if data["from"].as_u64().unwrap_or(rev) > self.rev + 1 {
            self.ask(1000).await;
        }
        if rev <= self.rev {
            return message;
        }
        self.rev = rev;
        match message["event"].as_str().unwrap() {
            "presence.changes" => {
                self.put(&data["joins"]);
                self.put(&data["updates"]);
                for user in data["leaves"].as_array().into_iter().flatten() {
                    self.members.remove(user.as_str().unwrap());
                }
            }
            "presence.leave" => drop(self.members.remove(data["user"].as_str().unwrap())),
            _ => self.put(&json!([data])),
        }
        message
    }

    /// Follows until the list is as of this revision.
    async fn follow_until(&mut self, rev: u64) {
        while self.rev < rev {
            self.follow().await;
        }
    }

    /// Whether the list is the room's own.
    async fn assert_right(&self, hub: &TestHub) {
        let members = hub.hub().room(&room()).members().await.unwrap();
        let members: BTreeMap<_, Value> = members
            .into_iter()
            .map(|member| (member.user, serde_json::from_str(member.info.get()).unwrap()))
            .collect();
        assert!(self.members == members, "{} are here, {} are shown", members.len(), self.members.len());
    }
}

fn is_presence(message: &Value) -> bool {
    message["event"].as_str().is_some_and(|event| event.starts_with("presence."))
}

/// Whoever is told nothing else gets this next.
async fn assert_told_nothing(hub: &TestHub, client: &mut TestClient) {
    hub.hub().room(&room()).broadcast("mark", &json!(null)).await.unwrap();
    let message = client.next_message().await;
    assert_eq!(message["event"], "mark", "{message}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_come_in_ten_seconds_are_told_in_45_messages_at_most() {
    let hub = TestHub::start(open(lasting())).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    let following = tokio::spawn(async move {
        viewer.follow_until(1 + CROWD as u64).await;
        (viewer, Instant::now())
    });
    let start = Instant::now();
    for number in 0..CROWD {
        come(&hub, number..number + 1).await;
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let (viewer, told) = following.await.unwrap();
    assert!(viewer.told <= 45, "{} messages", viewer.told);
    assert!(told - start <= Duration::from_secs(11), "the last were told after {:?}", told - start);
    assert_eq!((viewer.members.len(), viewer.asked), (1 + CROWD, 1));
    viewer.assert_right(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_has_everybody_once_and_who_moves_meanwhile_ends_right() {
    let hub = TestHub::start(open(lasting())).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    come(&hub, 0..CROWD).await;
    viewer.follow_until(1 + CROWD as u64).await;
    viewer.assert_right(&hub).await;

    // Nobody moves: each once, in order, with the same revision and the same number on each page.
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let data =
            if after.is_null() { json!({"limit": 777}) } else { json!({"limit": 777, "after": after}) };
        let page = viewer.client.request_in("a", "room.members", data).await["data"].clone();
        assert_eq!((&page["rev"], &page["count"]), (&json!(viewer.rev), &json!(1 + CROWD)));
        let users = page["members"].as_array().unwrap();
        assert!(users.len() == 777 || page["next"].is_null());
        seen.extend(users.iter().map(|member| member["user"].as_str().unwrap().to_owned()));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
        // Twenty messages a second.
        advance(Duration::from_millis(50)).await;
    }
    assert!(seen.iter().eq(viewer.members.keys()), "{} of {}", seen.len(), viewer.members.len());

    // A page at a time, with comings, changes and goings between any two, each told before or after a page.
    viewer.members.clear();
    let (mut first, mut after, mut round) = (None, Value::Null, 0);
    let mut busy = joined(&hub, "busy").await;
    loop {
        let data =
            if after.is_null() { json!({"limit": 500}) } else { json!({"limit": 500, "after": after}) };
        let page = viewer.client.request_in("a", "room.members", data).await["data"].clone();
        first = first.or(page["rev"].as_u64());
        viewer.put(&page["members"]);
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
        round += 1;
        // Some before the page that was read and some behind it.
        for number in [round * 400, CROWD - round * 300] {
            let user = format!("user{number:05}");
            let mut again = joined(&hub, &user).await;
            if round % 2 == 0 {
                again.request_in("a", "presence.update", json!({"info": round})).await;
            } else {
                again.request_in("a", "room.leave", json!(null)).await;
            }
        }
        busy.request_in("a", "presence.update", json!({"info": round})).await;
        come(&hub, CROWD + round..CROWD + round + 1).await;
        advance(Duration::from_millis(300)).await;
    }
    assert!(round > 15);
    viewer.rev = first.unwrap();
    busy.request_in("a", "room.leave", json!(null)).await;
    let rev = viewer.client.request_in("a", "room.members", json!({"limit": 1})).await["data"]["rev"].clone();
    let asked = viewer.asked;
    viewer.follow_until(rev.as_u64().unwrap()).await;
    viewer.assert_right(&hub).await;
    assert_eq!(viewer.asked, asked, "the changes went on where the first page was");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_large_infos_is_bounded_in_bytes() {
    let hub = TestHub::start(open(lasting())).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    for number in 0..200 {
        let mut client = joined(&hub, &format!("user{number:05}")).await;
        client.request_in("a", "presence.update", json!({"info": "x".repeat(4000)})).await;
    }
    let page = viewer.client.request_in("a", "room.members", json!({"limit": 1000})).await;
    let bytes = page.to_string().len();
    assert!((200 * 1024..260 * 1024).contains(&bytes), "{bytes}");
    assert!(page["data"]["next"].is_string());
    assert!(viewer.ask(1000).await >= 4);
    viewer.assert_right(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_together_is_one_message_and_a_user_is_in_it_once() {
    let hub = TestHub::start(open(lasting())).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    come(&hub, 0..30).await;
    viewer.follow_until(31).await;
    let mut one = joined(&hub, "user00001").await;
    let mut ann = joined(&hub, "ann").await;
    let start = Instant::now();
    for info in [1, 2] {
        ann.request_in("a", "presence.update", json!({"info": info})).await;
        one.request_in("a", "presence.update", json!({"info": info})).await;
    }
    let mut two = joined(&hub, "user00002").await;
    two.request_in("a", "room.leave", json!(null)).await;
    let told = viewer.follow().await;
    assert_eq!(
        told,
        json!({"event": "presence.changes", "room": "a", "data": {
            "joins": [{"user": "ann", "info": 2}],
            "updates": [{"user": "user00001", "info": 2}],
            "leaves": ["user00002"],
            "from": 32,
            "rev": 37,
        }})
    );
    assert_eq!(start.elapsed(), Limits::default().presence_batch_interval);
    viewer.assert_right(&hub).await;
    // Those whom it is about get it too: for them there is no hole in it either.
    assert_eq!(ann.next_named("presence.changes").await, told);
    advance(Duration::from_secs(60)).await;
    assert_told_nothing(&hub, &mut viewer.client).await;
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_within_the_grace_is_silent_in_a_large_room_and_a_mass_departure_is_not_a_flood() {
    let mut limits = Limits::default();
    limits.presence_grace = Duration::from_secs(30);
    let hub = TestHub::start(open(limits)).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    come(&hub, 0..2000).await;
    viewer.follow_until(2001).await;
    viewer.told = 0;
    advance(Duration::from_secs(20)).await;
    let mut back = joined(&hub, "user00007").await;
    drop(back);
    back = joined(&hub, "user00007").await;
    assert_told_nothing(&hub, &mut viewer.client).await;
    // All graces but his end at about the same time.
    viewer.follow_until(2001 + 1999).await;
    assert!(viewer.told <= 3, "{} messages", viewer.told);
    assert_eq!(viewer.members.keys().collect::<Vec<_>>(), ["user00007", "viewer"]);
    viewer.assert_right(&hub).await;
    // The room is a small one again.
    let start = Instant::now();
    back.request_in("a", "presence.update", json!({"info": true})).await;
    assert_eq!(viewer.follow().await["event"], "presence.update");
    assert_eq!((start.elapsed(), viewer.asked), (Duration::ZERO, 1));
    viewer.assert_right(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_shrinks_is_told_at_once_again_after_what_it_still_had_to_tell() {
    let mut limits = lasting();
    limits.presence_batch_from = 3;
    let hub = TestHub::start(open(limits)).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    let mut others = Vec::new();
    for user in ["ann", "bob", "cid", "dan"] {
        others.push(joined(&hub, user).await);
    }
    while let Some(mut client) = others.pop() {
        client.request_in("a", "room.leave", json!(null)).await;
    }
    viewer.follow_until(9).await;
    let _eve = joined(&hub, "eve").await;
    let told = viewer.follow().await;
    assert_eq!((&told["event"], &told["data"]["rev"]), (&json!("presence.join"), &json!(10)));
    viewer.assert_right(&hub).await;
    assert_eq!((viewer.told, viewer.asked), (4, 1), "ann, bob, what was collected, eve");
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_in_an_inbox_is_a_hole_and_asking_again_mends_it() {
    let mut limits = lasting();
    limits.presence_batch_from = 0;
    limits.presence_batch_interval = Duration::ZERO;
    limits.inbox_entries_max = 1;
    let hub = TestHub::start(open(limits)).unwrap();
    let mut viewer = Viewer::join(&hub, "viewer").await;
    let (bob, _sink) = (joined(&hub, "bob").await, hub.connect("sink").await);
    viewer.follow_until(2).await;
    let start = Instant::now();
    // More than the shard takes in one turn, so that its inbox is full when the departure is told.
    let fill = async {
        for _ in 0..300 {
            hub.hub().send_to_user("sink", "filler", &json!(null)).unwrap();
        }
    };
    let handle = hub.hub().room(&room());
    let (left, ()) = tokio::join!(handle.leave(bob.session()), fill);
    assert!(left);
    advance(Duration::from_secs(1)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    let _ann = joined(&hub, "ann").await;
    let told = viewer.follow().await;
    assert_eq!((&told["data"]["from"], viewer.asked), (&json!(4), 2), "the third was lost");
    assert_eq!(viewer.members.keys().collect::<Vec<_>>(), ["ann", "viewer"]);
    viewer.assert_right(&hub).await;
}

#[tokio::test(start_paused = true)]
async fn where_only_the_number_is_told_nobody_learns_who() {
    let rule = RoomRules::new("*").join(Access::Anyone).presence(Presence::Counts);
    let hub = TestHub::start(Hub::builder().rule(rule).limits(lasting())).unwrap();
    let mut viewer = joined(&hub, "viewer").await;
    let count = |members: u64, rev: u64| json!({"event": "presence.count", "room": "a", "data": {"members": members, "rev": rev}});
    assert_eq!(viewer.next_message().await, count(1, 1));
    let start = Instant::now();
    come(&hub, 0..5).await;
    assert_eq!(viewer.next_message().await, count(6, 6));
    assert_eq!(start.elapsed(), Limits::default().presence_batch_interval);
    let list = viewer.request_in("a", "room.members", json!({"limit": 3})).await;
    assert_eq!(list["data"], json!({"members": [], "rev": 6, "count": 6}));
    assert_eq!(hub.hub().room(&room()).members().await.unwrap().len(), 6, "the application knows");

    // Neither what somebody shows nor one who comes and goes changes the number.
    let mut ann = joined(&hub, "user00001").await;
    ann.request_in("a", "presence.update", json!({"info": 1})).await;
    let mut bob = joined(&hub, "bob").await;
    bob.request_in("a", "room.leave", json!(null)).await;
    advance(Duration::from_secs(5)).await;
    assert_told_nothing(&hub, &mut viewer).await;

    let start = Instant::now();
    for number in 5..105 {
        come(&hub, number..number + 1).await;
        advance(Duration::from_millis(10)).await;
    }
    let mut told = 0;
    while viewer.next_named("presence.count").await["data"]["members"] != 106 {
        told += 1;
    }
    assert!(told <= 4, "{told} messages in a second");
    assert!(start.elapsed() <= Duration::from_millis(1250));
}
