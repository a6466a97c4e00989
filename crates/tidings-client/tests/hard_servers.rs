//! The client against servers that a hub is not: that refuse, fall silent, or read nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings_client::{Client, ConnectionFault, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

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
        #[expect(clippy::result_large_err, reason = "tungstenite has it so")]
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

/// A client whose first connections fail in these ways, as the server answers them, and what it says of the last.
async fn fault_after(answer: &str) -> ConnectionFault {
    let stub = Stub::start().await;
    let client = stub.client();
    assert_eq!(client.fault(), None);
    let (mut stream, _) = in_time(stub.listener.accept()).await.unwrap();
    let mut request = [0; 4096];
    assert!(in_time(stream.read(&mut request)).await.unwrap() > 0);
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop(stream);
    // It comes back by itself: then it has seen the last one fail.
    let (stream, _) = in_time(stub.listener.accept()).await.unwrap();
    let fault = client.fault().expect("a fault");
    assert_eq!(client.state(), State::Connecting);
    drop(stream);
    let mut states = client.watch_state();
    let _conversation = stub.welcome(&[]).await;
    in_time(states.wait_for(|state| *state == State::Connected)).await.unwrap();
    assert_eq!(client.fault(), None);
    client.close();
    in_time(states.wait_for(|state| *state == State::Closed)).await.unwrap();
    assert_eq!(client.fault(), None, "that was no fault");
    fault
}

#[tokio::test]
async fn a_handshake_that_fails_for_now_leaves_its_reason() {
    let problem = r#"{"code":"draining","detail":"the node is going away","fix":"try another"}"#;
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: ";
    let fault = fault_after(&format!("{head}{}\r\n\r\n{problem}", problem.len())).await;
    assert_eq!((fault.status, fault.code.as_deref()), (Some(503), Some("draining")));
    assert_eq!(fault.message, "the node is going away; try another");
    let fault = fault_after("").await;
    assert_eq!((fault.status, fault.code), (None, None));
    assert!(fault.message.starts_with("the server can't be reached: "), "{}", fault.message);
}

#[tokio::test]
async fn a_token_that_can_not_be_had_leaves_its_reason() {
    let stub = Stub::start().await;
    let (asked, mut asks) = tokio::sync::mpsc::channel(64);
    let client = Client::builder(format!("ws://{}/ws", stub.address))
        .token_from(move |_| {
            asked.try_send(()).unwrap();
            std::future::ready(Err::<Option<String>, _>(std::io::Error::other("the vault is shut")))
        })
        .connect()
        .unwrap();
    for _ in 0..2 {
        in_time(asks.recv()).await.unwrap();
    }
    let fault = client.fault().expect("a fault");
    assert_eq!((fault.status, &*fault.message), (None, "no token could be had: the vault is shut"));
}

#[tokio::test]
async fn a_close_leaves_its_code_and_reason() {
    let stub = Stub::start().await;
    let client = stub.client();
    let mut states = client.watch_state();
    let mut conversation = stub.welcome(&[]).await;
    in_time(states.wait_for(|state| *state == State::Connected)).await.unwrap();
    conversation.0.close(Some(CloseFrame { code: 4006.into(), reason: "kicked".into() })).await.unwrap();
    in_time(states.wait_for(|state| *state == State::Closed)).await.unwrap();
    let fault = client.fault().expect("a fault");
    assert_eq!((fault.status, fault.code, &*fault.message), (Some(4006), None, "kicked"));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_for_that_reason() {
    let stub = Stub::start().await;
    let client = stub.client();
    let mut states = client.watch_state();
    let _conversation = stub.welcome(&[]).await;
    in_time(states.wait_for(|state| *state == State::Connected)).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(76)).await;
    in_time(states.wait_for(|state| *state == State::Reconnecting)).await.unwrap();
    let fault = client.fault().expect("a fault");
    assert_eq!((fault.status, &*fault.message), (None, "the server was silent for too long"));
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
