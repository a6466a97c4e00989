//! The application at a free port, in a folder of its own, and a line to it that a test can cut.

use std::net::SocketAddr;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use chat::app::App;
use chat::database::Database;
use chat::realtime::Realtime;
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::line::Line;

const SECRET: &str = "canary-bird of the tests of this chat";

pub struct Server {
    pub app: App,
    pub line: Line,
}

/// What was answered. The body is JSON, or a text.
pub struct Answer {
    pub status: StatusCode,
    pub cookie: Option<String>,
    pub body: Value,
}

impl Server {
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, None).await
    }

    /// With the Redis of other nodes.
    pub async fn start_with(folder: &Path, redis_url: Option<&str>) -> Self {
        let database = Database::open(&folder.join("chat.db")).await.unwrap();
        let realtime = Realtime::start(&database, SECRET, redis_url).unwrap();
        let app = App { database, realtime };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line::to(listener.local_addr().unwrap()).await;
        let service = app
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { app, line }
    }

    /// Asks the application without a port.
    pub async fn ask(&self, method: &str, path: &str, cookie: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::COOKIE, cookie);
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.app.router().oneshot(request).await.unwrap();
        let cookie = answer.headers().get(header::SET_COOKIE);
        let cookie = cookie.and_then(|cookie| cookie.to_str().unwrap().split(';').next());
        let (status, cookie) = (answer.status(), cookie.map(str::to_owned));
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_ref()));
        Answer {
            status,
            cookie,
            body,
        }
    }
}
