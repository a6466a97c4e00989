//! An address in front of a server, as a failover's virtual address is: it can be pointed elsewhere, cut and held.

#![allow(dead_code, unreachable_pub, reason = "each of the test files that share this uses a part of it")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy)]
struct State {
    /// Where new connections lead; nowhere, they are closed at once.
    to: Option<SocketAddr>,
    /// Connections of an earlier number are closed.
    generation: u64,
    /// Whether nothing passes, though connections stay open.
    held: bool,
}

/// Passes connections on until it is dropped.
pub struct Forwarder {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// A free port that leads to `to`.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, _) = watch::channel(State { to: Some(to), generation: 0, held: false });
        let task = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead there; those that are open stay where they are.
    pub fn point_to(&self, to: SocketAddr) {
        self.state.send_modify(|state| state.to = Some(to));
    }

    /// New connections are closed at once.
    pub fn point_nowhere(&self) {
        self.state.send_modify(|state| state.to = None);
    }

    /// Closes every open connection.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Nothing passes any more, and nobody is told.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.held = true);
    }

    /// Everything passes again, in order.
    pub fn release(&self) {
        self.state.send_modify(|state| state.held = false);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let State { to: Some(to), generation, .. } = *state.borrow() else { continue };
        let mut watched = state.subscribe();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(to).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let up = pass(client_read, server_write, watched.clone());
            let down = pass(server_read, client_write, watched.clone());
            // Whichever ends first ends both; so does a forwarder that is cut or gone.
            tokio::select! {
                () = up => {}
                () = down => {}
                _ = watched.wait_for(|state| state.generation != generation) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| !state.held).await.is_err() || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
