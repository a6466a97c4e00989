//! People who come, go, change and move to other nodes, while connections are cut and Redis forgets.

use serde_json::json;
use tidings::testing::{TestClient, TestHub};

use super::promises::{USERS, lose};
use super::{HEALED_MAX, Node, Viewer, all_have, expected, joined, list};
use crate::redis_servers::Store;

/// The nodes' ways to Redis.
const WAYS: [&str; 3] = ["first", "second", "third"];

/// A room at three nodes.
pub struct Storm<'a> {
    store: &'a Store,
    nodes: Vec<TestHub>,
    viewers: Vec<Viewer>,
    /// Each with the node where he is.
    people: Vec<Option<(usize, TestClient)>>,
    random: Random,
}

impl<'a> Storm<'a> {
    pub async fn over(store: &'a Store, seed: u64) -> Self {
        let (mut nodes, mut viewers) = (Vec::new(), Vec::new());
        for (way, user) in WAYS.iter().zip(["ann", "bob", "cid"]) {
            let node = Node::of(&store.url_of_user(way).await).grace(200).start().await;
            viewers.push(Viewer::join(&node, user).await);
            nodes.push(node);
        }
        let people = (0..30).map(|_| None).collect();
        Self { store, nodes, viewers, people, random: Random(seed) }
    }

    pub async fn rage(&mut self, steps: usize) {
        for _ in 0..steps {
            let number = self.random.below(self.people.len());
            let (user, node) = (format!("user{number:02}"), self.random.below(3));
            let person = self.people[number].take();
            let what = self.random.below(40);
            self.people[number] = self.step(what, &user, node, person).await;
            self.viewers[self.random.below(3)].follow_all().await;
        }
    }

    async fn step(
        &mut self,
        what: usize,
        user: &str,
        node: usize,
        person: Option<(usize, TestClient)>,
    ) -> Option<(usize, TestClient)> {
        let nodes = &self.nodes;
        match (what, person) {
            (0, person) => {
                self.store.cut_off(WAYS[node]).await;
                self.store.let_back(WAYS[node]).await;
                person
            }
            (1, person) => {
                self.store.end_subscriptions().await;
                person
            }
            (2, person) if self.random.below(3) == 0 => {
                self.store.flush().await;
                person
            }
            (_, None) => Some((node, joined(&nodes[node], user).await)),
            (3..12, Some((_, mut client))) => {
                client.request_in("r", "room.leave", json!({})).await;
                None
            }
            (12..18, Some((at, client))) => {
                lose(&nodes[at], client).await;
                Some((node, joined(&nodes[node], user).await))
            }
            // His other tab goes first.
            (18..24, Some((_, mut old))) => {
                let new = joined(&nodes[node], user).await;
                old.request_in("r", "room.leave", json!({})).await;
                Some((node, new))
            }
            (24..26, Some((at, client))) => {
                lose(&nodes[at], client).await;
                None
            }
            (_, Some((at, mut client))) => {
                client.request_in("r", "presence.update", json!({"info": self.random.below(100)})).await;
                Some((at, client))
            }
        }
    }

    /// All lists are true in the end.
    pub async fn settles(mut self) {
        let mut here = expected(&["ann", "bob", "cid"]);
        for (number, person) in self.people.iter_mut().enumerate() {
            let Some((_, client)) = person else { continue };
            client.request_in("r", "presence.update", json!({"info": number})).await;
            here.insert(format!("user{number:02}"), json!(number));
        }
        let took = all_have(&mut self.viewers, &here).await;
        assert!(took < HEALED_MAX, "{took:?}");
        for viewer in &mut self.viewers {
            assert_eq!(list(&mut viewer.client, 7).await.1, here);
        }
        let redis_has: usize = self.store.run(&["HLEN", USERS]).await;
        assert_eq!(redis_has, here.len());
    }
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}
