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
    /// Whether nothing passes to the server, and to the client, though connections stay open.
    held: [bool; 2],
    /// Connections are closed when so many more bytes have passed to a client.
    cut_after: Option<usize>,
}

/// Where bytes go.
#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
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
        let (state, _) =
            watch::channel(State { to: Some(to), generation: 0, held: [false; 2], cut_after: None });
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
        self.state.send_modify(|state| state.held = [true; 2]);
    }

    /// Nothing passes to a client any more.
    pub fn hold_answers(&self) {
        self.state.send_modify(|state| state.held[Direction::ToClient as usize] = true);
    }

    /// Closes every open connection when so many more bytes have passed to a client: in the middle of a frame, for one.
    pub fn cut_after(&self, bytes: usize) {
        self.state.send_modify(|state| state.cut_after = Some(bytes));
    }

    /// Everything passes again, in order.
    pub fn release(&self) {
        self.state.send_modify(|state| state.held = [false; 2]);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let State { to: Some(to), generation, .. } = *state.borrow() else { continue };
        let (state, mut watched) = (state.clone(), state.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(to).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            // Whichever ends first ends both; so does a forwarder that is cut or gone.
            tokio::select! {
                _ = watched.wait_for(|state| state.generation != generation) => {}
                () = pass(client_read, server_write, &state, generation, Direction::ToServer) => {}
                () = pass(server_read, client_write, &state, generation, Direction::ToClient) => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &watch::Sender<State>,
    generation: u64,
    direction: Direction,
) {
    let (mut buffer, mut watched) = ([0; 16 * 1024], state.subscribe());
    while let Ok(mut read @ 1..) = from.read(&mut buffer).await {
        // Of one state: what was held and cut before it was released never passes.
        let is_settled = |state: &State| state.generation != generation || !state.held[direction as usize];
        let Ok(State { generation: now, cut_after, .. }) =
            watched.wait_for(is_settled).await.map(|state| *state)
        else {
            return;
        };
        if now != generation {
            return;
        }
        let mut is_cut = false;
        if let (Direction::ToClient, Some(bytes)) = (direction, cut_after) {
            is_cut = read >= bytes;
            read = read.min(bytes);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        state.send_if_modified(|state| match (direction, &mut state.cut_after) {
            (Direction::ToClient, Some(bytes)) if !is_cut => {
                *bytes -= read;
                false
            }
            (Direction::ToClient, cut_after) if is_cut => {
                *cut_after = None;
                state.generation += 1;
                true
            }
            _ => false,
        });
    }
}
