//! Redis with TLS: by an authority of its own, with certified clients, and in a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

mod log_capture;
mod redis_nodes;
mod redis_servers;

use std::net::TcpListener;

use redis_nodes::{Publisher, Reader, node_at};
use redis_servers::{Certificates, RedisServer};
use tidings::{Redis, RedisFault};

async fn server(certificates: &Certificates, clients: &str, more: &[&str]) -> (RedisServer, u16) {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let arguments = certificates.arguments(port, clients);
    let arguments: Vec<_> =
        arguments.iter().map(|argument| &**argument).chain(more.iter().copied()).collect();
    (RedisServer::start_with(&arguments).await, port)
}

/// What is published on one node is read on another.
async fn works(redis: &Redis) {
    redis.check().await.unwrap();
    let (one, two) = (node_at(redis.clone()).await, node_at(redis.clone()).await);
    let mut reader = Reader::join(&one, "ann", "r").await;
    let mut publisher = Publisher::join(&two, "bob", "r").await;
    let last = publisher.publish().await;
    reader.read_to(&last, &mut Default::default()).await;
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_alone() {
    log_capture::keep();
    let certificates = Certificates::make();
    let (_server, port) = server(&certificates, "no", &[]).await;
    let redis = Redis::new(&format!("rediss://127.0.0.1:{port}")).unwrap();
    let fault = redis.check().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Unreachable(_)), "by those of the system: {fault}");
    assert!(fault.to_string().contains("certificate"), "{fault}");
    works(&redis.clone().ca_certificate(&certificates.read("ca.pem")).unwrap()).await;
    // Of another name than that of its certificate.
    let elsewhere = Redis::new(&format!("rediss://localhost:{port}")).unwrap();
    let elsewhere = elsewhere.ca_certificate(&certificates.read("ca.pem")).unwrap();
    let fault = elsewhere.check().await.unwrap_err();
    assert!(fault.to_string().contains("certificate"), "{fault}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_it_is_asked_for() {
    log_capture::keep();
    let certificates = Certificates::make();
    let (_server, port) = server(&certificates, "yes", &[]).await;
    let redis = Redis::new(&format!("rediss://127.0.0.1:{port}")).unwrap();
    let redis = redis.ca_certificate(&certificates.read("ca.pem")).unwrap();
    let fault = redis.check().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Unreachable(_)), "{fault}");
    let (chain, key) = (certificates.read("client.pem"), certificates.read("client.key"));
    works(&redis.client_certificate(&chain, &key).unwrap()).await;
}

#[tokio::test]
async fn a_clusters_servers_are_reached_with_tls_where_the_first_one_is() {
    let certificates = Certificates::make();
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes"];
    let (server, port) = server(&certificates, "optional", &cluster).await;
    let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    while !server.run::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
        tokio::task::yield_now().await;
    }
    let redis = Redis::new(&format!("rediss+cluster://127.0.0.1:{port}")).unwrap();
    works(&redis.ca_certificate(&certificates.read("ca.pem")).unwrap()).await;
}

#[test]
fn what_is_no_certificate_is_refused() {
    let tls = || Redis::new("rediss://host").unwrap();
    assert!(tls().ca_certificate(b"").is_err());
    assert!(tls().ca_certificate(b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n").is_err());
    assert!(tls().client_certificate(b"", b"-----BEGIN PRIVATE KEY-----").is_err());
    let certificates = Certificates::make();
    let ca = certificates.read("ca.pem");
    assert!(tls().ca_certificate(&ca).is_ok());
    let plain = Redis::new("redis://host").unwrap().ca_certificate(&ca).unwrap_err();
    assert!(plain.to_string().contains("rediss"), "{plain}");
}
