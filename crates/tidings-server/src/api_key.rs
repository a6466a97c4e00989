//! The HTTP API's key that comes from the secret of the tokens, so that a backend has one secret to keep.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use crate::dev_secret::hex;

/// What is signed. Another version of the derivation would have another.
const PURPOSE: &[u8] = b"tidings api key v1";

/// `hex(HMAC-SHA256(secret, "tidings api key v1"))`: docs/http-api.md.
pub(crate) fn derived(secret: &SecretString) -> SecretString {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    SecretString::from(hex(hmac::sign(&key, PURPOSE).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_any_other_language_computes() {
        // printf 'tidings api key v1' | openssl dgst -sha256 -hmac 'canary-bird of the derived key, 32 b'
        let key = derived(&SecretString::from("canary-bird of the derived key, 32 b"));
        assert_eq!(key.expose_secret(), "f502924fffd4d10555027815c444322b17a8c243b66876d7bd389c52f1965762");
    }
}
