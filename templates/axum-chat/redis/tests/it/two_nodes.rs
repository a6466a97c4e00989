//! Two nodes that share a Redis and a database: one chat.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use chat::realtime::rooms::{SocketId, room_of};
use tempfile::TempDir;
use tidings::SessionId;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::person::{Person, WAIT_MAX};
use crate::server::Server;

struct Redis {
    url: String,
    _process: Child,
}

impl Redis {
    async fn start(folder: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let port = address.port().to_string();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        let ready = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT_MAX, ready)
            .await
            .expect("redis-server listens");
        Self {
            url: format!("redis://{address}"),
            _process: process,
        }
    }
}

#[tokio::test]
async fn people_at_two_nodes_are_in_one_room_and_a_node_that_ends_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let redis = Redis::start(folder.path()).await;
    let one = Server::start_with(folder.path(), Some(&redis.url)).await;
    let two = Server::start_with(folder.path(), Some(&redis.url)).await;
    let mut ann = Person::connected(&one, "ann").await;
    let mut bob = Person::connected(&two, "bob").await;
    ann.say("hello").await;
    bob.hears("ann: hello").await;
    bob.say("hi").await;
    ann.hears("bob: hi").await;
    assert_eq!(
        one.app
            .realtime
            .rooms
            .get_members(&room_of(1))
            .await
            .unwrap(),
        ["ann", "bob"]
    );

    // A socket of the other node's, and what a third does not have in its memory.
    let session = SessionId::parse(bob.session()).unwrap();
    let bob_id = SocketId {
        user: "bob".to_owned(),
        session,
    };
    let room = room_of(one.app.database.create_channel("Workshop").await.unwrap());
    one.app.realtime.rooms.join(&bob_id, &room).await.unwrap();
    bob.takes("ch_2", "room.joined").await;
    assert!(
        one.app
            .realtime
            .rooms
            .get_user_rooms(&bob_id)
            .await
            .contains(&room)
    );
    bob.disconnect();
    ann.say("still there?").await;
    let three = Server::start_with(folder.path(), Some(&redis.url)).await;
    bob.server = &three;
    bob.connect().await;
    bob.hears("ann: still there?").await;
    assert_eq!(bob.heard, ["ann: hello", "bob: hi", "ann: still there?"]);
    assert_eq!(bob.stored().await, bob.heard);
}
