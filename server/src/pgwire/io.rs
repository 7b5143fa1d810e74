//! The two halves of a connection. Both are safe to drop in the middle of an await: what was read stays in
//! the inbox, what was not yet written stays in the outbox, so a cancelled statement leaves whole messages.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::error::WireError;
use super::limits::{FAREWELL_TIMEOUT, FLUSH_BYTES, FRAME_BYTES_MAX, LOOKAHEAD_BYTES};

const READ_BYTES: usize = 8 << 10;

/// What the client has sent and nobody has read yet.
#[derive(Debug)]
pub(super) struct Inbox {
    reader: OwnedReadHalf,
    buffer: BytesMut,
}

impl Inbox {
    pub(super) fn new(reader: OwnedReadHalf) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// More bytes; false at the end of the stream.
    async fn read(&mut self) -> Result<bool, std::io::Error> {
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
        loop {
            if let Some(&[tag, a, b, c, d]) = self.buffer.first_chunk::<5>() {
                let length = frame_length([a, b, c, d], 4, FRAME_BYTES_MAX)?;
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
    writer: OwnedWriteHalf,
    buffer: BytesMut,
}

impl Outbox {
    pub(super) fn new(writer: OwnedWriteHalf) -> Self {
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
