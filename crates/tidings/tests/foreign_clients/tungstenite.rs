//! The conversation by `tokio-tungstenite`, case by case.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{hub, serve, tokens};

/// Whatever a case waits for comes before this, or never.
const WAIT_MAX: Duration = Duration::from_secs(40);
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

async fn within<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, waited).await.expect("it came to nothing")
}

/// A server of a case's own, and its tokens.
struct Server {
    address: std::net::SocketAddr,
    tokens: Value,
    hub: tidings::Hub,
}

impl Server {
    async fn start() -> Self {
        let hub = hub();
        Self { address: serve(&hub).await, tokens: tokens(), hub }
    }

    fn token(&self, user: &str) -> &str {
        self.tokens[user].as_str().unwrap()
    }

    fn url(&self, user: &str, more: &str) -> String {
        format!("ws://{}/ws?token={}{more}", self.address, self.token(user).replace(' ', "+"))
    }

    /// Connects, with more of a query.
    async fn connect_with(&self, user: &str, more: &str) -> Client {
        let (socket, _) = within(Box::pin(connect_async(self.url(user, more)))).await.unwrap();
        let mut client = Client { socket, unread: Vec::new(), welcome: Value::Null, requests: 0 };
        client.welcome = client.event("session.welcome").await["data"].take();
        client
    }

    async fn connect(&self, user: &str) -> Client {
        self.connect_with(user, "").await
    }

    /// The answer to a handshake that must be refused.
    async fn refused(&self, url: &str, headers: &[(&'static str, &str)]) -> (u16, Value, Response<()>) {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match within(Box::pin(connect_async(request))).await.unwrap_err() {
            tungstenite::Error::Http(answer) => {
                let (parts, body) = answer.into_parts();
                let problem: Value = serde_json::from_slice(&body.unwrap()).unwrap();
                assert_eq!(parts.headers["content-type"], "application/problem+json");
                assert!(problem["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{problem}");
                (parts.status.as_u16(), problem["code"].clone(), Response::from_parts(parts, ()))
            }
            other => panic!("{other}"),
        }
    }

    /// Two in a room, and the room.
    async fn two(&self, room: &str) -> (Client, Client) {
        let (mut alice, mut bob) = (self.connect("alice").await, self.connect("bob").await);
        alice.join(room).await;
        bob.join(room).await;
        (alice, bob)
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: Vec<Value>,
    welcome: Value,
    requests: usize,
}

impl Client {
    async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    async fn text(&mut self, text: String) {
        self.send(Message::text(text)).await;
    }

    /// The first message, read already or not, that is wanted.
    async fn take(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return self.unread.remove(at);
        }
        loop {
            let message = match within(self.socket.next()).await.expect("the connection lives").unwrap() {
                Message::Text(text) => serde_json::from_str(&text).unwrap(),
                Message::Binary(frame) => {
                    let (length, rest) = frame.split_at(2);
                    let (header, payload) =
                        rest.split_at(usize::from(u16::from_be_bytes(length.try_into().unwrap())));
                    let mut message: Value = serde_json::from_slice(header).unwrap();
                    message["payload"] = payload.into();
                    message
                }
                other => panic!("{other:?}"),
            };
            if wanted(&message) {
                return message;
            }
            self.unread.push(message);
        }
    }

    async fn event(&mut self, event: &str) -> Value {
        self.take(|message| message["event"] == event).await
    }

    /// The answer to the request with this id: an ack's data, or an error's.
    async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let is_answer = |message: &Value| {
            message["id"] == id && (message["event"] == "ack" || message["event"] == "error")
        };
        let mut message = self.take(is_answer).await;
        let data = message["data"].take();
        if message["event"] == "ack" { Ok(data) } else { Err(data) }
    }

    async fn request_as(&mut self, id: &str, mut message: Value) -> Result<Value, Value> {
        message["id"] = id.into();
        self.text(message.to_string()).await;
        self.answer(id).await
    }

    async fn request(&mut self, message: Value) -> Result<Value, Value> {
        self.requests += 1;
        let id = format!("r-{}", self.requests);
        self.request_as(&id, message).await
    }

    async fn join(&mut self, room: &str) -> Value {
        self.request(json!({"event": "room.join", "room": room, "data": {}})).await.unwrap()
    }

    async fn publish(&mut self, room: &str, data: impl Into<Value>) -> Value {
        let said = json!({"event": "said", "room": room, "data": data.into()});
        self.request(said).await.unwrap()["event_id"].take()
    }

    /// The positions of the next so many `said`.
    async fn said(&mut self, count: usize) -> Vec<Value> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.event("said").await["id"].take());
        }
        ids
    }

    async fn code(&mut self, message: Value) -> Value {
        self.request(message).await.unwrap_err()["code"].take()
    }

    /// Reads to the close frame: its code.
    async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = within(self.socket.next()).await.unwrap().unwrap() {
                return close.unwrap().code.into();
            }
        }
    }

    /// Cuts the connection without a word.
    fn cut(self) {}
}

