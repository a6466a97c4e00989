//! What an answer to a handshake means, if it is not the upgrade: whose it is, and what stands behind it.

use http::header::{LOCATION, SERVER};
use http::{HeaderMap, StatusCode};

use super::configured::Configured;
use super::diagnosis::Diagnosis;
use super::machine::is_alive;
use super::token_in_hand::InHand;
use crate::cli::target::{Problem, Target};
use crate::http_client::Answer;

/// Where a socket may be instead.
const PATHS: [&str; 4] = ["/ws", "/realtime", "/socket", "/api/ws"];

pub(super) async fn judge(
    target: &Target,
    answer: &Answer,
    in_hand: Option<&InHand>,
    configured: Option<&Configured>,
    diagnosis: &mut Diagnosis,
) {
    let problem = Problem::of(answer);
    let evidence = format!("{}: {}{}", target.socket(), told(answer), by(&answer.headers));
    let detail = problem.detail.clone().unwrap_or_else(|| "the answer says nothing more".to_owned());
    let fix = |otherwise: &str| problem.fix.clone().unwrap_or_else(|| otherwise.to_owned());
    match (answer.status.as_u16(), problem.code()) {
        (401, "") => diagnosis.found(
            "foreign_login",
            "something before the server wants a login of its own",
            evidence,
            "let the proxy or application pass the socket's path on to Tidings without asking first",
        ),
        (401, code) => of_token(code, &detail, &evidence, in_hand, diagnosis),
        (403, "origin_not_allowed") => diagnosis.found("origin", detail, evidence, fix("allowed_origins")),
        (403, "forbidden") => diagnosis.found("forbidden", detail, evidence, fix("ask the application")),
        (400, "tls_required") => diagnosis.found(
            "tls_mismatch",
            "the server speaks TLS alone",
            evidence,
            "use wss:// and https://, in the proxy's configuration too",
        ),
        (400 | 426, "upgrade_required" | "bad_upgrade" | "") if !detail.contains("localhost") => diagnosis.found(
            "proxy_no_upgrade",
            "something on the way takes the upgrade out of the request",
            evidence,
            "pass it on: in nginx proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\" (deploy/nginx.conf)",
        ),
        (429, "rate_limited") => diagnosis.found(
            "one_address",
            "this one handshake is one too many: all clients count as one address",
            evidence,
            "name the proxy in trusted_proxies, and let it add the client's address to X-Forwarded-For (docs/one-port.md)",
        ),
        (429, "connection_limit") => diagnosis.found("connection_limit", detail, evidence, fix("close one")),
        (503, code) if !code.is_empty() => diagnosis.found("unavailable", detail, evidence, fix("see the server's log")),
        (502..=504, _) => diagnosis.found(
            "backend_down",
            "the proxy does not reach the server behind it",
            evidence,
            "is tidings serve running, and does the proxy's configuration name its address and port? GET /health/live there says \"live\"",
        ),
        (300..=399, _) => {
            let location = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            diagnosis.found(
                "redirect",
                format!("the address leads on to {location}, and WebSocket clients don't follow"),
                evidence,
                "use the address that it leads to, or let the proxy answer the socket's path without a redirect",
            );
        }
        (200..=299 | 404 | 405, _) => of_path(target, &evidence, configured, diagnosis).await,
        _ => diagnosis.found("refused", detail, evidence, fix("see the log of whoever answers there")),
    }
}

fn of_token(code: &str, detail: &str, evidence: &str, in_hand: Option<&InHand>, diagnosis: &mut Diagnosis) {
    let Some(in_hand) = in_hand else {
        diagnosis.fine("handshake", "the server asks for a token");
        return diagnosis.not_judged(
            "proxy_no_upgrade",
            "there is no token to try it with: --token, --secret-file or --config",
        );
    };
    if in_hand.is_judged {
        return;
    }
    let evidence = format!("{evidence}: {detail}");
    let made_with = in_hand.made_with.as_deref();
    match (code, made_with) {
        ("token_missing", _) => diagnosis.found(
            "header_dropped",
            "a token was sent, and does not arrive",
            evidence,
            "let the proxy pass on the Authorization header, or send the token as subprotocol or ?token=",
        ),
        // By this clock it is good for ten minutes.
        ("token_expired", Some(_)) if diagnosis.has("clock_skew") => {}
        ("token_expired", _) => {
            diagnosis.found("token_expired", "the token is past", evidence, "fetch a new one for each connection");
        }
        ("token_signature", Some(place)) => diagnosis.found(
            "secret_mismatch",
            format!("the server does not have the secret of {place}"),
            evidence,
            "give both sides the same secret (auth.secret_file), and restart the server; name it here with --secret-file or --config",
        ),
        ("token_signature", None) => diagnosis.found(
            "secret_mismatch",
            "whoever signed this token and the server have different secrets",
            evidence,
            "give the backend and auth.secret_file the same secret, and restart both",
        ),
        ("token_malformed", _) => {
            diagnosis.found("token_malformed", "the token does not arrive whole", evidence, "compare what is sent with what was made");
        }
        _ => diagnosis.found(
            "token_claims",
            "the token is genuine and not for this server",
            evidence,
            "mint it with sub, exp and the aud of the server's [auth] audience; name that here with --audience",
        ),
    }
}

/// Somebody answers, and it is not the socket.
async fn of_path(
    target: &Target,
    evidence: &str,
    configured: Option<&Configured>,
    diagnosis: &mut Diagnosis,
) {
    let is_tidings = target.get("/health/live").await.is_ok_and(|answer| is_alive(&answer));
    let of_config = configured.map(Configured::socket_path);
    let others = of_config.into_iter().chain(PATHS).filter(|path| *path != target.path());
    for path in others {
        let Ok(answer) = target.at(path).handshake(None, None).await else { continue };
        if answer.status == StatusCode::UNAUTHORIZED && Problem::of(&answer).code() == "token_missing" {
            return diagnosis.found(
                "wrong_path",
                format!("the socket is at {path}, and not at {}", target.path()),
                format!("{evidence}; {}: 401 token_missing", target.at(path).socket()),
                format!(
                    "connect to {}, or set [socket] path = {:?}",
                    target.at(path).socket(),
                    target.path()
                ),
            );
        }
    }
    match is_tidings {
        true => diagnosis.found(
            "wrong_path",
            format!("the server is there, and no socket at {}", target.path()),
            format!("{evidence}; {}: live", target.page("/health/live")),
            "[socket] path of its configuration says where it is",
        ),
        false => diagnosis.found(
            "not_tidings",
            "an application answers there, and no Tidings server",
            format!("{evidence}; {} does not say \"live\"", target.page("/health/live")),
            "let the proxy pass the socket's path on to Tidings (deploy/nginx.conf), attach it in the application, or correct the port",
        ),
    }
}

/// Who says that he answers.
fn by(headers: &HeaderMap) -> String {
    let server = headers.get(SERVER).and_then(|server| server.to_str().ok());
    server.map(|server| format!(" by {server}")).unwrap_or_default()
}

/// `502 Bad Gateway`, with the code if there is one.
fn told(answer: &Answer) -> String {
    format!("{} {}", answer.status, Problem::of(answer).code()).trim_end().to_owned()
}
