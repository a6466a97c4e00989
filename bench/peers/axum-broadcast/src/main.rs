//! axum's own WebSockets with a tokio broadcast channel for each room, as axum's chat example has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast;

type Rooms = Arc<Mutex<HashMap<String, broadcast::Sender<Message>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let app = Router::new()
        .route("/room/{name}", get(|Path(name): Path<String>, State(rooms): State<Rooms>, upgrade: WebSocketUpgrade| async move {
            let sender = rooms.lock().unwrap().entry(name).or_insert_with(|| broadcast::channel(1024).0).clone();
            upgrade.on_upgrade(|socket| room(socket, sender))
        }))
        .route("/echo", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .with_state(Rooms::default());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn room(mut socket: WebSocket, sender: broadcast::Sender<Message>) {
    let mut receiver = sender.subscribe();
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => drop(sender.send(message)),
                Some(Ok(_)) => {}
                _ => return,
            },
            message = receiver.recv() => match message {
                Ok(message) => if socket.send(message).await.is_err() { return },
                Err(_) => return,
            },
        }
    }
}

async fn echo(socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    while let Some(Ok(message)) = stream.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && sink.send(message).await.is_err() {
            return;
        }
    }
}