#[tokio::test]
async fn each_handshake_refusal() {
    let server = Server::start().await;
    let bare = format!("ws://{}/ws", server.address);
    for (token, code) in [
        ("malformed", "token_malformed"),
        ("expired", "token_expired"),
        ("wrong_secret", "token_signature"),
        ("wrong_claims", "token_claims"),
    ] {
        let (status, found, answer) = server.refused(&server.url(token, ""), &[]).await;
        assert_eq!((status, found), (401, code.into()));
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    }
    let alice = server.url("alice", "");
    for (url, headers, status, code) in [
        (&bare, [].as_slice(), 401, "token_missing"),
        (&server.url("alice", "&last_event_id=nonsense"), &[], 400, "invalid_cursor"),
        (&alice, &[("origin", "https://elsewhere.example")], 403, "origin_not_allowed"),
        (&alice, &[("sec-websocket-version", "8")], 426, "bad_upgrade"),
    ] {
        let (found_status, found, _) = server.refused(url, headers).await;
        assert_eq!((found_status, found), (status, code.into()), "{url}");
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let get =
        format!("GET /ws?token={} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", server.token("alice"));
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("upgrade_required"), "{answer}");
}

#[tokio::test]
async fn a_token_by_header_and_by_subprotocol() {
    let server = Server::start().await;
    let bare = format!("ws://{}/ws", server.address);
    let bearer = format!("Bearer {}", server.token("alice"));
    let offered = format!("tidings.v1, tidings.token.{}", server.token("alice"));
    for (name, value) in [("authorization", &bearer), ("sec-websocket-protocol", &offered)] {
        let mut request = (&*bare).into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let (mut socket, answer) = within(Box::pin(connect_async(request))).await.unwrap();
        let chosen = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(chosen, (name != "authorization").then_some("tidings.v1"));
        let welcome = within(socket.next()).await.unwrap().unwrap();
        assert!(welcome.into_text().unwrap().contains(r#""user":"alice""#));
    }
    let future = [("sec-websocket-protocol", "tidings.v9")];
    let (status, code, _) = server.refused(&server.url("alice", ""), &future).await;
    assert_eq!((status, code), (409, "client_version".into()));
}

#[tokio::test]
async fn a_sixth_connection_and_the_take_over_of_a_session() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(server.connect("limited").await);
    }
    let (status, code, answer) = server.refused(&server.url("limited", ""), &[]).await;
    assert_eq!((status, code), (429, "connection_limit".into()));
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    let session = held[0].welcome["session"].as_str().unwrap().to_owned();
    let heir = server.connect_with("limited", &format!("&session={session}")).await;
    assert_eq!(held[0].closed().await, 4009);
    assert_ne!(heir.welcome["session"], session.as_str());
}

#[tokio::test]
async fn rooms_members_and_presence() {
    let server = Server::start().await;
    let (mut alice, mut bob) = server.two("open:1").await;
    let came = alice.event("presence.join").await;
    assert_eq!(came["data"]["user"], "bob");
    bob.request(json!({"event": "presence.update", "room": "open:1", "data": {"info": "away"}}))
        .await
        .unwrap();
    let rev = came["data"]["rev"].as_u64().unwrap() + 1;
    let update = alice.event("presence.update").await;
    assert_eq!(update["data"], json!({"user": "bob", "info": "away", "rev": rev}));
    let members = alice.request(json!({"event": "room.members", "room": "open:1"})).await.unwrap();
    assert_eq!((&members["rev"], members["members"].as_array().unwrap().len()), (&rev.into(), 2));
    assert_eq!(alice.request(json!({"event": "room.list"})).await.unwrap(), json!({"rooms": ["open:1"]}));
    assert_eq!(alice.request(json!({"event": "presence.heartbeat"})).await.unwrap(), json!({}));
    bob.request(json!({"event": "room.leave", "room": "open:1"})).await.unwrap();
    assert_eq!(
        alice.event("presence.leave").await["data"],
        json!({"user": "bob", "info": "away", "rev": rev + 1})
    );
}

