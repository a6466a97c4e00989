//! Many clients, each the real client core in a small shell: they publish, move to another node when theirs is gone, and
//! remember what they got.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tidings::protocol::client::{Action, Client, ClientQueueLimits, Decision, HandshakeRefusal, Outcome};
use tidings::protocol::codec::{Encoding, decode_server_text};
use tidings::protocol::event_id::RoomId;
use tidings::protocol::message::{ClientEvent, ClientMessage, Data, EventName, JoinFrom, ServerMessage};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// What all clients of a swarm share.
pub(crate) struct Swarm {
    /// The addresses of the nodes, `127.0.0.1:port`.
    pub(crate) nodes: Vec<String>,
    pub(crate) joined: AtomicUsize,
    /// While it holds, those who publish do.
    pub(crate) publishing: watch::Sender<bool>,
    pub(crate) ended: AtomicBool,
}

/// One client's part.
pub(crate) struct Part {
    pub(crate) token: String,
    pub(crate) room: RoomId,
    /// The node that it begins at.
    pub(crate) node: usize,
    /// How often it publishes, if it does, and from which number on.
    pub(crate) publishes: Option<(Duration, u64)>,
}

/// What a client has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// The numbers of the events, in order.
    pub(crate) events: Vec<u64>,
    /// The numbers that were acked.
    pub(crate) acked: Vec<u64>,
    pub(crate) resets: usize,
    /// Requests that ended otherwise.
    pub(crate) unknown: usize,
    /// When it was back in its room after a loss.
    pub(crate) resumed_at: Vec<Instant>,
    /// Requests without an answer.
    pub(crate) waiting: usize,
    pub(crate) node: usize,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Shell {
    swarm: Arc<Swarm>,
    part: Part,
    seen: Arc<Mutex<Seen>>,
    client: Client,
    socket: Option<Socket>,
    /// What each request without an answer has published.
    requests: Vec<(String, u64)>,
    node: usize,
    has_joined: bool,
}

/// Runs one client until the swarm has ended.
pub(crate) fn start(swarm: &Arc<Swarm>, part: Part, seed: u64) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen { node: part.node, ..Seen::default() }));
    let now = Instant::now();
    let shell = Shell {
        swarm: Arc::clone(swarm),
        node: part.node,
        part,
        seen: Arc::clone(&seen),
        client: Client::new(seed, ClientQueueLimits::default(), now),
        socket: None,
        requests: Vec::new(),
        has_joined: false,
    };
    tokio::spawn(shell.run());
    seen
}

impl Shell {
    async fn run(mut self) {
        let mut publishing = self.swarm.publishing.subscribe();
        let every = self.part.publishes.map_or(Duration::from_secs(3600), |(every, _)| every);
        let mut publish = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let room = self.part.room.clone();
        self.client
            .request(
                |id| ClientMessage::Join { room, id, from: JoinFrom::Newest { history: 0 } },
                Instant::now(),
            )
            .unwrap();
        while !self.swarm.ended.load(Ordering::Relaxed) {
            self.act().await;
            let deadline =
                self.client.next_deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            let deadline = deadline.min(Instant::now() + Duration::from_secs(1));
            tokio::select! {
                message = next(&mut self.socket) => self.take(message),
                () = tokio::time::sleep_until(deadline.into()) => self.client.tick(Instant::now()),
                _ = publishing.changed() => {}
                _ = publish.tick() => if *publishing.borrow() { self.publish() },
            }
        }
    }

    fn publish(&mut self) {
        let Some((_, number)) = &mut self.part.publishes else { return };
        *number += 1;
        let number = *number;
        let data = RawValue::from_string(number.to_string()).unwrap();
        let room = self.part.room.clone();
        let message = |id| {
            let event = EventName::parse("number").unwrap();
            ClientMessage::Event(ClientEvent {
                event,
                room: Some(room),
                data: Data::Json(&data),
                id: Some(id),
            })
        };
        // One that is full waits for its node: what was not accepted was not published.
        if let Ok(id) = self.client.request(message, Instant::now()) {
            self.requests.push((id.as_str().to_owned(), number));
            self.seen.lock().waiting += 1;
        }
    }

    /// Does all that the client wants done.
    async fn act(&mut self) {
        while let Some(action) = self.client.poll_action(Instant::now()) {
            match action {
                Action::Connect(url) => {
                    let mut query = format!("token={}", self.part.token);
                    if let Some(session) = url.session {
                        query += &format!("&session={session}");
                    }
                    if url.resume_wait {
                        query += "&resume=wait";
                    }
                    let address = &self.swarm.nodes[self.node % self.swarm.nodes.len()];
                    let url = format!("ws://{address}/ws?{query}");
                    match tokio_tungstenite::connect_async(url).await {
                        Ok((socket, _)) => self.socket = Some(socket),
                        Err(_) => {
                            // Another node, as a balancer would send it to.
                            self.node += 1;
                            self.client.refused(&HandshakeRefusal::default(), Instant::now());
                        }
                    }
                }
                Action::Send(encoding, bytes) => {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    assert_eq!(encoding, Encoding::Text);
                    if let Some(socket) = &mut self.socket {
                        let _ = socket.send(Message::text(text)).await;
                    }
                }
                Action::Disconnect(_) => self.socket = None,
                Action::Settled(id, outcome) => self.settled(id.as_str(), &outcome),
                Action::RoomLost(room, code) => panic!("{room} is lost: {code}"),
                Action::JoinedByServer(_)
                | Action::Joined(_)
                | Action::CaughtUp(..)
                | Action::StateChanged(_) => {}
            }
        }
    }

    fn settled(&mut self, id: &str, outcome: &Outcome) {
        let Some(index) = self.requests.iter().position(|(request, _)| request == id) else {
            // The join.
            assert!(matches!(outcome, Outcome::Acked(_)), "{outcome:?}");
            if !std::mem::replace(&mut self.has_joined, true) {
                self.swarm.joined.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        let (_, number) = self.requests.swap_remove(index);
        let mut seen = self.seen.lock();
        seen.waiting -= 1;
        match outcome {
            Outcome::Acked(_) | Outcome::Published(_) => seen.acked.push(number),
            Outcome::Refused(refusal) => panic!("{refusal:?}"),
            Outcome::OutcomeUnknown => seen.unknown += 1,
        }
    }

    fn take(&mut self, message: Option<Message>) {
        let now = Instant::now();
        match message {
            Some(Message::Text(text)) => {
                let message = decode_server_text(&text).unwrap();
                let decision = self.client.receive(&message, now);
                let mut seen = self.seen.lock();
                match (&message, decision) {
                    (ServerMessage::Event(event), Decision::Accept) => {
                        let Data::Json(data) = event.data else { panic!("not JSON") };
                        seen.events.push(data.get().parse().unwrap());
                    }
                    (ServerMessage::Reset { .. }, _) => seen.resets += 1,
                    (ServerMessage::Ack { data, .. }, _) if data.get().starts_with(r#"{"rooms":"#) => {
                        seen.resumed_at.push(now);
                        seen.node = self.node % self.swarm.nodes.len();
                    }
                    _ => {}
                }
            }
            Some(Message::Close(_)) | None => {
                self.socket = None;
                self.node += 1;
                self.client.closed(None, now);
            }
            Some(_) => self.client.heard(now),
        }
    }
}

/// The next frame; none at the connection's end, and never without one.
async fn next(socket: &mut Option<Socket>) -> Option<Message> {
    match socket {
        Some(socket) => socket.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}
