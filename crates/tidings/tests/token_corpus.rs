//! Tokens that must not get in, each refused as what it is, and those of every algorithm that must.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as URL};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidings::auth::{Jwt, TokenFault};

const SECRET: &[u8] = b"a secret of the tests, 32 bytes and more";
const NOW: u64 = 1_795_468_800;

fn good() -> Value {
    json!({"sub": "ann", "exp": NOW + 600, "aud": "tidings"})
}

/// The good claims with one changed; null takes it away.
fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL.encode(bytes)
}

/// A token of any header and claims, signed with HMAC-SHA256.
fn signed_with(secret: &[u8], header: &str, claims: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", encode(tag))
}

fn signed(claims: &Value) -> String {
    signed_with(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims.to_string().as_bytes())
}

fn raw(claims: &str) -> String {
    signed_with(SECRET, r#"{"alg":"HS256"}"#, claims.as_bytes())
}

fn headed(header: &str) -> String {
    signed_with(SECRET, header, good().to_string().as_bytes())
}

fn flipped(token: &str, part: usize) -> String {
    let mut parts: Vec<Vec<u8>> = token.split('.').map(|part| URL.decode(part).unwrap()).collect();
    let middle = parts[part].len() / 2;
    parts[part][middle] ^= 1;
    parts.iter().map(encode).collect::<Vec<_>>().join(".")
}

fn pem(der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)).into_bytes()
}

struct Rsa {
    private: EncodingKey,
    public: Vec<u8>,
}

fn rsa() -> Rsa {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let public: PublicEncryptingKey = private.public_key();
    let public = pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(&public).unwrap().as_ref());
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&private).unwrap();
    // PKCS#1 is what stands inside of PKCS#8, behind 26 bytes for a 2048-bit key.
    Rsa { private: EncodingKey::from_rsa_der(&der.as_ref()[26..]), public }
}

fn minted(algorithm: Algorithm, key: &EncodingKey) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), &good(), key).unwrap()
}

