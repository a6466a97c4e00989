//! `[tls]`: https and wss by a certificate from files, with the same limits and refusals, and renewed without a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "../../tidings/tests/redis_servers/mod.rs"]
mod redis_servers;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use redis_servers::Certificates;
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use server::{Serve, ask, get, run, signal, tidings, within};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SECRET: &str = "canary-bird of the certificate, more than 32 bytes";
const HANDSHAKE_MAX: Duration = Duration::from_secs(1);

/// A home whose certificate is this one's, with more in its configuration.
fn home(certificates: &Certificates, more: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        secret = "{SECRET}"
        [[rooms]]
        pattern = "*"
        join = "anyone"
        [limits]
        handshake_duration_max_seconds = {}
        [tls]
        certificate_file = "server.pem"
        key_file = "server.key"
        {more}
        "#,
        HANDSHAKE_MAX.as_secs()
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    put(certificates, home.path());
    home
}

fn put(certificates: &Certificates, folder: &Path) {
    for name in ["server.pem", "server.key"] {
        std::fs::write(folder.join(name), certificates.read(name)).unwrap();
    }
}

/// TLS to a server whom this one's authority certifies, or why not.
async fn secured(address: &str, certificates: &Certificates) -> std::io::Result<TlsStream<TcpStream>> {
    secure(TcpStream::connect(address).await?, certificates).await
}