#[tokio::test]
async fn a_publication_is_acked_once_and_reaches_everyone() {
    let server = Server::start().await;
    let (mut alice, mut bob) = server.two("open:1").await;
    let said = json!({"event": "said", "room": "open:1", "data": {"n": 1.5}});
    let ack = alice.request_as("a-1", said.clone()).await.unwrap();
    assert_eq!(ack["duplicate"], false);
    for client in [&mut alice, &mut bob] {
        let heard = client.event("said").await;
        assert_eq!(
            (&heard["id"], &heard["re"], &heard["from"]),
            (&ack["event_id"], &"a-1".into(), &"alice".into())
        );
        assert_eq!(heard["data"], json!({"n": 1.5}));
    }
    let again = alice.request_as("a-1", said).await.unwrap();
    assert_eq!((&again["event_id"], &again["duplicate"]), (&ack["event_id"], &true.into()));
    let other = json!({"event": "said", "room": "open:1", "data": {"n": 2}});
    assert_eq!(alice.request_as("a-1", other).await.unwrap_err()["code"], "idempotency_conflict");
    alice.request(json!({"event": "others", "room": "open:1", "data": 1})).await.unwrap();
    let (heard, skip) = (bob.event("others").await, alice.event("room.skip").await);
    assert_eq!((&skip["id"], &skip["data"]["reason"]), (&heard["id"], &"excluded".into()));
}

#[tokio::test]
async fn binary_both_ways() {
    let server = Server::start().await;
    let (mut alice, mut bob) = server.two("open:1").await;
    let header = br#"{"event":"image","room":"open:1","id":"i-1"}"#;
    let payload = [0, 255, 128].repeat(700);
    let frame = [&u16::try_from(header.len()).unwrap().to_be_bytes(), &header[..], &payload].concat();
    alice.send(Message::binary(Bytes::from(frame))).await;
    let ack = alice.answer("i-1").await.unwrap();
    for client in [&mut alice, &mut bob] {
        let image = client.event("image").await;
        assert_eq!((&image["id"], &image["re"]), (&ack["event_id"], &"i-1".into()));
        assert_eq!(image["payload"], Value::from(payload.clone()));
    }
}

#[tokio::test]
async fn a_cut_is_caught_up_on_by_url_and_by_message() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    alice.join("open:auto").await;
    let before = server.connect("auto").await;
    assert_eq!(before.welcome["rooms"], json!(["open:auto"]));
    let start = before.welcome["last_event_id"].as_str().unwrap().to_owned();
    before.cut();
    let mut missed = Vec::new();
    for n in 0..3 {
        missed.push(alice.publish("open:auto", n).await);
    }
    let mut auto = server.connect_with("auto", &format!("&last_event_id={start}")).await;
    missed.push(alice.publish("open:auto", 3).await);
    assert_eq!(auto.said(4).await, missed, "replay, then live");

    let mut bob = server.connect_with("bob", "&resume=wait").await;
    let cursor = format!("{start},closed:1@k3f9a1qz.1");
    let resume = json!({"event": "session.resume", "data": {"last_event_id": cursor}});
    let rooms = bob.request(resume).await.unwrap()["rooms"].take();
    assert_eq!(
        (&rooms["open:auto"]["recovery"], &rooms["open:auto"]["top"]),
        (&"complete".into(), &missed[3])
    );
    assert_eq!(rooms["closed:1"], json!({"error": "forbidden"}));
    assert_eq!(bob.said(4).await, missed);
}

#[tokio::test]
async fn what_can_not_be_caught_up_on_is_a_reset_with_its_reason() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    alice.join("open:1").await;
    let top = alice.publish("open:1", 1).await;
    let (log, _) = top.as_str().unwrap().rsplit_once('.').unwrap();
    for (position, reason) in [("open:1@00000000.5", "unknown_epoch"), (&format!("{log}.1000"), "too_far")] {
        let join = json!({"event": "room.join", "room": "open:1", "data": {"last_event_id": position}});
        let ack = alice.request(join).await.unwrap();
        assert_eq!((&ack["recovery"], &ack["top"]), (&"gap".into(), &top));
        assert_eq!(alice.event("room.reset").await["data"]["reason"], reason);
    }
    let elsewhere = format!("&last_event_id={}", top.as_str().unwrap());
    let mut auto = server.connect_with("auto", &elsewhere).await;
    assert_eq!(auto.event("room.reset").await["data"]["reason"], "no_position");
}

