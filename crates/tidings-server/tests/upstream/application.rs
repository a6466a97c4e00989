//! The application behind the port: small, and honest about what it was asked.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How often the stream of events has one.
pub(crate) const EVENT_EVERY: Duration = Duration::from_millis(300);
/// And how many, before it ends.
pub(crate) const EVENTS: usize = 12;

/// Starts one; `host:port`.
pub(crate) async fn start() -> String {
    let app = Router::new()
        .route("/hello", get(async || "hello"))
        .route("/headers", any(seen))
        .route("/v1/rooms", any(seen))
        .route("/echo", any(async |request: Request| request.into_body()))
        .route("/count", any(count))
        .route("/events", get(events))
        .route("/never", any(std::future::pending::<()>))
        .route("/etag", get(etag))
        .route("/empty", get(async || StatusCode::NO_CONTENT))
        .route("/socket", get(socket));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    address
}

/// Starts one that takes a request, says this, and hangs up.
pub(crate) async fn that_says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }));
    address
}

async fn seen(request: Request) -> Response {
    let headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let (method, uri) = (request.method().as_str(), request.uri().to_string());
    let answer = json!({"method": method, "uri": uri, "headers": headers}).to_string();
    ([("x-secret", "of the hop"), ("connection", "x-secret"), ("x-kept", "yes")], answer).into_response()
}

/// Counts, and keeps nothing.
async fn count(request: Request) -> String {
    let mut pieces = request.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    bytes.to_string()
}

async fn events() -> Response {
    let ticks = tokio::time::interval(EVENT_EVERY);
    let events = stream::unfold((ticks, 0), async |(mut ticks, number)| {
        if number == EVENTS {
            return None;
        }
        ticks.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from(format!("data: {number}\n\n"))), (ticks, number + 1)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

async fn etag(headers: HeaderMap) -> Response {
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == "\"one\"");
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let body = if is_known { "" } else { "twelve bytes" };
    (status, [(header::ETAG, "\"one\"")], body).into_response()
}

/// A WebSocket of its own, which says everything back, and first what it was asked for.
async fn socket(mut request: Request) -> Response {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].to_str().unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let asked = request.uri().to_string();
    let upgrade = hyper::upgrade::on(&mut request);
    drop(tokio::spawn(async move {
        let upgraded = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        socket.send(asked.into()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    }));
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &*accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
