//! A room of each user's own: whatever is published there reaches all his devices, and those that were away when they come
//! back.

use std::sync::Arc;

use tidings::auth::Identity;
use tidings::{Access, MembershipFuture, Memberships, RoomId, RoomRules};

/// How these rooms are called.
#[derive(Clone, Debug)]
pub(crate) struct RoomsOfUsers {
    prefix: String,
}

impl RoomsOfUsers {
    /// Rooms called `prefix` and the user's id; none if no room can be called so.
    pub(crate) fn named(prefix: &str) -> Option<Self> {
        RoomId::parse(&format!("{prefix}a")).ok().map(|_| Self { prefix: prefix.to_owned() })
    }

    /// The room of a user; none if it would have no name.
    pub(crate) fn of(&self, user: &str) -> Option<RoomId> {
        RoomId::parse(&format!("{}{user}", self.prefix)).ok()
    }

    /// Their rule: who else wants to be in one is none of its members, and only the application publishes.
    pub(crate) fn rule(&self) -> RoomRules {
        RoomRules::new(format!("{}*", self.prefix)).join(Access::Members).presence(false)
    }

    /// Memberships by which each user is in his own, beside those of `others`.
    pub(crate) fn memberships(self, others: Option<Arc<dyn Memberships>>) -> OwnRoomAnd {
        OwnRoomAnd { rooms: self, others }
    }
}

/// A user's own room, and what others say.
pub(crate) struct OwnRoomAnd {
    rooms: RoomsOfUsers,
    others: Option<Arc<dyn Memberships>>,
}

impl Memberships for OwnRoomAnd {
    fn rooms<'a>(&'a self, identity: &'a Identity) -> MembershipFuture<'a, Vec<RoomId>> {
        Box::pin(async move {
            let mut rooms = match &self.others {
                Some(others) => others.rooms(identity).await?,
                None => Vec::new(),
            };
            rooms.extend(self.rooms.of(identity.user().as_str()));
            Ok(rooms)
        })
    }

    fn is_member<'a>(&'a self, identity: &'a Identity, room: &'a RoomId) -> MembershipFuture<'a, bool> {
        Box::pin(async move {
            if self.rooms.of(identity.user().as_str()).as_ref() == Some(room) {
                return Ok(true);
            }
            match &self.others {
                Some(others) => others.is_member(identity, room).await,
                None => Ok(false),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tidings::auth::UserId;

    use super::*;

    #[tokio::test]
    async fn everyone_is_in_his_own_room_and_in_no_other() {
        let memberships = RoomsOfUsers::named("user:").unwrap().memberships(None);
        let ann = Identity::new(UserId::parse("ann").unwrap());
        let room = |name| RoomId::parse(name).unwrap();
        assert_eq!(memberships.rooms(&ann).await.unwrap(), [room("user:ann")]);
        assert!(memberships.is_member(&ann, &room("user:ann")).await.unwrap());
        assert!(!memberships.is_member(&ann, &room("user:bob")).await.unwrap());
        let other = Identity::new(UserId::parse("Ann Ä").unwrap());
        assert!(memberships.rooms(&other).await.unwrap().is_empty(), "no room can be called so");
        assert!(RoomsOfUsers::named("user @").is_none());
    }
}
