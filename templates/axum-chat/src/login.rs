//! Who somebody is: a name and a password, then a cookie that names a session in the database.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::app::{App, Failure};

const COOKIE: &str = "chat";
const COOKIE_MAX_AGE_S: u32 = 30 * 24 * 60 * 60;
const NAME_BYTES_MAX: usize = 32;
const PASSWORD_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
}

/// `POST /login`: a name that nobody has is signed up, else its password has to be right.
pub async fn enter(
    State(app): State<App>,
    Json(given): Json<Credentials>,
) -> Result<impl IntoResponse, Failure> {
    let Credentials { name, password } = given;
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !is_name {
        let words = "a name has 1 to 32 letters, digits, _ . or -";
        return Err(Failure::told(StatusCode::BAD_REQUEST, words));
    }
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(Failure::told(
            StatusCode::BAD_REQUEST,
            "a password has 1 to 128 characters",
        ));
    }
    let known = app.database.password_of(&name).await?;
    let is_new = known.is_none();
    // Slow on purpose, so not on the threads that serve everyone.
    let hash = tokio::task::spawn_blocking(move || match known {
        Some(hash) => is_right(&password, &hash).then_some(hash),
        None => hash_of(&password),
    });
    let wrong = || Failure::told(StatusCode::UNAUTHORIZED, "this name has another password");
    let hash = hash.await?.ok_or_else(wrong)?;
    // Somebody else may have taken the name meanwhile.
    if is_new && !app.database.sign_up(&name, &hash).await? {
        return Err(wrong());
    }
    let session = random_hex()?;
    app.database
        .begin_session(&session, &name, COOKIE_MAX_AGE_S)
        .await?;
    Ok((
        StatusCode::NO_CONTENT,
        [(header::SET_COOKIE, cookie(&session, COOKIE_MAX_AGE_S))],
    ))
}

/// `POST /logout`
pub async fn leave(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Failure> {
    if let Some(session) = session_of(&headers) {
        app.database.end_session(session).await?;
    }
    Ok((
        StatusCode::NO_CONTENT,
        [(header::SET_COOKIE, cookie("", 0))],
    ))
}

/// The user of the request's cookie; without one the answer is 401.
pub struct SignedIn(pub String);

impl FromRequestParts<App> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let user = match session_of(&parts.headers) {
            Some(session) => app.database.user_of_session(session).await?,
            None => None,
        };
        user.map(Self)
            .ok_or_else(|| Failure::told(StatusCode::UNAUTHORIZED, "log in first"))
    }
}

fn cookie(session: &str, max_age_s: u32) -> String {
    format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={max_age_s}")
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies
        .split("; ")
        .find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='))
}

fn hash_of(password: &str) -> Option<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    let salt = SaltString::encode_b64(&salt).ok()?;
    Some(
        Argon2::default()
            .hash_password(password.as_bytes(), &salt)
            .ok()?
            .to_string(),
    )
}

fn is_right(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

fn random_hex() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
