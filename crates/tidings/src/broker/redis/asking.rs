//! Asking all nodes something, and answering what they ask: over the control channel, with an end in time.
//!
//! A question and its answers are carried at most once. So whoever does not answer in time is counted, and what the
//! others said stands.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::control::Control;
use super::link::Link;
use super::nodes;
use crate::broker::{Answers, Question, Replies, Reply};

/// The nodes have so long to answer.
const REPLY_MAX: Duration = Duration::from_secs(1);

/// Who answers on this node, and the questions of this node that wait for answers.
#[derive(Default)]
pub(super) struct Asking {
    node: OnceLock<Box<dyn Answers>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    asked: u64,
    by_number: HashMap<u64, mpsc::Sender<(u64, Reply)>>,
}

/// A question that has been asked: it waits for no answers any more when it is dropped.
struct Asked<'a> {
    asking: &'a Asking,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.asking.waiting.lock().by_number.remove(&self.number);
    }
}

impl Asking {
    /// Whom to ask when other nodes want to know something.
    pub(super) fn answer_with(&self, node: Box<dyn Answers>) {
        // A hub is built once.
        let _ = self.node.set(node);
    }

    /// The node, once the hub is built.
    pub(super) fn node(&self) -> Option<&dyn Answers> {
        self.node.get().map(|node| &**node)
    }

    /// Takes another node's answer.
    pub(super) fn take(&self, number: u64, node: u64, reply: Reply) {
        if let Some(waiting) = self.waiting.lock().by_number.get(&number) {
            // There is a place for each node's answer; a second one of the same is none.
            let _ = waiting.try_send((node, reply));
        }
    }

    fn begin(&self, answers_max: usize) -> (Asked<'_>, mpsc::Receiver<(u64, Reply)>) {
        let (sender, receiver) = mpsc::channel(answers_max.max(1));
        let mut waiting = self.waiting.lock();
        waiting.asked += 1;
        let number = waiting.asked;
        waiting.by_number.insert(number, sender);
        (Asked { asking: self, number }, receiver)
    }
}

/// Asks every other node that is there.
pub(super) async fn ask(link: &Arc<Link>, question: Question) -> Replies {
    let shared = &link.shared;
    let own = format!("{:016x}", shared.node);
    // A node that can't list the others can't reach them either: it is as if one of them were missing.
    let others = match nodes::list(link).await {
        Ok(nodes) => nodes.iter().filter(|node| node.id != own).count(),
        Err(_) => return Replies { all: Vec::new(), missing: 1 },
    };
    let mut replies = Replies::default();
    if others == 0 {
        return replies;
    }
    // One that has just started may answer too.
    let (asked, mut answers) = shared.asking.begin(others + 16);
    link.tell(&Control::Question { number: asked.number, question });
    let collecting = async {
        while replies.all.len() < others {
            let Some((node, reply)) = answers.recv().await else { return };
            if replies.all.iter().all(|(known, _)| *known != node) {
                replies.all.push((node, reply));
            }
        }
    };
    let _ = tokio::time::timeout(REPLY_MAX, collecting).await;
    replies.missing = others.saturating_sub(replies.all.len());
    replies
}

impl Link {
    /// Answers what another node asks.
    pub(super) fn answer(self: &Arc<Self>, to: u64, number: u64, question: Question) {
        let Some(answering) = self.shared.asking.node().map(|node| node.answer(question)) else { return };
        let link = Arc::clone(self);
        drop(self.shared.runtime.spawn(async move {
            if let Some(reply) = answering.await {
                link.tell(&Control::Reply { to, number, reply });
            }
        }));
    }
}
