//! A WebSocket of the application's own: bytes both ways, as they come, until one side ends or both are silent for too long.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tracing::debug;

use super::Place;

/// Who has a heartbeat has a shorter one.
const SILENCE_MAX: Duration = Duration::from_secs(60 * 60);
const BUFFER_BYTES: usize = 8 * 1024;

/// Runs one between the client and the application; it keeps its place so long.
pub(super) async fn run(theirs: OnUpgrade, ours: OnUpgrade, place: Place) {
    let ended = async {
        let (theirs, ours) = tokio::try_join!(theirs, ours).map_err(io::Error::other)?;
        copy_both(TokioIo::new(theirs), TokioIo::new(ours)).await
    };
    if let Err(error) = ended.await {
        debug!(%error, "a tunnel has broken");
    }
    drop(place);
}

async fn copy_both(client: TokioIo<Upgraded>, application: TokioIo<Upgraded>) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (application_read, application_write) = tokio::io::split(application);
    let newest = Mutex::new(Instant::now());
    tokio::try_join!(
        copy(client_read, application_write, &newest),
        copy(application_read, client_write, &newest),
    )?;
    Ok(())
}

/// One way. Silence counts when it is silence of both.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    newest: &Mutex<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let end = *newest.lock() + SILENCE_MAX;
        let read = match tokio::time::timeout_at(end, from.read(&mut buffer)).await {
            Ok(read) => read?,
            Err(_) if *newest.lock() + SILENCE_MAX > Instant::now() => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        *newest.lock() = Instant::now();
        if read == 0 {
            return to.shutdown().await;
        }
        // Who takes nothing for so long is gone.
        tokio::time::timeout(SILENCE_MAX, to.write_all(&buffer[..read])).await??;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_way_that_is_silent_lasts_while_the_other_is_not() {
        let newest = Mutex::new(Instant::now());
        let (_silent, from) = tokio::io::duplex(8);
        let (to, _taken) = tokio::io::duplex(8);
        let begun = Instant::now();
        let mut copying = std::pin::pin!(copy(from, to, &newest));
        assert!(tokio::time::timeout(SILENCE_MAX - Duration::from_secs(1), &mut copying).await.is_err());
        *newest.lock() = Instant::now();
        assert_eq!(copying.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), 2 * SILENCE_MAX - Duration::from_secs(1));
    }
}
