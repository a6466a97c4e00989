//! The id of a request: the caller's own or a new one, in the answer, in a problem's body and in the log.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use tracing::info;

use super::keys::KeyName;
use super::problem::Problem;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LENGTH_MAX: usize = 64;

/// Names a request, serves it, and writes what it answers.
pub(super) async fn name(request: Request, next: Next) -> Response {
    let sent = request.headers().get(HEADER).and_then(|id| id.to_str().ok()).filter(|id| is_id(id));
    let id = sent.map_or_else(|| format!("{:032x}", rand_128()), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let mut response = next.run(request).await;
    let code = response.extensions().get::<Problem>().map(|problem| problem.code);
    let key = response.extensions().get::<KeyName>().map(|name| name.0.clone());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut answer = problem.answer(&id);
        // What was set beside it: `Allow`, for one.
        for (name, value) in response.headers() {
            if !answer.headers().contains_key(name) && name != http::header::CONTENT_LENGTH {
                answer.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response = answer;
    }
    info!(
        request_id = id,
        %method,
        path,
        status = response.status().as_u16(),
        code,
        key = key.as_deref(),
        us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "api",
    );
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn rand_128() -> u128 {
    let mut bytes = [0; 16];
    // An id that is all zeros is one all the same.
    let _ = getrandom::fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        for (text, fits) in [("a", true), ("9f3a-1:b_c.d", true), ("", false), ("a b", false), ("é", false)]
        {
            assert_eq!(is_id(text), fits, "{text}");
        }
        assert!(is_id(&"a".repeat(64)) && !is_id(&"a".repeat(65)));
    }
}
