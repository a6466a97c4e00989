//! Which rooms are whose. `rooms_of` is the one function that your database fills in.

use tidings::auth::Identity;
use tidings::{MembershipFuture, RoomId};

/// It begins with a lobby for everybody who is logged in. Later, for example:
/// `channels_of(user).await?.iter().map(|channel| RoomId::parse(&format!("room:{}", channel.id))).collect()`
async fn rooms_of(_user: &str) -> Result<Vec<RoomId>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(vec![RoomId::parse("room:lobby")?])
}

/// Asked when somebody connects, and at every join.
pub(super) struct Memberships;

impl tidings::Memberships for Memberships {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move { Ok(rooms_of(identity.user().as_str()).await?) })
    }
}
