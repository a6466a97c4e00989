//! Behind proxies: whom they ask for counts where they are trusted, and nowhere else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use server::{Answer, Serve, get_with};

async fn start(proxies: &str) -> Serve {
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        {proxies}
        [auth]
        secret = "canary-bird behind the proxies, and 32 bytes"
        [limits]
        handshakes_per_second_per_ip = 1
        handshakes_burst_per_ip = 1
        [socket]
        path = "/live/ws"
        [admin]
        listen = "127.0.0.1:0"
        "#
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    Serve::start(home).await
}

async fn knock(serve: &Serve, headers: &str) -> Answer {
    get_with(&serve.address, "/live/ws", &format!("Host: a\r\n{headers}")).await
}

#[tokio::test]
async fn each_client_of_a_proxy_has_limits_of_his_own() {
    let serve = start("").await;
    let one = "X-Forwarded-For: 203.0.113.7\r\n";
    assert_eq!(knock(&serve, one).await.status, 401);
    let again = knock(&serve, one).await;
    assert!(again.status == 429 && again.body.contains("rate_limited"), "{again:?}");
    for spoofed in [
        "X-Forwarded-For: 1.2.3.4, 203.0.113.7\r\n",
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.7:4711\r\n",
        "X-Forwarded-For: 203.0.113.7, 127.0.0.1\r\nForwarded: for=9.9.9.9\r\n",
    ] {
        assert_eq!(knock(&serve, spoofed).await.status, 429, "{spoofed}");
    }
    assert_eq!(knock(&serve, "X-Forwarded-For: 203.0.113.8\r\n").await.status, 401, "another one");
    assert_eq!(knock(&serve, "X-Forwarded-For: [2001:db8::7]:4711\r\n").await.status, 401);
    let log = serve.end().await;
    for logged in [
        "\"address\":\"203.0.113.7:0\"",
        "\"address\":\"203.0.113.7:4711\"",
        "\"address\":\"[2001:db8::7]:4711\"",
    ] {
        assert!(log.contains(logged), "{logged} in {log}");
    }
}

#[tokio::test]
async fn nobody_else_says_where_he_is_from() {
    let serve = start("trusted_proxies = [\"192.0.2.0/24\"]").await;
    let claimed = "X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n";
    // Loopback, which he is, has no limit of its own.
    for _ in 0..3 {
        assert_eq!(knock(&serve, claimed).await.status, 401);
    }
    let log = serve.end().await;
    assert!(log.contains("\"address\":\"127.0.0.1:") && !log.contains("203.0.113.7"), "{log}");
}

#[tokio::test]
async fn the_header_of_rfc_7239_counts_where_it_is_asked_for() {
    let serve = start("client_address_header = \"Forwarded\"").await;
    let one = "Forwarded: for=1.2.3.4, for=\"203.0.113.7:9\";proto=https\r\nX-Forwarded-For: 9.9.9.9\r\n";
    assert_eq!(knock(&serve, one).await.status, 401);
    assert_eq!(knock(&serve, one).await.status, 429);
    assert!(serve.end().await.contains("\"address\":\"203.0.113.7:9\""));
}
