//! Each function of the room manager, on sockets that are there.

use chat::realtime::rooms::{SocketId, room_of};
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
    let server = Server::start(folder.path()).await;
    let (rooms, database) = (&server.app.realtime.rooms, &server.app.database);
    let mut ann = Person::connected(&server, "ann").await;
    let mut bob = Person::connected(&server, "bob").await;
    let (ann_id, bob_id) = (socket(&ann), socket(&bob));
    let channel = database.create_channel("Workshop").await.unwrap();
    let room = room_of(channel);

    rooms.join(&ann_id, &room).await.unwrap();
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann"]);
    rooms.join(&bob_id, &room).await.unwrap();
    ann.takes("ch_2", "room.joined").await;
    assert_eq!(
        ann.takes("ch_2", "presence.join").await["data"]["user"],
        "bob"
    );
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann", "bob"]);
    assert_eq!(
        names(&rooms.get_user_rooms(&bob_id).await),
        ["ch_1", "ch_2", "user:bob"]
    );
    assert!(database.is_member(channel, "bob").await.unwrap());

    rooms
        .broadcast(&room, "news", &"for bob", Some(&ann_id))
        .await
        .unwrap();
    rooms
        .broadcast(&room, "news", &"for both", None)
        .await
        .unwrap();
    assert_eq!(ann.takes("ch_2", "news").await["data"], "for both");
    assert_eq!(bob.takes("ch_2", "news").await["data"], "for bob");
    assert_eq!(bob.takes("ch_2", "news").await["data"], "for both");

    rooms.leave(&bob_id, &room).await.unwrap();
    bob.takes("ch_2", "room.left").await;
    assert_eq!(
        ann.takes("ch_2", "presence.leave").await["data"]["user"],
        "bob"
    );
    assert_eq!(rooms.get_members(&room).await.unwrap(), ["ann"]);
    assert_eq!(
        names(&rooms.get_user_rooms(&bob_id).await),
        ["ch_1", "user:bob"]
    );
    assert!(!database.is_member(channel, "bob").await.unwrap());
    let refused = bob
        .request("ch_2", "message.send", json!({"content": "still here?"}))
        .await;
    assert_eq!(refused["code"], "not_joined");

    // Who has gone is in no room; his membership stays.
    let rooms_of_ann = rooms.get_user_rooms(&ann_id).await;
    assert_eq!(names(&rooms_of_ann), ["ch_1", "ch_2", "user:ann"]);
    ann.disconnect();
    let gone = async {
        while !rooms.get_user_rooms(&ann_id).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, gone).await.expect("her socket is gone");
    ann.connect().await;
    assert_eq!(ann.welcome["rooms"], json!(["ch_1", "ch_2", "user:ann"]));
}
