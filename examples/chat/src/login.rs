//! Who somebody is, for the application (a cookie) and for Tidings (a token).

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidings::auth::mint_hs256;

use crate::app::{App, Failure};

const COOKIE: &str = "chat_session";
const COOKIE_MAX_AGE_S: u32 = 30 * 24 * 60 * 60;
/// A page asks for another token at every connect.
const TOKEN_TTL: Duration = Duration::from_secs(600);
const NAME_BYTES_MAX: usize = 32;
const PASSWORD_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
pub(crate) struct Login {
    name: String,
    password: String,
}

/// `POST /login`: a name that nobody has is signed up, else its password has to be right.
pub(crate) async fn login(State(app): State<App>, Json(login): Json<Login>) -> Result<Response, Failure> {
    let Login { name, password } = login;
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !is_name {
        return Err(Failure::told(StatusCode::BAD_REQUEST, "a name has 1 to 32 letters, digits, _ . or -"));
    }
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(Failure::told(StatusCode::BAD_REQUEST, "a password has 1 to 128 characters"));
    }
    let known = app.database.password_hash(&name).await?;
    let is_new = known.is_none();
    // Slow on purpose, so not on the runtime that serves everyone.
    let hash = tokio::task::spawn_blocking(move || match known {
        Some(hash) => verify(&password, &hash).then_some(hash),
        None => hash_of(&password),
    });
    let hash = hash.await?;
    let wrong = || Failure::told(StatusCode::UNAUTHORIZED, "this name has another password");
    let hash = hash.ok_or_else(wrong)?;
    if is_new && !app.database.sign_up(&name, &hash).await? {
        return Err(wrong());
    }
    let session = random_hex()?;
    app.database.begin_session(&session, &name).await?;
    let cookie = format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_MAX_AGE_S}");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// `POST /logout`
pub(crate) async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    if let Some(session) = session_of(&headers) {
        app.database.end_session(session).await?;
    }
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'static str,
    exp: u64,
}

/// `GET /token`: what the page shows Tidings at the handshake.
pub(crate) async fn token(State(app): State<App>, SignedIn(user): SignedIn) -> Result<Response, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let claims = Claims { sub: &user, aud: "tidings", exp: (now + TOKEN_TTL).as_secs() };
    let token = mint_hs256(&app.token_secret, &claims)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "token": token }))).into_response())
}

/// The user of the request's cookie; without one the answer is 401.
pub(crate) struct SignedIn(pub(crate) String);

impl FromRequestParts<App> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let user = match session_of(&parts.headers) {
            Some(session) => app.database.user_of_session(session).await?,
            None => None,
        };
        user.map(Self).ok_or_else(|| Failure::told(StatusCode::UNAUTHORIZED, "log in first"))
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split("; ").find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='))
}

fn hash_of(password: &str) -> Option<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    let salt = SaltString::encode_b64(&salt).ok()?;
    Some(Argon2::default().hash_password(password.as_bytes(), &salt).ok()?.to_string())
}

fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

fn random_hex() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
