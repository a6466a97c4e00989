//! Authentication is before the upgrade: a page shows the token that it gets here, and nobody is let in without one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::json;
use tidings::auth::{Identity, mint_hs256};
use tidings::{MembershipFuture, Memberships, RoomId};

use super::rooms::{board_of, room_of};
use crate::app::{App, Failure};
use crate::database::Database;
use crate::login::SignedIn;

/// A page asks for another token at every connect.
const TOKEN_TTL: Duration = Duration::from_secs(600);

#[derive(Serialize)]
struct Claims {
    sub: String,
    aud: &'static str,
    iat: u64,
    exp: u64,
}

/// `GET /token`: behind the login. It says who he is. Which boards are his the database says when he connects, and not the
/// token, which would go on saying it when he was taken out.
pub async fn token(
    State(app): State<App>,
    SignedIn(user): SignedIn,
) -> Result<impl IntoResponse, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let (iat, exp) = (now.as_secs(), (now + TOKEN_TTL).as_secs());
    let claims = Claims {
        sub: user,
        aud: "tidings",
        iat,
        exp,
    };
    let token = mint_hs256(app.realtime.secret.as_bytes(), &claims)?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        Json(json!({"token": token})),
    ))
}

/// Who watches what, as the database has it: whoever connects is on his boards at once, and may join no others.
pub struct Boards(pub Database);

impl Memberships for Boards {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let boards = self.0.boards_of(identity.user().as_str()).await?;
            Ok(boards
                .iter()
                .filter_map(|board| room_of(board).ok())
                .collect())
        })
    }

    fn is_member<'a>(
        &'a self,
        identity: &'a Identity,
        room: &'a RoomId,
    ) -> MembershipFuture<'a, bool> {
        Box::pin(async move {
            let Some(board) = board_of(room) else {
                return Ok(false);
            };
            Ok(self.0.is_watcher(board, identity.user().as_str()).await?)
        })
    }
}