#[test]
fn every_bad_token_is_refused_with_the_right_one_of_the_five_codes() {
    use TokenFault::{Claims, Expired, Malformed, Missing, Signature};
    let rsa = rsa();
    let token = signed(&good());
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let unsigned = |alg: &str| format!("{}.{claims}.", encode(format!(r#"{{"alg":"{alg}"}}"#)));
    let hs = |algorithm| {
        jsonwebtoken::encode(&Header::new(algorithm), &good(), &EncodingKey::from_secret(SECRET)).unwrap()
    };
    let other = signed_with(
        b"another secret of thirty-two bytes!!",
        r#"{"alg":"HS256"}"#,
        good().to_string().as_bytes(),
    );
    let corpus: Vec<(&str, String, TokenFault)> = vec![
        ("empty", String::new(), Missing),
        ("alg none", unsigned("none"), Signature),
        ("alg None", unsigned("None"), Signature),
        ("alg nOnE", unsigned("nOnE"), Signature),
        ("alg none, with the good signature", format!("{}{signature}", unsigned("none")), Signature),
        ("empty alg", unsigned(""), Signature),
        ("unknown alg", headed(r#"{"alg":"HS1"}"#), Signature),
        ("lower-case alg", headed(r#"{"alg":"hs256"}"#), Signature),
        ("no alg", headed(r#"{"typ":"JWT"}"#), Malformed),
        ("alg of the wrong type", headed(r#"{"alg":256}"#), Malformed),
        ("two algs", headed(r#"{"alg":"HS256","alg":"none"}"#), Malformed),
        ("HS384 with the same secret", hs(Algorithm::HS384), Signature),
        ("HS512 with the same secret", hs(Algorithm::HS512), Signature),
        ("RS256 where only a secret is known", minted(Algorithm::RS256, &rsa.private), Signature),
        (
            "an embedded jwk",
            signed_with(
                b"the attacker's own secret, 32 bytes",
                r#"{"alg":"HS256","jwk":{"kty":"oct","k":"x"}}"#,
                good().to_string().as_bytes(),
            ),
            Signature,
        ),
        (
            "a jku",
            signed_with(
                b"the attacker's own secret, 32 bytes",
                r#"{"alg":"HS256","jku":"http://127.0.0.1/keys"}"#,
                good().to_string().as_bytes(),
            ),
            Signature,
        ),
        (
            "a kid that is a path",
            signed_with(b"", r#"{"alg":"HS256","kid":"../../dev/null"}"#, good().to_string().as_bytes()),
            Signature,
        ),
        (
            "a kid that is a query",
            signed_with(b"x", r#"{"alg":"HS256","kid":"x' UNION SELECT 'x"}"#, good().to_string().as_bytes()),
            Signature,
        ),
        ("critical extensions", headed(r#"{"alg":"HS256","crit":["exp"]}"#), Malformed),
        ("another secret", other.clone(), Signature),
        (
            "no secret at all",
            signed_with(b"", r#"{"alg":"HS256"}"#, good().to_string().as_bytes()),
            Signature,
        ),
        (
            "altered header",
            flipped(&headed(r#"{"alg":"HS256","x":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#), 0),
            Signature,
        ),
        ("altered claims", flipped(&token, 1), Signature),
        ("altered signature", flipped(&token, 2), Signature),
        (
            "half a signature",
            format!("{header}.{claims}.{}", encode(&URL.decode(signature).unwrap()[..16])),
            Signature,
        ),
        ("no signature", format!("{header}.{claims}."), Signature),
        ("a longer signature", format!("{token}AAAA"), Signature),
        (
            "the signature of another token",
            format!("{header}.{claims}.{}", other.rsplit('.').next().unwrap()),
            Signature,
        ),
        (
            "the claims of another token",
            format!("{header}.{}.{signature}", encode(with("sub", json!("root")).to_string())),
            Signature,
        ),
        ("no claims", format!("{header}..{signature}"), Signature),
        ("one part", header.to_owned(), Malformed),
        ("two parts", format!("{header}.{claims}"), Malformed),
        ("four parts", format!("{token}.x"), Malformed),
        ("a dot behind", format!("{token}."), Malformed),
        ("only dots", "..".to_owned(), Malformed),
        ("spaces around", format!(" {token} "), Malformed),
        ("a line break", format!("{token}\n"), Malformed),
        ("padding", format!("{header}=.{claims}.{signature}"), Malformed),
        ("the standard alphabet", format!("{header}.{claims}.+/+/"), Malformed),
        ("not base64", format!("!!!.{claims}.{signature}"), Malformed),
        ("claims not base64", format!("{header}.%%%.{signature}"), Malformed),
        (
            "a header that is no JSON",
            signed_with(SECRET, "alg=HS256", good().to_string().as_bytes()),
            Malformed,
        ),
        (
            "a header that is a list",
            signed_with(SECRET, r#"["HS256"]"#, good().to_string().as_bytes()),
            Malformed,
        ),
        ("9 KiB", signed(&with("pad", json!("x".repeat(9 * 1024)))), Malformed),
        ("a byte above 8 KiB", "x".repeat(8193), Malformed),
        ("a NUL", format!("{header}.{claims}\0.{signature}"), Malformed),
        ("not ASCII", format!("{header}.{claims}.ü"), Malformed),
        ("signed claims that are no JSON", raw("sub=ann"), Malformed),
        ("signed claims that are a list", raw(r#"["ann"]"#), Malformed),
        (
            "signed claims that are not UTF-8",
            signed_with(SECRET, r#"{"alg":"HS256"}"#, b"{\"sub\":\"\xff\"}"),
            Malformed,
        ),
        ("expired beyond the leeway", signed(&with("exp", json!(NOW - 31))), Expired),
        ("expired long ago", signed(&with("exp", json!(0))), Expired),
        ("expired, and for another audience", signed(&json!({"sub": "ann", "exp": 1, "aud": "x"})), Expired),
        ("no exp", signed(&without("exp")), Claims),
        ("exp as text", signed(&with("exp", json!((NOW + 600).to_string()))), Claims),
        ("exp null", signed(&with("exp", Value::Null)), Claims),
        ("exp true", signed(&with("exp", json!(true))), Claims),
        ("exp negative", signed(&with("exp", json!(-1))), Claims),
        ("exp beyond the calendar", signed(&with("exp", json!(u64::MAX))), Claims),
        ("exp infinite", raw(r#"{"sub":"ann","exp":1e308,"aud":"tidings"}"#), Claims),
        ("exp a list", signed(&with("exp", json!([NOW + 600]))), Claims),
        ("two exps", raw(&format!(r#"{{"sub":"ann","exp":1,"exp":{},"aud":"tidings"}}"#, NOW + 600)), Claims),
        ("no sub", signed(&without("sub")), Claims),
        ("sub a number", signed(&with("sub", json!(42))), Claims),
        ("sub null", signed(&with("sub", Value::Null)), Claims),
        ("sub empty", signed(&with("sub", json!(""))), Claims),
        ("sub of 129 bytes", signed(&with("sub", json!("x".repeat(129)))), Claims),
        ("sub with a line break", signed(&with("sub", json!("ann\nroot"))), Claims),
        (
            "two subs",
            raw(&format!(r#"{{"sub":"ann","sub":"root","exp":{},"aud":"tidings"}}"#, NOW + 600)),
            Claims,
        ),
        ("no aud", signed(&without("aud")), Claims),
        ("another aud", signed(&with("aud", json!("tiding"))), Claims),
        ("auds without ours", signed(&with("aud", json!(["a", "Tidings"]))), Claims),
        ("no auds", signed(&with("aud", json!([]))), Claims),
        ("aud a number", signed(&with("aud", json!(1))), Claims),
        ("auds with a number", signed(&with("aud", json!(["tidings", 1]))), Claims),
        ("nbf beyond the leeway", signed(&with("nbf", json!(NOW + 31))), Claims),
        ("nbf as text", signed(&with("nbf", json!("0"))), Claims),
        ("nbf null", signed(&with("nbf", Value::Null)), Claims),
        ("iat as text", signed(&with("iat", json!("now"))), Claims),
        ("rooms as text", signed(&with("rooms", json!("a,b"))), Claims),
        ("rooms with a bad name", signed(&with("rooms", json!(["a", "b c"]))), Claims),
        ("rooms null", signed(&with("rooms", Value::Null)), Claims),
        ("no connections", signed(&with("max_connections", json!(0))), Claims),
        ("connections as text", signed(&with("max_connections", json!("9"))), Claims),
    ];
    assert!(corpus.len() >= 60);
    let jwt = Jwt::hs256(SECRET).unwrap();
    let wrong: Vec<_> = corpus
        .into_iter()
        .filter_map(|(name, token, fault)| {
            let verified = jwt
                .verify(&token, NOW)
                .map(|identity| identity.user().to_string())
                .map_err(|error| error.fault());
            (verified != Err(fault)).then(|| format!("{name}: {verified:?} and not {fault:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_public_key_is_no_secret_and_a_family_no_other() {
    let rsa = rsa();
    let confused = signed_with(&rsa.public, r#"{"alg":"HS256"}"#, good().to_string().as_bytes());
    let fault = |jwt: Jwt, token: &str| jwt.verify(token, NOW).map(drop).map_err(|error| error.fault());
    assert_eq!(fault(Jwt::rsa_pem(&rsa.public).unwrap(), &confused), Err(TokenFault::Signature));
    let (rs, ps) = (minted(Algorithm::RS256, &rsa.private), minted(Algorithm::PS256, &rsa.private));
    assert_eq!(fault(Jwt::rsa_pss_pem(&rsa.public).unwrap(), &rs), Err(TokenFault::Signature));
    assert_eq!(fault(Jwt::rsa_pem(&rsa.public).unwrap(), &ps), Err(TokenFault::Signature));
    assert_eq!(fault(Jwt::rsa_pem(&rsa.public).unwrap(), &rs), Ok(()));
    assert_eq!(fault(Jwt::rsa_pss_pem(&rsa.public).unwrap(), &ps), Ok(()));
    assert!(
        Jwt::hs256(b"short").is_err()
            && Jwt::rsa_pem(b"no PEM").is_err()
            && Jwt::es256_pem(&rsa.public).is_err()
    );
}

#[test]
fn every_algorithm_lets_its_own_in() {
    let rsa = rsa();
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
        assert!(
            Jwt::rsa_pem(&rsa.public).unwrap().verify(&minted(algorithm, &rsa.private), NOW).is_ok(),
            "{algorithm:?}"
        );
    }
    for algorithm in [Algorithm::PS256, Algorithm::PS384, Algorithm::PS512] {
        assert!(
            Jwt::rsa_pss_pem(&rsa.public).unwrap().verify(&minted(algorithm, &rsa.private), NOW).is_ok(),
            "{algorithm:?}"
        );
    }
    let secret = EncodingKey::from_secret(SECRET);
    assert!(Jwt::hs384(SECRET).unwrap().verify(&minted(Algorithm::HS384, &secret), NOW).is_ok());
    assert!(Jwt::hs512(SECRET).unwrap().verify(&minted(Algorithm::HS512, &secret), NOW).is_ok());
    type Build = fn(&[u8]) -> Result<Jwt, tidings::auth::InvalidKey>;
    for (signing, algorithm, build) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256, Jwt::es256_pem as Build),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384, Jwt::es384_pem as Build),
    ] {
        let (key, other) =
            (EcdsaKeyPair::generate(signing).unwrap(), EcdsaKeyPair::generate(signing).unwrap());
        let public = |key: &EcdsaKeyPair| {
            pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key())
                .unwrap()
                .as_ref())
        };
        let token = minted(algorithm, &EncodingKey::from_ec_der(key.to_pkcs8v1().unwrap().as_ref()));
        assert!(build(&public(&key)).unwrap().verify(&token, NOW).is_ok(), "{algorithm:?}");
        assert_eq!(
            build(&public(&other)).unwrap().verify(&token, NOW).unwrap_err().fault(),
            TokenFault::Signature
        );
    }
    let key = Ed25519KeyPair::generate().unwrap();
    let public =
        pem(AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref());
    let token = minted(Algorithm::EdDSA, &EncodingKey::from_ed_der(key.to_pkcs8().unwrap().as_ref()));
    assert!(Jwt::eddsa_pem(&public).unwrap().verify(&token, NOW).is_ok());
}

#[test]
fn good_tokens_of_every_shape_get_in() {
    let jwt = || Jwt::hs256(SECRET).unwrap();
    for (name, claims) in [
        ("at the leeway's last second", with("exp", json!(NOW - 30))),
        ("soon valid, within the leeway", with("nbf", json!(NOW + 30))),
        ("a fraction of a second", with("exp", json!(NOW as f64 + 0.5))),
        ("one audience of several", with("aud", json!(["a", "tidings"]))),
        ("claims of the application's own", with("team", json!({"a": [1]}))),
    ] {
        assert!(jwt().verify(&signed(&claims), NOW).is_ok(), "{name}");
    }
    let full = json!({"sub": "änn 🦀", "exp": NOW + 1, "aud": "tidings", "rooms": ["a", "b"], "max_connections": 9, "team": "red"});
    let identity = jwt().verify(&signed(&full), NOW).unwrap();
    assert_eq!((identity.user().as_str(), identity.max_connections()), ("änn 🦀", Some(9)));
    assert_eq!((identity.rooms().len(), identity.expires_at_unix_s()), (2, Some(NOW + 1)));
    assert_eq!(identity.claims::<Value>().unwrap()["team"], "red");
}

#[test]
fn keys_rotate() {
    let old = b"the secret before it, 32 bytes long!";
    let jwt = Jwt::hs256(SECRET).unwrap().key_id("new").or(Jwt::hs256(old).unwrap().key_id("old"));
    let token = |secret: &[u8], header: &str| signed_with(secret, header, good().to_string().as_bytes());
    assert!(jwt.verify(&token(SECRET, r#"{"alg":"HS256","kid":"new"}"#), NOW).is_ok());
    assert!(jwt.verify(&token(old, r#"{"alg":"HS256","kid":"old"}"#), NOW).is_ok());
    assert!(jwt.verify(&token(old, r#"{"alg":"HS256"}"#), NOW).is_ok());
    assert!(jwt.verify(&token(old, r#"{"alg":"HS256","kid":"new"}"#), NOW).is_err());
    assert!(jwt.verify(&token(old, r#"{"alg":"HS256","kid":"other"}"#), NOW).is_err());
    assert!(!format!("{jwt:?}").contains("secret"));
}
