//! Where connections come in: encrypted or not, told apart by their first byte. One that has not yet asked for
//! anything may be ended for another's sake, and is ended when it takes too long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::auth::{Pending, Tls, TlsStream, Waiting};

/// Connections that have not yet asked for anything; one more ends the one that has been there longest.
const PENDING_MAX: usize = 256;
/// Time from the first byte to the end of the first request's head.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that are accepted and wait to be served.
const READY_MAX: usize = 64;
/// First byte of an encrypted connection.
const HANDSHAKE: u8 = 0x16;
/// What a client without encryption is told where it must be.
const NOT_ENCRYPTED: &[u8] =
    b"HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\nupgrade: TLS/1.2\r\n\
    content-type: application/json\r\n\r\n\
    {\"error\":{\"code\":\"not_encrypted\",\"message\":\"the server requires TLS: ask by https\"}}";

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) is_encrypted: bool,
    asked: Arc<AtomicBool>,
}

impl Peer {
    /// Its first request has come.
    pub(super) fn has_asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The listening side.
pub(super) struct Door {
    address: SocketAddr,
    ready: mpsc::Receiver<(Stream, Peer)>,
    accepting: JoinHandle<()>,
}

impl Door {
    pub(super) fn open(listener: TcpListener, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, tls, sender));
        Ok(Self { address, ready, accepting })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for Door {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        let asked = Arc::default();
        Ok(Peer { address: self.address, is_encrypted: false, asked })
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, ready: mpsc::Sender<(Stream, Peer)>) {
    let pending = Pending::new(PENDING_MAX);
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                let waiting = pending.enter();
                let (tls, ready) = (tls.clone(), ready.clone());
                tokio::spawn(async move {
                    let evicted = waiting.evicted().clone();
                    let entered =
                        tokio::time::timeout(PATIENCE, enter(socket, address, tls.as_deref()));
                    let entered = tokio::select! {
                        () = evicted.cancelled() => return,
                        entered = entered => entered,
                    };
                    if let Ok(Ok(Some(inner))) = entered {
                        let is_encrypted = matches!(inner, Inner::Encrypted(_));
                        let asked = Arc::<AtomicBool>::default();
                        let stream = Stream::new(inner, waiting, Arc::clone(&asked));
                        let peer = Peer { address, is_encrypted, asked };
                        // Nobody takes it where the server is stopping.
                        drop(ready.send((stream, peer)).await);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "http connection could not be accepted");
                // Out of file handles, most likely: some must be given back first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits for the first byte and does what it asks for. None if the client is refused.
async fn enter(
    mut socket: TcpStream,
    address: SocketAddr,
    tls: Option<&Tls>,
) -> io::Result<Option<Inner>> {
    socket.set_nodelay(true)?;
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    match tls {
        Some(tls) if first == [HANDSHAKE] => {
            let stream = tls.current().acceptor.accept(socket).await?;
            Ok(Some(Inner::Encrypted(Box::new(stream))))
        }
        Some(tls) if tls.is_required(Some(address)) => {
            socket.write_all(NOT_ENCRYPTED).await?;
            socket.shutdown().await?;
            Ok(None)
        }
        _ => Ok(Some(Inner::Plain(socket))),
    }
}

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// A connection.
pub(super) struct Stream {
    inner: Inner,
    first: Option<First>,
}

/// Before the first request.
struct First {
    asked: Arc<AtomicBool>,
    /// Ends when the client has waited for too long, or has to give way.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Stream {
    fn new(inner: Inner, waiting: Waiting, asked: Arc<AtomicBool>) -> Self {
        let over = Box::pin(async move {
            let late = tokio::time::sleep(PATIENCE);
            tokio::select! {
                () = waiting.evicted().cancelled() => {}
                () = late => {}
            }
        });
        Self { inner, first: Some(First { asked, over }) }
    }

    /// Whether the client may go on to send.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(first) = &mut self.first else { return Ok(()) };
        if first.asked.load(Ordering::Relaxed) {
            self.first = None;
        } else if first.over.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        match &mut this.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Inner::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Inner::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Inner::Encrypted(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Inner::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Inner::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