#[tokio::test]
async fn history_by_pages() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    alice.join("open:1").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(alice.publish("open:1", n).await);
    }
    let page = |data| json!({"event": "room.history", "room": "open:1", "data": data});
    let newest = alice.request(page(json!({"limit": 2}))).await.unwrap();
    let found: Vec<_> =
        newest["events"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(found, ids[3..]);
    let older = alice.request(page(json!({"before": newest["next"]}))).await.unwrap();
    assert_eq!(older["events"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn each_error_code() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    for room in ["open:1", "read:1"] {
        alice.join(room).await;
    }
    for (message, code) in [
        (json!({"event": "panic"}), "internal"),
        (json!({"event": "typed", "data": {"n": "one"}}), "schema"),
        (json!({"event": "nobody.handles.this"}), "unknown_event"),
        (json!({"event": "room.join", "room": "closed:1", "data": {}}), "forbidden"),
        (json!({"event": "said", "room": "read:1"}), "forbidden"),
        (json!({"event": "room.join", "room": "nowhere:1", "data": {}}), "unknown_room"),
        (json!({"event": "said", "room": "open:2"}), "not_joined"),
        (json!({"event": "room.nuke"}), "invalid"),
        (json!({"event": "said", "room": "open:1", "more": 1}), "invalid"),
        (
            json!({"event": "presence.update", "room": "open:1", "data": {"info": "x".repeat(4097)}}),
            "too_large",
        ),
    ] {
        assert_eq!(alice.code(message.clone()).await, code, "{message}");
    }
    let rooms: Vec<_> = (0..101).map(|n| format!("open:many-{n}@k3f9a1qz.0")).collect();
    let resume = json!({"event": "session.resume", "data": {"last_event_id": rooms.join(",")}});
    alice.request(resume).await.unwrap();
    let one_more = json!({"event": "room.join", "room": "open:one-more", "data": {}});
    assert_eq!(alice.code(one_more).await, "room_limit");

    let mut limited = server.connect("limited").await;
    for n in 0..60 {
        limited.text(json!({"event": "room.list", "id": format!("l-{n}")}).to_string()).await;
    }
    let mut refused = 0;
    for n in 0..60 {
        if let Err(error) = limited.answer(&format!("l-{n}")).await {
            assert_eq!(error["code"], "rate_limited");
            assert!(error["retry_after_ms"].as_u64().unwrap() > 0, "{error}");
            refused += 1;
        }
    }
    assert!((1..=20).contains(&refused), "{refused} of 60");
}

#[tokio::test]
async fn a_session_is_refreshed_or_ends_with_its_token() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    let refresh = |token: &str| json!({"event": "session.refresh", "data": {"token": token}});
    assert!(alice.request(refresh(server.token("alice"))).await.unwrap()["expires_at"].is_u64());
    let mut short = server.connect("short_lived").await;
    assert_eq!(short.closed().await, 4300);
    // What the application ends, ends with its own code.
    assert_eq!(server.hub.disconnect_user("alice").await, Ok(1));
    assert_eq!(alice.closed().await, 4006);
}

#[tokio::test]
async fn a_drain_tells_to_reconnect() {
    let server = Server::start().await;
    let mut alice = server.connect("alice").await;
    let (moved, _) = tokio::join!(
        async {
            let reconnect = alice.event("session.reconnect").await;
            (reconnect["data"]["within_ms"].clone(), alice.closed().await)
        },
        server.hub.drain(Duration::from_millis(100)),
    );
    assert_eq!(moved, (100.into(), 4200));
    let (status, code, _) = server.refused(&server.url("alice", ""), &[]).await;
    assert_eq!((status, code), (503, "draining".into()));
}

#[tokio::test]
async fn checkpoints_come_to_those_who_asked() {
    let server = Server::start().await;
    let mut alice = server.connect_with("alice", "&checkpoints=1").await;
    let top = alice.join("open:1").await["top"].take();
    let tells =
        |message: &Value| message["event"] == "session.checkpoint" && message["data"]["last_event_id"] == top;
    alice.take(tells).await;
}

#[tokio::test]
async fn pings_sizes_and_broken_frames() {
    let server = Server::start().await;
    let (mut alice, mut bob) = server.two("open:1").await;
    alice.send(Message::Ping(Bytes::from_static(b"tidings"))).await;
    while within(alice.socket.next()).await.unwrap().unwrap() != Message::Pong(Bytes::from_static(b"tidings"))
    {
    }
    let (head, tail) = (r#"{"event":"said","room":"open:1","data":""#, r#""}"#);
    let fill = "x".repeat(MESSAGE_BYTES_MAX - head.len() - tail.len());
    alice.text(format!("{head}{fill}{tail}")).await;
    assert_eq!(bob.event("said").await["data"], *fill);
    alice.text(format!("{head}{fill}x{tail}")).await;
    assert_eq!(alice.closed().await, u16::from(CloseCode::Size));

    let mut unmasked = server.connect("alice").await;
    let MaybeTlsStream::Plain(stream) = unmasked.socket.get_mut() else { panic!("not plain") };
    stream.write_all(b"\x81\x02{}").await.unwrap();
    assert_eq!(unmasked.closed().await, u16::from(CloseCode::Protocol));
    let mut done = server.connect("alice").await;
    done.socket.close(None).await.unwrap();
    within(async { while done.socket.next().await.is_some() {} }).await;
}
