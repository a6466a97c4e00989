//! Which rooms a user is joined to on connect, and may join: the channels that the database says.

use tidings::auth::Identity;
use tidings::{MembershipFuture, Memberships, RoomId};

use crate::database::Database;

/// The table `memberships`.
pub(crate) struct ChannelMemberships(pub(crate) Database);

impl Memberships for ChannelMemberships {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let channels = self.0.channels_of(identity.user().as_str()).await?;
            Ok(channels.iter().filter_map(|channel| RoomId::parse(&channel.id).ok()).collect())
        })
    }

    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        Box::pin(async move { Ok(self.0.is_member(identity.user().as_str(), room.as_str()).await?) })
    }
}
