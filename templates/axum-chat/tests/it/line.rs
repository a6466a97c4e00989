//! A port that leads to another one, as long as nobody cuts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// More than any test sends.
const WHOLE: usize = usize::MAX / 2;

pub struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    connections: AtomicUsize,
    /// How many bytes go on to the server before every connection is cut.
    bytes_left: AtomicUsize,
    cuts: watch::Sender<usize>,
}

impl Line {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, bytes_left) = (AtomicUsize::new(0), AtomicUsize::new(WHOLE));
        let shared = Arc::new(Shared {
            connections,
            bytes_left,
            cuts: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, server, Arc::clone(&serving)));
            }
        });
        Self { address, shared }
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Every connection through it is lost, without a goodbye.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// The same after so many more bytes on the way to the server: in the middle of a message.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.bytes_left.store(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    fn cut(&self) {
        self.bytes_left.store(WHOLE, Ordering::Relaxed);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let Ok(there) = TcpStream::connect(server).await else {
        return;
    };
    let ((mut from_client, mut to_client), (mut from_there, mut to_there)) =
        (client.into_split(), there.into_split());
    let up = async {
        let mut bytes = [0; 4096];
        loop {
            let Ok(read @ 1..) = from_client.read(&mut bytes).await else {
                return;
            };
            let left = shared.bytes_left.fetch_sub(read, Ordering::Relaxed);
            if to_there.write_all(&bytes[..read.min(left)]).await.is_err() {
                return;
            }
            if read >= left {
                return shared.cut();
            }
        }
    };
    let down = tokio::io::copy(&mut from_there, &mut to_client);
    tokio::select! {
        () = up => {}
        _ = down => {}
        _ = cuts.changed() => {}
    }
}
