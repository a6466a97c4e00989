//! Keys that an issuer publishes, read from a server on this machine: rotation, floods of unknown names, outages, and
//! what is no key. Time is what the verification is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that the tests share are tests too")]

mod log_capture;
mod token_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac::HMAC_SHA256;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header as http_header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use log_capture::TestHub;
use serde_json::{Value, json};
use tidings::Hub;
use tidings::auth::TokenFault::{Expired, Signature};
use tidings::auth::{AuthError, FetchFuture, FetchKeySet, Jwks, Jwt};
use token_support::{NOW, OTHER_SECRET, RSA, SECRET, Signer, claims, encode, ours, pem};
use tokio::net::TcpListener;

/// What an issuer publishes, and how often it was asked.
#[derive(Default)]
struct Published {
    answer: parking_lot::Mutex<Option<Answer>>,
    asked: AtomicUsize,
}

/// Status, body, and where a redirect goes.
#[derive(Clone)]
struct Answer(StatusCode, Vec<u8>, Option<&'static str>);

/// An issuer on this machine. Nothing but its address is known to who verifies.
struct Issuer {
    published: Arc<Published>,
    url: String,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Self {
        log_capture::keep();
        let published = Arc::new(Published::default());
        let app = Router::new().route("/jwks.json", get(answer)).with_state(Arc::clone(&published));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        drop(tokio::spawn(async move { axum::serve(listener, app).await }));
        let issuer = Self { published, url };
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: &[Value]) {
        self.answer(StatusCode::OK, json!({"keys": keys}).to_string().into_bytes());
    }

    fn answer(&self, status: StatusCode, body: Vec<u8>) {
        *self.published.answer.lock() = Some(Answer(status, body, None));
    }

    fn redirect(&self, to: &'static str) {
        *self.published.answer.lock() = Some(Answer(StatusCode::FOUND, Vec::new(), Some(to)));
    }

    fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    fn jwks(&self) -> Jwks {
        Jwks::from_url(&self.url).unwrap()
    }
}

async fn answer(State(published): State<Arc<Published>>) -> Response {
    published.asked.fetch_add(1, Ordering::SeqCst);
    let Answer(status, body, location) = published.answer.lock().clone().unwrap();
    match location {
        Some(location) => (status, [(http_header::LOCATION, location)]).into_response(),
        None => (status, body).into_response(),
    }
}

fn p256() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

/// An EC key as an issuer publishes it.
fn ec_jwk(kid: &str, key: &EcdsaKeyPair) -> Value {
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let curve = if x.len() == 32 { "P-256" } else { "P-384" };
    json!({"kty": "EC", "kid": kid, "use": "sig", "crv": curve, "x": encode(x), "y": encode(y)})
}

fn rsa_jwk(kid: &str, key: &RsaKeyPair, more: &Value) -> Value {
    let public = key.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    let mut jwk = json!({
        "kty": "RSA", "kid": kid,
        "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero()),
    });
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn ed_jwk(kid: &str, key: &Ed25519KeyPair) -> Value {
    json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "alg": "EdDSA", "x": encode(key.public_key().as_ref())})
}

fn header(algorithm: &str, kid: &str) -> String {
    json!({"alg": algorithm, "kid": kid}).to_string()
}

/// A token that outlives every test here.
fn long(kid: &str, key: &EcdsaKeyPair) -> String {
    let claims = json!({"sub": "ann", "exp": NOW + 1_000_000, "aud": "tidings"}).to_string();
    Signer::Ecdsa(key).sign(&header("ES256", kid), claims)
}

fn assert_signature(verified: Result<tidings::auth::Identity, AuthError>) {
    let error = verified.map(|identity| identity.user().clone()).unwrap_err();
    assert!(error.fault() == Signature && !error.is_unavailable(), "{error}");
}

