//! The two halves of a connection. Both are safe to drop in the middle of an await: what was read stays in
//! the inbox, what was not yet written stays in the outbox, so a cancelled statement leaves whole messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::error::WireError;
use super::limits::{FAREWELL_TIMEOUT, FLUSH_BYTES, FRAME_BYTES_MAX, LOOKAHEAD_BYTES};
use crate::auth::{TlsAcceptor, TlsStream};

const READ_BYTES: usize = 8 << 10;

/// The half of a socket, or of the encrypted stream over it, that is read.
#[derive(Debug)]
enum Reader {
    Plain(OwnedReadHalf),
    Encrypted(ReadHalf<TlsStream<TcpStream>>),
}

/// The half that is written.
#[derive(Debug)]
enum Writer {
    Plain(OwnedWriteHalf),
    Encrypted(WriteHalf<TlsStream<TcpStream>>),
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Encrypted(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Encrypted(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_flush(cx),
            Self::Encrypted(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_shutdown(cx),
            Self::Encrypted(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

/// Both halves of a new connection.
pub(super) fn over(socket: TcpStream) -> (Inbox, Outbox) {
    let (reader, writer) = socket.into_split();
    (Inbox::new(Reader::Plain(reader)), Outbox::new(Writer::Plain(writer)))
}

/// The same connection, encrypted from here on. What the client sent before it could know that it will be was
/// not sent by it alone, perhaps: it is not taken for what comes encrypted.
pub(super) async fn encrypted(
    (inbox, mut outbox): (Inbox, Outbox),
    acceptor: &TlsAcceptor,
) -> Result<(Inbox, Outbox), WireError> {
    if !inbox.buffer.is_empty() {
        let message = "received unencrypted data after SSL request";
        let e = WireError::fatal("08P01", message).with_detail(
            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        );
        return Err(e);
    }
    outbox.buffer.extend_from_slice(b"S");
    outbox.flush().await?;
    let socket = match (inbox.reader, outbox.writer) {
        (Reader::Plain(reader), Writer::Plain(writer)) => reader.reunite(writer).ok(),
        _ => None,
    };
    let socket = socket.ok_or_else(|| WireError::fatal("08P01", "the connection is encrypted"))?;
    let (reader, writer) = tokio::io::split(acceptor.accept(socket).await?);
    Ok((Inbox::new(Reader::Encrypted(reader)), Outbox::new(Writer::Encrypted(writer))))
}

/// What the client has sent and nobody has read yet.
#[derive(Debug)]
pub(super) struct Inbox {
    reader: Reader,
    buffer: BytesMut,
}

impl Inbox {
    fn new(reader: Reader) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// More bytes; false at the end of the stream.
    async fn read(&mut self) -> Result<bool, io::Error> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.reader.read_buf(&mut self.buffer).await? > 0)
    }

    /// A message of the startup dialogue, which has no type byte: its body with the length.
    pub(super) async fn untagged(&mut self, bytes_max: usize) -> Result<Option<Bytes>, WireError> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let length = frame_length(*head, 8, bytes_max)?;
                if self.buffer.len() >= length {
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// The next message: its type and body. None at the end of the stream.
    pub(super) async fn frame(&mut self) -> Result<Option<(u8, Bytes)>, WireError> {
        self.frame_of(FRAME_BYTES_MAX).await
    }

    /// The same where messages are short.
    pub(super) async fn frame_of(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<(u8, Bytes)>, WireError> {
        loop {
            if let Some(&[tag, a, b, c, d]) = self.buffer.first_chunk::<5>() {
                let length = frame_length([a, b, c, d], 4, bytes_max)?;
                if self.buffer.len() > length {
                    let mut frame = self.buffer.split_to(length + 1);
                    frame.advance(5);
                    return Ok(Some((tag, frame.freeze())));
                }
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Resolves when the client has closed the connection. Reads ahead, up to a bound, beyond which only
    /// a failing write tells.
    pub(super) async fn gone(&mut self) {
        while self.buffer.len() < LOOKAHEAD_BYTES {
            match self.read().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
        std::future::pending::<()>().await;
    }
}

fn frame_length(head: [u8; 4], min: usize, max: usize) -> Result<usize, WireError> {
    usize::try_from(i32::from_be_bytes(head))
        .ok()
        .filter(|length| (min..=max).contains(length))
        .ok_or_else(|| WireError::fatal("08P01", "invalid message length"))
}

/// What the client shall receive.
#[derive(Debug)]
pub(super) struct Outbox {
    writer: Writer,
    buffer: BytesMut,
}

impl Outbox {
    fn new(writer: Writer) -> Self {
        Self { writer, buffer: BytesMut::new() }
    }

    /// Appends a message.
    pub(super) fn put<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        Ok(message.encode(&mut self.buffer)?)
    }

    /// The buffer, for messages written by hand; they must be whole when the caller awaits.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether enough has come together to be worth a write.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= FLUSH_BYTES
    }

    /// Writes everything.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        while self.buffer.has_remaining() {
            if self.writer.write_buf(&mut self.buffer).await? == 0 {
                return Err(WireError::fatal("08006", "connection closed"));
            }
        }
        // An encrypted stream holds back what it has until told.
        self.writer.flush().await?;
        // A very wide batch must not keep its memory for the life of the connection.
        if self.buffer.capacity() > 16 * FLUSH_BYTES {
            self.buffer = BytesMut::with_capacity(FLUSH_BYTES);
        }
        Ok(())
    }

    /// Tells the client why the connection ends, if it listens, and returns the reason.
    pub(super) async fn farewell(&mut self, reason: WireError) -> Result<(), WireError> {
        self.put(&reason.clone().into_fatal().response())?;
        let told = async {
            self.flush().await?;
            Ok::<_, WireError>(self.writer.shutdown().await?)
        };
        match tokio::time::timeout(FAREWELL_TIMEOUT, told).await {
            Ok(Ok(())) | Err(_) => Err(reason),
            Ok(Err(e)) => Err(e),
        }
    }
}
