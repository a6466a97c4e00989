//! `[auth]` and the rooms' rules over a real socket: an issuer's keys that change, keys beside them, and claims.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use server::{Client, Serve, get as http_get};
use tokio::net::TcpListener;

const SECRET: &str = "canary-bird of the backend, more than 32 bytes";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims(user: &str, role: &str) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({"sub": user, "aud": "app", "iat": now, "exp": now + 60, "role": role, "note": "canary-bird of the claims"})
}

/// A key of an issuer's.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": encode(x), "y": encode(y)})
    }

    fn token(&self, user: &str, role: &str) -> String {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let signed = format!("{}.{}", encode(header), encode(claims(user, role).to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

#[tokio::test]
async fn an_issuers_keys_and_the_claims_of_its_tokens_decide() {
    let (known, stranger) = (Key::new("known"), Key::new("stranger"));
    let published = Arc::new(Mutex::new(json!({"keys": [known.jwk()]}).to_string()));
    let answer = Arc::clone(&published);
    let issuer = Router::new().route("/jwks.json", get(move || std::future::ready(answer.lock().clone())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    drop(tokio::spawn(async move { axum::serve(listener, issuer).await }));

    let home = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
        listen = "127.0.0.1:0"
        [auth]
        jwks_url = "{url}"
        audience = "app"
        [[auth.keys]]
        id = "backend"
        secret = "{SECRET}"
        [[rooms]]
        pattern = "staff"
        join = {{ claim = "/role", equals = "staff" }}
        publish = {{ claim = "/role", equals = "staff" }}
        any_event = true
        [admin]
        listen = "127.0.0.1:0"
        "#
    );
    std::fs::write(home.path().join("tidings.toml"), config).unwrap();
    let serve = Serve::start(home).await;
    let address = &serve.address;

    let mut ann = Client::connect(address, &known.token("ann", "staff")).await;
    let mut guest = Client::connect(address, &known.token("guest", "guest")).await;
    let own = tidings::auth::mint_hs256(SECRET.as_bytes(), &claims("backend", "staff")).unwrap();
    let backend = Client::connect(address, &own).await;
    let said = async |client: &mut Client, message: &str| {
        client.send(message).await;
        loop {
            let answer = client.next().await.unwrap();
            if answer["event"] == "ack" || answer["event"] == "error" {
                break answer["data"].clone();
            }
        }
    };
    let join = r#"{"event":"room.join","room":"staff","id":"j"}"#;
    assert!(said(&mut ann, join).await["top"].is_string());
    assert!(said(&mut ann, r#"{"event":"say","room":"staff","id":"s"}"#).await["event_id"].is_string());
    assert_eq!(said(&mut guest, join).await["code"], "forbidden");
    let forged = http_get(address, &format!("/ws?token={}", stranger.token("ann", "staff")), address).await;
    assert!(forged.status == 401 && forged.body.contains("token_signature"), "{forged:?}");
    // With a new token goes what the old one allowed.
    let refresh =
        json!({"event": "session.refresh", "data": {"token": known.token("ann", "guest")}, "id": "r"});
    assert!(said(&mut ann, &refresh.to_string()).await["expires_at"].is_number());
    assert_eq!(ann.until("error").await["data"]["code"], "forbidden");
    assert_eq!(said(&mut ann, r#"{"event":"room.list","id":"l"}"#).await["rooms"], json!([]));

    for client in [ann, guest, backend] {
        client.close().await;
    }
    serve.end().await;
}
