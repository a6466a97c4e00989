//! `deploy/nginx.conf` and `deploy/Caddyfile`, as they stand there but for their ports: the socket, its refusals and the
//! client's address come through, and all else goes to the application.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use futures_util::StreamExt as _;
use http::HeaderMap;
use server::{Serve, ask, within};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};

const SECRET: &str = "canary-bird behind another server, and 32 bytes";
/// Where the client is, who is no proxy; and what he says that he is.
const CLIENT: &str = "127.0.0.2";
const CLAIMED: &str = "203.0.113.7";

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What it is that runs in front.
struct Proxy {
    _child: Child,
    address: SocketAddr,
    _home: TempDir,
}

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn with(mut text: String, replacements: &[(&str, String)]) -> String {
    for (written, here) in replacements {
        assert!(text.contains(written), "{written} is not there any more");
        text = text.replace(written, here);
    }
    text
}

/// The program, unless it is not installed; under `./test` it is.
fn installed(places: &[&str]) -> Option<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("TIDINGS_SDKS").is_none(), "{places:?} is not installed");
    if found.is_none() {
        println!("skipped: {places:?} is not installed here");
    }
    found
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Proxy {
    async fn start(mut command: Command, port: u16, home: TempDir) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        command.current_dir(home.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().unwrap();
        // Nothing tells when it listens but that it does.
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                looks.tick().await;
            }
        };
        within(listening).await;
        Self { _child: child, address, _home: home }
    }

    async fn nginx(program: &Path, tidings: &str, application: &str) -> Self {
        let (port, home) = (free_port().await, tempfile::tempdir().unwrap());
        let ports = [
            ("127.0.0.1:7777", tidings.to_owned()),
            ("127.0.0.1:3000", application.to_owned()),
            ("listen 80", format!("listen 127.0.0.1:{port}")),
        ];
        std::fs::write(home.path().join("tidings.conf"), with(deployed("nginx.conf"), &ports)).unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {kind};")).concat();
        let main = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; {temporary} include tidings.conf; }}"
        );
        std::fs::write(home.path().join("nginx.conf"), main).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(home.path()).args(["-e", "stderr", "-c", "nginx.conf"]);
        Self::start(command, port, home).await
    }

    async fn caddy(program: &Path, tidings: &str, application: &str) -> Self {
        let (port, home) = (free_port().await, tempfile::tempdir().unwrap());
        let ports = [
            ("127.0.0.1:7777", tidings.to_owned()),
            ("127.0.0.1:3000", application.to_owned()),
            ("app.example {", format!("http://:{port} {{\nbind 127.0.0.1")),
        ];
        let config = format!("{{\nadmin off\n}}\n{}", with(deployed("Caddyfile"), &ports));
        std::fs::write(home.path().join("Caddyfile"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--config", "Caddyfile"]).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
        Self::start(command, port, home).await
    }

    /// A connection of a client who is elsewhere.
    async fn reach(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{CLIENT}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn get(&self, path: &str) -> server::Answer {
        let head = format!("Host: app.example\r\nX-Forwarded-For: {CLAIMED}\r\nConnection: close\r\n");
        ask(self.reach().await, &format!("GET {path} HTTP/1.1\r\n{head}\r\n")).await
    }
}

async fn application() -> String {
    let seen = async |headers: HeaderMap| {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        format!("{} {} {}", text("host"), text("x-forwarded-for"), text("x-forwarded-proto"))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(seen))).await }));
    address
}

async fn tidings() -> Serve {
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.1"]
        [auth]
        secret = "{SECRET}"
        [admin]
        listen = "127.0.0.1:0"
        "#
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    Serve::start(home).await
}

async fn comes_through(proxy: Proxy, serve: Serve) {
    let refused = proxy.get("/ws?token=none").await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.head.to_lowercase().contains("content-type: application/problem+json"), "{refused:?}");
    let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert!(problem["code"] == "token_malformed" && problem["fix"].is_string(), "{problem}");

    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = serde_json::json!({"sub": "ann", "aud": "tidings", "exp": exp});
    let token = ::tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap();
    let url = format!("ws://{}/ws?token={token}", proxy.address);
    let upgrading = Box::pin(tokio_tungstenite::client_async(url, proxy.reach().await));
    let (mut socket, _) = within(upgrading).await.unwrap();
    let welcome = within(socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("session.welcome"), "{welcome}");
    socket.close(None).await.unwrap();
    while within(socket.next()).await.is_some_and(|message| message.is_ok()) {}

    let page = proxy.get("/page").await;
    assert!(
        page.status == 200 && page.body.contains("app.example ") && page.body.contains(CLIENT),
        "{page:?}"
    );
    assert!(proxy.get("/v1/rooms").await.body.contains("app.example "), "the HTTP API is not for the public");

    let log = serve.end().await;
    let refusal = log.lines().find(|line| line.contains("\"message\":\"refuse\"")).unwrap();
    assert!(refusal.contains(&format!("\"address\":\"{CLIENT}:0\"")), "{refusal}");
    assert!(!log.contains(&format!("\"address\":\"{CLAIMED}")), "what he says of himself counts nowhere");
}

#[tokio::test]
async fn nginx() {
    if let Some(program) = installed(&["/usr/sbin/nginx", "/usr/local/sbin/nginx"]) {
        let (serve, application) = (tidings().await, application().await);
        comes_through(Proxy::nginx(&program, &serve.address, &application).await, serve).await;
    }
}

#[tokio::test]
async fn caddy() {
    if let Some(program) = installed(&["/usr/bin/caddy", "/usr/local/bin/caddy"]) {
        let (serve, application) = (tidings().await, application().await);
        comes_through(Proxy::caddy(&program, &serve.address, &application).await, serve).await;
    }
}
