//! The two kinds of socket: plain TCP, which moves between runtimes, and anything else, boxed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the kernel may hold unsent of a connection that is to see the newest state.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// What a connection reads from and writes to.
pub(crate) enum Io {
    /// Plain TCP, registered with the shard's own runtime.
    Tcp(TcpStream),
    /// Plain TCP on its way to a shard's runtime.
    Detached(std::net::TcpStream),
    /// TLS, a pipe in a test, or whatever else an application serves on.
    Boxed(Pin<Box<dyn BoxedIo>>),
}

/// Any bidirectional stream of bytes.
pub(crate) trait BoxedIo: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> BoxedIo for T {}

impl Io {
    /// Lets go of this runtime, so that the shard's can take the socket.
    pub(crate) fn detach(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Detached(stream.into_std()?),
            other => other,
        })
    }

    /// Registers with the runtime that this is called on.
    pub(crate) fn attach(self) -> io::Result<Self> {
        Ok(match self {
            Self::Detached(stream) => Self::Tcp(TcpStream::from_std(stream)?),
            other => other,
        })
    }

    /// Lets the kernel hold little that it has not sent yet. It would take megabytes of a connection whose other side
    /// does not read: all of them old by the time they are read, and none of it ours to take back.
    pub(crate) fn hold_little(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self
            && let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
        {
            tracing::debug!(%error, "no TCP_NOTSENT_LOWAT");
        }
    }

    /// Reads what is there; `Ok(0)` at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            // Tokio takes a read that does not fill the buffer for the last, and asks the system no second time.
            Self::Tcp(stream) => poll_read(Pin::new(stream), cx, buffer),
            Self::Boxed(stream) => poll_read(stream.as_mut(), cx, buffer),
            Self::Detached(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes what the socket takes, possibly less than offered; `WouldBlock` when it takes nothing.
    pub(crate) fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => match slices {
                [slice] => stream.try_write(slice),
                slices => stream.try_write_vectored(slices),
            },
            Self::Boxed(stream) => {
                let mut total = 0;
                for slice in slices {
                    let mut rest = &slice[..];
                    while !rest.is_empty() {
                        match stream.as_mut().poll_write(cx, rest) {
                            Poll::Ready(Ok(written)) => {
                                total += written;
                                rest = &rest[written..];
                                if written == 0 {
                                    return Ok(total);
                                }
                            }
                            Poll::Ready(Err(error)) if total == 0 => return Err(error),
                            Poll::Pending if total == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                            Poll::Ready(Err(_)) | Poll::Pending => return Ok(total),
                        }
                    }
                }
                Ok(total)
            }
            Self::Detached(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Pushes on what the stream itself may hold back, and asks to be woken when it takes more. `Ready` when it
    /// does already.
    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            // A short write of a boxed stream has met `Pending` and so is registered.
            Self::Boxed(_) => Poll::Pending,
            Self::Detached(_) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Pushes on what the stream itself holds back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Boxed(stream) => stream.as_mut().poll_flush(cx),
            Self::Tcp(_) | Self::Detached(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends our side of the stream; the other may still be read.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Boxed(stream) => stream.as_mut().poll_shutdown(cx),
            Self::Detached(_) => Poll::Ready(Ok(())),
        }
    }
}

fn poll_read<T: AsyncRead + ?Sized>(
    stream: Pin<&mut T>,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(stream.poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
