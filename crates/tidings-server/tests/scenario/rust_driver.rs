//! The Rust SDK's driver.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_client::{
    Client, Event, Payload, Presence, Request, RequestError, Room, RoomEvent, RoomEvents, State,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::mpsc;

/// More than any act brings.
const LINES_MAX: usize = 1024;

type Out = mpsc::Sender<Value>;

/// Runs until there are no more commands and the client is closed.
pub(crate) async fn run(stream: DuplexStream, authority: Option<Vec<u8>>) {
    let (read, mut write) = tokio::io::split(stream);
    let (out, mut lines) = mpsc::channel::<Value>(LINES_MAX);
    let writing = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut commands = BufReader::new(read).lines();
    let token = Arc::new(Mutex::new(String::new()));
    let (mut client, mut listened) = (None, HashSet::new());
    while let Ok(Some(line)) = commands.next_line().await {
        let command: Value = serde_json::from_str(&line).unwrap();
        if command["do"] == "connect" || command["do"] == "token" {
            *token.lock() = text(&command, "token");
        }
        match &client {
            None => {
                client =
                    Some(connect(&text(&command, "url"), authority.as_deref(), Arc::clone(&token), &out));
            }
            Some(client) => obey(client, &command, &mut listened, &out),
        }
    }
    if let Some(client) = client {
        client.close();
    }
    drop(out);
    writing.await.unwrap();
}

fn text(command: &Value, key: &str) -> String {
    command[key].as_str().unwrap_or_default().to_owned()
}

fn connect(url: &str, authority: Option<&[u8]>, token: Arc<Mutex<String>>, out: &Out) -> Client {
    let mut client = Client::builder(url);
    if let Some(authority) = authority {
        client = client.ca_certificate(authority).unwrap();
    }
    let client = client
        .token_from(move |_| std::future::ready(Ok::<_, std::io::Error>(Some(token.lock().clone()))))
        .connect()
        .unwrap();
    let (mut states, seen) = (client.watch_state(), out.clone());
    tokio::spawn(async move {
        loop {
            let state = states.borrow_and_update().clone();
            let line = match &state {
                State::Connecting => json!({"saw": "state", "state": "connecting"}),
                State::Connected => json!({"saw": "state", "state": "connected"}),
                State::Reconnecting => json!({"saw": "state", "state": "reconnecting"}),
                State::Refused(why) => {
                    json!({"saw": "state", "state": "refused", "code": why.code, "status": why.status})
                }
                State::Closed => json!({"saw": "state", "state": "closed"}),
            };
            let _ = seen.try_send(line);
            if state == State::Closed || states.changed().await.is_err() {
                return;
            }
        }
    });
    let (mut degraded, seen) = (client.watch_degraded(), out.clone());
    tokio::spawn(async move {
        while degraded.changed().await.is_ok() {
            let _ = seen.try_send(json!({"saw": "degraded", "degraded": *degraded.borrow_and_update()}));
        }
    });
    client
}

/// `listened` are the rooms whose events are told already.
fn obey(client: &Client, command: &Value, listened: &mut HashSet<String>, out: &Out) {
    let (name, label, out) = (text(command, "room"), text(command, "as"), out.clone());
    match command["do"].as_str().unwrap() {
        "token" => {}
        "join" => {
            let mut join = client.join(&name);
            if let Some(history) = command["history"].as_u64() {
                join = join.history(history.try_into().unwrap());
            }
            let is_first = listened.insert(name);
            tokio::spawn(async move {
                match join.await {
                    Ok((room, events)) => {
                        let _ = out.try_send(json!({"saw": "answer", "as": label}));
                        if is_first {
                            tell(room, events, &out).await;
                        }
                    }
                    Err(error) => failed(&out, &label, &error),
                }
            });
        }
        "leave" => {
            let room = client.room(&name).unwrap();
            tokio::spawn(async move {
                match room.leave().await {
                    Ok(()) => drop(out.try_send(json!({"saw": "answer", "as": label}))),
                    Err(error) => failed(&out, &label, &error),
                }
            });
        }
        "request" => {
            let room = client.room(&name).unwrap();
            let event = text(command, "event");
            let request = match command["base64"].as_str() {
                Some(bytes) => room.request_bytes(&event, &STANDARD.decode(bytes).unwrap()),
                None => room.request(&event, &command["data"]),
            };
            tokio::spawn(answered(request, label, out));
        }
        "send" => {
            client.room(&name).unwrap().send(&text(command, "event"), &command["data"]).unwrap();
        }
        "members" => drop(tokio::spawn(watch(client.room(&name).unwrap().presence(), name, out))),
        "close" => client.close(),
        other => panic!("{other}"),
    }
}

fn failed(out: &Out, label: &str, error: &RequestError) {
    let _ = out.try_send(json!({"saw": "answer", "as": label, "error": error.code()}));
}

async fn answered(request: Request, label: String, out: Out) {
    match request.await {
        Ok(answer) => {
            let event_id = answer.event_id.map(|id| id.to_string());
            let line =
                json!({"saw": "answer", "as": label, "event_id": event_id, "duplicate": answer.is_duplicate});
            let _ = out.try_send(line);
        }
        Err(error) => failed(&out, &label, &error),
    }
}

async fn tell(room: Room, mut events: RoomEvents, out: &Out) {
    while let Some(event) = events.next().await {
        let mut line = match event {
            RoomEvent::Event(event) => told(&event),
            RoomEvent::Reset(reset) => {
                let mut line = json!({"saw": "reset", "reason": reset.reason, "id": reset.id.to_string()});
                if let Some(state) = reset.state {
                    line["state"] = serde_json::from_str(state.get()).unwrap();
                }
                line
            }
            RoomEvent::CaughtUp(caught_up) => {
                json!({"saw": "caught_up", "events": caught_up.events, "recovery": caught_up.recovery})
            }
            RoomEvent::Lost(why) => json!({"saw": "lost", "code": why.to_string()}),
            other => panic!("{other:?}"),
        };
        line["room"] = room.name().into();
        let _ = out.try_send(line);
    }
}

fn told(event: &Event) -> Value {
    let id = event.id.as_ref().map(ToString::to_string);
    let mut line = json!({"saw": "event", "event": event.event, "id": id, "from": event.from});
    match &event.data {
        Payload::Json(data) => line["data"] = serde_json::from_str(data.get()).unwrap(),
        Payload::Binary(bytes) => line["base64"] = STANDARD.encode(bytes).into(),
    }
    line
}

async fn watch(mut presence: Presence, room: String, out: Out) {
    while let Some(members) = presence.changed().await {
        let users: Vec<_> = members.users.keys().collect();
        let _ = out.try_send(json!({"saw": "members", "room": room, "users": users}));
    }
}
