//! The signature of a webhook, after Standard Webhooks: who has the secret knows that it is ours, and when it was sent.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

/// What the secret of the tokens is turned into a key for webhooks with, so that neither can stand for the other.
const DERIVATION: &[u8] = b"tidings webhook v1";
/// How a secret begins, as text.
const PREFIX: &str = "whsec_";
/// What the scheme asks for.
const SECRET_BYTES_MIN: usize = 24;

/// What webhooks are signed with. It does not print.
pub(crate) struct SigningKey(hmac::Key);

/// Not a secret of Standard Webhooks.
#[derive(Debug)]
pub(crate) struct InvalidSecret;

impl SigningKey {
    /// The key of a secret as it is written: `whsec_` and base64.
    pub(crate) fn parse(secret: &SecretString) -> Result<Self, InvalidSecret> {
        let encoded = secret.expose_secret().trim().strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(InvalidSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The key that comes of the secret that signs the tokens.
    pub(crate) fn derive(token_secret: &SecretString) -> Self {
        let of_tokens = hmac::Key::new(hmac::HMAC_SHA256, token_secret.expose_secret().as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&of_tokens, DERIVATION).as_ref()))
    }

    /// The value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp_unix_s: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp_unix_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_own_example_is_signed_as_it_says() {
        // From the reference implementations of Standard Webhooks.
        let key = SigningKey::parse(&SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_long_enough_and_written_as_the_scheme_wants_it() {
        let parse = |secret: &str| SigningKey::parse(&SecretString::from(secret));
        assert!(parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").is_ok());
        for wrong in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64 at all, and long",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_derived_key_is_what_the_documentation_says() {
        let secret = "0123456789abcdef0123456789abcdef";
        let of_tokens = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let derived = hmac::sign(&of_tokens, b"tidings webhook v1");
        let written = format!("whsec_{}", STANDARD.encode(derived));
        let by_hand = SigningKey::parse(&SecretString::from(written)).unwrap();
        let key = SigningKey::derive(&SecretString::from(secret));
        assert_eq!(key.sign("a", 1, b"{}"), by_hand.sign("a", 1, b"{}"));
        assert!(!format!("{key:?}").contains("0123"));
    }
}
