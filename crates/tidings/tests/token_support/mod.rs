//! Mints tokens without the library that verifies them: header and claims as any text, signed by keys made here.
#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a key that can't be made fails the test")]

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The secret of the keys that are `hs…`.
pub const SECRET: &[u8] = b"canary-bird of the token corpus, 40 byte";
/// Another one.
pub const OTHER_SECRET: &[u8] = b"another canary-bird of the corpus, longer";
/// The time at which the corpus is verified, in seconds since 1970.
pub const NOW: u64 = 1_795_468_800;

/// One RSA key for all: they take long to make.
pub static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// What signs a token.
pub enum Signer<'a> {
    /// HMAC under a secret.
    Hmac(hmac::Algorithm, &'a [u8]),
    /// RSA with a padding and a hash.
    Rsa(&'a RsaKeyPair, &'static dyn RsaEncoding),
    /// ECDSA on the curve of the key.
    Ecdsa(&'a EcdsaKeyPair),
    /// Ed25519.
    Ed25519(&'a Ed25519KeyPair),
}

impl Signer<'_> {
    /// Signs a header and claims as they are, so that they can be wrong.
    pub fn sign(&self, header: &str, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// The signature of any bytes.
    pub fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(algorithm, secret) => {
                hmac::sign(&hmac::Key::new(*algorithm, secret), signed).as_ref().to_vec()
            }
            Self::Rsa(key, padding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*padding, &random, signed, &mut signature).unwrap();
                signature
            }
            Self::Ecdsa(key) => key.sign(&random, signed).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(signed).as_ref().to_vec(),
        }
    }
}

/// HS256 under [`SECRET`].
pub fn ours() -> Signer<'static> {
    Signer::Hmac(hmac::HMAC_SHA256, SECRET)
}

/// A header that says nothing but its algorithm.
pub fn header(algorithm: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#)
}

/// Good claims for an hour, with `more` behind them.
pub fn claims_with(more: &str) -> String {
    format!(
        r#"{{"sub":"ann","exp":{},"aud":"tidings","note":"canary-bird of the claims"{more}}}"#,
        NOW + 3600
    )
}

/// Good claims for an hour.
pub fn claims() -> String {
    claims_with("")
}

/// Base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair's public half (SPKI) in PEM.
pub fn pem<K: KeyPair>(key: &K) -> Vec<u8>
where
    K::PublicKey: AsDer<PublicKeyX509Der<'static>>,
{
    let base64 = STANDARD.encode(key.public_key().as_der().unwrap().as_ref());
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")).into_bytes()
}
