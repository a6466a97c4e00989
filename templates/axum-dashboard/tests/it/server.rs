//! The application at a free port, in a folder of its own, and a line to it that a test can cut.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use dashboard::app::App;
use dashboard::database::Database;
use dashboard::realtime::Realtime;
use dashboard::sampler::Sampler;
use serde_json::Value;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::line::Line;

const SECRET: &str = "canary-bird of the tests of this dashboard";

const INTERVAL: Duration = Duration::from_millis(20);

pub struct Server {
    pub app: App,
    /// Where it is, by the line.
    pub line: Line,
    /// Where it is itself.
    pub address: SocketAddr,
}

/// What was answered. The body is JSON, or a text.
pub struct Answer {
    pub status: StatusCode,
    pub cookie: Option<String>,
    pub body: Value,
}

impl Server {
    pub async fn start(folder: &Path) -> Self {
        let server = Self::start_with(folder, None).await;
        server.sample();
        server
    }

    /// One that samples all the time, until the test is over.
    pub fn sample(&self) {
        tokio::spawn(Sampler::new().unwrap().run(self.app.clone(), INTERVAL));
    }

    /// One that does not, perhaps with the Redis of other nodes.
    pub async fn start_with(folder: &Path, redis_url: Option<&str>) -> Self {
        let database = Database::open(&folder.join("dashboard.db")).await.unwrap();
        let realtime = Realtime::start(&database, SECRET, redis_url).unwrap();
        let app = App { database, realtime };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Line::to(address).await;
        let service = app
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { app, line, address }
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
