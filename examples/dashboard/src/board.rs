//! The one room: who may do what there, what it keeps, and what becomes of a viewer who reads too slowly.

use std::time::Duration;

use tidings::{Access, Overflow, RoomId, RoomRules};

/// The room's name.
pub(crate) const ROOM: &str = "board";
/// How far back a chart goes.
const HISTORY: Duration = Duration::from_secs(300);

/// The room.
#[expect(clippy::expect_used, reason = "the name is a constant")]
pub(crate) fn room() -> RoomId {
    RoomId::parse(ROOM).expect("a room's name")
}

/// Everyone with a token watches, nobody but the server publishes. Who joins has the newest value of each series at
/// once; who reads too slowly gets the newest and not a backlog. Nobody is told who else watches.
pub(crate) fn rule() -> RoomRules {
    RoomRules::new(ROOM)
        .join(Access::Anyone)
        .publish(Access::Nobody)
        .presence(false)
        .history_age(HISTORY)
        .key("/series")
        .retain()
        .overflow(Overflow::Conflate)
}
