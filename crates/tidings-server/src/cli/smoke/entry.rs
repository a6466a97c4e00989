//! Whether a server lets in only who proves who he is: without a token, with a forged one, with one that is past.

use http::StatusCode;

use super::stage::{Checked, Fault, Outcome, Stage, Who};
use crate::cli::target::Problem;
use crate::cli::tokens::{Tokens, now_s};

/// Longer past than any leeway.
const PAST_S: u64 = 60 * 60;

pub(super) async fn no_token(stage: &mut Stage) -> Checked {
    refused(stage, None, "token_missing", "it takes who says nothing of himself").await
}

pub(super) async fn forged_token(stage: &mut Stage) -> Checked {
    let token = stage.token(stage.user(Who::Ann)).await?;
    let Some((signed, signature)) = token.rsplit_once('.') else {
        return Err(Fault::new(
            "what gives tokens has given something else",
            "a token is a JWT: three parts with dots",
        ));
    };
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", signature.get(1..).unwrap_or_default());
    refused(stage, Some(&forged), "token_signature", "it takes a token that nobody has signed").await
}

pub(super) async fn expired_token(stage: &mut Stage) -> Checked {
    let Tokens::Signed(signer) = &stage.tokens else {
        return Ok(Outcome::Skipped(
            "tokens come from the application, and it gives none that is past".to_owned(),
        ));
    };
    let token = signer.token_until(stage.user(Who::Ann), None, now_s().saturating_sub(PAST_S));
    let token = token.map_err(Fault::with("name another secret"))?;
    refused(stage, Some(&token), "token_expired", "it takes a token that was good an hour ago").await
}

async fn refused(stage: &Stage, token: Option<&str>, code: &str, if_not: &str) -> Checked {
    let answer = stage.target.handshake(token, None).await.map_err(|error| {
        Fault::new(
            format!("no answer: {error}"),
            "is a server there? `tidings doctor URL` says what is in the way",
        )
    })?;
    let problem = Problem::of(&answer);
    match (answer.status, problem.code()) {
        (StatusCode::UNAUTHORIZED, told) if told == code => Ok(Outcome::Passed(format!("401 {code}"))),
        (StatusCode::SWITCHING_PROTOCOLS, _) => Err(Fault::new(
            format!("the handshake was granted: {if_not}"),
            "let tokens be verified before the upgrade: [auth] of tidings serve, or HubBuilder::authenticate",
        )),
        // Who signs with another secret is refused before anybody looks at the rest.
        (StatusCode::UNAUTHORIZED, "token_signature") => Err(Fault::new(
            format!("401 token_signature, where {code} is due: the server has another secret"),
            "name the server's own secret: --secret-file, TIDINGS_SECRET or --config",
        )),
        (status, told) => Err(Fault::new(
            format!("{status} {told}, where 401 {code} is due").replace("  ", " "),
            "is this the address of a Tidings socket? `tidings doctor URL` says more",
        )),
    }
}
