//! The token that the door is tried with: one that was given, and is looked at first, or one that is made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tidings::auth::{Jwt, TokenFault};

use super::diagnosis::Diagnosis;
use crate::cli::tokens::{Signer, now_s};
use crate::failure::Failure;

/// More than it should be, so that nobody guesses what a token says.
const LEEWAY_S: u64 = 30;

pub(super) struct InHand {
    pub(super) token: String,
    /// Who signed it, if it was made here.
    pub(super) made_with: Option<String>,
    /// What is wrong with it is told already.
    pub(super) is_judged: bool,
}

impl InHand {
    pub(super) fn made(signer: &Signer, user: &str) -> Result<Self, Failure> {
        let token = signer.token(user, None).map_err(Failure::failed)?;
        Ok(Self { token, made_with: Some(signer.place.clone()), is_judged: false })
    }

    /// Looks at what it says, and at its signature if the secret is known.
    pub(super) fn given(token: &str, signer: Option<&Signer>, diagnosis: &mut Diagnosis) -> Self {
        let is_judged = judge(token, signer, diagnosis);
        Self { token: token.to_owned(), made_with: None, is_judged }
    }
}

fn judge(token: &str, signer: Option<&Signer>, diagnosis: &mut Diagnosis) -> bool {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    let Some(claims) = claims else {
        diagnosis.found(
            "token_malformed",
            "the token is no JWT",
            format!("it has {} parts, and the second is no JSON as base64url", token.split('.').count()),
            TokenFault::Malformed.fix(),
        );
        return true;
    };
    if let Some(signer) = signer
        && let Ok(jwt) = Jwt::hs256(signer.secret.expose_secret().as_bytes())
        && let Err(error) = jwt.audience(signer.audience.as_str()).verify(token, now_s())
        && matches!(error.fault(), TokenFault::Signature | TokenFault::Claims)
    {
        let is_signature = error.fault() == TokenFault::Signature;
        let (cause, message) = match is_signature {
            true => {
                ("secret_mismatch", format!("the token was not signed with the secret of {}", signer.place))
            }
            false => ("token_claims", "the token is genuine and does not say what it has to".to_owned()),
        };
        diagnosis.found(cause, message, error.detail(), error.fault().fix());
        return true;
    }
    let Some(exp) = claims["exp"].as_f64().map(|exp| exp as u64) else { return false };
    if exp + LEEWAY_S < now_s() {
        diagnosis.found(
            "token_expired",
            "the token is past",
            format!("its exp is {exp}, {} s ago", now_s() - exp),
            TokenFault::Expired.fix(),
        );
        return true;
    }
    false
}
