//! Somebody with a browser: he is logged in, asks the application, and hears what is said. When his connection is lost he
//! makes another, says where he was, and sends again what has no answer. A message that he misses, or hears twice, is a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tidings::protocol::event_id::{EventId, Position};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::{Answer, Server};

/// Whatever is awaited comes by then.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub struct Person<'a> {
    pub server: &'a Server,
    pub name: &'static str,
    pub cookie: String,
    /// What was said, and edits, in the order in which it came.
    pub heard: Vec<String>,
    /// Every message that came, but for answers and welcomes.
    pub came: Vec<Value>,
    /// What the last connection began with.
    pub welcome: Value,
    socket: Option<Socket>,
    positions: BTreeMap<String, Position>,
    unanswered: Vec<(String, Value)>,
    answers: BTreeMap<String, Value>,
    asked: usize,
}

impl<'a> Person<'a> {
    pub async fn log_in(server: &'a Server, name: &'static str) -> Self {
        let credentials = json!({"name": name, "password": "canary-bird password"});
        let answer = server.ask("POST", "/login", "", credentials).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.body);
        Self {
            server,
            name,
            cookie: answer.cookie.unwrap(),
            heard: Vec::new(),
            came: Vec::new(),
            welcome: Value::Null,
            socket: None,
            positions: BTreeMap::new(),
            unanswered: Vec::new(),
            answers: BTreeMap::new(),
            asked: 0,
        }
    }

    pub async fn connected(server: &'a Server, name: &'static str) -> Self {
        let mut person = Self::log_in(server, name).await;
        person.connect().await;
        person
    }

    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.server.ask(method, path, &self.cookie, body).await
    }

    /// What the database has of the first channel.
    pub async fn stored(&self) -> Vec<String> {
        let answer = self.ask("GET", "/channels/1/messages", Value::Null).await;
        let messages = answer.body["messages"].as_array().unwrap();
        messages.iter().map(words).collect()
    }

    /// His connection's name.
    pub fn session(&self) -> &str {
        self.welcome["session"].as_str().unwrap_or_default()
    }

    /// Connects where he was, whatever was there before.
    pub async fn connect(&mut self) {
        let token = self.ask("GET", "/token", Value::Null).await.body["token"].clone();
        let position = |(room, position): (&String, &Position)| format!("{room}@{position}");
        let positions: Vec<String> = self.positions.iter().map(position).collect();
        let url = format!(
            "ws://{}/ws?token={}&session={}&last_event_id={}",
            self.server.line.address,
            token.as_str().unwrap(),
            self.session(),
            positions.join(","),
        );
        let url = url.trim_end_matches("&last_event_id=");
        self.socket = None;
        let until = tokio::time::Instant::now() + WAIT_MAX;
        while self.socket.is_none() {
            assert!(
                tokio::time::Instant::now() < until,
                "{} can't connect",
                self.name
            );
            self.socket = connect_async(url).await.ok().map(|(socket, _)| socket);
        }
        for (_, message) in self.unanswered.clone() {
            self.write(&message).await;
        }
        self.welcome = Value::Null;
        while self.socket.is_some() && self.welcome.is_null() {
            self.read().await;
        }
    }

    /// Loses his connection, and knows it.
    pub fn disconnect(&mut self) {
        self.socket = None;
    }

    /// Sends, and waits for no answer. Gives the message's id.
    pub async fn send(&mut self, room: &str, event: &str, data: Value) -> String {
        self.asked += 1;
        let id = format!("{}-{}", self.name, self.asked);
        self.send_as(&id, room, event, data).await;
        id
    }

    pub async fn send_as(&mut self, id: &str, room: &str, event: &str, data: Value) {
        let message = json!({"event": event, "room": room, "data": data, "id": id});
        self.answers.remove(id);
        self.unanswered.push((id.to_owned(), message.clone()));
        self.write(&message).await;
    }

    /// Sends, and gives the answer: the ack's data, or the error's.
    pub async fn request(&mut self, room: &str, event: &str, data: Value) -> Value {
        let id = self.send(room, event, data).await;
        self.answer(&id).await
    }

    pub async fn answer(&mut self, id: &str) -> Value {
        while !self.answers.contains_key(id) {
            self.step().await;
        }
        self.answers[id].clone()
    }

    pub async fn say(&mut self, content: &str) -> Value {
        self.request("ch_1", "message.send", json!({"content": content}))
            .await
    }

    /// Waits until he has heard this.
    pub async fn hears(&mut self, words: &str) {
        while !self.heard.iter().any(|heard| heard == words) {
            self.step().await;
        }
    }

    /// The next message of this name in a room; of those that came already, the first that nobody took.
    pub async fn takes(&mut self, room: &str, event: &str) -> Value {
        let is_it = |message: &Value| message["room"] == room && message["event"] == event;
        loop {
            if let Some(index) = self.came.iter().position(is_it) {
                return self.came.remove(index);
            }
            self.step().await;
        }
    }

    async fn write(&mut self, message: &Value) {
        if let Some(socket) = &mut self.socket {
            // One that is lost is noticed by whoever reads.
            let _ = socket.send(Message::text(message.to_string())).await;
        }
    }

    /// Takes what comes next, on another connection if this one is lost.
    async fn step(&mut self) {
        if self.socket.is_none() {
            self.connect().await;
        }
        self.read().await;
    }

    async fn read(&mut self) {
        let socket = self.socket.as_mut().expect("a connection");
        let next = timeout(WAIT_MAX, socket.next()).await;
        let next =
            next.unwrap_or_else(|_| panic!("nothing comes to {}: {:?}", self.name, self.came));
        match next {
            Some(Ok(Message::Text(text))) => self.take(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(_)) | Err(Error::Io(_) | Error::Protocol(_))) | None => {
                self.socket = None;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }

    fn take(&mut self, message: Value) {
        let (event, data) = (message["event"].as_str().unwrap(), &message["data"]);
        if let ("ack" | "error", Some(id)) = (event, message["id"].as_str()) {
            self.unanswered.retain(|(unanswered, _)| unanswered != id);
            self.answers.insert(id.to_owned(), data.clone());
            return;
        }
        if event == "session.welcome" {
            let cursor = data["last_event_id"].as_str().unwrap_or_default();
            for id in cursor.split(',') {
                if let Ok(EventId { room, position }) = EventId::parse(id) {
                    self.positions.insert(room.to_string(), position);
                }
            }
            self.welcome = data.clone();
            return;
        }
        if event == "room.joined" {
            let EventId { room, position } =
                EventId::parse(data["last_event_id"].as_str().unwrap()).unwrap();
            self.positions.insert(room.to_string(), position);
        }
        if let (Some(_), Some(id)) = (message["room"].as_str(), message["id"].as_str()) {
            self.moves(id, &message);
        }
        match event {
            "message.send" => self.heard.push(words(data)),
            "message.edit" => self.heard.push(format!("edited: {}", words(data))),
            _ => {}
        }
        self.came.push(message);
    }

    /// Every offset is there once: as an event, in a skip, or lost by a reset.
    fn moves(&mut self, id: &str, message: &Value) {
        let EventId { room, position } = EventId::parse(id).unwrap();
        let last = self.positions.insert(room.to_string(), position);
        if message["event"] == "room.reset" || message["event"] == "room.epoch" {
            return;
        }
        let last = last.expect("the room's position");
        let first = message["data"]["from"]
            .as_u64()
            .filter(|_| message["event"] == "room.skip");
        assert_eq!(
            (position.epoch, first.unwrap_or(position.offset)),
            (last.epoch, last.offset + 1),
            "{} has missed something, or heard it twice, at {message}",
            self.name
        );
    }
}

fn words(message: &Value) -> String {
    let text = |field: &str| message[field].as_str().unwrap().to_owned();
    format!("{}: {}", text("user"), text("content"))
}
