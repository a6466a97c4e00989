//! Each function of the room manager, on sockets that are there.

use dashboard::realtime::rooms::{SocketId, room_of};
use serde_json::json;
use tempfile::TempDir;
use tidings::{RoomId, SessionId};
use tokio::time::timeout;

use crate::person::{Person, WAIT_MAX};
use crate::server::Server;

fn socket(person: &Person<'_>) -> SocketId {
    let session = SessionId::parse(person.session()).unwrap();
    SocketId {
        user: person.name.to_owned(),
        session,
    }
}

fn names(rooms: &[RoomId]) -> Vec<&str> {
    rooms.iter().map(RoomId::as_str).collect()
}

#[tokio::test]
async fn join_leave_broadcast_get_members_and_get_user_rooms() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_with(folder.path(), None).await;
    let (rooms, database) = (&server.app.realtime.rooms, &server.app.database);
    let mut ann = Person::connected(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    let (ann_id, bob_id) = (socket(&ann), socket(&bob));
    let room = room_of("orders").unwrap();

    rooms.join(&ann_id, &room).await.unwrap();
    ann.takes("board:orders", "room.joined").await;
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann"]);
    rooms.join(&bob_id, &room).await.unwrap();
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann", "bob"]);
    assert_eq!(
        names(&rooms.get_user_rooms(&bob_id).await),
        ["board:machine", "board:orders"]
    );
    assert!(database.is_watcher("orders", "bob").await.unwrap());

    rooms
        .broadcast(&room, "news", &"for bob", Some(&ann_id))
        .await
        .unwrap();
    rooms
        .broadcast(&room, "news", &"for both", None)
        .await
        .unwrap();
    rooms
        .broadcast_all(&room, "news", &["one", "two"])
        .await
        .unwrap();
    for news in ["for both", "one", "two"] {
        assert_eq!(ann.takes("board:orders", "news").await["data"], news);
    }
    for news in ["for bob", "for both", "one", "two"] {
        assert_eq!(bob.takes("board:orders", "news").await["data"], news);
    }
    assert!(
        rooms
            .broadcast_all(&room, "room.reset", &["reserved"])
            .await
            .is_err()
    );

    rooms.leave(&bob_id, &room).await.unwrap();
    bob.takes("board:orders", "room.left").await;
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann"]);
    assert_eq!(
        names(&rooms.get_user_rooms(&bob_id).await),
        ["board:machine"]
    );
    assert!(!database.is_watcher("orders", "bob").await.unwrap());

    // Who has gone is in no room; what he may watch stays.
    ann.disconnect();
    let gone = async {
        while !rooms.get_user_rooms(&ann_id).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, gone).await.expect("her socket is gone");
    ann.connect().await;
    assert_eq!(
        ann.welcome["rooms"],
        json!(["board:machine", "board:orders"])
    );
}