async fn secure(stream: TcpStream, certificates: &Certificates) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificates.read("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

fn token() -> String {
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = serde_json::json!({"sub": "ann", "aud": "tidings", "exp": exp});
    ::tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

/// More than the buffers of TLS and of the kernel, in events that are larger than one record.
const EVENTS: usize = 200;
const EVENT_BYTES: usize = 30_000;
const SLOW_BYTES: u32 = 4096;

#[tokio::test]
async fn who_reads_slowly_gets_every_byte() {
    let certificates = Certificates::make();
    let config = home(&certificates, ADMIN);
    let path = config.path().join("tidings.toml");
    let rates = ["messages_per_second", "messages_burst", "messages_per_second_per_user"];
    let limits = rates.map(|rate| format!("\n{rate} = 1000")).concat();
    let room = "join = \"anyone\"\npublish = \"anyone\"\nany_event = true\nhistory_bytes = 8000000";
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("[limits]", &format!("[limits]{limits}")).replace("join = \"anyone\"", room);
    std::fs::write(&path, text).unwrap();
    let serve = Serve::start(config).await;
    let connect = async || {
        // The kernel holds next to nothing for who does not read: what is left waits in the buffers of TLS.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SLOW_BYTES).unwrap();
        let stream = socket.connect(serve.address.parse().unwrap()).await.unwrap();
        let stream = secure(stream, &certificates).await.unwrap();
        let url = format!("wss://{}/ws?token={}", serve.address, token());
        within(Box::pin(tokio_tungstenite::client_async(url, stream))).await.unwrap().0
    };
    let (mut ann, mut bob) = (connect().await, connect().await);
    bob.send(r#"{"event":"room.join","room":"r","id":"j"}"#.into()).await.unwrap();
    let data = "x".repeat(EVENT_BYTES);
    for number in 0..EVENTS {
        let event = format!(r#"{{"event":"say","room":"r","data":"{data}","id":"{number}"}}"#);
        bob.send(event.into()).await.unwrap();
        let acked = format!(r#""re":"{number}""#);
        while !within(bob.next()).await.unwrap().unwrap().into_text().unwrap().contains(&acked) {}
    }
    // All of it is asked for at once, and read one after the other, while the writer waits for the reader.
    let join = format!(r#"{{"event":"room.join","room":"r","data":{{"history":{EVENTS}}},"id":"j"}}"#);
    ann.send(join.into()).await.unwrap();
    let mut events = 0;
    while events < EVENTS {
        let message = within(ann.next()).await.unwrap().unwrap();
        assert!(!message.is_close(), "after {events} events: {message}");
        let message = message.into_text().unwrap();
        if message.contains(r#""event":"say""#) {
            assert!(message.contains(&data), "event {events} is whole");
            events += 1;
        }
    }
    drop((ann, bob));
    serve.end().await;
}

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"";

#[tokio::test]
async fn nothing_but_tls_is_spoken_and_refusals_are_what_they_were() {
    let certificates = Certificates::make();
    let serve = Serve::start(home(&certificates, ADMIN)).await;
    let stream = secured(&serve.address, &certificates).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = ask(stream, "GET /ws?token=none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(refused.status == 401 && refused.body.contains("token_malformed"), "{refused:?}");

    let stream = secured(&serve.address, &certificates).await.unwrap();
    let url = format!("wss://{}/ws?token={}", serve.address, token());
    let (mut socket, _) = within(Box::pin(tokio_tungstenite::client_async(url, stream))).await.unwrap();
    let welcome = within(socket.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("session.welcome"), "{welcome}");
    socket.close(None).await.unwrap();
    while within(socket.next()).await.is_some_and(|message| message.is_ok()) {}

    let plain = get(&serve.address, "/health/live", "a").await;
    assert!(
        plain.status == 400 && plain.body.contains("tls_required") && plain.body.contains("https://"),
        "{plain:?}"
    );
    assert_eq!(get(&serve.admin, "/health/live", "a").await.status, 200, "operators are another matter");
    serve.end().await;
}

#[tokio::test]
async fn a_handshake_of_tls_is_part_of_the_handshakes_time() {
    let certificates = Certificates::make();
    let serve = Serve::start(home(&certificates, ADMIN)).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(&serve.address).await.unwrap();
    let mut half = secured(&serve.address, &certificates).await.unwrap();
    let mut said = Vec::new();
    within(silent.read_to_end(&mut said)).await.unwrap();
    // An end without TLS's own is an error, and an end.
    let _ = within(half.read_to_end(&mut said)).await;
    let lasted = begun.elapsed();
    assert!(said.is_empty() && lasted >= HANDSHAKE_MAX && lasted < 4 * HANDSHAKE_MAX, "{lasted:?}");
    // The connection's task counts behind its last byte.
    let hits = "tidings_limit_hits_total{limit=\"handshake_duration_max\"} 2";
    within(async { while !get(&serve.admin, "/metrics", "a").await.body.contains(hits) {} }).await;
    serve.end().await;
}

#[tokio::test]
async fn at_sighup_the_certificate_is_another_and_a_broken_one_is_not_taken() {
    let (old, new) = (Certificates::make(), Certificates::make());
    let home = home(&old, ADMIN);
    let folder = home.path().to_owned();
    let serve = Serve::start(home).await;
    secured(&serve.address, &old).await.unwrap();
    assert!(secured(&serve.address, &new).await.is_err());
    std::fs::write(folder.join("server.pem"), "none").unwrap();
    signal(&serve.child, Signal::HUP);
    serve.logs("the certificate stays the one that it was").await;
    secured(&serve.address, &old).await.unwrap();
    put(&new, &folder);
    signal(&serve.child, Signal::HUP);
    serve.logs("the certificate was read again").await;
    secured(&serve.address, &new).await.unwrap();
    assert!(secured(&serve.address, &old).await.is_err());
    let log = serve.end().await;
    assert!(log.contains("there is no certificate in it") && log.contains("fix: name a PEM file"), "{log}");
}

#[tokio::test]
async fn operators_have_a_certificate_if_they_want_one_and_the_application_hears_of_it() {
    let application = Router::new().route(
        "/proto",
        any(async |headers: HeaderMap| headers["x-forwarded-proto"].to_str().unwrap().to_owned()),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(tokio::spawn(async move { axum::serve(listener, application).await }));
    let certificates = Certificates::make();
    let more = format!(
        "{ADMIN}\n[admin.tls]\ncertificate_file = \"server.pem\"\nkey_file = \"server.key\"\n[upstream]\nurl = \"{url}\""
    );
    let mut serve = Serve::start(home(&certificates, &more)).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let metrics = ask(secured(&serve.admin, &certificates).await.unwrap(), &request("/metrics")).await;
    assert!(metrics.body.contains("tidings_connections"), "{metrics:?}");
    let proto = ask(secured(&serve.address, &certificates).await.unwrap(), &request("/proto")).await;
    assert!(proto.body.contains("https"), "{proto:?}");
    signal(&serve.child, Signal::TERM);
    assert_eq!(within(serve.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn files_that_are_none_are_the_configurations_fault() {
    let (one, other) = (Certificates::make(), Certificates::make());
    for (name, content, told) in [
        ("server.pem", None, "certificate_file"),
        ("server.key", None, "key_file"),
        ("server.pem", Some(Vec::new()), "there is no certificate in it"),
        ("server.key", Some(one.read("server.pem")), "unencrypted private key"),
        ("server.key", Some(other.read("server.key")), "the key that the certificate was made for"),
    ] {
        let home = home(&one, "");
        match content {
            Some(content) => std::fs::write(home.path().join(name), content).unwrap(),
            None => std::fs::remove_file(home.path().join(name)).unwrap(),
        }
        let output =
            run(tidings(&home).arg("serve").arg("--config").arg(home.path().join("tidings.toml"))).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("[tls]") && stderr.contains(told) && stderr.contains("fix: "), "{stderr}");
    }
}
