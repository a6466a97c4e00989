//! Two nodes that share a Redis and a database: one board.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use dashboard::realtime::rooms::room_of;
use tempfile::TempDir;
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
async fn viewers_at_two_nodes_see_the_same_and_a_node_that_ends_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let redis = Redis::start(folder.path()).await;
    // One of them samples.
    let one = Server::start_with(folder.path(), Some(&redis.url)).await;
    let two = Server::start_with(folder.path(), Some(&redis.url)).await;
    let mut ann = Person::connected(&one, "ann").await;
    let mut bob = Person::connected(&two, "bob").await;
    one.sample();
    ann.sees(12).await;
    bob.sees(12).await;
    let room = room_of("machine").unwrap();
    let members = one.app.realtime.rooms.get_members(&room).await;
    assert_eq!(members.unwrap(), ["ann", "bob"]);

    // He comes back at a node that has never had the board.
    bob.disconnect();
    ann.sees(12).await;
    let three = Server::start_with(folder.path(), Some(&redis.url)).await;
    bob.server = &three;
    bob.connect().await;
    bob.sees(12).await;
    assert_eq!(ann.seen, bob.seen[..24]);
    let stored = bob.stored().await;
    assert_eq!(ann.seen, stored[..24]);
}
