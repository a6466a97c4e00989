//! One port for Tidings and an application: what is not Tidings' own goes there and back, whatever it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "upstream/application.rs"]
mod application;
mod server;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use application::{EVENT_EVERY, EVENTS};
use axum::body::{Body, Bytes};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use server::{Client, Dev, Node, ask, get, get_with, run, tidings, within};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SECRET: &str = "canary-bird of the port, and more than 32 bytes";
/// What the server gives a handshake, and a stalled exchange: one is over before a stream of events is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(1);
const STALLED_MAX: Duration = Duration::from_secs(2);

/// A body of what a channel brings.
fn body_of(receiver: mpsc::Receiver<Bytes>) -> Body {
    let pieces = stream::unfold(receiver, async |mut receiver| {
        Some((Ok::<_, Infallible>(receiver.recv().await?), receiver))
    });
    Body::from_stream(pieces)
}

fn config(application: &str, more: &str) -> String {
    format!(
        r#"
        listen = "127.0.0.1:0"
        {more}
        [auth]
        secret = "{SECRET}"
        [[rooms]]
        pattern = "*"
        join = "anyone"
        [admin]
        listen = "127.0.0.1:0"
        [limits]
        handshake_duration_max_seconds = {}
        pending_handshakes_max = 3
        [upstream]
        url = "http://{application}"
        stalled_duration_max_seconds = {}
        requests_max = 2
        "#,
        HANDSHAKE_MAX.as_secs(),
        STALLED_MAX.as_secs(),
    )
}

async fn in_front_of(application: &str) -> Node {
    Node::start(&config(application, ""), &[]).await
}

fn client() -> HttpClient<HttpConnector, Body> {
    HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http()
}

async fn request(node: &Node, method: Method, path: &str, body: Body) -> Response<Incoming> {
    let request = Request::builder().method(method).uri(format!("http://{}{path}", node.address));
    within(client().request(request.body(body).unwrap())).await.unwrap()
}

