//! Whether a client gets to the socket: the name, the port, TLS, the upgrade, and the first message behind it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::configured::Configured;
use super::diagnosis::Diagnosis;
use super::token_in_hand::InHand;
use super::{answers, clock};
use crate::cli::link::{Link, NoLink};
use crate::cli::target::{Problem, Target};
use crate::http_client::NoAnswer;

/// Who has not answered by then does not.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What a server's first answer has said.
pub(super) struct Server {
    pub(super) headers: HeaderMap,
}

/// Tries the door; none if nobody is behind it.
pub(super) async fn look(
    target: &Target,
    in_hand: Option<&InHand>,
    origin: Option<&HeaderValue>,
    configured: Option<&Configured>,
    diagnosis: &mut Diagnosis,
) -> Option<Server> {
    let token = in_hand.map(|in_hand| in_hand.token.as_str());
    let answer = match tokio::time::timeout(ANSWER_MAX, target.handshake(token, None)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => {
            unreachable(target, &why, diagnosis);
            return None;
        }
        Err(_) => {
            diagnosis.found(
                "no_answer",
                "something takes connections there and answers nothing",
                format!("{}: no answer to the handshake in {ANSWER_MAX:?}", target.socket()),
                "is it an HTTP port? is TLS spoken there (wss://), or the server stopped (SIGSTOP, swap)?",
            );
            return None;
        }
    };
    // A 101 need not say what time it is.
    match answer.status == StatusCode::SWITCHING_PROTOCOLS && !answer.headers.contains_key(http::header::DATE)
    {
        true => match target.get("/health/live").await {
            Ok(live) => clock::look(&live.headers, diagnosis),
            Err(_) => clock::look(&answer.headers, diagnosis),
        },
        false => clock::look(&answer.headers, diagnosis),
    }
    let headers = answer.headers.clone();
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        granted(target, token, diagnosis).await;
    } else {
        answers::judge(target, &answer, in_hand, configured, diagnosis).await;
    }
    if let Some(origin) = origin {
        of_origin(target, token, origin, diagnosis).await;
    }
    Some(Server { headers })
}

async fn granted(target: &Target, token: Option<&str>, diagnosis: &mut Diagnosis) {
    let Some(token) = token else {
        return diagnosis.found(
            "no_authentication",
            "whoever comes is let in",
            format!("{}: 101 without a token", target.socket()),
            "is it a Tidings socket? its [auth], or HubBuilder::authenticate, verifies tokens before the upgrade",
        );
    };
    match Link::open(target, token).await {
        Ok(link) => {
            diagnosis.fine("handshake", format!("{}: 101, and welcome {}", target.socket(), link.welcome.user));
            link.close().await;
        }
        Err(NoLink::Unwelcome(why)) => diagnosis.found(
            "proxy_holds_frames",
            "the upgrade is granted, and no message comes through",
            format!("{}: 101, and no session.welcome: {why}", target.socket()),
            "let the proxy pass on bytes as they come once it has upgraded (proxy_buffering off), to a Tidings socket",
        ),
        Err(other) => diagnosis.found(
            "unreachable",
            "one connection was let in, and the next one was not",
            other.to_string(),
            "is a node behind the balancer down or full? /health/ready of each says so",
        ),
    }
}

/// What the same handshake is answered when a page makes it.
async fn of_origin(target: &Target, token: Option<&str>, origin: &HeaderValue, diagnosis: &mut Diagnosis) {
    let Ok(answer) = target.handshake(token, Some(origin)).await else { return };
    let problem = Problem::of(&answer);
    let origin = origin.to_str().unwrap_or_default();
    if problem.code() == "origin_not_allowed" {
        diagnosis.found(
            "origin",
            format!("pages of {origin} may not connect"),
            format!("403 origin_not_allowed: {}", problem.detail.unwrap_or_default()),
            problem.fix.unwrap_or_default(),
        );
    } else {
        diagnosis.fine("origin", format!("pages of {origin} may connect"));
    }
}

fn unreachable(target: &Target, why: &NoAnswer, diagnosis: &mut Diagnosis) {
    let evidence = format!("{}: {why}", target.socket());
    let told = why.to_string().to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| told.contains(word));
    let (cause, message, fix) = if has(&["corrupt message", "invalidcontenttype", "invalid http version"]) {
        let message = "one side speaks TLS and the other does not";
        (
            "tls_mismatch",
            message,
            "use ws:// where the server has no certificate, wss:// where it has one ([tls])",
        )
    } else if has(&["certificate"]) {
        let fix = "a certificate for this name, with those between it and an authority that this machine trusts (certificate_file has all of them)";
        ("certificate", "the server's certificate is not believed", fix)
    } else if has(&["lookup", "resolve", "name or service"]) {
        ("unknown_host", "there is no such host", "correct the name, or its entry in DNS")
    } else if matches!(why, NoAnswer::Lost(_)) {
        let fix = "is it an HTTP port? does a firewall or a proxy cut connections?";
        ("no_answer", "the connection broke before an answer", fix)
    } else {
        let fix = "start the server (tidings serve; tidings dev), or correct the port; in a container listen = \"0.0.0.0:7777\", since loopback is the container's own";
        ("unreachable", "nobody listens there", fix)
    };
    diagnosis.found(cause, message, evidence, fix);
}
