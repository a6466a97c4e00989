//! The one address: sockets go to the next node in turn, as bytes; everything else is the page's and answered here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::Fault;
use crate::pages;
use crate::processes::Nodes;

/// What the request of a socket begins with.
const SOCKET: &[u8] = b"GET /ws";

/// A round robin without stickiness.
pub(crate) struct Balancer {
    listener: TcpListener,
    address: SocketAddr,
    nodes: Nodes,
    page: Router,
    turn: Arc<AtomicUsize>,
}

impl Balancer {
    pub(crate) async fn bind(listen: SocketAddr, nodes: Nodes, secret: [u8; 32]) -> Result<Self, Fault> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let page = pages::router(nodes.clone(), secret);
        Ok(Self { listener, address, nodes, page, turn: Arc::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn serve(&self) {
        loop {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let (nodes, page, turn) = (self.nodes.clone(), self.page.clone(), Arc::clone(&self.turn));
                    tokio::spawn(async move {
                        if let Err(error) = serve(client, &nodes, page, &turn).await {
                            debug!(%error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "no connection could be accepted");
                    #[expect(clippy::disallowed_methods, reason = "a pause between two attempts")]
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(mut client: TcpStream, nodes: &Nodes, page: Router, turn: &AtomicUsize) -> Result<(), Fault> {
    let mut beginning = [0; SOCKET.len()];
    // A browser sends a request in one piece, and more than this of it.
    let peeked = client.peek(&mut beginning).await?;
    if beginning[..peeked] == *SOCKET {
        // Who finds no node is refused like by any balancer, and tries again.
        let Some(node) = nodes.next(turn.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
        let mut node = TcpStream::connect(node).await?;
        node.set_nodelay(true)?;
        client.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut node).await?;
        return Ok(());
    }
    let mut connection = hyper::server::conn::http1::Builder::new();
    // One request a connection: the next may be a socket's.
    let service = TowerToHyperService::new(page);
    connection.keep_alive(false).serve_connection(TokioIo::new(client), service).await?;
    Ok(())
}
