//! The client against servers that a hub is not: that refuse, fall silent, or read nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings_client::{Client, State};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose every word a test says.
struct Stub {
    listener: TcpListener,
    address: SocketAddr,
}

impl Stub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn client(&self) -> Client {
        Client::builder(format!("ws://{}/ws", self.address)).connect().unwrap()
    }

    /// The next connection, with a welcome into these rooms.
    async fn welcome(&self, rooms: &[&str]) -> Conversation {
        let (stream, _) = in_time(self.listener.accept()).await.unwrap();
        let choose = |_: &Request, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", "tidings.v1".parse().unwrap());
            Ok(response)
        };
        let mut conversation =
            Conversation(tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap());
        let cursor: Vec<_> = rooms.iter().map(|room| format!("{room}@k3f9a1qz.0")).collect();
        let data = json!({
            "session": "1.1", "user": "me", "rooms": rooms, "last_event_id": cursor.join(","), "heartbeat_ms": 30000,
            "limits": {}, "features": [],
        });
        conversation.say(&json!({"event": "session.welcome", "data": data})).await;
        conversation
    }
}

struct Conversation(WebSocketStream<TcpStream>);

impl Conversation {
    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let message = in_time(self.0.next()).await.expect("a message").unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn what_nobody_waits_for_is_refused_where_a_server_reads_nothing_and_goes_on_when_it_does() {
    let stub = Stub::start().await;
    let client = stub.client();
    let mut states = client.watch_state();
    let mut conversation = stub.welcome(&[]).await;
    in_time(states.wait_for(|state| *state == State::Connected)).await.unwrap();
    let data = "x".repeat(10_000);
    let mut taken = 0;
    while client.send("typing", &data).unwrap() {
        taken += 1;
        assert!(taken < 5_000, "50 MB wait, and there is no end of it");
        // The client's task has its turn.
        tokio::task::yield_now().await;
    }
    assert!(taken >= 256);
    for _ in 0..taken {
        assert_eq!(conversation.hear().await["data"], data);
    }
    assert!(client.send("typing", &"again").unwrap());
    assert_eq!(conversation.hear().await["data"], "again");
}

#[tokio::test]
async fn who_is_here_is_asked_again_after_the_question_failed() {
    let stub = Stub::start().await;
    let client = stub.client();
    let mut presence = client.room("r").unwrap().presence();
    let mut conversation = stub.welcome(&["r"]).await;
    for code in ["forbidden", "invalid"] {
        let question = conversation.hear().await;
        assert_eq!((&question["event"], &question["room"]), (&json!("room.members"), &json!("r")));
        let refusal = json!({"code": code, "message": "not now"});
        conversation.say(&json!({"event": "error", "id": question["id"], "data": refusal})).await;
    }
    let question = conversation.hear().await;
    assert_eq!(question["event"], "room.members");
    let page = json!({"members": [{"user": "ann", "info": null}], "rev": 1});
    conversation.say(&json!({"event": "ack", "id": question["id"], "data": page})).await;
    let members = in_time(presence.changed()).await.unwrap();
    assert_eq!(members.users.keys().map(|user| &**user).collect::<Vec<_>>(), ["ann"]);
}