fn assert_unavailable(verified: Result<tidings::auth::Identity, AuthError>) {
    let error = verified.map(|identity| identity.user().clone()).unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn a_new_key_verifies_after_one_fetch_and_the_old_one_no_more() {
    let (old, new) = (p256(), p256());
    let issuer = Issuer::start(&[ec_jwk("old", &old)]).await;
    let jwks = issuer.jwks();
    assert_eq!(jwks.verify(&long("old", &old), NOW).await.unwrap().user().as_str(), "ann");
    assert_eq!(issuer.asked(), 1);
    issuer.publish(&[ec_jwk("new", &new)]);
    assert_signature(jwks.verify(&long("new", &new), NOW + 29).await);
    assert_eq!(issuer.asked(), 1, "once in 30 s");
    assert!(jwks.verify(&long("new", &new), NOW + 30).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    assert_signature(jwks.verify(&long("old", &old), NOW + 31).await);
    assert_signature(jwks.verify(&long("new", &old), NOW + 100).await);
    assert_eq!(issuer.asked(), 2, "a bad signature under a name that is known asks nobody");
}

#[tokio::test]
async fn a_thousand_unknown_names_are_one_fetch_in_thirty_seconds() {
    let (known, stranger) = (p256(), p256());
    let issuer = Issuer::start(&[ec_jwk("known", &known)]).await;
    let jwks = issuer.jwks();
    assert!(jwks.verify(&long("known", &known), NOW).await.is_ok());
    for (begins, asked) in [(NOW + 40, 2), (NOW + 70, 3)] {
        let tokens: Vec<_> = (0..1000).map(|number| long(&format!("kid-{number}"), &stranger)).collect();
        let verified =
            tokens.iter().enumerate().map(|(at, token)| jwks.verify(token, begins + at as u64 % 30));
        for verified in futures_util::future::join_all(verified).await {
            assert_signature(verified);
        }
        assert_eq!(issuer.asked(), asked);
    }
    assert!(jwks.verify(&long("known", &known), NOW + 70).await.is_ok());
}

#[tokio::test]
async fn handshakes_that_come_together_wait_for_one_fetch() {
    let key = p256();
    let issuer = Issuer::start(&[ec_jwk("a", &key)]).await;
    let (jwks, token) = (issuer.jwks(), long("a", &key));
    let verified = futures_util::future::join_all((0..100).map(|_| jwks.verify(&token, NOW))).await;
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn keys_that_are_known_go_on_while_the_issuer_is_down() {
    let (key, new) = (p256(), p256());
    let issuer = Issuer::start(&[]).await;
    let jwks = issuer.jwks();
    issuer.answer(StatusCode::SERVICE_UNAVAILABLE, Vec::new());
    assert_unavailable(jwks.verify(&long("a", &key), NOW).await);
    assert_unavailable(jwks.verify(&long("a", &key), NOW + 29).await);
    assert_eq!(issuer.asked(), 1);
    issuer.publish(&[ec_jwk("a", &key)]);
    assert!(jwks.verify(&long("a", &key), NOW + 30).await.is_ok());
    issuer.answer(StatusCode::INTERNAL_SERVER_ERROR, b"{\"keys\":[]}".to_vec());
    for later in [60, 3600, 7200, 86_400] {
        assert!(jwks.verify(&long("a", &key), NOW + later).await.is_ok(), "{later}");
    }
    assert_unavailable(jwks.verify(&long("new", &new), NOW + 90_000).await);
    assert_signature(jwks.verify(&long("a", &new), NOW + 90_000).await);
    issuer.publish(&[ec_jwk("new", &new)]);
    assert!(jwks.verify(&long("new", &new), NOW + 90_030).await.is_ok());
}

#[tokio::test]
async fn a_key_that_was_taken_back_verifies_nothing_an_hour_later() {
    let (kept, taken_back) = (p256(), p256());
    let issuer = Issuer::start(&[ec_jwk("kept", &kept), ec_jwk("bad", &taken_back)]).await;
    let jwks = issuer.jwks();
    assert!(jwks.verify(&long("bad", &taken_back), NOW).await.is_ok());
    issuer.publish(&[ec_jwk("kept", &kept)]);
    assert!(jwks.verify(&long("bad", &taken_back), NOW + 1799).await.is_ok());
    assert_eq!(issuer.asked(), 1);
    // Half an hour later it is read anew while nobody waits.
    while jwks.verify(&long("bad", &taken_back), NOW + 1800).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(issuer.asked(), 2);
    issuer.publish(&[]);
    // And an hour later nobody is let before it is.
    assert_signature(jwks.verify(&long("kept", &kept), NOW + 1800 + 3600).await);
}

#[tokio::test]
async fn every_family_verifies_and_only_with_its_own_algorithm() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (p256, ed) = (p256(), Ed25519KeyPair::generate().unwrap());
    let any_rsa = rsa_jwk("rsa", &RSA, &json!({}));
    let bound = rsa_jwk("pss", &RSA, &json!({"alg": "PS256"}));
    let keys = [any_rsa, bound, ec_jwk("p256", &p256), ec_jwk("p384", &p384), ed_jwk("ed", &ed)];
    let jwks = Issuer::start(&keys).await.jwks();
    let rsa = |padding| Signer::Rsa(&RSA, padding);
    for (signer, algorithm, kid, is_good) in [
        (rsa(&RSA_PKCS1_SHA256), "RS256", "rsa", true),
        (rsa(&RSA_PKCS1_SHA512), "RS512", "rsa", true),
        (rsa(&RSA_PSS_SHA256), "PS256", "rsa", false),
        (rsa(&RSA_PSS_SHA256), "PS256", "pss", true),
        (rsa(&RSA_PKCS1_SHA256), "RS256", "pss", false),
        (Signer::Ecdsa(&p256), "ES256", "p256", true),
        (Signer::Ecdsa(&p256), "ES256", "p384", false),
        (Signer::Ecdsa(&p384), "ES384", "p384", true),
        (Signer::Ecdsa(&p384), "ES256", "p384", false),
        (Signer::Ed25519(&ed), "EdDSA", "ed", true),
        (Signer::Ed25519(&ed), "EdDSA", "p256", false),
    ] {
        let verified = jwks.verify(&signer.sign(&header(algorithm, kid), claims()), NOW).await;
        assert_eq!(verified.is_ok(), is_good, "{algorithm} with {kid}");
    }
    let nameless = Signer::Ed25519(&ed).sign(r#"{"alg":"EdDSA"}"#, claims());
    assert!(jwks.verify(&nameless, NOW).await.is_ok(), "a token that names no key is tried with all");
    let expired = Signer::Ecdsa(&p256).sign(&header("ES256", "p256"), claims());
    assert_eq!(jwks.verify(&expired, NOW + 4000).await.unwrap_err().fault(), Expired);
}

/// An attacker knows every public key, and a verifier that believed the header would take it for a secret.
#[tokio::test]
async fn what_is_published_is_no_secret() {
    let (p256, ed) = (p256(), Ed25519KeyPair::generate().unwrap());
    let oct = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": encode(SECRET)});
    let keys =
        [rsa_jwk("rsa", &RSA, &json!({"alg": "RS256"})), ec_jwk("ec", &p256), ed_jwk("ed", &ed), oct.clone()];
    let jwks = Issuer::start(&keys).await.jwks();
    let modulus = RSA.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let rsa_der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
        aws_lc_rs::encoding::AsDer::as_der(RSA.public_key()).unwrap();
    let secrets = [
        pem(&*RSA),
        rsa_der.as_ref().to_vec(),
        RSA.public_key().as_ref().to_vec(),
        modulus.clone(),
        encode(modulus).into_bytes(),
        keys[0].to_string().into_bytes(),
        pem(&p256),
        p256.public_key().as_ref().to_vec(),
        pem(&ed),
        ed.public_key().as_ref().to_vec(),
        SECRET.to_vec(),
        encode(SECRET).into_bytes(),
        oct.to_string().into_bytes(),
    ];
    for secret in &secrets {
        for kid in ["rsa", "ec", "ed", "oct", "else"] {
            let forged = Signer::Hmac(HMAC_SHA256, secret).sign(&header("HS256", kid), claims());
            assert_signature(jwks.verify(&forged, NOW).await);
        }
    }
    for algorithm in ["none", "None", "HS256", "RS256", "ES256", "EdDSA"] {
        let unsigned = format!("{}.{}.", encode(header(algorithm, "rsa")), encode(claims()));
        assert_signature(jwks.verify(&unsigned, NOW).await);
    }
    // What a token's header says of keys is not looked at, and nothing is read from there.
    let stranger = Issuer::start(&[ec_jwk("theirs", &p256)]).await;
    let thief = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let carried =
        json!({"alg": "ES256", "kid": "theirs", "jku": stranger.url, "jwk": ec_jwk("theirs", &thief)});
    assert_signature(
        jwks.verify(&Signer::Ecdsa(&thief).sign(&carried.to_string(), claims()), NOW + 60).await,
    );
    assert_eq!(stranger.asked(), 0);
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_counts_as_none() {
    let key = p256();
    let good = json!({"keys": [ec_jwk("a", &key)]}).to_string().into_bytes();
    let issuer = Issuer::start(&[]).await;
    let jwks = issuer.jwks();
    let mut now = NOW;
    let mut large = good.clone();
    large.resize(256 * 1024 + 1, b' ');
    for (status, body) in [
        (StatusCode::OK, b"<html>".to_vec()),
        (StatusCode::OK, b"{}".to_vec()),
        (StatusCode::OK, Vec::new()),
        (StatusCode::OK, large.clone()),
        (StatusCode::NOT_FOUND, good.clone()),
        (StatusCode::CREATED, good.clone()),
    ] {
        issuer.answer(status, body);
        assert_unavailable(jwks.verify(&long("a", &key), now).await);
        now += 30;
    }
    issuer.redirect("/jwks.json");
    assert_unavailable(jwks.verify(&long("a", &key), now).await);
    assert_eq!(issuer.asked(), 7, "a redirect is not followed");
    large.truncate(256 * 1024);
    issuer.answer(StatusCode::OK, large);
    assert!(jwks.verify(&long("a", &key), now + 30).await.is_ok());
}

/// An application's own reader, which is slow, or panics, or answers.
struct Reader {
    calls: Arc<AtomicUsize>,
    set: String,
}

impl FetchKeySet for Reader {
    fn fetch(&self) -> FetchFuture<'_> {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 => Box::pin(std::future::pending()),
            1 => Box::pin(async { panic!("a bug of the application's") }),
            2 => Box::pin(async { Err("no network".into()) }),
            _ => Box::pin(async { Ok(self.set.clone().into()) }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_hangs_or_panics_costs_three_seconds_at_most() {
    let (key, calls) = (p256(), Arc::new(AtomicUsize::new(0)));
    let set = json!({"keys": [ec_jwk("a", &key)]}).to_string();
    let jwks = Jwks::fetched_by(Reader { calls: Arc::clone(&calls), set });
    let begun = tokio::time::Instant::now();
    let token = long("a", &key);
    let (first, second) = tokio::join!(jwks.verify(&token, NOW), jwks.verify(&token, NOW + 1));
    assert_unavailable(first);
    assert_unavailable(second);
    assert_eq!(begun.elapsed(), std::time::Duration::from_secs(3));
    assert_unavailable(jwks.verify(&token, NOW + 30).await);
    assert_unavailable(jwks.verify(&token, NOW + 60).await);
    assert!(jwks.verify(&token, NOW + 90).await.is_ok());
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_told_whose_fault_it_is() {
    let (key, calls) = (p256(), Arc::new(AtomicUsize::new(2)));
    let set = json!({"keys": [ec_jwk("a", &key)]}).to_string();
    let jwks = Jwks::fetched_by(Reader { calls, set }).or(Jwt::hs256(SECRET).unwrap());
    let hub = TestHub::start(Hub::builder().authenticate(jwks)).unwrap();
    let code = async |token: &str| {
        let request = Request::get(format!("/ws?token={token}")).header("host", "api.example");
        let answer = hub.hub().upgrade(request.body(Body::empty()).unwrap()).await;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 64 * 1024).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code(&long("a", &key)).await, (503, "broker_unavailable".to_owned()));
    let fixed = ours().sign(r#"{"alg":"HS256"}"#, claims());
    assert_eq!(
        code(&fixed).await,
        (426, "upgrade_required".to_owned()),
        "a key that is known needs no issuer"
    );
    let mut ann = hub.connect("ann").await;
    let refreshed = ann.request("session.refresh", json!({"token": long("a", &key)})).await;
    assert_eq!(refreshed["data"]["code"], "unavailable");
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    assert_eq!(code(&long("a", &key)).await, (426, "upgrade_required".to_owned()));
    let forged = Signer::Hmac(HMAC_SHA256, OTHER_SECRET).sign(r#"{"alg":"HS256"}"#, claims());
    assert_eq!(code(&forged).await, (401, "token_signature".to_owned()));
    assert_eq!(code(&long("else", &key)).await, (401, "token_signature".to_owned()));
    assert_eq!(
        ann.request("session.refresh", json!({"token": long("a", &key)})).await["data"]["expires_at"],
        NOW + 1_000_000
    );
}
