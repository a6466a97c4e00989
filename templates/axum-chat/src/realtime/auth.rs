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

use super::rooms::{channel_of, room_of, room_of_user};
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

/// `GET /token`: behind the login. It says who he is. Which rooms are his the database says when he connects, and not the
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

/// The memberships, as the database has them: whoever connects is in his rooms at once, and may join no others.
pub struct Channels(pub Database);

impl Memberships for Channels {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let user = identity.user().as_str();
            let channels = self.0.channels_of(user).await?;
            let rooms = channels.iter().map(|channel| room_of(channel.id));
            Ok(rooms.chain(room_of_user(user)).collect())
        })
    }

    fn is_member<'a>(
        &'a self,
        identity: &'a Identity,
        room: &'a RoomId,
    ) -> MembershipFuture<'a, bool> {
        Box::pin(async move {
            let user = identity.user().as_str();
            match channel_of(room) {
                Some(channel) => Ok(self.0.is_member(channel, user).await?),
                None => Ok(room_of_user(user).as_ref() == Some(room)),
            }
        })
    }
}