async fn text(answer: Response<Incoming>) -> String {
    let bytes = within(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn problem(answer: &server::Answer) -> Value {
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(problem["fix"].is_string() && problem["status"] == answer.status, "{problem}");
    problem
}

/// What the application says it was asked with.
fn headers(seen: &Value, name: &str) -> Vec<String> {
    let pairs = seen["headers"].as_array().unwrap().iter();
    pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_tidings_own_stays_and_all_else_goes_on() {
    let node = in_front_of(&application::start().await).await;
    let address = &node.address;
    assert_eq!(get(address, "/hello", "app.example").await.body, "hello");
    assert_eq!(get(address, "/nowhere", "app.example").await.status, 404, "the application's own");
    assert_eq!(get(address, "/health/ready", "app.example").await.body, "ready\n");
    for own in ["/v1/none", "/health/none"] {
        assert_eq!(problem(&get(address, own, "app.example").await)["code"], "not_found", "{own}");
    }
    let refused = get(address, "/ws?token=none", "app.example").await;
    assert_eq!((refused.status, problem(&refused)["code"].as_str()), (401, Some("token_malformed")));
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = serde_json::json!({"sub": "ann", "aud": "tidings", "exp": exp});
    let token = ::tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap();
    Client::connect(address, &token).await.close().await;
    for (method, path) in
        [(Method::PUT, "/headers?a=b%20c&d"), (Method::DELETE, "/headers"), (Method::OPTIONS, "/headers")]
    {
        let seen: Value =
            serde_json::from_str(&text(request(&node, method.clone(), path, Body::empty()).await).await)
                .unwrap();
        assert_eq!((&seen["method"], &seen["uri"]), (&method.as_str().into(), &path.into()));
    }
    let gone = request(&node, Method::GET, "/empty", Body::empty()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn bodies_go_both_ways_as_they_come() {
    let node = in_front_of(&application::start().await).await;
    // What was sent is back before the next is sent: nothing waits for a whole body.
    let (send, sent) = mpsc::channel(1);
    let mut echo = request(&node, Method::POST, "/echo", body_of(sent)).await.into_body();
    for number in 0..3 {
        let piece = Bytes::from(format!("piece {number}"));
        send.send(piece.clone()).await.unwrap();
        let frame = within(echo.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(send);
    assert!(within(echo.frame()).await.is_none());
    // 20 MB, of a known length and in chunks.
    let large = Bytes::from(vec![b'x'; 20_000_000]);
    let whole = request(&node, Method::POST, "/count", Body::from(large.clone())).await;
    assert_eq!(text(whole).await, "20000000");
    let (send, sent) = mpsc::channel(4);
    let rest = large.clone();
    let sending = tokio::spawn(async move {
        for at in (0..rest.len()).step_by(100_000) {
            send.send(rest.slice(at..at + 100_000)).await.unwrap();
        }
    });
    let back = request(&node, Method::POST, "/echo", body_of(sent)).await;
    let back = within(back.into_body().collect()).await.unwrap().to_bytes();
    assert!(back == large, "{} bytes", back.len());
    sending.await.unwrap();
}

#[tokio::test]
async fn a_stream_outlasts_a_handshakes_time_and_leaves_its_place_to_others() {
    let node = in_front_of(&application::start().await).await;
    let begun = Instant::now();
    let streams = [
        request(&node, Method::GET, "/events", Body::empty()).await,
        request(&node, Method::GET, "/events", Body::empty()).await,
    ];
    // Two of the three that may be on their way; and no more of the application's.
    let held =
        [TcpStream::connect(&node.address).await.unwrap(), TcpStream::connect(&node.address).await.unwrap()];
    assert_eq!(get(&node.address, "/health/live", "a").await.status, 200);
    drop(held);
    let beyond = get(&node.address, "/hello", "a").await;
    assert_eq!((beyond.status, problem(&beyond)["code"].as_str()), (503, Some("overloaded")));
    assert!(beyond.head.contains("retry-after: 1"), "{beyond:?}");
    for stream in streams {
        let events = text(stream).await;
        assert_eq!(events.matches("data: ").count(), EVENTS, "{events}");
    }
    assert!(begun.elapsed() >= EVENT_EVERY * (EVENTS as u32 - 1), "{:?}", begun.elapsed());
    assert!(EVENT_EVERY * (EVENTS as u32 - 1) > HANDSHAKE_MAX + STALLED_MAX, "or it would show nothing");
    assert_eq!(get(&node.address, "/hello", "a").await.status, 200, "the places are free again");
}

#[tokio::test]
async fn answers_without_a_body_keep_what_they_say_of_it() {
    let node = in_front_of(&application::start().await).await;
    let known = get_with(&node.address, "/etag", "Host: a\r\nIf-None-Match: \"one\"\r\n").await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert!(known.head.contains("etag: \"one\""), "{known:?}");
    let head = "HEAD /etag HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = ask(TcpStream::connect(&node.address).await.unwrap(), head).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.head.contains("content-length: 12"), "{answer:?}");
    // The connection is in step after such answers.
    let three = "HEAD /etag HTTP/1.1\r\nHost: a\r\n\r\nGET /etag HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"one\"\r\n\r\n\
                 GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = ask(TcpStream::connect(&node.address).await.unwrap(), three).await;
    assert!(answers.body.ends_with("hello") && answers.body.contains("HTTP/1.1 304 "), "{answers:?}");
}

#[tokio::test]
async fn headers_of_one_connection_stay_there_and_nobody_says_who_he_is() {
    let application = application::start().await;
    let seen = async |more: &str, head: &str| -> (Value, String) {
        let node = Node::start(&config(&application, more), &[]).await;
        let answer = get_with(&node.address, "/headers", head).await;
        (serde_json::from_str(&answer.body).unwrap(), answer.head)
    };
    let head = "Host: app.example\r\nConnection: x-secret, x-forwarded-for\r\nX-Secret: 1\r\nX-Kept: 2\r\n\
                Keep-Alive: timeout=9\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\nX-Real-IP: 6.6.6.6\r\n\
                Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: evil.example\r\n";
    let (strangers, answer) = seen("trusted_proxies = []", head).await;
    for name in
        ["x-secret", "keep-alive", "te", "proxy-authorization", "forwarded", "x-real-ip", "connection"]
    {
        assert_eq!(headers(&strangers, name), [""; 0], "{name}");
    }
    assert_eq!(headers(&strangers, "host"), ["app.example"]);
    assert_eq!(headers(&strangers, "x-kept"), ["2"]);
    assert_eq!(headers(&strangers, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(headers(&strangers, "x-forwarded-proto"), ["http"]);
    assert_eq!(headers(&strangers, "x-forwarded-host"), ["app.example"]);
    assert!(answer.contains("x-kept: yes") && !answer.contains("x-secret"), "{answer}");

    let (trusted, _) = seen("", head).await;
    assert_eq!(headers(&trusted, "x-forwarded-for"), ["6.6.6.6, 127.0.0.1"]);
    assert_eq!(headers(&trusted, "x-forwarded-proto"), ["https"]);
    assert_eq!(headers(&trusted, "x-forwarded-host"), ["evil.example"]);
    assert_eq!(headers(&trusted, "x-secret"), [""; 0]);
}

#[tokio::test]
async fn a_request_has_one_length_and_one_host() {
    let node = in_front_of(&application::start().await).await;
    let both = "POST /headers HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = ask(TcpStream::connect(&node.address).await.unwrap(), both).await;
    assert!(!answer.body.contains("HTTP/1.1"), "one request, one answer: {answer:?}");
    if answer.status == 200 {
        let seen: Value =
            serde_json::from_str(answer.body.trim_matches(|char| char != '{' && char != '}')).unwrap();
        assert_eq!(headers(&seen, "content-length"), [""; 0]);
        assert_eq!(headers(&seen, "transfer-encoding"), ["chunked"]);
    } else {
        assert_eq!(answer.status, 400);
    }
    for wrong in [
        "GET /headers HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /headers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        let answer = ask(TcpStream::connect(&node.address).await.unwrap(), wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"] {
        let wrong = format!("GET /headers HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = ask(TcpStream::connect(&node.address).await.unwrap(), &wrong).await;
        assert_eq!(answer.status, 400, "{hosts:?}: {answer:?}");
        assert!(answer.body.contains("send one Host header"), "{answer:?}");
    }
    // A target with another host in it is no way to that host.
    let elsewhere = "GET http://evil.example/headers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = ask(TcpStream::connect(&node.address).await.unwrap(), elsewhere).await;
    let seen: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&seen["uri"], headers(&seen, "host")), (&"/headers".into(), vec!["evil.example".to_owned()]));
}

#[tokio::test]
async fn an_application_that_is_not_there_or_too_slow_is_a_problem_with_a_fix() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let node = in_front_of(&nowhere).await;
    let down = get(&node.address, "/hello", "a").await;
    assert_eq!((down.status, problem(&down)["code"].as_str()), (502, Some("upstream_unreachable")));
    assert!(!down.body.contains(&nowhere), "where it is, is for the log");

    let node = in_front_of(&application::start().await).await;
    let begun = Instant::now();
    let slow = get(&node.address, "/never", "a").await;
    assert_eq!((slow.status, problem(&slow)["code"].as_str()), (504, Some("upstream_timeout")));
    assert!(begun.elapsed() >= STALLED_MAX, "{:?}", begun.elapsed());
    let half = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf";
    let half = ask(TcpStream::connect(&node.address).await.unwrap(), half).await;
    assert_eq!((half.status, problem(&half)["code"].as_str()), (408, Some("request_stalled")));

    let node = in_front_of(&application::that_says("").await).await;
    let mute = get(&node.address, "/hello", "a").await;
    assert_eq!((mute.status, problem(&mute)["code"].as_str()), (502, Some("upstream_failed")));
    let node = in_front_of(&application::that_says("no HTTP\r\n\r\n").await).await;
    assert_eq!(get(&node.address, "/hello", "a").await.status, 502);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_one() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let counted = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    for answer in [chunked, counted] {
        let node = in_front_of(&application::that_says(answer).await).await;
        let mut body = request(&node, Method::GET, "/", Body::empty()).await.into_body();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "hello");
        assert!(within(body.frame()).await.unwrap().is_err(), "{answer}");
    }
    // One that says nothing more is given up, as one that is gone.
    let (send, sent) = mpsc::channel(1);
    let node = in_front_of(&application::start().await).await;
    let mut echo = request(&node, Method::POST, "/echo", body_of(sent)).await.into_body();
    send.send(Bytes::from_static(b"hello")).await.unwrap();
    within(echo.frame()).await.unwrap().unwrap();
    assert!(within(echo.frame()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_websocket_of_the_applications_own_goes_through() {
    let node = in_front_of(&application::start().await).await;
    let url = format!("ws://{}/socket?hmr=1", node.address);
    let (mut socket, _) = within(Box::pin(tokio_tungstenite::connect_async(url))).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "/socket?hmr=1");
    let large = "x".repeat(300_000);
    for said in ["hello", &large] {
        socket.send(said.into()).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap().as_str(), said);
    }
    // It is no request under way: those have their own places, and it outlasts them.
    let stream = request(&node, Method::GET, "/events", Body::empty()).await;
    assert_eq!(text(stream).await.matches("data: ").count(), EVENTS);
    socket.send("still".into()).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "still");
    socket.close(None).await.unwrap();
    while within(socket.next()).await.is_some_and(|message| message.is_ok()) {}
    // A handshake that the application refuses is its own answer.
    let refused =
        within(Box::pin(tokio_tungstenite::connect_async(format!("ws://{}/hello", node.address)))).await;
    assert!(
        matches!(refused, Err(tokio_tungstenite::tungstenite::Error::Http(answer)) if answer.status() == 200)
    );
}

#[tokio::test]
async fn one_address_can_not_take_all_places() {
    let limit = "requests_max = 2";
    let config = config(&application::start().await, "").replace(limit, "requests_per_address_max = 1");
    let node = Node::start(&config, &[]).await;
    let of = |address: &str| format!("Host: a\r\nX-Forwarded-For: {address}\r\n");
    let held =
        Request::get(format!("http://{}/events", node.address)).header("x-forwarded-for", "203.0.113.7");
    let held = within(client().request(held.body(Body::empty()).unwrap())).await.unwrap();
    let beyond = get_with(&node.address, "/hello", &of("203.0.113.7")).await;
    assert_eq!((beyond.status, problem(&beyond)["code"].as_str()), (429, Some("rate_limited")));
    assert_eq!(get_with(&node.address, "/hello", &of("203.0.113.8")).await.status, 200);
    drop(held);
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_ended_first() {
    let mut node = in_front_of(&application::start().await).await;
    let (send, sent) = mpsc::channel(1);
    let mut echo = request(&node, Method::POST, "/echo", body_of(sent)).await.into_body();
    server::signal(&node.child, rustix::process::Signal::TERM);
    within(async { while get(&node.address, "/health/ready", "a").await.status == 200 {} }).await;
    send.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(within(echo.frame()).await.unwrap().unwrap().into_data().unwrap(), "hello");
    drop(send);
    assert!(within(echo.frame()).await.is_none(), "a whole answer");
    assert_eq!(within(node.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn tidings_dev_has_the_application_in_the_place_of_its_page() {
    let url = format!("http://{}", application::start().await);
    let dev = Dev::start_with(&["--upstream", &url]).await;
    assert!(dev.greeting.contains(&url), "{}", dev.greeting);
    assert_eq!(dev.get("/hello").await.body, "hello");
    assert_eq!(dev.get("/").await.status, 404, "the application has none");
    assert_eq!(dev.get("/dev/token?user=ann").await.status, 200);
    assert_eq!(get(&dev.address, "/hello", "evil.example").await.status, 403, "this machine alone");
    dev.connect(&dev.token).await.close().await;

    let home = tempfile::tempdir().unwrap();
    // For the other it is a key of the configuration, which the command line says.
    for (command, code) in [("dev", 2), ("serve", 78)] {
        std::fs::write(home.path().join("tidings.toml"), format!("[auth]\nsecret = '{SECRET}'")).unwrap();
        let output =
            run(tidings(&home).current_dir(home.path()).args([command, "--upstream", "localhost:3000"]))
                .await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("fix: write where your application listens"), "{told}");
    }
}
